//! How a scale is decided.

mod config;

use core::ffi::c_void;

use adaloss_core::{
    policy::{
        self, Cell, Certificate, Config, Expected, Operands, Record, Seen, ShapeError, Terms,
        Trigger, breaks_promise, certify, decide_from_operands, decide_join, due, finish,
        join_target, note, outgoing, recover, repeat,
    },
    scale::Scale,
    with_element,
};

pub use config::*;

use crate::{
    ADALOSS_ERROR_BRANCHES, ADALOSS_ERROR_CELL, ADALOSS_ERROR_ENUM, ADALOSS_ERROR_POLICY,
    ADALOSS_ERROR_SHAPE, ADALOSS_ERROR_STATISTICS, ADALOSS_NONE, adaloss_code, adaloss_histogram,
    adaloss_log_statistics, adaloss_outcome, adaloss_statistics,
    code::{Refused, code},
    format::parse_encoding,
    memory::{Place, any_bytes, array, exclusive, shared},
    scale,
    statistics::Mirror,
};

/// One tensor's scale and all that its policy remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_cell {
    pub memory: [u8; 16],
    pub age: u32,
    pub scale_log2: i16,
    pub limit: i16,
    pub trigger: u8,
    pub flags: u8,
    pub seen: i8,
    pub trial: u8,
}

/// What a tensor showed in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_seen {
    pub ceiling: i8,
    pub overflowed: u8,
    pub sums_overflowed: u8,
    pub visited: u8,
}

/// What one step of one cell left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_record {
    pub ceiling: i8,
    pub flags: u8,
    pub scale_log2: i8,
    pub reserved: u8,
}

/// What a histogram promises for one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_expected {
    pub underflow: u64,
    pub overflow: u64,
}

/// The evidence for one tensor at one visit, or the record of one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_certificate {
    pub rule: u8,
    pub trigger: u8,
    pub promised: u8,
    pub reserved: u8,
    pub before_log2: i16,
    pub scale_log2: i16,
    pub least_log2: i16,
    pub greatest_log2: i16,
    pub lost_mass: u32,
    pub nonzero: u64,
    pub allowed: u64,
    pub expected: [adaloss_expected; 3],
}

/// The smallest and largest nonzero magnitude among the products of two operands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct adaloss_terms {
    pub min_abs: f32,
    pub max_abs: f32,
    pub nonfinite: u64,
    pub fan_in: u32,
    pub reserved: u32,
}

/// What `normal` and `range` decide from.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct adaloss_operands {
    pub kind: u32,
    pub fan_in: u32,
    pub gradient: adaloss_statistics,
    pub weight: adaloss_statistics,
    pub log_gradient: adaloss_log_statistics,
    pub terms: adaloss_terms,
}

any_bytes! {
    adaloss_cell, adaloss_seen, adaloss_record, adaloss_expected, adaloss_certificate,
    adaloss_terms, adaloss_operands,
}

impl adaloss_cell {
    /// Reads a cell, as one is read from a checkpoint.
    pub(crate) fn parse(&self) -> Result<Cell, Refused> {
        let mut bytes = [0; Cell::BYTES];
        bytes[0..16].copy_from_slice(&self.memory);
        bytes[16..20].copy_from_slice(&self.age.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.scale_log2.to_le_bytes());
        bytes[22..24].copy_from_slice(&self.limit.to_le_bytes());
        (bytes[24], bytes[25]) = (self.trigger, self.flags);
        (bytes[26], bytes[27]) = (self.seen as u8, self.trial);
        Cell::from_bytes(&bytes).ok_or(Refused(ADALOSS_ERROR_CELL))
    }

    /// Reads a cell; refuses one that no run with this configuration has.
    pub(crate) fn parse_for(&self, config: &Config) -> Result<Cell, Refused> {
        let cell = self.parse()?;
        if cell.is_possible(config) { Ok(cell) } else { Err(Refused(ADALOSS_ERROR_CELL)) }
    }
}

impl From<Cell> for adaloss_cell {
    fn from(cell: Cell) -> Self {
        let bytes = cell.to_bytes();
        let [memory @ .., a0, a1, a2, a3, k0, k1, l0, l1, trigger, flags, seen, trial] = bytes;
        Self {
            memory,
            age: u32::from_le_bytes([a0, a1, a2, a3]),
            scale_log2: i16::from_le_bytes([k0, k1]),
            limit: i16::from_le_bytes([l0, l1]),
            trigger,
            flags,
            seen: seen as i8,
            trial,
        }
    }
}

