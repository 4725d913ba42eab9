//! Which thread has which elements of matrices, beside what NVIDIA's CUTLASS says.
//!
//! CuTe describes a layout by shapes and strides: from a thread and a value's number to an index.  Those below are
//! the numbers of `include/cute/atom/mma_traits_sm80.hpp` at commit 468e0eaf (`SM80_16x8x16_F16F16F16F16_TN`, whose
//! layouts `F32F16F16F32` and `F32BF16BF16F32` have too) and of `include/cute/atom/copy_traits_sm75.hpp` at commit
//! 474c1fd4 (`SM75_U32x4_LDSM_N` and `SM75_U16x8_LDSM_T`, and the ones for fewer matrices).

mod device;

use adaloss_core::format::f16;
use adaloss_interpreter::{Launch, Module, Schedule, Sums};
use device::{Device, Random, block};

/// Extents and strides; the first index goes round first.
type Layout = &'static [(usize, usize)];

/// Of threads, and of the values that each has.
struct Fragment {
    threads: Layout,
    values: Layout,
}

/// From threads and values to `m + 16 * k`.
const A: Fragment = Fragment { threads: &[(4, 32), (8, 1)], values: &[(2, 16), (2, 8), (2, 128)] };

/// To `n + 8 * k`.
const B: Fragment = Fragment { threads: &[(4, 16), (8, 1)], values: &[(2, 8), (2, 64)] };

/// To `m + 16 * n`.
const C: Fragment = Fragment { threads: &[(4, 32), (8, 1)], values: &[(2, 16), (2, 8)] };

/// From threads and bits to bits of rows of 128, one behind the other.
const ROWS: Fragment = Fragment { threads: &[(32, 32)], values: &[(32, 1), (4, 1024)] };

const TRANSPOSED: Fragment =
    Fragment { threads: &[(4, 256), (8, 16)], values: &[(16, 1), (2, 128), (4, 1024)] };

fn index(layout: Layout, mut number: usize) -> usize {
    let mut index = 0;
    for &(extent, stride) in layout {
        index += number % extent * stride;
        number /= extent;
    }
    index
}

impl Fragment {
    fn at(&self, thread: usize, value: usize) -> usize {
        index(self.threads, thread) + index(self.values, value)
    }
}

/// Small integers, whose products and sums are exact in any order.
fn integers(count: usize, seed: u64) -> Vec<i32> {
    let mut random = Random(seed);
    (0..count).map(|_| (random.bits() % 17) as i32 - 8).collect()
}

/// The bits of a small integer in 16 bits.
fn element(is_bfloat: bool, value: i32) -> u32 {
    let single = (value as f32).to_bits();
    match is_bfloat {
        true => single >> 16,
        false if value == 0 => 0,
        // Between the two formats, exponents differ by 112.
        false => single >> 16 & 0x8000 | ((single & 0x7fff_ffff) - (112 << 23)) >> 13,
    }
}

fn words(fragment: &Fragment, values: &[u32], thread: usize, count: usize) -> Vec<u32> {
    let of = |value| values[fragment.at(thread, value)];
    (0..count).map(|word| of(2 * word) | of(2 * word + 1) << 16).collect()
}

/// Multiplies matrices of 16-bit elements and adds what was there, all in the order of the layouts' indices.
fn multiply(is_bfloat: bool, sums: Sums, a: &[u32], b: &[u32], c: &[f32]) -> Vec<f32> {
    let mut given = Vec::new();
    for thread in 0..32 {
        given.extend(words(&A, a, thread, 4));
        given.extend(words(&B, b, thread, 2));
        given.extend([0; 2]);
        given.extend((0..4).map(|value| c[C.at(thread, value)].to_bits()));
        given.extend([0; 4]);
    }
    let of = if is_bfloat { "bf16" } else { "f16" };
    let text = format!(
        ".visible .entry kernel(.param .u64 at)
{{
.reg .b32 %r<16>;
.reg .b64 %rd<4>;
ld.param.b64 %rd0, [at];
mov.u32 %r0, %tid.x;
mad.wide.u32 %rd1, %r0, 64, %rd0;
ld.global.v4.b32 {{%r1, %r2, %r3, %r4}}, [%rd1];
ld.global.v2.b32 {{%r5, %r6}}, [%rd1+16];
ld.global.v4.b32 {{%r7, %r8, %r9, %r10}}, [%rd1+32];
mma.sync.aligned.m16n8k16.row.col.f32.{of}.{of}.f32 {{%r11, %r12, %r13, %r14}}, {{%r1, %r2, %r3, %r4}}, {{%r5, %r6}}, {{%r7, %r8, %r9, %r10}};
st.global.v4.b32 [%rd1+48], {{%r11, %r12, %r13, %r14}};
ret;
}}"
    );
    let module = Module::parse(&text).expect("PTX");
    let mut device = Device::default();
    let at = device.words(&given);
    let parameters = at.to_le_bytes();
    let schedule = Schedule { sums, ..Schedule::default() };
    let launch = Launch { schedule, ..block(32, &parameters) };
    module.entry("kernel").expect("it").launch(&mut device, &launch).expect("no fault");
    let found = device.read_words(at);
    let mut results = vec![0.0; 128];
    for thread in 0..32 {
        for value in 0..4 {
            results[C.at(thread, value)] = f32::from_bits(found[16 * thread + 12 + value]);
        }
    }
    results
}

