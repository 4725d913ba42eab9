use adaloss_core::{
    format::{E4M3, E5M2, Format, bf16, f16},
    propagate::{JoinError, Place, Scaled, common_scale, join, shifted, sum_at},
    scale::{Scale, Shift},
};

use crate::{each_element, entries};

entries! {
    "propagate::Scaled::new" => fn(f32, Scale) -> Scaled<f32> = Scaled::new;
    "propagate::Scaled::from_cell" => fn(f32, Scale, Place) -> Scaled<f32> = Scaled::from_cell;
    "propagate::Scaled::origin" => fn(&Scaled<f32>) -> Option<Place> = Scaled::origin;
    "propagate::Scaled::scaled" => fn(&Scaled<f32>) -> &f32 = Scaled::scaled;
    "propagate::Scaled::scale" => fn(&Scaled<f32>) -> Scale = Scaled::scale;
    "propagate::Scaled::as_ref" => fn(&Scaled<f32>) -> Scaled<&f32> = Scaled::as_ref;
    "propagate::Scaled::from" => fn(Scale) -> Scaled<()> = Scaled::from;
    "propagate::Scaled::tag" => fn(&Scaled<f32>) -> Scaled<()> = Scaled::tag;
    "propagate::Scaled::carry" => fn(Scaled<f32>, &dyn Fn(f32) -> f32) -> Scaled<f32> =
        |scaled, operation| scaled.carry(operation);
    "propagate::Scaled::unscale" => fn(&Scaled<f32>, &dyn Fn(&f32, f32) -> f32) -> f32 =
        |scaled, operation| scaled.unscale(operation);
    "propagate::Scaled::into_parts" => fn(Scaled<f32>) -> (f32, Scale) = Scaled::into_parts;
    "propagate::common_scale" => fn(&[Scale]) -> Option<Scale> =
        |scales| common_scale(scales.iter().copied());
    "propagate::shifted" => fn(f32, Shift) -> f32 = shifted;
}

each_element! {
    "propagate::join" => fn(Format, &[Scaled<&[F]>], &mut [f32]) -> Result<Scale, JoinError> =
        join;
    "propagate::sum_at" => fn(Format, &[(&[F], Scale)], Scale, &mut [f32]) =
        |format, branches, common, sum| sum_at(format, branches.iter().copied(), common, sum);
}
