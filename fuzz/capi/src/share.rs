//! Ranks that share a step: with others that are like them, with one that is not, and with bytes that are no rank's.

use std::{
    ptr::{null, null_mut},
    slice,
};

use adaloss::*;
use adaloss_core::{propagate::Scaled, scale::Scale, scaler::share::ShareError};
use adaloss_fuzz::damage::damage;
use arbitrary::{Result, Unstructured};

use crate::{
    argument::{number, pointer},
    memory::{CELLS, DIGESTS, MESSAGE, Memory, any},
    scaler::{Life, narrow},
};

/// Returns the code of what core says.
fn code_of(said: std::result::Result<(), ShareError>) -> adaloss_code {
    match said {
        Ok(()) => ADALOSS_OK,
        Err(ShareError::Room { .. }) => ADALOSS_ERROR_LENGTH,
        Err(ShareError::Operands) => ADALOSS_ERROR_POLICY,
        Err(ShareError::Version) => ADALOSS_ERROR_RANKS_VERSION,
        Err(ShareError::Cells) => ADALOSS_ERROR_RANKS_CELLS,
        Err(ShareError::Config) => ADALOSS_ERROR_RANKS_CONFIG,
        Err(ShareError::Step { .. }) => ADALOSS_ERROR_RANKS_STEP,
        Err(ShareError::Digest { .. }) => ADALOSS_ERROR_RANKS_DIGEST,
        Err(ShareError::Halted { .. }) => ADALOSS_ERROR_HALTED,
        Err(_) => ADALOSS_ERROR_MESSAGE,
    }
}

/// The first bytes of the message in memory.
fn message(memory: &Memory, length: usize) -> &[u8] {
    assert!(length <= MESSAGE);
    unsafe { slice::from_raw_parts((&raw const memory.message).cast(), length) }
}