/// Small integers, whose products and sums are exact, show which element is where.
#[test]
fn products_of_matrices() {
    let (a, b, c) = (integers(256, 1), integers(128, 2), integers(128, 3));
    for is_bfloat in [false, true] {
        let bits = |of: &[i32]| of.iter().map(|&of| element(is_bfloat, of)).collect::<Vec<_>>();
        let sums: Vec<_> = c.iter().map(|&of| of as f32).collect();
        for order in [Sums::InOrder, Sums::ByHalves] {
            let found = multiply(is_bfloat, order, &bits(&a), &bits(&b), &sums);
            for (at, &found) in found.iter().enumerate() {
                let (m, n) = (at % 16, at / 16);
                let sum: i32 = (0..16).map(|k| a[m + 16 * k] * b[n + 8 * k]).sum();
                assert_eq!(found, (sum + c[at]) as f32, "{m} {n}");
            }
        }
    }
}

/// The value of 16 bits.
fn wide(is_bfloat: bool, bits: u32) -> f32 {
    if is_bfloat { f32::from_bits(bits << 16) } else { f16::from_bits(bits as u16).to_f32() }
}

/// Any bits at all, and numbers near the ends of what products can be.
fn elements(is_bfloat: bool, seed: u64, count: usize) -> Vec<u32> {
    let mut random = Random(seed);
    let of = |_| match (random.bits() % 4, random.bits() as u32 & 0xffff) {
        // Tiny numbers, whose products are rounded where bfloat16 has them.
        (0, bits) if seed % 3 == 1 => bits & 0x83ff,
        // Of moderate size, without infinities.
        (_, bits) if seed % 3 == 2 => bits & 0x80ff | if is_bfloat { 0x3f00 } else { 0x3800 },
        (_, bits) => bits,
    };
    (0..count).map(of).collect()
}

/// One after the other: what the simulated grid makes of it, bit for bit.
#[test]
fn sums_are_made_in_order() {
    for is_bfloat in [false, true] {
        for seed in 0..60 {
            let (a, b) = (elements(is_bfloat, seed, 256), elements(is_bfloat, seed + 300, 128));
            let mut random = Random(seed + 100);
            let single = |_| f32::from_bits(random.bits() as u32);
            let c: Vec<_> = (0..128).map(single).collect();
            let found = multiply(is_bfloat, Sums::InOrder, &a, &b, &c);
            for (at, &found) in found.iter().enumerate() {
                let (m, n) = (at % 16, at / 16);
                let sum = (0..16).fold(c[at], |sum, k| {
                    wide(is_bfloat, a[m + 16 * k]).mul_add(wide(is_bfloat, b[n + 8 * k]), sum)
                });
                let is_same = found.to_bits() == sum.to_bits() || found.is_nan() && sum.is_nan();
                assert!(is_same, "seed {seed}: {found} and not {sum} at {m} {n}");
                assert!(!found.is_nan() || found.to_bits() == 0x7fff_ffff);
            }
        }
    }
}

/// In the other order a sum is another one, but not by much.
#[test]
fn sums_by_halves_are_cut_off() {
    let (a, b) = (elements(false, 2, 256), elements(false, 302, 128));
    let c = vec![0.3; 128];
    let in_order = multiply(false, Sums::InOrder, &a, &b, &c);
    let by_halves = multiply(false, Sums::ByHalves, &a, &b, &c);
    assert_ne!(in_order, by_halves);
    for (one, other) in in_order.iter().zip(by_halves) {
        // 17 terms of at most 1, each cut off at the 24th digit.
        assert!((one - other).abs() < 1e-5, "{one} {other}");
    }
}

#[test]
fn matrices_are_loaded() {
    for count in [1, 2, 4] {
        for (modifier, layout) in [("", &ROWS), (".trans", &TRANSPOSED)] {
            let to = ["%r4", "%r5", "%r6", "%r7"][..count].join(", ");
            let text = format!(
                ".shared .align 16 .b8 shared[512];
.visible .entry kernel(.param .u64 at)
{{
.reg .b32 %r<16>;
.reg .b64 %rd<4>;
ld.param.b64 %rd0, [at];
mov.u32 %r0, %tid.x;
mad.wide.u32 %rd1, %r0, 16, %rd0;
mov.u32 %r1, shared;
mad.lo.s32 %r2, %r0, 16, %r1;
ld.global.v4.b32 {{%r4, %r5, %r6, %r7}}, [%rd1];
st.shared.v4.b32 [%r2], {{%r4, %r5, %r6, %r7}};
bar.sync 0;
ldmatrix.sync.aligned.m8n8.x{count}{modifier}.shared.b16 {{{to}}}, [%r2];
st.global.v4.b32 [%rd1], {{%r4, %r5, %r6, %r7}};
ret;
}}"
            );
            let module = Module::parse(&text).expect("PTX");
            let mut device = Device::default();
            let mut random = Random(9);
            let given: Vec<_> = (0..128).map(|_| random.bits() as u32).collect();
            let at = device.words(&given);
            let parameters = at.to_le_bytes();
            let entry = module.entry("kernel").expect("it");
            entry.launch(&mut device, &block(32, &parameters)).expect("no fault");
            let found = device.read_words(at);
            for thread in 0..32 {
                for value in 0..32 * count {
                    let from = layout.at(thread, value);
                    let bit = given[from / 32] >> (from % 32) & 1;
                    let found = found[4 * thread + value / 32] >> (value % 32) & 1;
                    assert_eq!(found, bit, "x{count}{modifier}: bit {value} of thread {thread}");
                }
            }
        }
    }
}
