//! A block of threads on the GPU: a value per thread is a register, and every thread runs the kernel.

use core::arch::{
    asm, global_asm,
    nvptx::{
        _block_dim_x as block_dimension, _block_idx_x as block_index,
        _grid_dim_x as grid_dimension, _syncthreads as synchronise, _thread_idx_x as thread_index,
    },
};

use adaloss_kernels::{Block, Shared, block::SHARED_WORDS};

global_asm!(".shared .align 16 .b8 adaloss_shared[16384];");

const _: () = assert!(4 * SHARED_WORDS == 16384 && SHARED_WORDS.is_power_of_two());

/// The block that the calling thread is in.
pub(crate) struct Ptx;

impl Block for Ptx {
    type Each<T: Copy> = T;
    type Shared = Words;

    #[inline(always)]
    fn index(&self) -> u32 {
        // SAFETY: reading a special register has no condition.
        unsafe { block_index() as u32 }
    }

    #[inline(always)]
    fn blocks(&self) -> u32 {
        // SAFETY: as above.
        unsafe { grid_dimension() as u32 }
    }

    #[inline(always)]
    fn threads(&self) -> u32 {
        // SAFETY: as above.
        unsafe { block_dimension() as u32 }
    }

    #[inline(always)]
    fn shared(&self) -> Words {
        Words
    }

    #[inline(always)]
    fn each<T: Copy>(&mut self, work: impl Fn(u32) -> T) -> T {
        // SAFETY: as above.
        work(unsafe { thread_index() as u32 })
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
        unsafe { synchronise() }
    }
}

/// The block's shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Words;

impl Words {
    /// Returns the address of a word in the space of shared memory.
    #[inline(always)]
    fn address(self, word: usize) -> u32 {
        let first: u32;
        // SAFETY: the name of a variable of this module.
        unsafe {
            asm!("mov.u32 {}, adaloss_shared;", out(reg32) first, options(pure, nomem, nostack));
        }
        first + 4 * (word % SHARED_WORDS) as u32
    }
}

impl Shared for Words {
    #[inline(always)]
    fn load(self, word: usize) -> u32 {
        let value: u32;
        // SAFETY: the address is that of a word, whatever the index.
        unsafe {
            asm!("ld.shared.u32 {}, [{}];", out(reg32) value, in(reg32) self.address(word), options(nostack));
        }
        value
    }

    #[inline(always)]
    fn store(self, word: usize, value: u32) {
        // SAFETY: as above.
        unsafe {
            asm!("st.shared.u32 [{}], {};", in(reg32) self.address(word), in(reg32) value, options(nostack));
        }
    }

    #[inline(always)]
    fn add(self, word: usize, value: u32) {
        // SAFETY: as above.
        unsafe {
            asm!("red.shared.add.u32 [{}], {};", in(reg32) self.address(word), in(reg32) value, options(nostack));
        }
    }

    #[inline(always)]
    fn load_wide(self, pair: usize) -> u64 {
        let value: u64;
        // SAFETY: as above; a pair begins at an even word, at a multiple of 8 bytes.
        unsafe {
            asm!("ld.shared.u64 {}, [{}];", out(reg64) value, in(reg32) self.address(2 * pair), options(nostack));
        }
        value
    }

    #[inline(always)]
    fn add_wide(self, pair: usize, value: u64) {
        // SAFETY: as above.
        unsafe {
            asm!("red.shared.add.u64 [{}], {};", in(reg32) self.address(2 * pair), in(reg64) value, options(nostack));
        }
    }
}
