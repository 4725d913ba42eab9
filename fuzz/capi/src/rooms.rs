//! The rooms one by one: functions that keep nothing.

use std::ptr::null_mut;

use adaloss::*;
use adaloss_core::{
    format::{Encoding, Format, Narrowing, Noise, Overflow, Rounding, Subnormals},
    scale::Scale,
};
use arbitrary::{Result, Unstructured};

use crate::{
    argument::{count, encoding, format, log2, narrowing, noise, number, pointer},
    memory::{Memory, any},
};

/// Turns a narrowing that the library took into core's.
fn core_narrowing(of: adaloss_narrowing) -> Narrowing {
    let subnormals = [Subnormals::Gradual, Subnormals::Flush][usize::from(of.format.subnormals)];
    let roundings = [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic];
    Narrowing {
        format: Format::new(Encoding::ALL[usize::from(of.format.encoding)], subnormals),
        rounding: roundings[usize::from(of.rounding)],
        overflow: [Overflow::Infinity, Overflow::Saturate][usize::from(of.overflow)],
    }
}

pub(crate) fn formats(u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
    let (how, x, shift) = (narrowing(u)?, f32::from_bits(u.arbitrary()?), log2(u)?);
    let place = pointer(u, &raw mut memory.numbers[0])?;
    match u.int_in_range(0..=5)? {
        0 => {
            let word = u.arbitrary()?;
            let code = memory.call(|_| unsafe {
                adaloss_format_narrow(
                    how,
                    x,
                    shift,
                    word,
                    place.cast(),
                    place.cast::<u32>().wrapping_add(1),
                )
            });
            if code == ADALOSS_OK {
                let expected = core_narrowing(how).narrow(x, shift, word);
                assert_eq!(memory.numbers[0] as u32, expected.bits);
            }
        }
        1 => {
            let code = memory.call(|_| unsafe { adaloss_format_shifts(how, x, place.cast()) });
            if code == ADALOSS_OK {
                let expected = core_narrowing(how).shifts(x).expect("there are some");
                let found = memory.numbers[0];
                assert_eq!(
                    (found as i32, (found >> 32) as i32),
                    (expected.least, expected.greatest)
                );
            }
        }
        2 => {
            let code = memory.call(|_| unsafe { adaloss_scale_factor(shift, place.cast()) });
            let expected = Scale::new(shift).map(Scale::factor);
            assert!(
                code == ADALOSS_OK || expected.is_err() || !place.is_aligned() || place.is_null()
            );
            if code == ADALOSS_OK {
                assert_eq!(Ok(f32::from_bits(memory.numbers[0] as u32)), expected);
            }
        }
        3 => {
            let limits = pointer(u, &raw mut memory.limits)?;
            memory.call(|_| unsafe { adaloss_format_limits(how.format, limits) });
        }
        4 => {
            let noise = noise(u)?;
            let (index, upper) = (shift as u32, u32::from(u.arbitrary::<u8>()?));
            // The upper half of a place changes the key.
            let seed = noise.seed ^ upper.wrapping_mul(0x85eb_ca6b);
            let expected = Noise { seed, stream: noise.stream }.word(index);
            let place = u64::from(upper) << 32 | u64::from(index);
            assert_eq!(adaloss_format_noise_word(noise, place), expected);
        }
        _ => {
            let (from, to) = (&raw mut memory.elements[0], &raw mut memory.results);
            let (from, to, count) = (pointer(u, from)?, pointer(u, to)?, count(u)?);
            memory
                .call(|_| unsafe { adaloss_format_widen(how.format, any(from), count, to.cast()) });
        }
    }
    Ok(())
}

/// A histogram that the library wrote is one.
fn is_histogram(memory: &mut Memory) {
    memory.succeeds(|of| unsafe {
        let place = (&raw mut (*of).numbers[0]).cast();
        adaloss_statistics_histogram_underflow(&raw const (*of).histograms[0], 0, place)
    });
}

