//! Steps that threads share are those of one scaler that saw all of their batches.

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, f16},
    policy::{Amax, Backoff, Cell, Config, Policy},
    propagate::Scaled,
    scale::Scale,
    scaler::{LossScaler, Step, share::message_bytes},
    unscale::{Cause, Place, Unscaled, Verdict},
};
use adaloss_hal::group::{Group, Solo, agree, meet};
use adaloss_oracle::inputs::SplitMix64;

use super::{LONG, ranks};

pub(crate) const CELLS: usize = 5;
const STEPS: u64 = 120;

pub(crate) type Scaler = LossScaler<CELLS>;

/// Goes backward through what one rank has in one step: some layers, which depend on both.
pub(crate) fn backward<F: Element>(step: &mut Step<'_>, nth: u64, rank: u64) {
    let mut generator = SplitMix64(1000 * nth + rank);
    let mut tensor = || -> Vec<f32> {
        let centre = generator.below(20) as i32 - 24;
        (0..6).map(|_| generator.between_binades(centre - 4, centre)).collect()
    };
    let mut narrowed = [F::from_bits(0); 6];
    step.loss().apply(&tensor(), &mut narrowed).expect("equal lengths");
    for id in 0..CELLS {
        let values = tensor();
        // Each layer is missing on some ranks in some steps, and one on all of them but the first.
        let is_here = if id == 3 { rank == 0 } else { !(nth + rank + id as u64).is_multiple_of(3) };
        if is_here {
            let visit = step.layer(id, Scaled::new((), Scale::ONE)).expect("a cell");
            visit.apply(&values, &mut narrowed).expect("equal lengths");
        }
    }
    // In every eighth step one rank has a weight gradient that is not finite.
    if nth % 8 == 7 && nth / 8 % 4 == rank {
        step.unscaled(2, &Unscaled { elements: 6, nonfinite: 1, tiny: 0 });
    }
}

/// What a run leaves: verdicts, the digests of what decides, and scales.
type Left = (Vec<Verdict>, Vec<u64>, Vec<Option<Scale>>);

fn left(scaler: &mut Scaler, verdicts: Vec<Verdict>) -> Left {
    let places = [Place::Loss].into_iter().chain((0..CELLS).map(Place::Layer));
    let scales = places.map(|place| scaler.cell(place).map(Cell::scale)).collect();
    let mut step = scaler.begin();
    let share = step.share();
    let parts = (0..).map_while(|index| share.part(index)).map(|(_, digest)| digest).collect();
    (verdicts, parts, scales)
}

fn shared<F: Element>(config: Config, mut group: impl Group, batches: &[u64]) -> Left {
    let mut scaler = Scaler::new(config);
    let mut room = [0; message_bytes(CELLS)];
    meet(&scaler.begin().share(), &mut group, &mut room).expect("ranks that are alike");
    let mut verdicts = Vec::new();
    for nth in 0..STEPS {
        let mut step = scaler.begin();
        batches.iter().for_each(|&rank| backward::<F>(&mut step, nth, rank));
        agree(&mut step.share(), &mut group, &mut room).expect("ranks that are alike");
        verdicts.push(step.finish());
    }
    left(&mut scaler, verdicts)
}

fn check<F: Element>(config: Config) {
    for size in [1, 2, 4, 16] {
        let all: Vec<u64> = (0..size as u64).collect();
        let whole = shared::<F>(config, Solo, &all);
        let threads = ranks(size, LONG, |group| {
            let rank = group.rank() as u64;
            shared::<F>(config, group, &[rank])
        });
        for rank in &threads {
            assert_eq!(rank, &whole, "{config:?}, {size} ranks");
        }
        let skip = Verdict::Skip { layer: Place::Weight(2), cause: Cause::NonFinite };
        let skips = whole.0.iter().filter(|&&verdict| verdict == skip).count();
        assert!(skips >= 3, "{skips}");
    }
}

#[test]
fn threads_decide_as_one_scaler() {
    let [binary16, e4m3, e5m2] =
        [Format::BINARY16, Format::E4M3, Format::E5M2].map(Config::for_format);
    check::<f16>(binary16.with_period(7).expect("some"));
    check::<E4M3>(e4m3);
    let amax = Policy::Amax(Amax { window: 8, margin: 0 });
    check::<E5M2>(e5m2.with_policy(amax).expect("a policy"));
    let backoff = Policy::Backoff(Backoff { interval: 9, ..Backoff::GRAD_SCALER });
    check::<f16>(binary16.with_policy(backoff).expect("a policy"));
}
