//! The policies that are compared, each as something that decides from what it is shown.

use adaloss_core::{
    format::{Format, Overflow},
    policy::{
        Amax, Backoff, Cell, Config, ConfigError, Fraction, Policy, finish, note, outgoing, step,
    },
    scale::Scale,
};

use super::Tally;

/// A policy under the name that tables and plots give it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The name.
    pub name: String,
    /// How it decides.
    pub kind: Kind,
}

/// How a policy decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `measured` or `amax` as the library has them.
    Following(Config),
    /// The maximum of each tensor first, in a pass of its own; then the greatest scale at which it fits.
    Current,
    /// What `measured` did before it followed maxima: the middle of the window at every tenth visit, from a pass of
    /// its own.
    Middle {
        /// Binades left free below overflow.
        headroom: i32,
        /// Whether what overflows is clipped until the next visit, and not replayed.
        saturates: bool,
    },
    /// One scale for all cells; a step in which one overflows is skipped.
    Dynamic(Config),
    /// One scale for all cells and the whole run; what overflows is clipped.
    Fixed(Scale),
}

/// Visits from one decision of [`Kind::Middle`] to the next.
const MIDDLE_PERIOD: u32 = 10;

impl Rule {
    /// The name of the library's own policy.
    pub const OURS: &str = "measured";

    /// Returns every policy for gradients in a format, but for those that need to know the run.
    ///
    /// # Errors
    ///
    /// The library refuses a configuration of these.
    pub fn all(format: Format) -> Result<Vec<Self>, ConfigError> {
        let config = Config::for_format(format);
        let saturating = config.with_overflow(Overflow::Saturate);
        let rule = |name: &str, kind| Self { name: name.into(), kind };
        let mut rules = vec![
            rule(Self::OURS, Kind::Following(config)),
            rule("measured, saturating", Kind::Following(saturating)),
        ];
        for (window, words) in [(1, "most recent"), (16, "amax 16"), (1024, "amax 1024")] {
            for margin in [0, 1] {
                for (config, ending) in [(config, ""), (saturating, ", saturating")] {
                    let config = config.with_policy(Policy::Amax(Amax { window, margin }))?;
                    let name = format!("{words}, margin {margin}{ending}");
                    rules.push(rule(&name, Kind::Following(config)));
                }
            }
        }
        rules.push(rule("current scaling", Kind::Current));
        let is_8_bit = format.encoding.bits() == 8;
        let middle = Kind::Middle { headroom: 1 + i32::from(is_8_bit), saturates: is_8_bit };
        rules.push(rule("middle of the window, every 10 visits", middle));
        let usual = Backoff::GRAD_SCALER;
        for (name, backoff) in
            [("dynamic", usual), ("dynamic, interval 10", Backoff { interval: 10, ..usual })]
        {
            let config = config.with_policy(Policy::Backoff(backoff))?;
            rules.push(rule(name, Kind::Dynamic(config)));
        }
        Ok(rules)
    }

    /// Returns the policy that has one scale for a whole run.
    pub fn fixed(scale: Scale) -> Self {
        Self { name: format!("fixed 2^{}, the best", scale.log2()), kind: Kind::Fixed(scale) }
    }

    /// Tells whether it is chosen with the whole run at hand: no policy can be it, but policies are compared with it.
    pub fn is_oracle(&self) -> bool {
        matches!(self.kind, Kind::Fixed(_))
    }

    /// Tells whether what overflows is clipped; otherwise a step in which something does is skipped.
    pub fn saturates(&self) -> bool {
        match self.kind {
            Kind::Following(config) => config.narrowing().overflow == Overflow::Saturate,
            Kind::Middle { saturates, .. } => saturates,
            Kind::Current | Kind::Dynamic(_) => false,
            Kind::Fixed(_) => true,
        }
    }

    /// Returns the policy as it begins a run.
    pub fn start(&self) -> Box<dyn Chooser> {
        match self.kind {
            Kind::Following(config) => Box::new(Following { config, cells: Vec::new() }),
            Kind::Current => Box::new(Current),
            Kind::Middle { headroom, saturates } => {
                Box::new(Middle { headroom, saturates, cells: Vec::new() })
            }
            Kind::Dynamic(config) => Box::new(Dynamic { config, cell: config.cell() }),
            Kind::Fixed(scale) => Box::new(scale),
        }
    }
}

/// What a policy decided at a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The scale that the tensor leaves with.
    pub scale: Scale,
    /// Passes whose results were not kept because no scale was known.
    pub measuring: u32,
    /// Passes whose results were not kept because they overflowed.
    pub replays: u32,
}

