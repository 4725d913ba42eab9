//! Sums of f32 tensors over ranks, carried in any format.
//!
//! Each rank owns one part of the tensor.  What all of them have of it comes to the owner in the format, is summed there in
//! f32, and the sum goes back to all in the format:
//!
//! ```text
//! f32 --narrow--> [ Exchange::all_to_all ] --widen--> f32 sum --narrow--> [ Exchange::all_gather ] --widen--> f32
//! ```
//!
//! So a value is rounded twice, whatever the number of ranks, and as many bytes are moved as by a ring.  Sums are in a fixed
//! order: neighbours first, then neighbouring pairs, then fours, that is the binary tree over the ranks in their order.  In f32
//! nothing is rounded on the way, and ranks that sum their own micro-batches by the same tree have the same bits at any number of
//! ranks.

use adaloss_core::{
    apply::Apply,
    format::{Element, Encoding, Narrowing, Noise},
    scale::Scale,
    statistics::Outcome,
};

use super::{AgreeError, Exchange};

/// The largest magnitude among values, as the bits of an f32: infinity is larger than every number, and NaN than infinity.
///
/// Ranks agree on the largest by the maximum of integers, which NaN cannot get lost in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Largest(u32);

impl Largest {
    /// Takes the bits of an f32 for one, without its sign.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & !(1 << 31))
    }

    /// Returns the bits of an f32.
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Returns the magnitude.
    pub const fn value(self) -> f32 {
        f32::from_bits(self.0)
    }

    /// Tells whether all values were numbers.
    pub const fn is_finite(self) -> bool {
        self.value().is_finite()
    }
}

/// Returns the largest magnitude among values; zero of none.
pub fn largest(values: &[f32]) -> Largest {
    values.iter().map(|x| Largest::from_bits(x.to_bits())).max().unwrap_or_default()
}

/// Returns the greatest scale at which neither values up to a magnitude nor their sum over so many ranks overflow.
///
/// In a format with f32's range it is 2^0 where that is not too great.  `None` where the magnitude is not finite, or no legal
/// scale is small enough; of zero it is 2^0.
///
/// # Examples
///
/// ```
/// use adaloss_core::format::{Format, Narrowing};
/// use adaloss_hal::group::{sum_scale, largest};
/// let narrowing = Narrowing::to(Format::BINARY16);
/// // 2^7 * 512 = 65536 is too much for binary16; four ranks need 2 binades more.
/// let scale = |ranks| sum_scale(narrowing, largest(&[0.5, -512.0]), ranks);
/// assert_eq!([1, 2, 3, 4].map(|ranks| scale(ranks).map(|scale| scale.log2())), [6, 5, 4, 4].map(Some));
/// ```
pub fn sum_scale(narrowing: Narrowing, largest: Largest, ranks: usize) -> Option<Scale> {
    if !largest.is_finite() {
        return None;
    }
    let Some(shifts) = narrowing.shifts(largest.value()) else { return Some(Scale::ONE) };
    let doublings = ranks.max(1).next_power_of_two().trailing_zeros() as i32;
    let greatest = shifts.greatest - doublings;
    let is_wide = narrowing.format.encoding.max_log2() >= Encoding::Binary32.max_log2();
    let most = if is_wide { Scale::ONE } else { Scale::MAX };
    Scale::new(greatest.min(most.log2())).ok()
}

/// Returns how many bytes of room a [`sum`] of so many values over so many ranks needs.
pub const fn room_bytes<T: Element>(values: usize, ranks: usize) -> usize {
    let block = part_length(values, ranks).saturating_mul(size_of::<T>()).saturating_add(LARGEST);
    block.saturating_mul(ranks).saturating_mul(2)
}

/// Returns how many values of room such a sum needs.
pub const fn room_values(values: usize, ranks: usize) -> usize {
    part_length(values, ranks).saturating_mul(ranks)
}

/// The bytes of the largest magnitude behind each part of a sum.
const LARGEST: usize = 4;

/// Returns how many values each rank sums.
const fn part_length(values: usize, ranks: usize) -> usize {
    match ranks {
        0 => values,
        _ => values.div_ceil(ranks),
    }
}