pub(crate) fn statistics(u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
    let [one, other] = memory.histograms.each_mut().map(std::ptr::from_mut);
    let (one, other) = (pointer(u, one)?, pointer(u, other)?);
    let [outcome, another] = memory.outcomes.each_mut().map(std::ptr::from_mut);
    let (outcome, another) = (pointer(u, outcome)?, pointer(u, another)?);
    let [counted, more] = memory.statistics.each_mut().map(std::ptr::from_mut);
    let (counted, more) = (pointer(u, counted)?, pointer(u, more)?);
    let [logs, more_logs] = memory.log_statistics.each_mut().map(std::ptr::from_mut);
    let (logs, more_logs) = (pointer(u, logs)?, pointer(u, more_logs)?);
    let values = pointer(u, &raw mut memory.values)?;
    let elements = pointer(u, &raw mut memory.elements[0])?;
    let [mean, deviation] = [0, 1].map(|nth| &raw mut memory.numbers[nth]);
    let (mean, deviation) = (pointer(u, mean)?, pointer(u, deviation)?);
    let (count, log2, format) = (count(u)?, log2(u)?, format(u)?);
    match u.int_in_range(0..=15)? {
        0 | 1 => {
            let how = narrowing(u)?;
            if memory.call(|_| unsafe { adaloss_statistics_histogram_clear(one, how) })
                == ADALOSS_OK
            {
                is_histogram(memory);
            }
        }
        2 => {
            let code = memory.call(|_| unsafe {
                adaloss_statistics_histogram_observe(one, values.cast(), count, log2)
            });
            if code == ADALOSS_OK {
                is_histogram(memory);
            }
        }
        3 => {
            if memory.call(|_| unsafe { adaloss_statistics_histogram_merge(one, other) })
                == ADALOSS_OK
            {
                is_histogram(memory);
            }
        }
        4 => {
            let allowed = u.arbitrary()?;
            memory
                .call(|_| unsafe { adaloss_statistics_histogram_least(one, allowed, mean.cast()) });
        }
        5 => {
            memory.call(|_| unsafe { adaloss_statistics_histogram_greatest(one, mean.cast()) });
        }
        6 => {
            memory.call(|_| unsafe { adaloss_statistics_histogram_overflow(one, log2, mean) });
        }
        7 => {
            memory.call(|_| unsafe { adaloss_statistics_outcome_merge(outcome, another) });
        }
        8 => {
            memory.call(|_| unsafe { adaloss_statistics_clear(counted) });
        }
        9 => {
            let of = any(elements);
            let code =
                memory.call(|_| unsafe { adaloss_statistics_observe(counted, format, of, count) });
            if code == ADALOSS_OK {
                // What has no elements adds nothing, and is taken.
                memory.succeeds(|of| unsafe {
                    adaloss_statistics_clear(&raw mut (*of).statistics[1])
                });
                memory.succeeds(|of| unsafe {
                    adaloss_statistics_merge(
                        &raw mut (*of).statistics[0],
                        &raw const (*of).statistics[1],
                    )
                });
            }
        }
        10 => {
            memory.call(|_| unsafe { adaloss_statistics_merge(counted, more) });
        }
        11 | 12 => {
            let moments = pointer(u, &raw mut memory.statistics[0].moments)?;
            memory.call(|_| unsafe {
                adaloss_statistics_moments(moments, mean.cast(), deviation.cast())
            });
        }
        13 => {
            memory.call(|_| unsafe { adaloss_statistics_log_clear(logs) });
        }
        14 => {
            let of = any(elements);
            memory.call(|_| unsafe { adaloss_statistics_log_observe(logs, format, of, count) });
        }
        _ => {
            memory.call(|_| unsafe { adaloss_statistics_log_merge(logs, more_logs) });
        }
    }
    Ok(())
}

pub(crate) fn configurations(u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
    let format = format(u)?;
    let config = pointer(u, &raw mut memory.configs[0])?;
    match u.int_in_range(0..=11)? {
        0 | 1 => {
            let code = memory.call(|_| unsafe { adaloss_policy_recommended(format, config) });
            is_config(code, memory);
        }
        2 => {
            let code = memory.call(|_| unsafe { adaloss_policy_paper(format, config) });
            is_config(code, memory);
        }
        3 => {
            let backoff = pointer(u, &raw mut memory.configs[0].parameters.backoff)?;
            let interval = u.int_in_range(0..=9)?;
            memory.call(|_| unsafe { adaloss_policy_chainer(interval, backoff) });
        }
        4 => {
            let backoff = pointer(u, &raw mut memory.configs[0].parameters.backoff)?;
            memory.call(|_| unsafe { adaloss_policy_grad_scaler(backoff) });
        }
        5 => {
            let normal = pointer(u, &raw mut memory.configs[0].parameters.normal)?;
            let share = f64::from_bits(u.arbitrary()?);
            let share =
                if u.arbitrary()? { share } else { f64::from(u.arbitrary::<u16>()?) / 65536.0 };
            memory.call(|_| unsafe { adaloss_policy_normal(format, share, normal) });
        }
        6 => {
            let range = pointer(u, &raw mut memory.configs[0].parameters.range)?;
            memory.call(|_| unsafe { adaloss_policy_range(format, range) });
        }
        7 => memory.configs[0].policy = number(u, 6)?.into(),
        8 => {
            memory.configs[0].period = u.int_in_range(0..=4)?;
            memory.configs[0].recovery = number(u, 2)?.into();
        }
        9 => memory.configs[0].narrowing = narrowing(u)?,
        _ => {
            let code = memory.call(|_| unsafe { adaloss_policy_check(config) });
            is_config(code, memory);
        }
    }
    Ok(())
}

