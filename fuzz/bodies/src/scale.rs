//! The room `scale`: legality, exact inverses, ratios.

use adaloss_core::scale::{Scale, Shift};
use adaloss_oracle::pow2;

use crate::input;

/// Checks what scales may exist and what their factors are.
pub fn check(bytes: &[u8]) {
    input::run(bytes, |u| {
        let log2: i32 = if u.arbitrary()? { u.arbitrary()? } else { u.int_in_range(-300..=300)? };
        check_new(log2);
        check_pair(input::scale(u)?, input::scale(u)?);
        Ok(())
    });
}

fn check_new(log2: i32) {
    let is_legal = (-126..=126).contains(&log2);
    match Scale::new(log2) {
        Ok(scale) => {
            assert!(is_legal, "2^{log2} is no legal scale");
            assert_eq!(scale.log2(), log2);
            assert_eq!(Scale::saturating(log2), scale);
        }
        Err(error) => {
            assert!(!is_legal, "2^{log2} is a legal scale");
            assert_eq!(error.log2, log2);
            let end = if log2 < 0 { Scale::MIN } else { Scale::MAX };
            assert_eq!(Scale::saturating(log2), end);
        }
    }
}

fn check_pair(from: Scale, to: Scale) {
    for scale in [from, to] {
        let factor = scale.factor();
        assert_eq!(f64::from(factor), pow2(scale.log2()));
        assert!(factor.is_normal() && scale.inverse().factor().is_normal());
        assert_eq!(factor * scale.inverse().factor(), 1.0);
        assert_eq!(scale.inverse().inverse(), scale);
    }
    let shift = to / from;
    assert_eq!(shift.log2(), to.log2() - from.log2());
    assert_eq!(from.shifted(shift), Some(to));
    assert_eq!(shift == Shift::NONE, from == to);
    assert_eq!(from < to, from.factor() < to.factor());
    match shift.factor() {
        Some(factor) => assert_eq!(f64::from(factor), pow2(shift.log2())),
        None => assert!(shift.log2().abs() > 126),
    }
    // A shift from another place is legal exactly where it ends at a legal scale.
    let end = to.log2() + shift.log2();
    assert_eq!(to.shifted(shift).map(Scale::log2), Some(end).filter(|end| end.abs() <= 126));
}
