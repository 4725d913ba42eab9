//! What happens to files.

use arbitrary::{Result, Unstructured};

/// Flips bits, overwrites, cuts off and adds bytes: up to four times, or not at all.
///
/// # Errors
///
/// The fuzzer's bytes ended where one was needed.
pub fn damage(u: &mut Unstructured<'_>, saved: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = saved.to_vec();
    for _ in 0..u.int_in_range(0..=4)? {
        let place = u.int_in_range(0..=bytes.len().max(1) - 1)?;
        match u.int_in_range(0..=5)? {
            0 => bytes.truncate(place),
            1 => bytes.push(u.arbitrary()?),
            2 => {
                let end = bytes.len().min(place + 8);
                let word: [u8; 8] = u.arbitrary()?;
                bytes[place.min(end)..end].iter_mut().zip(word).for_each(|(to, byte)| *to = byte);
            }
            _ => {
                let bit: u8 = u.int_in_range(0..=7)?;
                bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
        }
    }
    Ok(bytes)
}
