//! A block of threads on the GPU: a value per thread is a register, and every thread runs the kernel.
//!
//! `gpu/rust-cuda` compiles this file too; what its compiler has otherwise is in its own `machine`.
//!
//! **Inline assembly is not convergent to rustc**: LLVM knows that a barrier must not be led to on new ways, but an `asm!`
//! block looks to it like any instruction, which it may copy into both sides of a branch, or move behind one, so that
//! some threads of a warp come to it without the others.  Shuffles, matrices and products are such blocks here.  That a
//! function of the block, as `exchange`, is called by all threads is no guarantee of what is compiled: `adaloss-audit`
//! looks at it, in the PTX and in the machine code, and the interpreter executes it with threads that part as late as they can.

use adaloss_core::{
    apply::Apply,
    format::{Element, Encoding, Narrowing, Noise},
    scale::Shift,
};
use adaloss_kernels::{
    Block, Shared,
    block::{Factor, Place, SHARED_WORDS},
    tensor_cores,
};

use crate::machine::{self, asm};

const _: () =
    assert!(SHARED_WORDS.is_power_of_two() && tensor_cores::SHARED_WORDS.is_multiple_of(4));

/// The block that the calling thread is in, and its shared memory.
pub(crate) struct Ptx<const LAUNCHED: bool>(pub(crate) Words<LAUNCHED>);

impl<const LAUNCHED: bool> Block for Ptx<LAUNCHED> {
    type Each<T: Copy> = T;
    type Shared = Words<LAUNCHED>;

    #[inline(always)]
    fn index(&self) -> u32 {
        machine::block_index()
    }

    #[inline(always)]
    fn blocks(&self) -> u32 {
        machine::grid_dimension()
    }

    #[inline(always)]
    fn threads(&self) -> u32 {
        // Those of a product are known, and loops over them are unrolled.
        if LAUNCHED { tensor_cores::THREADS } else { machine::block_dimension() }
    }

    #[inline(always)]
    fn shared(&self) -> Words<LAUNCHED> {
        self.0
    }

    #[inline(always)]
    fn each<T: Copy>(&mut self, work: impl Fn(u32) -> T) -> T {
        work(machine::thread_index())
    }

    #[inline(always)]
    fn zip<T: Copy, U: Copy, V: Copy>(
        &mut self,
        one: &T,
        other: &U,
        work: impl Fn(u32, T, U) -> V,
    ) -> V {
        self.each(|thread| work(thread, *one, *other))
    }

    #[inline(always)]
    fn exchange<const N: usize>(&mut self, values: &[u32; N], mask: u32) -> [u32; N] {
        values.map(|value| {
            let other: u32;
            // SAFETY: every thread of the warp comes here, since no function of a thread can.
            unsafe {
                asm!(
                    "shfl.sync.bfly.b32 {}, {}, {}, 0x1f, 0xffffffff;",
                    out(reg32) other, in(reg32) value, in(reg32) mask,
                    options(nomem, nostack),
                );
            }
            other
        })
    }

    #[inline(always)]
    fn barrier(&mut self) {
        // SAFETY: every thread of the block comes here, for the same reason.
        unsafe { machine::synchronise() }
    }

    #[inline(always)]
    fn commit(&mut self) {
        // SAFETY: it has no condition.
        unsafe { asm!("cp.async.commit_group;", options(nostack)) }
    }

    #[inline(always)]
    fn wait<const PENDING: usize>(&mut self) {
        // SAFETY: it has no condition.
        unsafe { asm!("cp.async.wait_group {};", const PENDING, options(nostack)) }
    }

