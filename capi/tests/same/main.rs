//! Each function of the C library does what core does: the same decisions, bits, counts and checkpoints.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call passes values of this test's own, as the header asks for them"
)]

mod device;
mod ranks;
mod rooms;
mod walk;

use std::ffi::CStr;

use adaloss::*;
use adaloss_core::{
    format::{Format, Narrowing, Overflow, Rounding},
    policy::{
        Amax, Backoff, Cell, Certificate, Config, Fraction, Measured, Normal, Policy, Preset,
        Range, Record, Recovery, Seen,
    },
    scale::Scale,
    unscale::{Cause, Place, Verdict},
};

/// Every low-precision encoding, and two that flush.
const FORMATS: [Format; 6] = [
    Format::BINARY16,
    Format::BINARY16.flushing(),
    Format::BFLOAT16,
    Format::E5M2,
    Format::E4M3,
    Format::E4M3.flushing(),
];

/// Every policy, in a format, and what changes how one decides.
fn configs(format: Format) -> Vec<Config> {
    let measured = Config::for_format(format);
    let little = Measured { tolerance: Fraction::new(0.25).unwrap(), most_headroom: 1 };
    let policies = [
        Policy::Fixed(Scale::new(4).unwrap()),
        Policy::Backoff(Backoff { interval: 3, ..Backoff::GRAD_SCALER }),
        Policy::Backoff(Backoff::chainer(7).unwrap()),
        Policy::Normal(Normal::new(format, 1e-3).unwrap()),
        Policy::Range(Range::new(format)),
        Policy::Amax(Amax { window: 5, margin: 1 }),
        Policy::Amax(Amax { window: 40, margin: 0 }),
        Policy::Measured(little),
    ];
    let others =
        policies.map(|policy| measured.with_policy(policy).unwrap().with_period(2).unwrap());
    let paper = Config::preset(Preset::Paper, format);
    let rounding =
        measured.with_rounding(Rounding::Stochastic, 7).with_overflow(Overflow::Saturate);
    let skipping = measured.with_recovery(Recovery::Skip).with_period(Config::NEVER).unwrap();
    others
        .into_iter()
        .chain([measured, measured.with_period(3).unwrap(), rounding, skipping])
        .chain([paper, paper.with_recovery(Recovery::Replay)])
        .collect()
}

fn format_of(format: Format) -> adaloss_format {
    adaloss_format { encoding: format.encoding as u8, subnormals: format.subnormals as u8 }
}

fn narrowing_of(narrowing: Narrowing) -> adaloss_narrowing {
    adaloss_narrowing {
        format: format_of(narrowing.format),
        rounding: narrowing.rounding as u8,
        overflow: narrowing.overflow as u8,
    }
}

/// Writes a configuration as a C caller would: from a recommended one, field by field.
fn config_of(config: &Config) -> adaloss_config {
    let mut made = made_by(|to| unsafe {
        adaloss_policy_recommended(format_of(config.narrowing().format), to)
    });
    made.narrowing = narrowing_of(config.narrowing());
    made.period = config.period();
    made.max_skips = config.max_skips();
    made.seed = config.seed();
    made.recovery = config.recovery() as u32;
    match *config.policy() {
        Policy::Fixed(scale) => {
            made.policy = 0;
            made.parameters.fixed_log2 = scale.log2();
        }
        Policy::Backoff(Backoff { initial, growth, warm_up, shrink, floor, cap, interval }) => {
            made.policy = 1;
            made.parameters.backoff = adaloss_backoff {
                initial,
                growth,
                warm_up,
                shrink,
                floor,
                cap,
                interval,
                reserved: 0,
            };
        }
        Policy::Normal(normal) => {
            made.policy = 2;
            made.parameters.normal = adaloss_normal {
                gaussian_factor: normal.gaussian_factor,
                log_normal_factor: normal.log_normal_factor,
                smallest: normal.smallest,
                largest: normal.largest,
                layer_cap: normal.layer_cap,
                accumulated_cap: normal.accumulated_cap,
            };
        }
        Policy::Range(Range { smallest, largest }) => {
            made.policy = 3;
            made.parameters.range = adaloss_range { smallest, largest };
        }
        Policy::Amax(Amax { window, margin }) => {
            made.policy = 4;
            made.parameters.amax = adaloss_amax { window, margin, reserved: 0 };
        }
        Policy::Measured(measured) => {
            made.policy = 5;
            made.parameters.measured = adaloss_measured {
                tolerance: measured.tolerance.bits(),
                most_headroom: measured.most_headroom,
                reserved: [0; 3],
            };
        }
    }
    assert_eq!(unsafe { adaloss_policy_check(&made) }, ADALOSS_OK);
    made
}

