//! What reports say of each cell: asked against real, at the steps that are watched.

use std::mem;

use adaloss_core::{
    format::Format,
    policy::{Config, Fraction, Measured, Operands},
    scale::Scale,
    scaler::Visit,
    statistics::{Histogram, Outcome},
};

use crate::{
    blocks::Rounded,
    layer::Observer,
    results::{CellReport, Gone, RunReport},
};

/// Collects a report per cell.
#[derive(Debug)]
pub struct Samples {
    measured: Measured,
    /// Whether a certificate was preceded by a pass that only measured.
    measures: bool,
    watches: bool,
    steps: Vec<u64>,
    cells: Vec<CellReport>,
    /// Visits of all steps, and their passes beyond one each.
    visits: u64,
    extra_passes: u64,
    /// One per cell.
    arrivals: Vec<Arrival>,
}

/// Sums over the visits of a cell.
#[derive(Clone, Copy, Debug, Default)]
struct Arrival {
    /// Of the step at hand.
    pending: Gone,
    /// Of the steps before that reached the weights.
    used: Gone,
}

impl Samples {
    /// Makes empty reports of a run in a format; the tolerance of `measured` says what a window is, whatever the
    /// run's own policy.
    pub fn new(config: &Config, format: Format) -> Self {
        let measured = Measured::for_format(format);
        let measures = config.policy().follows_maxima();
        Self {
            measured,
            measures,
            watches: false,
            steps: Vec::new(),
            cells: Vec::new(),
            visits: 0,
            extra_passes: 0,
            arrivals: Vec::new(),
        }
    }

    /// Sets whether the coming step is counted and shown.
    pub fn watch(&mut self, step: u64, watches: bool) {
        self.watches = watches;
        if watches {
            self.steps.push(step);
        }
    }

    /// Hears whether the step at hand reached the weights; of one that did not, nothing arrived.
    pub fn ended(&mut self, is_used: bool) {
        for arrival in &mut self.arrivals {
            let step = mem::take(&mut arrival.pending);
            if is_used {
                arrival.used = arrival.used.plus(step);
            }
        }
    }

    /// Puts what was seen into a report: the cells in the order in which they were first visited.
    pub fn finish(self, report: &mut RunReport) {
        let mut cells = self.cells;
        for (cell, arrival) in cells.iter_mut().zip(&self.arrivals) {
            let visits = cell.visits.max(1) as f64;
            cell.window_share = cell.windows as f64 / visits;
            cell.share_kept = cell.kept as f64 / cell.windows.max(1) as f64;
            cell.underflow_asked = self.measured.tolerance.to_f64();
            cell.underflow_real /= visits;
            cell.lost_mass /= visits;
            cell.clipped_mass = cell.clipped_mass.map(|sum| sum / visits);
            cell.gone_mass = (arrival.used.visits > 0).then(|| arrival.used.mean().mass());
            cell.subnormal /= visits;
            cell.scales_log2.resize(self.steps.len(), None);
        }
        (report.sampled_steps, report.cells) = (self.steps, cells);
        (report.visits, report.extra_passes) = (self.visits, self.extra_passes);
        let all = self.arrivals.iter().fold(Gone::default(), |sum, arrival| sum.plus(arrival.used));
        report.gone = (!report.sampled_steps.is_empty()).then(|| all.mean());
    }

    /// Returns the report of a cell, made at its first visit, and its sums.
    fn cell(&mut self, name: &str) -> (&mut CellReport, &mut Arrival) {
        let found = self.cells.iter().position(|cell| cell.name == name);
        let index = found.unwrap_or_else(|| {
            let (name, clipped_mass) = (name.into(), Some(0.0));
            self.cells.push(CellReport { name, clipped_mass, ..CellReport::default() });
            self.arrivals.push(Arrival::default());
            self.cells.len() - 1
        });
        (&mut self.cells[index], &mut self.arrivals[index])
    }
}

impl Observer for Samples {
    fn watches(&self) -> bool {
        self.watches
    }

    fn passed(&mut self, visit: &Visit) {
        self.visits += 1;
        self.extra_passes += u64::from(visit.passes.saturating_sub(1));
    }

    fn visited(
        &mut self,
        name: &str,
        visit: &Visit,
        results: &Histogram,
        _operands: Option<&Operands>,
    ) {
        let lost = Fraction::from_bits(results.lost_mass(visit.outgoing)).to_f64();
        let gone = [lost, clipped_mass(results, visit)];
        self.count(name, visit, &visit.outcome, results, gone);
        // Of several micro-batches, the last one's scale stands for the step.
        if let Some(last) = self.cell(name).0.scales_log2.last_mut() {
            *last = Some(visit.outgoing.log2());
        }
    }

    /// A tensor in blocks has no scale that could be shown, and its masses are exact.
    fn visited_in_blocks(
        &mut self,
        name: &str,
        visit: &Visit,
        results: &Histogram,
        rounded: &Rounded,
    ) {
        let gone = [rounded.lost_share(), rounded.clipped_share()];
        self.count(name, visit, &rounded.outcome, results, gone);
    }
}