    #[inline(always)]
    unsafe fn load_matrices<const BEHIND: usize>(
        &mut self,
        row: &Place,
        by_columns: bool,
    ) -> [u32; 4] {
        let (a, b, c, d): (u32, u32, u32, u32);
        // SAFETY: every thread of the warp comes here, since no function of a thread can; the addresses
        // are of shared memory, by the caller's promise.
        unsafe {
            if by_columns {
                asm!(
                    "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {{{}, {}, {}, {}}}, [{}+{}];",
                    out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg32) row.0, const 4 * BEHIND,
                    options(nostack),
                );
            } else {
                asm!(
                    "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{{}, {}, {}, {}}}, [{}+{}];",
                    out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg32) row.0, const 4 * BEHIND,
                    options(nostack),
                );
            }
        }
        [a, b, c, d]
    }

    #[inline(always)]
    fn multiply<E: Factor>(&mut self, a: &[u32; 4], b: &[u32; 2], sums: &mut [f32; 4]) {
        macro_rules! multiply {
            ($instruction:literal) => {
                asm!(
                    concat!($instruction, " {{{}, {}, {}, {}}}, {{{}, {}, {}, {}}}, {{{}, {}}}, {{{}, {}, {}, {}}};"),
                    out(reg32) sums[0], out(reg32) sums[1], out(reg32) sums[2], out(reg32) sums[3],
                    in(reg32) a[0], in(reg32) a[1], in(reg32) a[2], in(reg32) a[3],
                    in(reg32) b[0], in(reg32) b[1],
                    in(reg32) sums[0], in(reg32) sums[1], in(reg32) sums[2], in(reg32) sums[3],
                    options(nomem, nostack),
                )
            };
        }
        // SAFETY: every thread of the warp comes here, for the same reason.
        unsafe {
            match E::ENCODING {
                Encoding::BFloat16 => {
                    multiply!("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");
                }
                _ => multiply!("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"),
            }
        }
    }

    #[inline(always)]
    unsafe fn add(counter: *mut u64, count: u64) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { machine::add(counter, count) }
    }

    #[inline(always)]
    fn widen_two<F: Element>(word: u32) -> [f32; 2] {
        match F::ENCODING {
            Encoding::BFloat16 => [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)],
            _ => widen_halves(word),
        }
    }

    #[inline(always)]
    fn widen_four<F: Element>(word: u32) -> [f32; 4] {
        let is_e4m3 = matches!(F::ENCODING, Encoding::E4M3);
        let [low, high] = match is_e4m3 {
            true if machine::CONVERTS_BYTES => bytes_to_halves(word),
            // An E5M2 number is the upper half of a binary16 one.
            _ => [spread::<0x1404>(word), spread::<0x3424>(word)],
        };
        if is_e4m3 && !machine::CONVERTS_BYTES {
            // With its exponent field at the end of binary16's, a number is 2^-8 of what it was; a NaN would be 480.
            let widened = [low, high].map(|pair| {
                let numbers = widen_halves(pair >> 1 & 0x3f80_3f80 | pair & 0x8000_8000);
                numbers.map(|x| if x.abs() == 1.875 { f32::NAN } else { 256.0 * x })
            });
            let [[a, b], [c, d]] = widened;
            return [a, b, c, d];
        }
        let ([a, b], [c, d]) = (widen_halves(low), widen_halves(high));
        [a, b, c, d]
    }

    #[inline(always)]
    fn round_two<F: Element>([low, high]: [f32; 2]) -> u32 {
        let word: u32;
        // SAFETY: it has no condition.
        unsafe {
            match F::ENCODING {
                Encoding::BFloat16 => asm!(
                    "cvt.rn.bf16x2.f32 {}, {}, {};",
                    out(reg32) word, in(reg32) high, in(reg32) low, options(pure, nomem, nostack),
                ),
                _ => asm!(
                    "cvt.rn.f16x2.f32 {}, {}, {};",
                    out(reg32) word, in(reg32) high, in(reg32) low, options(pure, nomem, nostack),
                ),
            }
        }
        word
    }

    #[inline(always)]
    fn round_four<F: Element>(numbers: [f32; 4]) -> u32 {
        if machine::CONVERTS_BYTES {
            return round_bytes::<F>(numbers);
        }
        let narrowing = Narrowing::to(F::ENCODING.into());
        let apply = Apply { narrowing, shift: Shift::NONE, noise: Noise { seed: 0, stream: 0 } };
        let Some(fast) = apply.fast_narrowing::<F>() else { return 0 };
        let [a, b, c, d] = numbers.map(|x| fast.round(x).to_bits());
        d << 24 | c << 16 | b << 8 | a
    }

    #[inline(always)]
    fn root(x: f32) -> f32 {
        let root: f32;
        // SAFETY: it has no condition.
        unsafe {
            asm!("sqrt.rn.f32 {}, {};", out(reg32) root, in(reg32) x, options(pure, nomem, nostack));
        }
        root
    }

    #[inline(always)]
    fn root_wide(x: f64) -> f64 {
        let root: f64;
        // SAFETY: as above.
        unsafe {
            asm!("sqrt.rn.f64 {}, {};", out(reg64) root, in(reg64) x, options(pure, nomem, nostack));
        }
        root
    }

    #[inline(always)]
    unsafe fn raise(maximum: *mut u32, value: u32) {
        // SAFETY: the caller's promise.
        unsafe { machine::raise(maximum, value) }
    }

    #[inline(always)]
    unsafe fn lower(minimum: *mut u32, value: u32) {
        // SAFETY: the caller's promise.
        unsafe { machine::lower(minimum, value) }
    }
}

/// Widens two binary16 numbers.
#[inline(always)]
fn widen_halves(word: u32) -> [f32; 2] {
    let (low, high): (f32, f32);
    // SAFETY: it has no condition.
    unsafe {
        asm!(
            "{{ .reg .b16 %low, %high; mov.b32 {{%low, %high}}, {}; cvt.f32.f16 {}, %low; cvt.f32.f16 {}, %high; }}",
            in(reg32) word, out(reg32) low, out(reg32) high, options(pure, nomem, nostack),
        );
    }
    [low, high]
}

/// Returns the bytes of a word that each digit of `WHICH` names, the lowest first: 4 is zero.
#[inline(always)]
fn spread<const WHICH: u32>(word: u32) -> u32 {
    let bytes: u32;
    // SAFETY: it has no condition.
    unsafe {
        asm!(
            "prmt.b32 {}, {}, 0, {};",
            out(reg32) bytes, in(reg32) word, const WHICH, options(pure, nomem, nostack),
        );
    }
    bytes
}