/// Returns what a function writes through a pointer; the function has to succeed.
fn made_by<T>(function: impl FnOnce(*mut T) -> adaloss_code) -> T {
    let mut place = std::mem::MaybeUninit::uninit();
    assert_eq!(function(place.as_mut_ptr()), ADALOSS_OK);
    // SAFETY: a function that succeeds has written its result.
    unsafe { place.assume_init() }
}

/// Returns what a function writes, or the code that it ends with.
fn made_or<T>(function: impl FnOnce(*mut T) -> adaloss_code) -> Result<T, adaloss_code> {
    let mut place = std::mem::MaybeUninit::uninit();
    match function(place.as_mut_ptr()) {
        // SAFETY: as above.
        ADALOSS_OK => Ok(unsafe { place.assume_init() }),
        code => Err(code),
    }
}

fn scale(log2: i32) -> Scale {
    Scale::new(log2).unwrap()
}

fn same_cell(found: &adaloss_cell, expected: &Cell) {
    let mut bytes = found.memory.to_vec();
    bytes.extend(found.age.to_le_bytes());
    bytes.extend(found.scale_log2.to_le_bytes());
    bytes.extend(found.limit.to_le_bytes());
    bytes.extend([found.trigger, found.flags, found.seen as u8, found.trial]);
    assert_eq!(bytes, expected.to_bytes());
    assert_eq!(i32::from(found.scale_log2), expected.scale().log2());
}

fn seen_of(seen: Seen) -> adaloss_seen {
    adaloss_seen {
        ceiling: seen.ceiling,
        overflowed: seen.overflowed.into(),
        sums_overflowed: seen.sums_overflowed.into(),
        visited: seen.visited.into(),
    }
}

fn record_of(record: Record) -> adaloss_record {
    let Record { ceiling, flags, scale_log2, reserved } = record;
    adaloss_record { ceiling, flags, scale_log2, reserved }
}

fn same_certificate(found: &adaloss_certificate, expected: &Certificate) {
    assert_eq!((found.rule, found.trigger), (expected.rule as u8, expected.trigger as u8));
    assert_eq!((found.promised, found.reserved), (expected.promised.into(), expected.reserved));
    assert_eq!(found.lost_mass, expected.lost_mass.bits());
    assert_eq!(i32::from(found.before_log2), expected.before.log2());
    assert_eq!(i32::from(found.scale_log2), expected.scale.log2());
    assert_eq!(found.least_log2, expected.window.least);
    assert_eq!(found.greatest_log2, expected.window.greatest);
    assert_eq!((found.nonzero, found.allowed), (expected.nonzero, expected.allowed));
    let promises = |underflow, overflow| (underflow, overflow);
    assert_eq!(
        found.expected.map(|at| promises(at.underflow, at.overflow)),
        expected.expected.map(|at| promises(at.underflow, at.overflow))
    );
}

fn same_verdict(found: &adaloss_verdict, expected: Verdict) {
    let mut text = [1; ADALOSS_VERDICT_TEXT_BYTES];
    let code = unsafe { adaloss_verdict_text(found, text.as_mut_ptr().cast(), text.len()) };
    assert_eq!(code, ADALOSS_OK);
    assert_eq!(CStr::from_bytes_until_nul(&text).unwrap().to_str(), Ok(&expected.to_string()[..]));
    let (kind, found_there, skipped) = match expected {
        Verdict::Apply => (0, None, 0),
        Verdict::Skip { layer, cause } => (1, Some((layer, cause)), 0),
        Verdict::Stop { layer, cause, skipped } => (2, Some((layer, cause)), skipped),
    };
    assert_eq!((found.kind, found.skipped), (kind, skipped));
    let Some((place, cause)) = found_there else {
        assert_eq!(found.cause, 0);
        return;
    };
    let (of_place, cell) = match place {
        Place::Loss => (0, 0),
        Place::Layer(id) => (1, id),
        Place::Weight(id) => (2, id),
    };
    assert_eq!((found.place.kind, found.place.cell as usize), (of_place, cell));
    assert_eq!(found.cause, cause_number(cause));
}

/// The number that the header gives a cause.
fn cause_number(cause: Cause) -> u32 {
    match cause {
        Cause::NonFinite => 1,
        Cause::Overflow => 2,
        Cause::Failed => 3,
        Cause::Uncounted => 4,
        Cause::Length => 5,
        Cause::Nothing => 6,
    }
}
