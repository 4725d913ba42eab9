//! What functions return.

use core::ffi::{CStr, c_char};

use adaloss_core::{
    apply::ApplyError,
    policy::ConfigError,
    scaler::{CheckpointError, StepError, share::ShareError},
};

/// A result code; the header lists them.
pub type adaloss_code = i32;

macro_rules! codes {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        $(#[doc = $text] pub const $name: adaloss_code = $number;)*

        pub(crate) const fn text(code: adaloss_code) -> &'static CStr {
            const fn terminated(text: &'static str) -> &'static CStr {
                match CStr::from_bytes_with_nul(text.as_bytes()) {
                    Ok(text) => text,
                    Err(_) => panic!("a text ends in its only zero byte"),
                }
            }
            match code {
                $($name => const { terminated(concat!($text, "\0")) },)*
                ADALOSS_USER.. => c"a code of the caller's own",
                _ => c"no code of this library",
            }
        }

        #[cfg(test)]
        const ALL: &[(&str, adaloss_code)] = &[$((stringify!($name), $name),)*];
    };
}

codes! {
    ADALOSS_OK = 0, "all is well";
    ADALOSS_NONE = 1, "there is no such value";

    ADALOSS_ERROR_NULL = -1, "a pointer is NULL";
    ADALOSS_ERROR_ALIGNMENT = -2, "a pointer is not aligned for what it points to";
    ADALOSS_ERROR_LENGTH = -3, "a length is wrong, or too large to exist";
    ADALOSS_ERROR_FORMAT = -4,
        "there is no such encoding, subnormals, rounding or overflow, or two are not the same";
    ADALOSS_ERROR_SCALE = -5, "a scale is outside 2^-126..2^126, or a shift outside 2^-252..2^252";
    ADALOSS_ERROR_ENUM = -6, "a number is none of its enumeration's";
    ADALOSS_ERROR_HISTOGRAM = -7, "a histogram has counts that cannot be: it was not cleared, or was overwritten";
    ADALOSS_ERROR_OUTCOME = -8,
        "an outcome, or what unscaling met, has counts that cannot be: it was not zero at first, or was overwritten";
    ADALOSS_ERROR_STATISTICS = -9, "statistics have counts that cannot be: not cleared, or overwritten";
    ADALOSS_ERROR_CELL = -10,
        "a cell has bytes that no cell of this configuration has: it was not initialised, or was overwritten";
    ADALOSS_ERROR_FULL = -11, "a count would exceed 2^63";
    ADALOSS_ERROR_BRANCHES = -12, "a join has at least two branches";
    ADALOSS_ERROR_SHAPE = -13, "the operands form no product";

    ADALOSS_ERROR_POLICY = -20, "there is no such policy, or it does not do this";
    ADALOSS_ERROR_SHARE = -21, "a share must be at least 0 and below 1";
    ADALOSS_ERROR_PERIOD = -22, "the period must be at least 1 step or visit";
    ADALOSS_ERROR_MAX_SKIPS = -23, "at least 1 skipped step in a row must be allowed";
    ADALOSS_ERROR_INTERVAL = -24, "the growth interval must be at least 1 step";
    ADALOSS_ERROR_BOUNDS = -25,
        "floor, initial scale and cap must be in this order and within 2^-126..2^126";
    ADALOSS_ERROR_FACTORS = -26,
        "growth and warm-up must be finite and at least 1, shrink above 0 and below 1";
    ADALOSS_ERROR_WINDOW = -27, "the window of maxima must be at least 1 step";
    ADALOSS_ERROR_HEADROOM = -29, "a headroom or margin is more than the 16 binades allowed";
    ADALOSS_ERROR_EXTREMES = -30,
        "caps must be positive, and the smallest number positive and below the largest";
    ADALOSS_ERROR_CONFIG = -31, "the configuration cannot work";
    ADALOSS_ERROR_NO_HEADROOM = -32, "at least 1 binade of headroom must be allowed";

    ADALOSS_ERROR_NOT_INITIALISED = -40, "this memory is no scaler";
    ADALOSS_ERROR_INITIALISED = -41, "this memory is not zero: it may be a scaler already";
    ADALOSS_ERROR_NO_STEP = -42, "no step was begun";
    ADALOSS_ERROR_STEP = -43, "a step is under way: finish or abandon it first";
    ADALOSS_ERROR_NO_CELL = -45, "the scaler has no cell of this number";
    ADALOSS_ERROR_NO_PASS = -46, "the pass is over";
    ADALOSS_ERROR_UNFINISHED = -47, "the visit has passes left: ask for the next one until there is none";
    ADALOSS_ERROR_NO_VISIT = -48, "no visit is open";

    ADALOSS_ERROR_FOREIGN = -50, "these bytes are no checkpoint of a loss scaler";
    ADALOSS_ERROR_VERSION = -51,
        "the checkpoint is of another version: begin with a new scaler, which finds its scales within a few steps";
    ADALOSS_ERROR_CAPACITY = -52, "the checkpoint is of a scaler with another number of cells";
    ADALOSS_ERROR_DAMAGED = -53, "the checkpoint is damaged: its checksum does not match";
    ADALOSS_ERROR_OTHER_CONFIG = -54, "the checkpoint was written under another configuration";
    ADALOSS_ERROR_COUNTS = -55, "the checkpoint counts more skipped steps than a run can have";

    ADALOSS_ERROR_MEMORY = -60, "the device's memory is exhausted";
    ADALOSS_ERROR_HARDWARE = -61, "the device failed, or the connection to it";
    ADALOSS_ERROR_DEVICE = -62, "something else is wrong with the device";
    ADALOSS_ERROR_DIFFERS = -63, "the device differs from this library";
    ADALOSS_ERROR_OPERATION = -64, "the device does not have this operation";

    ADALOSS_ERROR_RANKS_VERSION = -70, "the ranks run different versions of this library";
    ADALOSS_ERROR_RANKS_CELLS = -71, "the ranks have different numbers of cells";
    ADALOSS_ERROR_RANKS_CONFIG = -72, "the ranks have different configurations";
    ADALOSS_ERROR_RANKS_STEP = -73, "the ranks have finished different numbers of steps";
    ADALOSS_ERROR_RANKS_DIGEST = -74,
        "the ranks differ in a cell, or in how many steps they skipped in a row: go on from a checkpoint on every rank";
    ADALOSS_ERROR_MESSAGE = -75, "these bytes are no message of ranks that share a step";
    ADALOSS_ERROR_HALTED = -76, "another rank has a device on which nothing is done any more";

    ADALOSS_USER = 1000, "a code of the caller's own";
}