impl Samples {
    /// Counts a visit, of which `gone` are the shares of mass that underflowed and that was clipped.
    fn count(
        &mut self,
        name: &str,
        visit: &Visit,
        outcome: &Outcome,
        results: &Histogram,
        gone: [f64; 2],
    ) {
        let (measured, samples) = (self.measured, self.steps.len());
        let measures = self.measures && visit.certificate.is_some();
        let (cell, arrival) = self.cell(name);
        cell.scales_log2.resize(samples, None);
        cell.extra_passes += u64::from(visit.passes.saturating_sub(1));
        cell.replays += u64::from(visit.replayed);
        cell.measuring_passes += u64::from(measures);
        let nonzero = outcome.nonzero();
        if nonzero == 0 || outcome.nonfinite > 0 {
            return;
        }
        cell.visits += 1;
        let window = measured.window(results).width() > 0;
        let is_kept = outcome.underflow <= measured.tolerance.of(2 * nonzero);
        cell.windows += u64::from(window);
        cell.kept += u64::from(window && is_kept);
        let underflow = outcome.underflow_fraction();
        let [lost, clipped] = gone;
        cell.underflow_real += underflow;
        cell.lost_mass += lost;
        *cell.clipped_mass.get_or_insert(0.0) += clipped;
        cell.subnormal += outcome.subnormal as f64 / nonzero as f64;
        cell.overflows += u64::from(outcome.overflow > 0);
        let visit = Gone { visits: 1, underflow, lost_mass: lost, clipped_mass: clipped };
        arrival.pending = arrival.pending.plus(visit);
    }
}