impl adaloss_seen {
    pub(crate) fn parse(&self) -> Result<Seen, Refused> {
        let Self { ceiling, overflowed, sums_overflowed, visited } = *self;
        if overflowed.max(sums_overflowed).max(visited) > 1 {
            return Err(Refused(ADALOSS_ERROR_ENUM));
        }
        Ok(Seen {
            ceiling,
            overflowed: overflowed != 0,
            sums_overflowed: sums_overflowed != 0,
            visited: visited != 0,
        })
    }
}

impl From<Seen> for adaloss_seen {
    fn from(seen: Seen) -> Self {
        Self {
            ceiling: seen.ceiling,
            overflowed: seen.overflowed.into(),
            sums_overflowed: seen.sums_overflowed.into(),
            visited: seen.visited.into(),
        }
    }
}

impl adaloss_record {
    fn parse(&self) -> Result<Record, Refused> {
        let Self { ceiling, flags, scale_log2, reserved } = *self;
        if flags > 3 || reserved != 0 {
            return Err(Refused(ADALOSS_ERROR_ENUM));
        }
        scale::parse(scale_log2.into())?;
        Ok(Record { ceiling, flags, scale_log2, reserved })
    }
}

impl From<Record> for adaloss_record {
    fn from(record: Record) -> Self {
        let Record { ceiling, flags, scale_log2, reserved } = record;
        Self { ceiling, flags, scale_log2, reserved }
    }
}

impl From<Expected> for adaloss_expected {
    fn from(expected: Expected) -> Self {
        Self { underflow: expected.underflow, overflow: expected.overflow }
    }
}

impl From<Certificate> for adaloss_certificate {
    fn from(certificate: Certificate) -> Self {
        Self {
            rule: certificate.rule as u8,
            trigger: certificate.trigger as u8,
            promised: certificate.promised.into(),
            reserved: certificate.reserved,
            before_log2: certificate.before.log2() as i16,
            scale_log2: certificate.scale.log2() as i16,
            least_log2: certificate.window.least,
            greatest_log2: certificate.window.greatest,
            lost_mass: certificate.lost_mass.bits(),
            nonzero: certificate.nonzero,
            allowed: certificate.allowed,
            expected: certificate.expected.map(Into::into),
        }
    }
}

impl adaloss_certificate {
    /// Where there is none.
    pub(crate) const NONE: Self = Self {
        rule: 0,
        trigger: 0,
        promised: 0,
        reserved: 0,
        before_log2: 0,
        scale_log2: 0,
        least_log2: 0,
        greatest_log2: 0,
        lost_mass: 0,
        nonzero: 0,
        allowed: 0,
        expected: [adaloss_expected { underflow: 0, overflow: 0 }; 3],
    };
}

impl adaloss_terms {
    fn parse(&self) -> Result<Terms, Refused> {
        let Self { min_abs, max_abs, nonfinite, fan_in, reserved } = *self;
        // Written so that NaN fails every comparison.
        let is_legal = min_abs >= 0.0 && max_abs >= 0.0 && reserved == 0;
        if !is_legal {
            return Err(Refused(ADALOSS_ERROR_STATISTICS));
        }
        Ok(Terms { min_abs, max_abs, nonfinite, fan_in, reserved })
    }
}

impl adaloss_operands {
    pub(crate) fn parse(&self) -> Result<Operands, Refused> {
        let statistics = |of: &adaloss_statistics| of.core().copied();
        Ok(match self.kind {
            0 => Operands::Product {
                gradient: statistics(&self.gradient)?,
                weight: statistics(&self.weight)?,
                fan_in: self.fan_in,
            },
            1 => Operands::Cast(statistics(&self.gradient)?),
            2 => Operands::LogCast(self.log_gradient.core().copied()?),
            3 => Operands::Terms(self.terms.parse()?),
            _ => return Err(Refused(ADALOSS_ERROR_ENUM)),
        })
    }
}

/// Lets a function of core change a cell.
///
/// # Safety
///
/// `config` and `cell` are what the header asks for: a configuration and a cell.
unsafe fn change<R>(
    config: *const adaloss_config,
    cell: *mut adaloss_cell,
    function: impl FnOnce(&Config, &mut Cell) -> Result<R, Refused>,
) -> Result<R, Refused> {
    // SAFETY: the caller's promise.
    let (config, cell) = unsafe { (shared(config)?.parse()?, exclusive(cell)?) };
    let mut changing = cell.parse_for(&config)?;
    let returned = function(&config, &mut changing)?;
    *cell = changing.into();
    Ok(returned)
}

