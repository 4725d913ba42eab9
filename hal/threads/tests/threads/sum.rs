//! Sums over ranks, in every format.

use adaloss_core::{
    format::{Element, Narrowing, bf16, f16},
    scale::Scale,
    with_element,
};
use adaloss_hal::group::{
    AgreeError, Group, Largest, largest, room_bytes, room_values, sum, sum_scale,
};
use adaloss_oracle::inputs::SplitMix64;

use super::{LONG, ranks};

/// What a rank brings: magnitudes over so many binades, and zeros.
fn brought(rank: usize, values: usize, binades: i32) -> Vec<f32> {
    let mut random = SplitMix64(1 + rank as u64);
    let mut value = || match random.below(4) {
        0 => 0.0,
        _ => random.between_binades(0, binades - 1),
    };
    (0..values).map(|_| value()).collect()
}

/// The sum by the binary tree, written down as a recursion.
fn tree(all: &[f32]) -> f32 {
    match all {
        [] => 0.0,
        [one] => *one,
        _ => {
            let left = all.len().next_power_of_two() / 2;
            tree(&all[..left]) + tree(&all[left..])
        }
    }
}

fn summed<T: Element>(
    size: usize,
    values: usize,
    scale: Scale,
    bring: impl Fn(usize) -> Vec<f32> + Sync,
) -> (Vec<f32>, Largest) {
    let mut results = ranks(size, LONG, |mut group| {
        let mut own = bring(group.rank());
        let mut room = vec![0xa5; room_bytes::<T>(values, size)];
        let mut rows = vec![f32::NAN; room_values(values, size)];
        let found = sum::<T, _>(&mut own, scale, &mut group, &mut room, &mut rows).expect("room");
        (own.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), found)
    });
    assert!(results.iter().all(|result| *result == results[0]), "ranks have different sums");
    let (bits, found) = results.remove(0);
    (bits.into_iter().map(f32::from_bits).collect(), found)
}

#[test]
fn f32_is_summed_by_the_tree_to_the_bit() {
    for size in [1, 2, 3, 4, 5, 6, 7, 8, 13, 16] {
        for values in [0, 1, 2, 15, 16, 17, 1000] {
            let bring = |rank| brought(rank, values, 20);
            let (found, most) = summed::<f32>(size, values, Scale::ONE, bring);
            let all: Vec<_> = (0..size).map(bring).collect();
            for (nth, found) in found.iter().enumerate() {
                let column: Vec<_> = all.iter().map(|own| own[nth]).collect();
                assert_eq!(found.to_bits(), tree(&column).to_bits(), "{nth} of {values}, {size}");
            }
            let largest = all.iter().flatten().chain(&found).map(|x| x.abs()).fold(0.0, f32::max);
            assert_eq!(most.value(), largest);
        }
    }
}

/// What ranks sum of their own micro-batches by the tree, and then over ranks, is what one rank sums of all.
#[test]
fn sums_of_micro_batches_do_not_depend_on_how_many_ranks_share_them() {
    let all: Vec<_> = (0..16).map(|nth| brought(nth, 1, 20)[0]).collect();
    for size in [1, 2, 4, 8, 16] {
        let bring = |rank: usize| vec![tree(&all[rank * 16 / size..(rank + 1) * 16 / size])];
        assert_eq!(summed::<f32>(size, 1, Scale::ONE, bring).0[0].to_bits(), tree(&all).to_bits());
    }
}

/// At the agreed scale nothing overflows, whoever has the largest magnitude, and be it that all of them have it; a value
/// is rounded twice.
#[test]
fn nothing_overflows_at_the_agreed_scale() {
    for size in [1, 2, 3, 4, 16] {
        for factor in [1.0e-30_f32, 1.0e-6, 1.0, 65504.0, 1.0e30] {
            let bring = |rank| {
                let mut own: Vec<f32> = brought(rank, 60, 6).iter().map(|x| x * factor).collect();
                own[..2].copy_from_slice(&[f32::from_bits(0x427f_ffff) * factor; 2]);
                own
            };
            let all: Vec<_> = (0..size).map(bring).collect();
            let most = all.iter().map(|own| largest(own)).max().unwrap_or_default();
            for encoding in adaloss_core::format::Encoding::ALL {
                let narrowing = Narrowing::to(encoding.into());
                let scale = sum_scale(narrowing, most, size).expect("a legal scale");
                let (found, largest) =
                    with_element!(encoding, T => summed::<T>(size, 60, scale, bring));
                assert!(largest.is_finite(), "{encoding:?}, {size} ranks, {factor}");
                let unit = f64::from(encoding.precision() as i32 - 1).exp2().recip();
                for (nth, &found) in found.iter().enumerate() {
                    let column = || all.iter().map(|own| f64::from(own[nth]));
                    let (right, sizes) =
                        (column().sum::<f64>(), column().map(f64::abs).sum::<f64>());
                    // Each of the values and their sum is half a unit off, or half of the least number.
                    let least = f64::from(encoding.min_subnormal_log2()).exp2()
                        * f64::from(-scale.log2()).exp2();
                    let bound = unit * sizes + (size + 1) as f64 * least / 2.0 + 1.0e-6 * sizes;
                    let error = (f64::from(found) - right).abs();
                    assert!(error <= bound, "{encoding:?}, {size} ranks: {found} for {right}");
                }
            }
        }
    }
}

#[test]
fn what_overflows_or_is_no_number_is_told_on_all_ranks() {
    let spike = |value: f32, at: usize| {
        move |rank| if rank == at { vec![1.0, value, 1.0] } else { vec![1.0; 3] }
    };
    for (value, at) in [(f32::NAN, 2), (f32::INFINITY, 0), (f32::NEG_INFINITY, 1), (70000.0, 2)] {
        assert!(!summed::<f16>(3, 3, Scale::ONE, spike(value, at)).1.is_finite(), "{value}");
        let (found, largest) = summed::<bf16>(3, 3, Scale::ONE, spike(value, at));
        assert_eq!(largest.is_finite(), value == 70000.0, "{value}");
        assert_eq!((found[0], found[2]), (3.0, 3.0));
    }
    // Only the sum overflows.
    let (found, largest) = summed::<f16>(2, 1, Scale::ONE, |_| vec![40000.0]);
    assert!(!largest.is_finite() && found[0] == f32::INFINITY);
    assert_eq!(
        sum_scale(Narrowing::to(f16::ENCODING.into()), Largest::from_bits(f32::NAN.to_bits()), 2),
        None
    );
}

#[test]
fn too_little_room_is_refused_before_anything_is_sent() {
    let results = ranks(2, LONG, |mut group| {
        let mut own = [1.0_f32; 5];
        let (bytes, values) = (room_bytes::<f16>(5, 2), room_values(5, 2));
        let mut told = Vec::new();
        for [bytes, values] in [[bytes - 1, values], [bytes, values - 1], [0, 0]] {
            let (mut room, mut rows) = (vec![0; bytes], vec![0.0; values]);
            let result = sum::<f16, _>(&mut own, Scale::ONE, &mut group, &mut room, &mut rows);
            told.push(matches!(result, Err(AgreeError::Room { .. })));
        }
        let (mut room, mut rows) = (vec![0; bytes], vec![0.0; values]);
        sum::<f16, _>(&mut own, Scale::ONE, &mut group, &mut room, &mut rows).expect("room");
        (told, own)
    });
    assert!(results.iter().all(|(told, own)| told == &[true; 3] && own == &[2.0; 5]));
}