/// A configuration that is possible makes cells.
fn is_config(code: adaloss_code, memory: &mut Memory) {
    if code == ADALOSS_OK {
        memory.succeeds(|of| unsafe { adaloss_policy_check(&raw const (*of).configs[0]) });
        memory.succeeds(|of| unsafe {
            adaloss_policy_cell(&raw const (*of).configs[0], &raw mut (*of).cell)
        });
    }
}

/// A cell that the library wrote is one.
fn is_cell(code: adaloss_code, memory: &mut Memory) {
    if code == ADALOSS_OK {
        memory.succeeds(|of| unsafe {
            let place = (&raw mut (*of).numbers[0]).cast();
            adaloss_policy_outgoing(&raw const (*of).configs[0], &raw const (*of).cell, 0, place)
        });
    }
}

pub(crate) fn policies(u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
    let config = pointer(u, &raw mut memory.configs[0])?;
    let cell = pointer(u, &raw mut memory.cell)?;
    let histogram = pointer(u, &raw mut memory.histograms[0])?;
    let outcome = pointer(u, &raw mut memory.outcomes[0])?;
    let certificate = pointer(u, &raw mut memory.certificate)?;
    let place = pointer(u, &raw mut memory.numbers[0])?;
    let log2 = log2(u)?;
    let code = match u.int_in_range(0..=13)? {
        0 => memory.call(|_| unsafe { adaloss_policy_cell(config, cell) }),
        1 => memory.call(|_| unsafe { adaloss_policy_due(config, cell, place.cast()) }),
        2 => memory.call(|_| unsafe {
            adaloss_policy_certify(config, histogram, log2, cell, certificate)
        }),
        3 => memory.call(|_| unsafe {
            adaloss_policy_breaks_promise(config, outcome, cell, place.cast())
        }),
        4 => {
            memory.operands.kind = number(u, 4)?.into();
            if u.arbitrary()? {
                memory.operands.gradient = memory.statistics[0];
                memory.operands.weight = memory.statistics[1];
                memory.operands.log_gradient = memory.log_statistics[0];
            }
            let operands = pointer(u, &raw mut memory.operands)?;
            memory.call(|_| unsafe {
                adaloss_policy_decide_from_operands(config, operands, log2, cell, certificate)
            })
        }
        5 => {
            let (branches, count) = branches(u, memory)?;
            memory.call(|_| unsafe {
                adaloss_policy_decide_join(
                    config,
                    outcome,
                    log2,
                    branches,
                    count,
                    cell,
                    certificate,
                )
            })
        }
        6 => {
            let code = memory.call_for_some(|_| unsafe {
                adaloss_policy_note(config, outcome, log2, cell, place.cast())
            });
            if code == ADALOSS_NONE { ADALOSS_OK } else { code }
        }
        7 => {
            // It is given no cell.
            memory.call(|_| unsafe { adaloss_policy_recover(config, outcome, log2, place.cast()) });
            return Ok(());
        }
        8 => {
            let clean = u.int_in_range(-1..=1)?;
            memory.call(|_| unsafe { adaloss_policy_step(config, clean, cell) })
        }
        9 | 10 => {
            let record = if u.ratio(7, 8)? { &raw mut memory.record } else { null_mut() };
            memory.call(|_| unsafe { adaloss_policy_finish(config, cell, record) })
        }
        11 => {
            if u.arbitrary()? {
                let (ceiling, scale_log2) = (u.arbitrary()?, u.arbitrary()?);
                memory.record =
                    adaloss_record { ceiling, flags: number(u, 4)?, scale_log2, reserved: 0 };
            }
            let record = &raw const memory.record;
            memory.call(|_| unsafe { adaloss_policy_repeat(config, record, cell, place.cast()) })
        }
        12 => {
            what_was_seen(u, memory)?;
            return Ok(());
        }
        _ => {
            let (of_gradient, of_weight) = (encoding(u)?.into(), encoding(u)?.into());
            let [gradient, weight] = memory.elements.each_mut().map(std::ptr::from_mut);
            let (gradient, weight) = (any(pointer(u, gradient)?), any(pointer(u, weight)?));
            let (rows, columns, inner) = (count(u)?, count(u)?, count(u)?);
            let terms = pointer(u, &raw mut memory.operands.terms)?;
            memory.call(|_| unsafe {
                adaloss_policy_terms(
                    of_gradient,
                    gradient,
                    rows,
                    of_weight,
                    weight,
                    columns,
                    inner,
                    3,
                    terms,
                )
            });
            return Ok(());
        }
    };
    is_cell(code, memory);
    Ok(())
}