/// Returns an upper bound of the share of the sum of magnitudes that lies above the format's largest number, at the
/// elements of a visit that overflow.
///
/// The bound takes each element that overflows for the upper edge of its binade or the largest magnitude of all, whichever
/// is less, and each other one for the lower edge.
fn clipped_mass(results: &Histogram, visit: &Visit) -> f64 {
    if visit.outcome.overflow == 0 {
        return 0.0;
    }
    let encoding = results.narrowing().format.encoding;
    let [last, largest] = [1, 0].map(|below| encoding.max_finite_bits() - below);
    let [last, largest] = [last, largest].map(|bits| f64::from(encoding.widen(bits)));
    // What lies up to half a unit in the last place above the largest number is rounded to it.
    let reach = largest + (largest - last) / 2.0;
    let unscaled = |value: f64, scale: i32| value * f64::from(-scale).exp2();
    let greatest = unscaled(visit.outcome.max_abs().into(), visit.incoming.log2());
    // Elements are told apart by the greatest scale at which they do not overflow: those that overflow at it are fewer
    // than those that overflow at the next one.
    let (mut above, mut kept, mut clipped, mut before) = (0.0, 0.0, 0, 0);
    for next in (Scale::MIN.log2()..=Scale::MAX.log2()).map(Scale::saturating) {
        let all = results.overflow(next);
        let (count, ceiling) = ((all - before) as f64, next.log2() - 1);
        before = all;
        if next <= visit.outgoing {
            let edge = if next == Scale::MIN { f64::INFINITY } else { unscaled(reach, ceiling) };
            above += if count > 0.0 { count * edge.min(greatest) } else { 0.0 };
            clipped = all;
        } else {
            kept += count * unscaled(largest, ceiling + 1);
        }
    }
    let taken = above - clipped as f64 * unscaled(largest, visit.outgoing.log2());
    let share = taken / (above + kept);
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use adaloss_core::{
        format::{Format, Narrowing},
        statistics::Outcome,
        unscale::Place,
    };
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::recording::Tally;

    /// Narrows values that carry the scale `incoming` and leave with `outgoing`.
    fn visit(
        format: Format,
        values: &[f32],
        incoming: Scale,
        outgoing: Scale,
    ) -> (Histogram, Visit) {
        let narrowing = Narrowing::to(format).saturating();
        let mut histogram = Histogram::new(narrowing);
        histogram.observe(values, incoming);
        let mut outcome = Outcome::EMPTY;
        for &x in values {
            let shift = outgoing.log2() - incoming.log2();
            outcome.record(x, narrowing.narrow(x, shift, 0).fate);
        }
        let place = Place::Layer(0);
        let (certificate, replayed, passes, broke_promise) = (None, false, 1, false);
        let visit = Visit {
            place,
            incoming,
            outgoing,
            outcome,
            certificate,
            replayed,
            passes,
            broke_promise,
        };
        (histogram, visit)
    }

    #[test]
    fn clipped_mass_is_bounded_at_every_scale() {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let formats = [Format::E4M3, Format::E5M2, Format::BINARY16, Format::BINARY16.flushing()];
        for format in formats {
            for binades in [1, 4, 30] {
                let sign = |negative| if negative { -1.0_f32 } else { 1.0 };
                let values: Vec<f32> = (0..300)
                    .map(|_| {
                        let exponent = random.random_range(-binades..=binades);
                        sign(random.random())
                            * random.random_range(1.0..2.0_f32)
                            * 2.0_f32.powi(exponent)
                    })
                    .collect();
                let incoming = Scale::saturating(3);
                let unscaled: Vec<f32> = values.iter().map(|x| x / 8.0).collect();
                let tally = Tally::of(Narrowing::to(format), &unscaled);
                for log2 in -60..=60 {
                    let outgoing = Scale::saturating(log2);
                    let (histogram, visit) = visit(format, &values, incoming, outgoing);
                    let (bound, exact) =
                        (clipped_mass(&histogram, &visit), tally.clipped_share(outgoing));
                    assert!(exact <= bound + 1e-12, "{format:?}, 2^{log2}: {bound} of {exact}");
                    assert_eq!(bound == 0.0, visit.outcome.overflow == 0);
                    // Where little is left of all, the bound is close.
                    assert!(exact < 0.9 || bound - exact < 0.1, "{bound}, {exact}");
                }
            }
        }
    }

    /// The largest magnitude is known, so that it is exact where it alone is clipped.
    #[test]
    fn one_spike_is_clipped_by_what_it_has_too_much() {
        let mut values = vec![448.0; 99];
        values.push(4480.0);
        let (histogram, visit) = visit(Format::E4M3, &values, Scale::ONE, Scale::ONE);
        let exact = (4480.0 - 448.0) / (4480.0 + 99.0 * 448.0);
        let bound = clipped_mass(&histogram, &visit);
        // The others are taken for the lower edge of their binade, 224.
        assert!(exact <= bound && bound <= (4480.0 - 448.0) / (4480.0 + 99.0 * 224.0) + 1e-12);
    }

    #[test]
    fn what_a_skipped_step_showed_is_not_what_arrived() {
        let config = Config::for_format(Format::E4M3);
        let mut samples = Samples::new(&config, Format::E4M3);
        let at = |outgoing: Scale| visit(Format::E4M3, &[1.0, 0.0005], Scale::ONE, outgoing);
        // Of two elements one underflows in the first step, none in the second, and all is clipped in the third.
        for (step, (log2, is_used)) in [(0, true), (4, true), (40, false)].into_iter().enumerate() {
            samples.watch(step as u64, true);
            let (histogram, visit) = at(Scale::saturating(log2));
            samples.passed(&visit);
            samples.visited("one", &visit, &histogram, None);
            samples.ended(is_used);
        }
        let mut report = RunReport { steps: 3, skipped_steps: 1, ..RunReport::default() };
        samples.finish(&mut report);
        let gone = report.gone.unwrap();
        assert_eq!((gone.visits, gone.underflow, gone.clipped_mass), (2, 0.25, 0.0));
        assert!(gone.lost_mass >= 0.000_249 && gone.lost_mass <= 0.001, "{gone:?}");
        assert_eq!(report.underflow(), Some(0.25));
        let all = 1.0 / 3.0 + 2.0 / 3.0 * gone.lost_mass;
        assert!((report.gone_mass().unwrap() - all).abs() < 1e-12);
        // The cell has all three visits, but for what arrived of it.
        let cell = &report.cells[0];
        assert_eq!(cell.gone_mass, Some(gone.lost_mass));
        assert_eq!(report.most_gone_mass(), report.gone_mass());
        assert!(cell.clipped_mass.unwrap() > 0.3 && cell.visits == 3, "{cell:?}");
        assert_eq!(report.visits, 3);
    }

    #[test]
    fn what_was_not_seen_is_not_known() {
        let run = |gone, steps, skipped_steps| RunReport {
            gone,
            steps,
            skipped_steps,
            ..RunReport::default()
        };
        assert_eq!(run(None, 10, 5).gone_mass(), None);
        let nothing = Some(Gone::default());
        assert_eq!(run(nothing, 10, 10).gone_mass(), Some(1.0));
        assert_eq!(run(nothing, 10, 5).gone_mass(), None);
        assert_eq!(run(nothing, 0, 0).gone_mass(), None);
        assert_eq!(run(nothing, 10, 10).underflow(), None);
        let most = Gone { visits: 1, underflow: 0.5, lost_mass: 0.9, clipped_mass: 0.9 };
        assert_eq!(run(Some(most), 10, 5).gone_mass(), Some(1.0));
        let cell = |gone_mass| CellReport { gone_mass, ..CellReport::default() };
        let cells = vec![cell(Some(0.25)), cell(None), cell(Some(0.5)), cell(Some(0.125))];
        assert_eq!(RunReport { cells, ..run(Some(most), 10, 5) }.most_gone_mass(), Some(0.75));
        assert_eq!(run(None, 10, 5).most_gone_mass(), None);
    }
}
