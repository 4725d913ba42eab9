//! The room `scale`: every legal exponent, and none else.

use std::error::Error;

use adaloss_core::scale::{Scale, ScaleError, Shift};
use proptest::prelude::*;

/// Every legal scale.
fn scales() -> impl Iterator<Item = Scale> + Clone {
    (-126..=126).map(|log2| Scale::new(log2).expect("a legal exponent"))
}

#[test]
fn every_legal_scale_is_an_exact_normal_power_of_two() {
    assert_eq!(scales().count(), 253);
    for (log2, scale) in (-126..=126).zip(scales()) {
        assert_eq!(scale.log2(), log2);
        let factor = scale.factor();
        // The f64 functions are another path to the same number.
        assert_eq!(f64::from(factor), f64::from(log2).exp2());
        assert!(factor.is_normal() && factor.is_sign_positive());
        assert_eq!(factor.to_bits() & 0x7f_ffff, 0, "a power of two has no fraction bits");
        assert!(factor.recip().is_normal());
    }
}

#[test]
fn the_inverse_is_exact_and_legal() {
    for scale in scales() {
        let inverse = scale.inverse();
        assert_eq!(inverse.log2(), -scale.log2());
        assert_eq!(scale.factor() * inverse.factor(), 1.0);
        assert_eq!(scale.factor().recip(), inverse.factor());
        assert_eq!(inverse.inverse(), scale);
    }
    assert_eq!((Scale::MIN.inverse(), Scale::ONE.inverse()), (Scale::MAX, Scale::ONE));
}

#[test]
fn exponents_beyond_the_bounds_are_errors_and_saturate() {
    let beyond = [i32::MIN, -65_536 - 126, -32_768, -253, -127, 127, 253, 65_536, i32::MAX];
    for log2 in beyond.into_iter().chain(-1000..=-127).chain(127..=1000) {
        assert_eq!(Scale::new(log2), Err(ScaleError { log2 }));
        let end = if log2 < 0 { Scale::MIN } else { Scale::MAX };
        assert_eq!(Scale::saturating(log2), end);
    }
    for scale in scales() {
        assert_eq!(Scale::saturating(scale.log2()), scale);
    }
    assert_eq!((Scale::MIN.log2(), Scale::ONE.log2(), Scale::MAX.log2()), (-126, 0, 126));
    assert_eq!(Scale::default(), Scale::ONE);
}

#[test]
fn errors_say_what_was_asked_for() {
    let error = Scale::new(127).expect_err("not legal");
    assert_eq!(error.to_string(), "a scale of 2^127 is outside 2^-126..=2^126");
    let error: Box<dyn Error> = Box::new(error);
    assert!(error.source().is_none());
}

/// All 64009 pairs: the shift between two scales leads from one to the other and nowhere else.
#[test]
fn the_ratio_of_two_scales_leads_from_one_to_the_other() {
    for (outgoing, incoming) in scales().flat_map(|a| scales().map(move |b| (a, b))) {
        let shift: Shift = outgoing / incoming;
        assert_eq!(shift.log2(), outgoing.log2() - incoming.log2());
        assert_eq!(incoming.shifted(shift), Some(outgoing));
        let ratio = f64::from(outgoing.factor()) / f64::from(incoming.factor());
        match shift.factor() {
            Some(factor) => assert_eq!(f64::from(factor), ratio),
            None => assert!(shift.log2().abs() > 126),
        }
        let further = outgoing.log2() + shift.log2();
        assert_eq!(outgoing.shifted(shift), Scale::new(further).ok());
    }
    assert_eq!(Scale::MAX / Scale::MAX, Shift::NONE);
    assert_eq!((Scale::MAX / Scale::MIN).log2(), 252);
    assert_eq!(Shift::default(), Shift::NONE);
}

#[test]
fn scales_order_as_their_factors_do_and_print_their_exponent() {
    assert!(scales().is_sorted_by(|a, b| a < b && a.factor() < b.factor()));
    let scale = Scale::saturating(-10);
    assert_eq!(format!("{scale} {scale:?} {:?}", Scale::ONE / scale), "2^-10 2^-10 2^10");
    assert_eq!((size_of::<Scale>(), size_of::<Shift>()), (2, 2));
}

proptest! {
    #![proptest_config(adaloss_oracle::inputs::cases(1000))]

    #[test]
    fn a_scale_exists_exactly_within_its_bounds(log2: i32) {
        prop_assert_eq!(Scale::new(log2).is_ok(), (-126..=126).contains(&log2));
        let nearest = Scale::saturating(log2);
        let distance = |scale: Scale| (i64::from(log2) - i64::from(scale.log2())).abs();
        prop_assert!(scales().all(|scale| distance(nearest) <= distance(scale)));
    }

    /// Shifts compose: going by way of any third scale is the same as going directly.
    #[test]
    fn shifts_compose(a in -126..=126, b in -126..=126, c in -126..=126) {
        let [a, b, c] = [a, b, c].map(Scale::saturating);
        prop_assert_eq!(a.shifted(b / a).and_then(|x| x.shifted(c / b)), Some(c));
        prop_assert_eq!((b / a).log2() + (c / b).log2(), (c / a).log2());
    }

    /// Scaling and unscaling a value that stays normal changes no bit.
    #[test]
    fn scaling_back_is_exact(log2 in -126..=126, x: f32) {
        let scale = Scale::saturating(log2);
        let scaled = x * scale.factor();
        prop_assume!(scaled.is_normal());
        prop_assert_eq!((scaled * scale.inverse().factor()).to_bits(), x.to_bits());
    }
}