/// Names the message in memory; now and then nothing.
fn place(u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<*mut u8> {
    // Bytes may lie anywhere, but there has to be memory for them.
    Ok(if u.ratio(1, 32)? { null_mut() } else { (&raw mut memory.message).cast() })
}

/// A number of bytes that there is memory for.
fn length(u: &mut Unstructured<'_>) -> Result<usize> {
    match number(u, 3)? {
        0 => Ok(MESSAGE),
        1 => Ok(ADALOSS_SHARE_HEADER_BYTES),
        _ => u.int_in_range(0..=MESSAGE),
    }
}

impl Life {
    pub(crate) fn share(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        match u.int_in_range(0..=5)? {
            0 => self.pack(u, memory),
            1 => self.merge(u, memory),
            2 => self.digests(u, memory),
            3 => self.matches(u, memory),
            _ => self.unpack(u, memory),
        }
    }

    fn pack(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let (to, length) = (place(u, memory)?, length(u)?);
        let scaler = pointer(u, &raw mut memory.scaler)?;
        let code = memory.call(|_| unsafe { adaloss_share_pack(scaler, any(to), length) });
        let is_right = !to.is_null() && scaler == &raw mut memory.scaler;
        if let (Some(mut step), true) = (self.step(), is_right) {
            let mut expected = [0; MESSAGE];
            let said = step.share().pack(&mut expected[..length]);
            assert_eq!(code, code_of(said));
            assert!(code != ADALOSS_OK || message(memory, MESSAGE) == expected);
        }
        Ok(())
    }

    fn merge(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let (into, length, other) = (place(u, memory)?, length(u)?, self.other(u)?);
        let (before, from) = (message(memory, MESSAGE).to_vec(), other.as_ptr().cast());
        let code = memory.call(|_| unsafe { adaloss_share_merge(any(into), from, length) });
        let is_right = !into.is_null() || length == 0;
        assert_eq!(code, if is_right { ADALOSS_OK } else { ADALOSS_ERROR_NULL });
        let merges = |(at, (before, other)): (usize, (&u8, &u8))| match code {
            ADALOSS_OK if at < length => *before.max(other),
            _ => *before,
        };
        let expected = before.iter().zip(&other).enumerate().map(merges);
        assert!(expected.eq(message(memory, MESSAGE).iter().copied()));
        Ok(())
    }

    fn digests(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let (scaler, to) = (&raw mut memory.scaler, pointer(u, &raw mut memory.digests)?.cast());
        let count = if u.ratio(1, 16)? { u.int_in_range(0..=DIGESTS)? } else { DIGESTS };
        let code = memory.call(|_| unsafe { adaloss_share_digests(scaler, to, count) });
        assert!(code != ADALOSS_OK || count == DIGESTS);
        if let (Some(mut step), ADALOSS_OK) = (self.step(), code) {
            let share = step.share();
            let parts = (0..).map_while(|index| share.part(index));
            assert!(parts.map(|(_, digest)| digest).eq(memory.digests));
        }
        Ok(())
    }

    fn matches(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let Some(bytes) = self.merged(u, memory)? else { return Ok(()) };
        let (scaler, from) = (&raw mut memory.scaler, bytes.as_ptr().cast());
        let code = memory.call(|_| unsafe { adaloss_share_matches(scaler, from, bytes.len()) });
        if let Some(mut step) = self.step() {
            assert_eq!(code, code_of(step.share().matches(&bytes)));
        }
        Ok(())
    }

    fn unpack(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let Some(bytes) = self.merged(u, memory)? else { return Ok(()) };
        let (scaler, from) = (&raw mut memory.scaler, bytes.as_ptr().cast());
        let code = memory.call(|_| unsafe { adaloss_share_unpack(scaler, from, bytes.len()) });
        if code == ADALOSS_OK {
            self.left(memory);
        }
        if let Some(mut step) = self.step() {
            assert_eq!(code, code_of(step.share().unpack(&bytes)));
        }
        Ok(())
    }

    /// Returns what was made of a message on its way: mostly what ranks make of theirs, otherwise whatever is there, and now
    /// and then nothing, which is refused.
    fn merged(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<Option<Vec<u8>>> {
        let scaler = &raw mut memory.scaler;
        if u.ratio(1, 32)? {
            let code = memory.call(|_| unsafe { adaloss_share_matches(scaler, null(), MESSAGE) });
            let unpacked =
                memory.call(|_| unsafe { adaloss_share_unpack(scaler, null(), MESSAGE) });
            assert_eq!([code, unpacked], [ADALOSS_ERROR_NULL; 2]);
            return Ok(None);
        }
        let mut bytes = MESSAGE;
        if u.ratio(3, 4)? {
            let to = any(&raw mut memory.message);
            let code = memory.call(|_| unsafe { adaloss_share_pack(scaler, to, MESSAGE) });
            if code == ADALOSS_OK {
                let other = self.other(u)?;
                let from = other.as_ptr().cast();
                memory.succeeds(|_| unsafe { adaloss_share_merge(to, from, MESSAGE) });
            }
        } else {
            bytes = length(u)?;
        }
        let merged = message(memory, bytes);
        Ok(Some(if u.ratio(1, 4)? { damage(u, merged)? } else { merged.to_vec() }))
    }

    /// Returns the message of a rank that visited something else in the same step, or, now and then, is a step ahead; any
    /// bytes where core does not know the step.
    fn other(&mut self, u: &mut Unstructured<'_>) -> Result<[u8; MESSAGE]> {
        let mut message = [0; MESSAGE];
        let Some((state, cells)) = self.core.as_ref().filter(|_| self.is_open) else {
            u.fill_buffer(&mut message)?;
            return Ok(message);
        };
        let (mut state, mut cells) = (state.clone(), *cells);
        let mut step = state.begin(&mut cells);
        for id in 0..u.int_in_range(0..=CELLS)? {
            let values = [f32::from_bits(u.int_in_range(1..=0x7f80_0000)?)];
            let mut visit = step.layer(id, Scaled::new((), Scale::ONE)).expect("a cell");
            while let Some(mut pass) = visit.next_pass() {
                narrow(&values, &mut pass);
            }
            let _ = visit.finish(()).expect("it has no passes left");
        }
        if u.ratio(1, 8)? {
            let _ = step.finish();
            step = state.resume(&mut cells);
        }
        step.share().pack(&mut message).expect("a policy that is shared");
        Ok(message)
    }
}