/// Sums a tensor over all ranks, each value in the place of its own; `scale` is what the values have in the format `T`, the same
/// on all ranks.
///
/// Returns the largest magnitude among what was summed and the sums, which is the same on all ranks: not finite where a value was
/// not, or where one overflowed in the format.  Then the sums are of no use, and [`sum`] in f32 says more.  `room`
/// has [`room_bytes`], `rows` [`room_values`].  All ranks bring as many values.
///
/// # Errors
///
/// The group failed, or there is less room.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, Narrowing, f16}, scale::Scale};
/// use adaloss_hal::group::{AgreeError, Group, Largest, Solo, largest, room_bytes, room_values, sum, sum_scale};
/// let mut group = Solo; // or the group of `adaloss-mpi`
/// let mut gradient = [1.0e-6, -3.0e-9, 0.25];
/// // One small message: the largest magnitude of all ranks.
/// let mut bits = [u64::from(largest(&gradient).to_bits())];
/// group.max_u64(&mut bits).map_err(AgreeError::Group)?;
/// let largest = Largest::from_bits(bits[0] as u32);
/// let scale = sum_scale(Narrowing::to(Format::BINARY16), largest, group.size()).expect("finite values");
///
/// let (mut room, mut rows) = ([0; room_bytes::<f16>(3, 1)], [0.0; room_values(3, 1)]);
/// sum::<f16, _>(&mut gradient, scale, &mut group, &mut room, &mut rows)?;
/// assert_eq!((scale.log2(), gradient[2]), (17, 0.25));
/// assert!((gradient[1] + 3.0e-9).abs() < 3.0e-11); // it is 0 in binary16 without a scale
/// # Ok::<(), AgreeError<core::convert::Infallible>>(())
/// ```
pub fn sum<T: Element, G: Exchange>(
    values: &mut [f32],
    scale: Scale,
    group: &mut G,
    room: &mut [u8],
    rows: &mut [f32],
) -> Result<Largest, AgreeError<G::Error>> {
    let ranks = group.size().max(1);
    let part = part_length(values.len(), ranks);
    let own = part * size_of::<T>();
    let (expected, length) = (room_bytes::<T>(values.len(), ranks), room.len());
    let short = || AgreeError::Room { expected, length };
    let (from, to) = room.split_at_mut_checked(expected / 2).ok_or_else(short)?;
    let to = to.get_mut(..expected / 2).ok_or_else(short)?;
    let (in_rows, length) = (part * ranks, rows.len());
    let rows = rows.get_mut(..in_rows);
    let rows = rows.ok_or(AgreeError::Room { expected: in_rows, length })?;
    if part == 0 {
        return Ok(Largest::default());
    }
    let narrowing = Narrowing::to(T::ENCODING.into());
    let at = |scale: Scale| Apply { narrowing, shift: scale / Scale::ONE, noise: Noise::default() };

    // Behind the last value are zeros.
    from.fill(0);
    narrow::<T>(&at(scale), values, from);
    let (parts, _) = from.split_at(own * ranks);
    let theirs = to.get_mut(..own * ranks).ok_or_else(short)?;
    group.all_to_all(parts, theirs).map_err(AgreeError::Group)?;
    widen::<T>(theirs, Scale::ONE, rows);
    let mut found = largest(rows);
    sum_rows(rows, part);

    let (sums, _) = rows.split_at_mut(part);
    let own_part = from.get_mut(..own + LARGEST).ok_or_else(short)?;
    narrow::<T>(&at(Scale::ONE), sums, own_part); // they carry the scale
    widen::<T>(own_part, Scale::ONE, sums);
    found = found.max(largest(sums));
    if let Some(bytes) = own_part.last_chunk_mut() {
        *bytes = found.to_bits().to_le_bytes();
    }
    group.all_gather(own_part, to).map_err(AgreeError::Group)?;
    for (values, block) in values.chunks_mut(part).zip(to.chunks_exact(own + LARGEST)) {
        widen::<T>(block, scale, values);
    }
    for block in to.chunks_exact(own + LARGEST) {
        if let Some(&bytes) = block.last_chunk() {
            found = found.max(Largest::from_bits(u32::from_le_bytes(bytes)));
        }
    }
    let unscaled = found.value() * scale.inverse().factor();
    Ok(if found.is_finite() { Largest::from_bits(unscaled.to_bits()) } else { found })
}

/// Narrows values into little-endian bytes, as many as there are values.
fn narrow<T: Element>(apply: &Apply, values: &[f32], to: &mut [u8]) {
    let mut block = [T::from_bits(0); BLOCK];
    let mut ignored = Outcome::EMPTY;
    for (values, to) in values.chunks(BLOCK).zip(to.chunks_mut(BLOCK * size_of::<T>())) {
        let (block, _) = block.split_at_mut(values.len());
        // Of one length, and in the encoding of `T`.
        let _ = apply.slice(values, block, 0, &mut ignored);
        for (element, to) in block.iter().zip(to.chunks_exact_mut(size_of::<T>())) {
            to.iter_mut().zip(element.to_bits().to_le_bytes()).for_each(|(to, from)| *to = from);
        }
    }
}

/// Widens as many values as there are, and takes their scale out.
fn widen<T: Element>(bytes: &[u8], scale: Scale, to: &mut [f32]) {
    let factor = scale.inverse().factor();
    for (to, bytes) in to.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
        let mut bits = [0; 4];
        bits.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        *to = T::from_bits(u32::from_le_bytes(bits)).widen() * factor;
    }
}

/// Values that are narrowed at once, on the stack.
const BLOCK: usize = 64;

/// Makes the first of the rows of a length the sum of all, by the binary tree over the rows in their order.
///
/// Six rows are summed as `((0 + 1) + (2 + 3)) + (4 + 5)`.
fn sum_rows(rows: &mut [f32], length: usize) {
    let mut reach = length;
    while reach < rows.len() {
        for pair in rows.chunks_mut(2 * reach) {
            let (to, from) = pair.split_at_mut(reach.min(pair.len()));
            to.iter_mut().zip(from).take(length).for_each(|(to, from)| *to += *from);
        }
        reach = reach.saturating_mul(2);
    }
}