impl Decided {
    const fn at(scale: Scale) -> Self {
        Self { scale, measuring: 0, replays: 0 }
    }
}

/// A policy at work.
pub trait Chooser {
    /// Decides about a visit of a cell.
    fn visit(&mut self, cell: usize, tally: &Tally) -> Decided;

    /// Ends a step, in which nothing overflowed at the scales that tensors left with, or something did.
    fn finish(&mut self, _is_clean: bool) {}
}

struct Following {
    config: Config,
    cells: Vec<Cell>,
}

impl Chooser for Following {
    fn visit(&mut self, cell: usize, tally: &Tally) -> Decided {
        let config = &self.config;
        let cell = nth(&mut self.cells, cell, config.cell());
        let before = outgoing(config, cell, Scale::ONE);
        let was_calibrated = cell.is_calibrated();
        match note(config, &tally.outcome(before), Scale::ONE, cell) {
            None => Decided::at(before),
            Some(scale) if was_calibrated => Decided { replays: 1, ..Decided::at(scale) },
            Some(scale) => Decided { measuring: 1, ..Decided::at(scale) },
        }
    }

    fn finish(&mut self, _: bool) {
        for cell in &mut self.cells {
            let _record = finish(&self.config, cell);
        }
    }
}

struct Current;

impl Chooser for Current {
    fn visit(&mut self, _: usize, tally: &Tally) -> Decided {
        let scale = Scale::saturating(tally.ceiling().unwrap_or(0));
        Decided { measuring: 1, ..Decided::at(scale) }
    }
}

struct Middle {
    headroom: i32,
    saturates: bool,
    cells: Vec<MiddleCell>,
}

#[derive(Clone, Copy)]
struct MiddleCell {
    scale: Scale,
    /// Visits since the last decision.
    age: u32,
    is_due: bool,
}

impl Middle {
    /// Returns the middle of the window; failing that, of the window by mass, or what is left below overflow.
    ///
    /// The old policy had a bound of the lost mass; this is the mass.  It kept a scale that was two binades or more
    /// inside of its window, which is left out here.
    fn decide(&self, tally: &Tally) -> Scale {
        let top = Scale::saturating(tally.ceiling().unwrap_or(0) - self.headroom);
        let in_window = |least: &Scale| *least <= top;
        let least = tally
            .least_scale(Fraction::PER_MILLE.of(tally.nonzero()))
            .filter(in_window)
            .or_else(|| tally.least_scale_by_mass(Fraction::PER_MILLE).filter(in_window));
        least.map_or(top, |least| Scale::saturating((least.log2() + top.log2()).div_euclid(2)))
    }
}

impl Chooser for Middle {
    fn visit(&mut self, cell: usize, tally: &Tally) -> Decided {
        let new = MiddleCell { scale: Scale::ONE, age: 0, is_due: true };
        let before = *nth(&mut self.cells, cell, new);
        if !tally.tells() {
            return Decided::at(before.scale);
        }
        let is_due = before.is_due || before.age >= MIDDLE_PERIOD;
        let mut cell_now = MiddleCell { is_due: false, ..before };
        if is_due {
            (cell_now.scale, cell_now.age) = (self.decide(tally), 0);
        }
        cell_now.age += 1;
        let mut decided = Decided { measuring: is_due.into(), ..Decided::at(cell_now.scale) };
        if tally.overflow(cell_now.scale) > 0 {
            cell_now.is_due = true;
            cell_now.scale = Scale::saturating(tally.ceiling().unwrap_or(0) - self.headroom);
            if !self.saturates {
                decided = Decided { scale: cell_now.scale, replays: 1, ..decided };
            }
        }
        self.cells[cell] = cell_now;
        decided
    }
}

struct Dynamic {
    config: Config,
    cell: Cell,
}

impl Chooser for Dynamic {
    fn visit(&mut self, _: usize, _: &Tally) -> Decided {
        Decided::at(self.cell.scale())
    }

    fn finish(&mut self, is_clean: bool) {
        step(&self.config, is_clean, &mut self.cell);
    }
}

impl Chooser for Scale {
    fn visit(&mut self, _: usize, _: &Tally) -> Decided {
        Decided::at(*self)
    }
}

/// Returns an element; those up to it are new if it is.
fn nth<T: Copy>(elements: &mut Vec<T>, index: usize, new: T) -> &mut T {
    if elements.len() <= index {
        elements.resize(index + 1, new);
    }
    &mut elements[index]
}
