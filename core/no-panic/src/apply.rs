use adaloss_core::{
    apply::{self, Apply, ApplyError, Counts, FastNarrowing},
    format::{E4M3, E5M2, Narrowing, Noise, bf16, f16},
    scale::{Scale, Shift},
    statistics::{Histogram, Outcome},
};

use crate::{each_element, entries};

type Pass = apply::Pass<'static>;

entries! {
    "apply::Apply::element" => fn(&Apply, f32, u64, &mut Outcome) -> u32 = Apply::element;

    "apply::Counts::is_counted" => fn(&Counts) -> bool = Counts::is_counted;

    "apply::Pass::measuring" => fn(
        Narrowing,
        Scale,
        &'static mut Counts,
        &'static mut Histogram,
    ) -> Pass = Pass::measuring;
    "apply::Pass::storing" => fn(
        Narrowing,
        Noise,
        Scale,
        Scale,
        &'static mut Counts,
    ) -> Pass = Pass::storing;
    "apply::Pass::incoming" => fn(&Pass) -> Scale = Pass::incoming;
    "apply::Pass::outgoing" => fn(&Pass) -> Scale = Pass::outgoing;
    "apply::Pass::shift" => fn(&Pass) -> Shift = Pass::shift;
    "apply::Pass::narrowing" => fn(&Pass) -> Narrowing = Pass::narrowing;
    "apply::Pass::noise" => fn(&Pass) -> Noise = Pass::noise;
    "apply::Pass::stores" => fn(&Pass) -> bool = Pass::stores;
    "apply::Pass::is_counted" => fn(&Pass) -> bool = Pass::is_counted;
    "apply::Pass::counters" => fn(&mut Pass) -> (&mut Outcome, Option<&mut Histogram>) =
        Pass::counters;
}

each_element! {
    "apply::Apply::slice" => fn(
        &Apply,
        &[f32],
        &mut [F],
        u64,
        &mut Outcome,
    ) -> Result<(), ApplyError> = Apply::slice;
    "apply::Apply::fast_narrowing" => fn(&Apply) -> Option<FastNarrowing<F>> = Apply::fast_narrowing;
    "apply::FastNarrowing::narrow" => fn(&FastNarrowing<F>, [f32; 8]) -> Option<([F; 8], Outcome)> =
        FastNarrowing::narrow;
    "apply::FastNarrowing::round" => fn(&FastNarrowing<F>, f32) -> F = FastNarrowing::round;
    "apply::Pass::apply" => fn(&mut Pass, &[f32], &mut [F]) -> Result<(), ApplyError> =
        Pass::apply;
}