/// The same for a function whose result is given to those who want it.
///
/// # Safety
///
/// As for [`change`]; `to` is a place or NULL.
unsafe fn change_with<R: Into<C>, C>(
    config: *const adaloss_config,
    cell: *mut adaloss_cell,
    to: *mut C,
    function: impl FnOnce(&Config, &mut Cell) -> Result<R, Refused>,
) -> Result<(), Refused> {
    // SAFETY: the caller's promise.
    let (place, returned) = unsafe { (Place::optional(to)?, change(config, cell, function)?) };
    if let Some(place) = place {
        place.set(returned.into());
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_cell(
    config: *const adaloss_config,
    cell: *mut adaloss_cell,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a configuration and a place.
        let (config, place) = unsafe { (shared(config)?.parse()?, Place::new(cell)?) };
        place.set(config.cell().into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_due(
    config: *const adaloss_config,
    cell: *const adaloss_cell,
    trigger: *mut u32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a configuration, a cell and a place.
        let (config, cell, place) =
            unsafe { (shared(config)?.parse()?, shared(cell)?, Place::new(trigger)?) };
        let cell = cell.parse_for(&config)?;
        place.set(due(&config, &cell).unwrap_or(Trigger::None) as u32);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_certify(
    config: *const adaloss_config,
    histogram: *const adaloss_histogram,
    scale_log2: i32,
    cell: *mut adaloss_cell,
    certificate: *mut adaloss_certificate,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a histogram, and for what `change_with` needs.
        unsafe {
            let (histogram, scale) = (shared(histogram)?.core()?, scale::parse(scale_log2)?);
            change_with(config, cell, certificate, |config, cell| {
                Ok(certify(config, histogram, scale, cell))
            })
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_breaks_promise(
    config: *const adaloss_config,
    outcome: *const adaloss_outcome,
    cell: *const adaloss_cell,
    breaks: *mut u32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a configuration, an outcome, a cell and a place.
        let (config, outcome, cell, place) = unsafe {
            (shared(config)?.parse()?, shared(outcome)?, shared(cell)?, Place::new(breaks)?)
        };
        let (outcome, cell) = (outcome.core()?, cell.parse_for(&config)?);
        place.set(breaks_promise(&config, outcome, &cell).into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_decide_from_operands(
    config: *const adaloss_config,
    operands: *const adaloss_operands,
    incoming_log2: i32,
    cell: *mut adaloss_cell,
    certificate: *mut adaloss_certificate,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for operands, and for what `change_with` needs.
        unsafe {
            let operands = shared(operands)?.parse()?;
            let incoming = scale::parse(incoming_log2)?;
            change_with(config, cell, certificate, |config, cell| {
                Ok(decide_from_operands(config, &operands, incoming, cell))
            })
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_decide_join(
    config: *const adaloss_config,
    outcome: *const adaloss_outcome,
    incoming_log2: i32,
    branches_log2: *const i32,
    count: usize,
    cell: *mut adaloss_cell,
    certificate: *mut adaloss_certificate,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for an outcome, an array, and for what `change_with` needs.
        unsafe {
            let outcome = shared(outcome)?.core()?;
            let incoming = scale::parse(incoming_log2)?;
            let branches = parse_branches(array(branches_log2, count)?)?;
            change_with(config, cell, certificate, |config, cell| {
                // Others would be left with a scale that is not theirs.
                if !config.policy().wants_operands() {
                    return Err(Refused(ADALOSS_ERROR_POLICY));
                }
                let pick = |fits: &dyn Fn(Scale) -> bool| join_target(branches, fits);
                Ok(decide_join(config, outcome, incoming, pick, cell))
            })
        }
    })
}

/// Reads the scales of a join's branches.
pub(crate) fn parse_branches(
    branches_log2: &[i32],
) -> Result<impl ExactSizeIterator<Item = Scale> + Clone, Refused> {
    if branches_log2.len() < 2 {
        return Err(Refused(ADALOSS_ERROR_BRANCHES));
    }
    scale::parse_all(branches_log2.iter().copied())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_outgoing(
    config: *const adaloss_config,
    cell: *const adaloss_cell,
    incoming_log2: i32,
    outgoing_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a configuration, a cell and a place.
        let (config, cell, place) =
            unsafe { (shared(config)?.parse()?, shared(cell)?, Place::new(outgoing_log2)?) };
        let cell = cell.parse_for(&config)?;
        place.set(outgoing(&config, &cell, scale::parse(incoming_log2)?).log2());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_note(
    config: *const adaloss_config,
    outcome: *const adaloss_outcome,
    incoming_log2: i32,
    cell: *mut adaloss_cell,
    again_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for an outcome, a place or NULL, and for what `change` needs.
        let (place, again) = unsafe {
            let (outcome, incoming) = (shared(outcome)?.core()?, scale::parse(incoming_log2)?);
            let place = Place::optional(again_log2)?;
            let noted =
                change(config, cell, |config, cell| Ok(note(config, outcome, incoming, cell)))?;
            (place, noted.ok_or(Refused(ADALOSS_NONE))?)
        };
        if let Some(place) = place {
            place.set(again.log2());
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_finish(
    config: *const adaloss_config,
    cell: *mut adaloss_cell,
    record: *mut adaloss_record,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for what `change_with` needs.
        unsafe { change_with(config, cell, record, |config, cell| Ok(finish(config, cell))) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_repeat(
    config: *const adaloss_config,
    record: *const adaloss_record,
    cell: *mut adaloss_cell,
    is_same: *mut u32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a record, and for what `change_with` needs.
        unsafe {
            let record = shared(record)?.parse()?;
            change_with(config, cell, is_same, |config, cell| {
                // Others leave no records, and would take the scale of one.
                if !config.policy().follows_maxima() {
                    return Err(Refused(ADALOSS_ERROR_POLICY));
                }
                Ok(repeat(config, &record, cell))
            })
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_seen(
    cell: *const adaloss_cell,
    seen: *mut adaloss_seen,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a cell and a place.
        let (cell, place) = unsafe { (shared(cell)?.parse()?, Place::new(seen)?) };
        place.set(cell.seen().into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_set_seen(
    seen: *const adaloss_seen,
    cell: *mut adaloss_cell,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for what a tensor showed, and for a cell.
        let (seen, cell) = unsafe { (shared(seen)?.parse()?, exclusive(cell)?) };
        let mut changing = cell.parse()?;
        changing.set_seen(seen);
        *cell = changing.into();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_seen_merge(
    into: *mut adaloss_seen,
    from: *const adaloss_seen,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for what a tensor showed, twice.
        let (into, from) = unsafe { (exclusive(into)?, shared(from)?.parse()?) };
        let mut merged = into.parse()?;
        merged.merge(&from);
        *into = merged.into();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_recover(
    config: *const adaloss_config,
    outcome: *const adaloss_outcome,
    incoming_log2: i32,
    scale_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a configuration, an outcome and a place.
        let (config, outcome, place) = unsafe {
            (shared(config)?.parse()?, shared(outcome)?.core()?, Place::new(scale_log2)?)
        };
        let incoming = scale::parse(incoming_log2)?;
        place.set(recover(&config, outcome, incoming).ok_or(Refused(ADALOSS_NONE))?.log2());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_step(
    config: *const adaloss_config,
    clean: i32,
    cell: *mut adaloss_cell,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for what `change` needs.
        unsafe {
            change(config, cell, |config, cell| {
                policy::step(config, clean != 0, cell);
                Ok(())
            })
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_terms(
    gradient_encoding: u32,
    gradient: *const c_void,
    gradient_count: usize,
    weight_encoding: u32,
    weight: *const c_void,
    weight_count: usize,
    inner: usize,
    fan_in: u32,
    terms: *mut adaloss_terms,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(terms) }?;
        let (of_gradient, of_weight) =
            (parse_encoding(gradient_encoding)?, parse_encoding(weight_encoding)?);
        let found: Result<Terms, ShapeError> = with_element!(of_gradient, A => {
            // SAFETY: the header asks for an array.
            let gradient = unsafe { array(gradient.cast::<A>(), gradient_count) }?;
            with_element!(of_weight, B => {
                // SAFETY: and for another one.
                let weight = unsafe { array(weight.cast::<B>(), weight_count) }?;
                Terms::of(gradient, weight, inner, fan_in)
            })
        });
        let Terms { min_abs, max_abs, nonfinite, fan_in, reserved } =
            found.map_err(|_| Refused(ADALOSS_ERROR_SHAPE))?;
        place.set(adaloss_terms { min_abs, max_abs, nonfinite, fan_in, reserved });
        Ok(())
    })
}
