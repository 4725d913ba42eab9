//! A library called before may have left a processor that flushes subnormals, or rounds in another direction (MXCSR on
//! x86): slices come out the same.
#![cfg(target_arch = "x86_64")]

use adaloss_core::{
    apply::Apply,
    format::{Element, Format, Narrowing, Noise, bf16, f16},
    propagate::{Scaled, sum_at},
    scale::Scale,
    statistics::Outcome,
    unscale::unscale,
};

/// Sets how the calling thread's processor rounds, and whether it flushes subnormals, until it is dropped.
struct Mode(u32);

impl Mode {
    fn set(bits: u32) -> Self {
        let mut before = 0_u32;
        // SAFETY: it reads a register, and sets its bits for rounding and flushing; between here and the drop no code relies on
        // them but what is tested.
        unsafe {
            std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut before);
            std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const bits);
        }
        Self(before)
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        // SAFETY: what it was.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const self.0) };
    }
}

/// As it is by default; subnormals flushed where they are read and where they are written; where they are read; where they
/// are written; down, up, and toward zero.
const MODES: [u32; 7] = [0x1f80, 0x9fc0, 0x1fc0, 0x9f80, 0x3f80, 0x5f80, 0x7f80];

#[test]
fn slices_are_narrowed_the_same() {
    for mode in MODES {
        for log2 in [-3, 0, 9, 120] {
            let apply = Apply {
                narrowing: Narrowing::to(Format::BINARY16),
                shift: Scale::new(log2).unwrap() / Scale::ONE,
                noise: Noise::default(),
            };
            let values: Vec<f32> = (1..=64_u32)
                .flat_map(|i| [f32::from_bits(i << 17), i as f32 * 1.0e-7, -(i as f32) * 1.2345])
                .collect();
            let mut alone = Outcome::EMPTY;
            let expected: Vec<u32> =
                (0..).zip(&values).map(|(i, &x)| apply.element(x, i, &mut alone)).collect();
            let mut narrowed = vec![f16::ZERO; values.len()];
            let mut outcome = Outcome::EMPTY;
            let fast = {
                let _mode = Mode::set(mode);
                apply.slice(&values, &mut narrowed, 0, &mut outcome).unwrap();
                apply.fast_narrowing::<f16>().is_some()
            };
            assert!(
                narrowed.iter().map(|x| Element::to_bits(*x)).eq(expected),
                "{mode:#x}, 2^{log2}"
            );
            assert_eq!(outcome, alone, "{mode:#x}, 2^{log2}");
            assert_eq!(fast, mode == 0x1f80);
        }
    }
}

/// All bits of bfloat16 with magnitudes from subnormals of f32 to its largest binades, at scales on either side of 2^0: what a
/// processor that flushes would read, or write, as zero among them.
#[test]
fn slices_are_unscaled_the_same() {
    let all: Vec<bf16> = (0..=0xffff).map(Element::from_bits).collect();
    for log2 in [-126, -20, -3, 0, 3, 20, 126] {
        let scaled = Scaled::new(&all[..], Scale::new(log2).unwrap());
        let unscaled = |mode: u32| {
            let mut gradient = vec![0.0; all.len()];
            let _mode = Mode::set(mode);
            let met = unscale(Format::BFLOAT16, scaled, &mut gradient).unwrap();
            // As numbers: which NaN it is, is the processor's.
            let bits: Vec<u32> =
                gradient.iter().filter(|x| !x.is_nan()).map(|x| x.to_bits()).collect();
            (bits, met)
        };
        let expected = unscaled(MODES[0]);
        for mode in MODES {
            assert!(unscaled(mode) == expected, "{mode:#x}, 2^{log2}");
        }
    }
}

/// Branches are brought to one scale the same; the sums are the processor's, and here normal numbers.
#[test]
fn branches_are_brought_to_one_scale_the_same() {
    let subnormals: Vec<bf16> = (1..=0x7f).map(Element::from_bits).collect();
    let ones = vec![bf16::ONE; subnormals.len()];
    for log2 in [-126, -20, 0] {
        let common = Scale::new(log2 + 126).unwrap();
        let branches = [(&subnormals[..], Scale::new(log2).unwrap()), (&ones[..], common)];
        let summed = |mode: u32| {
            let mut sum = vec![9.0; subnormals.len()];
            let _mode = Mode::set(mode);
            sum_at(Format::BFLOAT16, branches.into_iter(), common, &mut sum);
            sum.iter().map(|x: &f32| x.to_bits()).collect::<Vec<_>>()
        };
        for (x, sum) in subnormals.iter().zip(summed(MODES[0])) {
            let exact = 1.0 + f64::from(x.widen()) * 126.0_f64.exp2();
            assert_eq!(f32::from_bits(sum), exact as f32);
        }
        for flushes in [0x9fc0, 0x1fc0, 0x9f80] {
            assert!(summed(flushes) == summed(MODES[0]), "{flushes:#x}, 2^{log2}");
        }
    }
}
