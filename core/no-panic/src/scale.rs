use adaloss_core::scale::{Scale, ScaleError, Shift};

use crate::entries;

entries! {
    "scale::Scale::new" => fn(i32) -> Result<Scale, ScaleError> = Scale::new;
    "scale::Scale::saturating" => fn(i32) -> Scale = Scale::saturating;
    "scale::Scale::log2" => fn(Scale) -> i32 = Scale::log2;
    "scale::Scale::factor" => fn(Scale) -> f32 = Scale::factor;
    "scale::Scale::inverse" => fn(Scale) -> Scale = Scale::inverse;
    "scale::Scale::shifted" => fn(Scale, Shift) -> Option<Scale> = Scale::shifted;
    "scale::Scale::div" => fn(Scale, Scale) -> Shift = |scale, incoming| scale / incoming;
    "scale::Shift::log2" => fn(Shift) -> i32 = Shift::log2;
    "scale::Shift::factor" => fn(Shift) -> Option<f32> = Shift::factor;
}
