//! What a tensor deserves.

mod config;

use core::ffi::c_void;

use adaloss_core::{
    policy::{
        self, Cell, Certificate, Config, Expected, Operands, ShapeError, Terms, Trigger,
        decide_from_operands, decide_join, due, join_target, note, outgoing, recover,
    },
    scale::Scale,
};

pub use config::*;

use crate::{
    ADALOSS_ERROR_BRANCHES, ADALOSS_ERROR_CELL, ADALOSS_ERROR_ENUM, ADALOSS_ERROR_SHAPE,
    ADALOSS_ERROR_STATISTICS, ADALOSS_NONE, adaloss_code, adaloss_histogram,
    adaloss_log_statistics, adaloss_outcome, adaloss_statistics,
    code::{Refused, code},
    format::{parse_encoding, with_element},
    memory::{Place, any_bytes, array, exclusive, shared},
    scale,
    statistics::Mirror,
};

/// One tensor's scale and all that its policy remembers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct adaloss_cell {
    pub real: f64,
    pub age: u32,
    pub scale_log2: i16,
    pub trigger: u8,
    pub flags: u8,
    pub ceilings: [i8; 12],
    pub slot: u8,
    pub reserved: u8,
    pub in_slot: u16,
}

/// What a histogram promises for one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_expected {
    pub underflow: u64,
    pub overflow: u64,
}

/// The record of one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_certificate {
    pub rule: u8,
    pub trigger: u8,
    pub limited: u8,
    pub promised: u8,
    pub before_log2: i16,
    pub scale_log2: i16,
    pub least_log2: i16,
    pub greatest_log2: i16,
    pub reserved: u32,
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
    adaloss_cell, adaloss_expected, adaloss_certificate, adaloss_terms, adaloss_operands,
}

impl adaloss_cell {
    /// Reads a cell, as one is read from a checkpoint.
    pub(crate) fn parse(&self) -> Result<Cell, Refused> {
        let mut bytes = [0; Cell::BYTES];
        bytes[0..8].copy_from_slice(&self.real.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.age.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.scale_log2.to_le_bytes());
        (bytes[14], bytes[15]) = (self.trigger, self.flags);
        for (byte, ceiling) in bytes[16..28].iter_mut().zip(self.ceilings) {
            *byte = ceiling as u8;
        }
        (bytes[28], bytes[29]) = (self.slot, self.reserved);
        bytes[30..32].copy_from_slice(&self.in_slot.to_le_bytes());
        Cell::from_bytes(&bytes).ok_or(Refused(ADALOSS_ERROR_CELL))
    }
}

impl From<Cell> for adaloss_cell {
    fn from(cell: Cell) -> Self {
        let bytes = cell.to_bytes();
        let [r0, r1, r2, r3, r4, r5, r6, r7, a0, a1, a2, a3, k0, k1, trigger, flags, rest @ ..] =
            bytes;
        let [ceilings @ .., slot, reserved, n0, n1] = rest;
        Self {
            real: f64::from_le_bytes([r0, r1, r2, r3, r4, r5, r6, r7]),
            age: u32::from_le_bytes([a0, a1, a2, a3]),
            scale_log2: i16::from_le_bytes([k0, k1]),
            trigger,
            flags,
            ceilings: ceilings.map(|byte: u8| byte as i8),
            slot,
            reserved,
            in_slot: u16::from_le_bytes([n0, n1]),
        }
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
            limited: certificate.limited.into(),
            promised: certificate.promised.into(),
            before_log2: certificate.before.log2() as i16,
            scale_log2: certificate.scale.log2() as i16,
            least_log2: certificate.window.least,
            greatest_log2: certificate.window.greatest,
            reserved: 0,
            nonzero: certificate.nonzero,
            allowed: certificate.allowed,
            expected: certificate.expected.map(Into::into),
        }
    }
}