impl From<Refused> for adaloss_code {
    fn from(refused: Refused) -> Self {
        refused.0
    }
}

/// A code other than [`ADALOSS_OK`], as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) adaloss_code);

/// Runs the body of a function and returns its code.
#[inline]
pub(crate) fn code(body: impl FnOnce() -> Result<(), Refused>) -> adaloss_code {
    body().map_or_else(Into::into, |()| ADALOSS_OK)
}

impl From<ApplyError> for Refused {
    fn from(error: ApplyError) -> Self {
        Self(match error {
            ApplyError::Length { .. } => ADALOSS_ERROR_LENGTH,
            ApplyError::Encoding { .. } => ADALOSS_ERROR_FORMAT,
        })
    }
}

impl From<StepError> for Refused {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Apply(error) => error.into(),
            StepError::NoCell { .. } => Self(ADALOSS_ERROR_NO_CELL),
            StepError::Branches { .. } => Self(ADALOSS_ERROR_BRANCHES),
            StepError::Unfinished { .. } => Self(ADALOSS_ERROR_UNFINISHED),
        }
    }
}

impl From<ConfigError> for Refused {
    fn from(error: ConfigError) -> Self {
        Self(match error {
            ConfigError::Share => ADALOSS_ERROR_SHARE,
            ConfigError::NoPeriod => ADALOSS_ERROR_PERIOD,
            ConfigError::NoSkips => ADALOSS_ERROR_MAX_SKIPS,
            ConfigError::NoInterval => ADALOSS_ERROR_INTERVAL,
            ConfigError::ScaleBounds => ADALOSS_ERROR_BOUNDS,
            ConfigError::Factors => ADALOSS_ERROR_FACTORS,
            ConfigError::NoWindow => ADALOSS_ERROR_WINDOW,
            ConfigError::NoHeadroom => ADALOSS_ERROR_NO_HEADROOM,
            ConfigError::Headroom { .. } => ADALOSS_ERROR_HEADROOM,
            ConfigError::Extremes => ADALOSS_ERROR_EXTREMES,
            _ => ADALOSS_ERROR_CONFIG,
        })
    }
}

impl From<CheckpointError> for Refused {
    fn from(error: CheckpointError) -> Self {
        Self(match error {
            CheckpointError::Version { .. } => ADALOSS_ERROR_VERSION,
            CheckpointError::Capacity { .. } => ADALOSS_ERROR_CAPACITY,
            CheckpointError::Length { .. } => ADALOSS_ERROR_LENGTH,
            CheckpointError::Damaged => ADALOSS_ERROR_DAMAGED,
            CheckpointError::OtherConfig => ADALOSS_ERROR_OTHER_CONFIG,
            CheckpointError::Counts => ADALOSS_ERROR_COUNTS,
            CheckpointError::Cell { .. } => ADALOSS_ERROR_CELL,
            _ => ADALOSS_ERROR_FOREIGN,
        })
    }
}

impl From<ShareError> for Refused {
    fn from(error: ShareError) -> Self {
        Self(match error {
            ShareError::Room { .. } => ADALOSS_ERROR_LENGTH,
            ShareError::Operands => ADALOSS_ERROR_POLICY,
            ShareError::Version => ADALOSS_ERROR_RANKS_VERSION,
            ShareError::Cells => ADALOSS_ERROR_RANKS_CELLS,
            ShareError::Config => ADALOSS_ERROR_RANKS_CONFIG,
            ShareError::Step { .. } => ADALOSS_ERROR_RANKS_STEP,
            ShareError::Digest { .. } => ADALOSS_ERROR_RANKS_DIGEST,
            ShareError::Halted { .. } => ADALOSS_ERROR_HALTED,
            _ => ADALOSS_ERROR_MESSAGE,
        })
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn adaloss_version() -> u32 {
    const fn number(text: &str) -> u32 {
        match u32::from_str_radix(text, 10) {
            Ok(number) => number,
            Err(_) => panic!("a version is made of numbers"),
        }
    }
    const {
        number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
            | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
            | number(env!("CARGO_PKG_VERSION_PATCH"))
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn adaloss_code_text(code: adaloss_code) -> *const c_char {
    text(code).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_text_and_a_number_of_its_own() {
        for (i, (name, code)) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|(_, other)| other != code), "{name}");
            assert!(text(*code).to_bytes().len() > 10, "{name}");
        }
        assert_eq!(text(-1000), c"no code of this library");
        assert_eq!(text(i32::MAX), c"a code of the caller's own");
    }
}
