//! How deep the stack gets: what is below it is painted, and looked at afterwards.

use core::ptr;

unsafe extern "C" {
    /// Where the linker says that free memory begins; the stack grows down to it.
    static mut __sheap: u32;
}

const PAINT: u32 = 0x5aa5_a55a;

/// Prints how many bytes a feature keeps, and how many of stack it takes beside them; ends.
#[inline(never)]
pub(crate) fn report<T>(kept: &mut T, run: fn(&mut T)) -> ! {
    let top = cortex_m::register::msp::read() as usize;
    let bottom = &raw mut __sheap;
    let words = (top - bottom as usize) / size_of::<u32>();
    for word in 0..words {
        // SAFETY: the stack pointer is above these words and the program's data below them, so that
        // nobody uses them: what is called from here is inlined, and an interrupt finds the stack as
        // it may.
        unsafe { ptr::write_volatile(bottom.add(word), PAINT) };
    }
    core::hint::black_box(run)(kept);
    // SAFETY: the same words are read, and every value of a word is a number.
    let is_painted = |&word: &usize| unsafe { ptr::read_volatile(bottom.add(word)) } == PAINT;
    let untouched = (0..words).take_while(is_painted).count();
    semihosting::println!("{} {}", size_of::<T>(), size_of::<u32>() * (words - untouched));
    semihosting::process::exit(0)
}
