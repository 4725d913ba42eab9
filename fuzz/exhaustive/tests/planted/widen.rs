//! Mistakes on the way back to f32.

use adaloss_core::{format::Encoding, propagate::shifted, scale::Scale, unscale::Unscaled};

use super::Planted;

#[test]
fn widening_that_neither_flushes_nor_quiets() {
    let raw = Planted {
        widen: Some(|format, bits| {
            let x = format.encoding.widen(bits);
            if x.is_nan() && format.encoding == Encoding::Binary16 {
                return f32::from_bits(0x7f80_0000 | (bits & 0x3ff) << 13 | (bits >> 15) << 31);
            }
            x
        }),
        ..Planted::default()
    };
    // Subnormals of both signs where they are flushed; signalling NaN of both signs either way.
    let (subnormals, signalling) = (2 * 1023, 2 * 2 * 511);
    let described = "0x7c01 (NaN) widened to 0x7f802000";
    raw.is_found("binary16 widened", 0, subnormals + signalling, described);
    raw.is_found("E4M3 widened", 0, 2 * 7, "subnormals: Flush }: 0x01 (1.953125e-3)");
}

#[test]
fn unscaling_that_counts_or_rounds_wrongly() {
    let planted = |unscale: fn(&mut [f32], &mut Unscaled)| Planted {
        unscale: Some(unscale),
        ..Planted::default()
    };
    let (job, from_the_greatest) = ("bfloat16 unscaled from every scale", 252);
    let nothing_tiny = planted(|_, met| met.tiny = 0);
    nothing_tiny.is_found(job, from_the_greatest, 2, "tiny: 0 }");
    nothing_tiny.is_missed("E4M3 unscaled from every scale", 126);
    let all_finite = planted(|_, met| met.nonfinite = 0);
    all_finite.is_found(job, from_the_greatest, 2, "nonfinite: 0");
    let flushed = planted(|to, _| {
        to.iter_mut().filter(|x| x.is_subnormal()).for_each(|x| *x = 0.0);
    });
    assert!(flushed.tally(job, from_the_greatest).mismatches > 1000);
}

/// Shifts that no f32 factor holds are cut to the largest that one does.
#[test]
fn shifts_beyond_a_factor() {
    let cut = Planted {
        shifted: Some(|x, shift| match shift.factor() {
            Some(_) => shifted(x, shift),
            None => x * Scale::saturating(shift.log2()).factor(),
        }),
        ..Planted::default()
    };
    let (job, none) = ("bfloat16 shifted by every shift", 252);
    assert!(cut.tally(job, none - 127).mismatches > 1000);
    assert!(cut.tally(job, none + 127).first[0].starts_with("2^127 * "));
    cut.is_missed(job, none - 126);
}
