//! Exchanges within a warp, as the ISA's section 9.7.9.6 has `shfl.sync`.

use crate::{
    code::Register,
    error::{FaultKind, Step, Stop},
    lanes::{LANES, Lanes, lanes_of},
    operation::Shuffle,
    warp::Warp,
};

/// Returns what each lane reads from another, and the lanes that had one to read from.
pub(crate) fn shuffle(
    how: Shuffle,
    warp: &Warp,
    mask: u32,
    [a, b, c]: [Register; 3],
) -> Step<(Lanes<u32>, u32)> {
    let (values, b, c) = (warp.word(a), warp.word(b), warp.word(c));
    let (mut results, mut present) = ([0; LANES], 0);
    for lane in lanes_of(mask) {
        let (of, clamp, segment) = (b[lane] & 31, c[lane] & 31, c[lane] >> 8 & 31);
        let here = lane as u32;
        let (most, least) = (here & segment | clamp & !segment, here & segment);
        let (from, is_present) = match how {
            Shuffle::Up => (here.wrapping_sub(of), here as i32 - of as i32 >= most as i32),
            Shuffle::Down => (here + of, here + of <= most),
            Shuffle::Butterfly => (here ^ of, here ^ of <= most),
            Shuffle::Index => {
                let from = least | of & !segment;
                (from, from <= most)
            }
        };
        let from = if is_present { from & 31 } else { here };
        if mask >> from & 1 == 0 {
            let what = format!("it reads from lane {from}, which takes no part");
            return Err(Stop::new(FaultKind::Barrier, here, what));
        }
        results[lane] = values[from as usize];
        present |= u32::from(is_present) << lane;
    }
    Ok((results, present))
}