/// Widens four E4M3 numbers to binary16, two in a word.
#[inline(always)]
fn bytes_to_halves(word: u32) -> [u32; 2] {
    let (low, high): (u32, u32);
    // SAFETY: it has no condition, and is not there where it is none of the GPU's instructions.
    unsafe {
        asm!(
            "{{ .reg .b16 %low, %high; mov.b32 {{%low, %high}}, {}; \
             cvt.rn.f16x2.e4m3x2 {}, %low; cvt.rn.f16x2.e4m3x2 {}, %high; }}",
            in(reg32) word, out(reg32) low, out(reg32) high, options(pure, nomem, nostack),
        );
    }
    [low, high]
}

/// Rounds four numbers to 8 bits.
#[inline(always)]
fn round_bytes<F: Element>([a, b, c, d]: [f32; 4]) -> u32 {
    let word: u32;
    macro_rules! round {
        ($instruction:literal) => {
            asm!(
                concat!(
                    "{{ .reg .b16 %low, %high; ", $instruction, " %low, {}, {}; ",
                    $instruction, " %high, {}, {}; mov.b32 {}, {{%low, %high}}; }}"
                ),
                in(reg32) b, in(reg32) a, in(reg32) d, in(reg32) c, out(reg32) word,
                options(pure, nomem, nostack),
            )
        };
    }
    // SAFETY: it has no condition, and is not there where it is none of the GPU's instructions.
    unsafe {
        match F::ENCODING {
            Encoding::E4M3 => round!("cvt.rn.satfinite.e4m3x2.f32"),
            _ => round!("cvt.rn.satfinite.e5m2x2.f32"),
        }
    }
    word
}

/// A block's shared memory: what every kernel has, or what a launch asks for.
#[derive(Clone, Copy)]
pub(crate) struct Words<const LAUNCHED: bool>;

/// What every kernel has: [`SHARED_WORDS`].
pub(crate) const EVERY: Words<false> = Words;

/// What a product is launched with: [`tensor_cores::SHARED_WORDS`].
pub(crate) const LAUNCHED: Words<true> = Words;

impl<const LAUNCHED: bool> Words<LAUNCHED> {
    /// Returns the address of the first of so many words in the space of shared memory, of a multiple of as many.
    #[inline(always)]
    fn first(self, word: usize, of: usize) -> u32 {
        let (first, words) = if LAUNCHED {
            (machine::launched(), tensor_cores::SHARED_WORDS)
        } else {
            (machine::shared(), SHARED_WORDS)
        };
        // One instruction for either: what is beyond the last word wraps round, or is the last words.
        let word = if words.is_power_of_two() {
            (word % words) as u32
        } else {
            (word as u32).min((words - of) as u32)
        };
        first + 4 * word
    }
}

impl<const LAUNCHED: bool> Shared for Words<LAUNCHED> {
    #[inline(always)]
    fn load(self, word: usize) -> u32 {
        let value: u32;
        let address = self.first(word, 1);
        // SAFETY: the address is that of a word, whatever the index.
        unsafe {
            asm!("ld.shared.u32 {}, [{}];", out(reg32) value, in(reg32) address, options(nostack));
        }
        value
    }

    #[inline(always)]
    fn store(self, word: usize, value: u32) {
        let address = self.first(word, 1);
        // SAFETY: as above.
        unsafe {
            asm!("st.shared.u32 [{}], {};", in(reg32) address, in(reg32) value, options(nostack));
        }
    }

    #[inline(always)]
    fn add(self, word: usize, value: u32) {
        let address = self.first(word, 1);
        // SAFETY: as above.
        unsafe {
            asm!("red.shared.add.u32 [{}], {};", in(reg32) address, in(reg32) value, options(nostack));
        }
    }

    #[inline(always)]
    fn place(self, word: usize) -> Place {
        Place(self.first(word, 4))
    }

    #[inline(always)]
    unsafe fn store_wide_at<const BEHIND: usize>(self, to: Place, [low, high]: [u32; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "st.shared.v2.u32 [{}+{}], {{{}, {}}};",
                in(reg32) to.0, const 4 * BEHIND, in(reg32) low, in(reg32) high,
                options(nostack),
            );
        }
    }

    #[inline(always)]
    unsafe fn load_four_at<const BEHIND: usize>(self, from: Place) -> [u32; 4] {
        let (a, b, c, d): (u32, u32, u32, u32);
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "ld.shared.v4.u32 {{{}, {}, {}, {}}}, [{}+{}];",
                out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg32) from.0, const 4 * BEHIND,
                options(nostack),
            );
        }
        [a, b, c, d]
    }

    #[inline(always)]
    unsafe fn copy<const BEHIND: usize>(self, to: Place, from: *const u8, bytes: u32) {
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "{{ .reg .u64 %global; cvta.to.global.u64 %global, {}; \
                 cp.async.cg.shared.global [{}+{}], [%global], 16, {}; }}",
                in(reg64) from, in(reg32) to.0, const 4 * BEHIND, in(reg32) bytes,
                options(nostack),
            );
        }
    }
}
