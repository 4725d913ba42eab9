use adaloss_core::{
    apply::ApplyError,
    format::{E4M3, E5M2, Format, bf16, f16},
    propagate::Scaled,
    scale::Scale,
    statistics::Outcome,
    unscale::{Cause, LossSum, Unscaled, least_exact, unscale},
};

use crate::{each_element, entries};

entries! {
    "unscale::Unscaled::of" => fn(&[f32]) -> Unscaled = Unscaled::of;
    "unscale::Unscaled::from_outcome" => fn(&Outcome) -> Unscaled = Unscaled::from_outcome;
    "unscale::Unscaled::record" => fn(&mut Unscaled, f32, f32) = Unscaled::record;
    "unscale::least_exact" => fn(Scale) -> f32 = least_exact;
    "unscale::Unscaled::merge" => fn(&mut Unscaled, &Unscaled) = Unscaled::merge;
    "unscale::Cause::is_numeric" => fn(Cause) -> bool = Cause::is_numeric;
    "unscale::LossSum::mean" => fn(&LossSum) -> f64 = LossSum::mean;
    "unscale::LossSum::accuracy" => fn(&LossSum) -> f64 = LossSum::accuracy;
}

each_element! {
    "unscale::unscale" => fn(Format, Scaled<&'static [F]>, &mut [f32]) -> Result<Unscaled, ApplyError> =
        unscale;
}