impl adaloss_certificate {
    /// Where nothing was decided.
    pub(crate) const NONE: Self = Self {
        rule: 0,
        trigger: 0,
        limited: 0,
        promised: 0,
        before_log2: 0,
        scale_log2: 0,
        least_log2: 0,
        greatest_log2: 0,
        reserved: 0,
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
    /// Operands that nobody has described yet: those of an empty tensor.
    pub(crate) const NONE: Self = {
        let moments = crate::adaloss_moments { count: 0, sum: [0; 6], squares: [0; 10] };
        let empty =
            adaloss_statistics { nonfinite: 0, zero: 0, moments, min_bits: u32::MAX, max_bits: 0 };
        Self {
            kind: 0,
            fan_in: 0,
            gradient: empty,
            weight: empty,
            log_gradient: adaloss_log_statistics {
                nonfinite: 0,
                moments,
                max_bits: 0,
                reserved: 0,
            },
            terms: adaloss_terms {
                min_abs: 0.0,
                max_abs: 0.0,
                nonfinite: 0,
                fan_in: 0,
                reserved: 0,
            },
        }
    };

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

/// Lets a decision change a cell, and gives the certificate to those who want it.
///
/// # Safety
///
/// `cell` and `certificate` are what the header asks for: a cell, and a place or NULL.
unsafe fn decide_with(
    config: *const adaloss_config,
    cell: *mut adaloss_cell,
    certificate: *mut adaloss_certificate,
    decide: impl FnOnce(&Config, &mut Cell) -> Result<Certificate, Refused>,
) -> Result<(), Refused> {
    // SAFETY: the caller's promise, and the header's for `config`.
    let (config, cell, place) =
        unsafe { (shared(config)?.parse()?, exclusive(cell)?, Place::optional(certificate)?) };
    let mut deciding = cell.parse()?;
    let certificate = decide(&config, &mut deciding)?;
    *cell = deciding.into();
    if let Some(place) = place {
        place.set(certificate.into());
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
            unsafe { (shared(config)?.parse()?, shared(cell)?.parse()?, Place::new(trigger)?) };
        place.set(due(&config, &cell).unwrap_or(Trigger::None) as u32);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_decide(
    config: *const adaloss_config,
    histogram: *const adaloss_histogram,
    cell: *mut adaloss_cell,
    certificate: *mut adaloss_certificate,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a histogram, and for what `decide_with` needs.
        unsafe {
            let histogram = shared(histogram)?.core()?;
            decide_with(config, cell, certificate, |config, cell| {
                Ok(policy::decide(config, histogram, cell))
            })
        }
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
        // SAFETY: the header asks for operands, and for what `decide_with` needs.
        unsafe {
            let operands = shared(operands)?.parse()?;
            let incoming = scale::parse(incoming_log2)?;
            decide_with(config, cell, certificate, |config, cell| {
                Ok(decide_from_operands(config, &operands, incoming, cell))
            })
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_policy_decide_join(
    config: *const adaloss_config,
    histogram: *const adaloss_histogram,
    incoming_log2: i32,
    branches_log2: *const i32,
    count: usize,
    cell: *mut adaloss_cell,
    certificate: *mut adaloss_certificate,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a histogram, an array, and for what `decide_with` needs.
        unsafe {
            let histogram = shared(histogram)?.core()?;
            let incoming = scale::parse(incoming_log2)?;
            let branches = parse_branches(array(branches_log2, count)?)?;
            decide_with(config, cell, certificate, |config, cell| {
                let pick = |fits: &dyn Fn(Scale) -> bool| join_target(branches, fits);
                Ok(decide_join(config, histogram, incoming, pick, cell))
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
        let (config, cell, place) = unsafe {
            (shared(config)?.parse()?, shared(cell)?.parse()?, Place::new(outgoing_log2)?)
        };
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
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a configuration, an outcome and a cell.
        let (config, outcome, cell) =
            unsafe { (shared(config)?.parse()?, shared(outcome)?.core()?, exclusive(cell)?) };
        let mut noting = cell.parse()?;
        note(&config, outcome, scale::parse(incoming_log2)?, &mut noting);
        *cell = noting.into();
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
        // SAFETY: the header asks for a configuration and a cell.
        let (config, cell) = unsafe { (shared(config)?.parse()?, exclusive(cell)?) };
        let mut moving = cell.parse()?;
        policy::step(&config, clean != 0, &mut moving);
        *cell = moving.into();
        Ok(())
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
