//! Counters of the device against those of the core.

use adaloss_core::{
    policy::{Cell, Certificate},
    scale::Scale,
    statistics::{Histogram, Outcome},
};

use super::{Case, Discrepancy, Failure};

/// Compares two outcomes.
pub(super) fn outcomes(case: Case, expected: &Outcome, found: &Outcome) -> Result<(), Failure> {
    let numbers = |outcome: &Outcome| {
        [
            ("the outcome's elements", outcome.elements as i64),
            ("the outcome's non-finite elements", outcome.nonfinite as i64),
            ("the outcome's zeros", outcome.zero as i64),
            ("the outcome's underflow", outcome.underflow as i64),
            ("the outcome's subnormals", outcome.subnormal as i64),
            ("the outcome's overflow", outcome.overflow as i64),
            ("the outcome's maximum (bits)", i64::from(outcome.max_bits)),
            ("the outcome's reserved field", i64::from(outcome.reserved)),
        ]
    };
    all(case, numbers(expected), numbers(found))
}

/// Compares two histograms.
pub(super) fn histograms(
    case: Case,
    expected: &Histogram,
    found: &Histogram,
) -> Result<(), Failure> {
    let numbers = |histogram: &Histogram| {
        [
            ("the histogram's elements", histogram.elements() as i64),
            ("the histogram's non-finite elements", histogram.nonfinite() as i64),
            ("the histogram's nonzero elements", histogram.nonzero() as i64),
        ]
    };
    all(case, numbers(expected), numbers(found))?;
    let bin = |what, scale_log2, expected, found| {
        if expected == found {
            Ok(())
        } else {
            Err(case.fails(Discrepancy::Bin { what, scale_log2, expected, found }))
        }
    };
    if expected == found {
        return Ok(());
    }
    for ((floor, expected), (_, found)) in expected.floors().zip(found.floors()) {
        bin("whose least scale is", floor, expected, found)?;
    }
    for log2 in Scale::MIN.log2()..=Scale::MAX.log2() {
        let scale = Scale::saturating(log2);
        bin("that overflow at", log2, expected.overflow(scale), found.overflow(scale))?;
    }
    case.whole("the histogram", expected, found)
}

/// Compares two cells.
pub(super) fn cells(case: Case, expected: &Cell, found: &Cell) -> Result<(), Failure> {
    let numbers = |cell: &Cell| {
        [
            ("the cell's scale", i64::from(cell.scale().log2())),
            ("the cell's age", i64::from(cell.age())),
            ("the cell's trigger", cell.trigger() as i64),
            ("whether the cell is calibrated", i64::from(cell.is_calibrated())),
            ("whether the cell is promised to keep underflow down", i64::from(cell.is_promised())),
            ("the ceiling that the cell has seen", i64::from(cell.seen().ceiling)),
            ("whether the cell was visited in this step", i64::from(cell.seen().visited)),
            ("whether the cell overflowed in this step", i64::from(cell.seen().overflowed)),
        ]
    };
    all(case, numbers(expected), numbers(found))?;
    case.whole("the cell's memory", &expected.to_bytes(), &found.to_bytes())
}

/// Compares two certificates.
pub(super) fn certificates(
    case: Case,
    expected: &Certificate,
    found: &Certificate,
) -> Result<(), Failure> {
    let numbers = |certificate: &Certificate| {
        let Certificate { rule, trigger, promised, before, scale, window, .. } = *certificate;
        let Certificate { lost_mass, nonzero, allowed, .. } = *certificate;
        [
            ("the certificate's rule", rule as i64),
            ("the certificate's trigger", trigger as i64),
            ("whether the certificate promises", i64::from(promised)),
            ("the scale before", i64::from(before.log2())),
            ("the scale certified", i64::from(scale.log2())),
            ("the window's least scale", i64::from(window.least)),
            ("the window's greatest scale", i64::from(window.greatest)),
            ("the lost mass (bits)", i64::from(lost_mass.bits())),
            ("the certificate's nonzero elements", nonzero as i64),
            ("the allowed underflow", allowed as i64),
        ]
    };
    all(case, numbers(expected), numbers(found))?;
    case.whole("the certificate", expected, found)
}

fn all<const N: usize>(
    case: Case,
    expected: [(&'static str, i64); N],
    found: [(&'static str, i64); N],
) -> Result<(), Failure> {
    for ((what, expected), (_, found)) in expected.into_iter().zip(found) {
        case.number(what, expected, found)?;
    }
    Ok(())
}
