//! Values of every fate beside each other: whatever a chunk has in it, it becomes and counts what core says.

use core::ptr::null;

use adaloss_core::{
    apply::Apply,
    format::{E4M3, E5M2, Element, Narrowing, Noise, bf16, f16},
    policy::Cell,
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_kernels::{apply::apply, epilogue::Epilogue, grid::Grid, memory::Out};

/// Where a fate ends and another begins, in a format at a scale: both sides of it.
fn edges<F: Element>(factor: f32) -> Vec<f32> {
    let encoding = F::ENCODING;
    let (greatest, normal) = (encoding.max_finite_bits(), encoding.min_normal_bits());
    let numbers = [1, 2, 3, normal - 1, normal, normal + 1, greatest - 1, greatest];
    let half_way = numbers.map(|bits| {
        let (number, next) = (encoding.widen(bits), encoding.widen(bits - 1));
        number + (number - next) / 2.0
    });
    let numbers = numbers.map(|bits| encoding.widen(bits));
    let sizes = numbers.into_iter().chain(half_way).chain([encoding.widen(1) / 2.0]);
    let own = [f32::MIN_POSITIVE, f32::MAX, f32::from_bits(1), f32::from_bits(0x7f_ffff)];
    let near = sizes.map(|x| x / factor).chain(own).filter(|x| x.is_finite());
    near.flat_map(|x| [x.next_down(), x, x.next_up()]).filter(|x| x.is_finite()).collect()
}

/// Chunks of common values with none, one or many of the others in each.
fn mixed<F: Element>(factor: f32, count: u32) -> Vec<f32> {
    let edges = edges::<F>(factor);
    let noise = Noise { seed: 5, stream: 6 };
    let one = F::ENCODING.widen(F::ENCODING.min_normal_bits()) * 4.0 / factor;
    let value = |index: u32| {
        let word = noise.word(index);
        let sign = if word & 1 == 0 { 1.0 } else { -1.0 };
        let rarity = [1, 64, 700][(index / 2048 % 3) as usize];
        sign * match word >> 1 & 0xff {
            _ if !(word >> 9).is_multiple_of(rarity) => one * (1.0 + (word >> 24) as f32 / 256.0),
            0..8 => f32::NAN,
            8..16 => f32::INFINITY,
            16..48 => 0.0,
            _ => edges[(word >> 16) as usize % edges.len()],
        }
    };
    (0..count).map(value).collect()
}

fn fates<F: Element>() {
    let (threads, noise) = (64, Noise::default());
    for (from_log2, to_log2) in [(0, 0), (3, -9), (-20, 20), (100, -26), (-60, 66)] {
        let scale = |log2| Scale::new(log2).expect("legal");
        let cells = [Cell::at(scale(from_log2)), Cell::at(scale(to_log2))];
        let shift = scale(to_log2) / scale(from_log2);
        let values = mixed::<F>(shift.factor().expect("a factor"), 6 * 2048 + 77);
        let commonest = Narrowing::to(F::ENCODING.into());
        for narrowing in [commonest, commonest.saturating()] {
            let mut narrowed = vec![F::from_bits(0); values.len()];
            let (mut outcome, mut histogram) = (Outcome::EMPTY, Histogram::new(narrowing));
            let epilogue = Epilogue {
                from: &cells[0],
                to: &cells[1],
                narrowing,
                noise,
                stores: true,
                when: null(),
                outcome: &mut outcome,
                histogram: &mut histogram,
            };
            let to = Out::of(&mut narrowed);
            Grid::new(3, threads).with_seed(7).launch(|block| {
                // SAFETY: all that is named lives, and is named once.
                unsafe { apply(block, &values, to, &epilogue) };
            });
            let (core, mut expected) = (Apply { narrowing, shift, noise }, Outcome::EMPTY);
            for (index, (&x, found)) in values.iter().zip(&narrowed).enumerate() {
                let bits = core.element(x, index as u64, &mut expected);
                assert_eq!(found.to_bits(), bits, "{x:e} by {core:?}");
            }
            assert_eq!(outcome, expected, "{core:?}");
            let mut counts = Histogram::new(narrowing);
            counts.observe(&values, scale(from_log2));
            assert_eq!(histogram, counts, "{core:?}");
        }
    }
}

#[test]
fn values_of_every_fate_beside_each_other() {
    fates::<f16>();
    fates::<bf16>();
    fates::<E5M2>();
    fates::<E4M3>();
    fates::<f32>();
}