/// What tensors showed: it is taken from a cell, merged, and set.
fn what_was_seen(u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
    let cell = pointer(u, &raw mut memory.cell)?;
    let [one, other] = memory.seen.each_mut().map(std::ptr::from_mut);
    if u.arbitrary()? {
        memory.seen[1] = adaloss_seen {
            ceiling: u.arbitrary()?,
            overflowed: number(u, 2)?,
            sums_overflowed: number(u, 2)?,
            visited: number(u, 2)?,
        };
    }
    match u.int_in_range(0..=2)? {
        0 => {
            memory.call(|_| unsafe { adaloss_policy_seen(cell, one) });
        }
        1 => {
            let [before, more] = memory.seen;
            if memory.call(|_| unsafe { adaloss_policy_seen_merge(one, other) }) == ADALOSS_OK {
                let merged = memory.seen[0];
                assert_eq!(merged.ceiling, before.ceiling.min(more.ceiling));
                assert_eq!(merged.overflowed, before.overflowed | more.overflowed);
                assert_eq!(merged.sums_overflowed, before.sums_overflowed | more.sums_overflowed);
                assert_eq!(merged.visited, before.visited | more.visited);
            }
        }
        _ => {
            if memory.call(|_| unsafe { adaloss_policy_set_seen(one, cell) }) == ADALOSS_OK {
                let set = memory.seen[0];
                memory.succeeds(|of| unsafe {
                    adaloss_policy_seen(&raw const (*of).cell, &raw mut (*of).seen[0])
                });
                assert_eq!(memory.seen[0], set);
            }
        }
    }
    Ok(())
}

/// The scales of branches.
pub(crate) fn branches(
    u: &mut Unstructured<'_>,
    memory: &mut Memory,
) -> Result<(*const i32, usize)> {
    for scale in memory.scales_log2.iter_mut().take(3) {
        *scale = log2(u)?;
    }
    let count = if u.ratio(7, 8)? { u.int_in_range(0..=3)? } else { count(u)? };
    Ok((pointer(u, &raw mut memory.scales_log2)?.cast_const().cast(), count))
}

pub(crate) fn tensors(u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
    for value in &mut memory.values {
        if u.ratio(1, 8)? {
            *value = f32::from_bits(u.arbitrary()?);
        }
    }
    let values = pointer(u, &raw mut memory.values)?.cast::<f32>();
    let results = pointer(u, &raw mut memory.results)?.cast::<f32>();
    let elements = any(pointer(u, &raw mut memory.elements[0])?);
    let outcome = pointer(u, &raw mut memory.outcomes[0])?;
    let met = pointer(u, &raw mut memory.met)?;
    let place = pointer(u, &raw mut memory.numbers[0])?.cast();
    let (how, noise, shift, count) = (narrowing(u)?, noise(u)?, log2(u)?, count(u)?);
    match u.int_in_range(0..=3)? {
        0 => {
            let first = u.arbitrary()?;
            memory.call(|_| unsafe {
                adaloss_apply_values(how, shift, noise, first, values, count, elements, outcome)
            });
        }
        1 => {
            let (branches, count) = branches(u, memory)?;
            memory.call(|_| unsafe { adaloss_propagate_common(branches, count, place) });
        }
        2 => {
            let [one, other] = memory.elements.each_mut().map(std::ptr::from_mut);
            let mut branch = |gradient| -> Result<_> {
                let gradient = any(pointer(u, gradient)?);
                Ok(adaloss_branch { gradient, scale_log2: log2(u)?, reserved: 0 })
            };
            let mut branches = [branch(one)?, branch(other)?, branch(one)?];
            let (named, of) = (pointer(u, &raw mut branches)?, u.int_in_range(0..=3)?);
            memory.call(|_| unsafe {
                adaloss_propagate_join(how.format, named.cast(), of, results, count, place)
            });
        }
        _ => {
            memory.call(|_| unsafe {
                adaloss_unscale_values(how.format, elements, count, shift, results, met)
            });
        }
    }
    Ok(())
}
