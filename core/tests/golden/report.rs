//! What was checked: the verdict on each record and the table of all files.

use std::{collections::BTreeMap, fmt};

use adaloss_oracle::Tolerance;

use crate::{exceptions::Reason, tensor::Tensor};

/// A check that failed says what differs.
pub(crate) type Checked = Result<(), String>;

/// The checks of one record.
#[derive(Default)]
pub(crate) struct Case {
    checks: usize,
    reasons: Vec<Reason>,
    allowances: BTreeMap<&'static str, usize>,
    deviations: BTreeMap<&'static str, Deviation>,
}

/// How far a quantity was off at worst, and how far it may be.
#[derive(Clone, Copy)]
struct Deviation {
    worst: f64,
    most: f64,
}

impl Case {
    /// Checks that two values are the same.
    pub(crate) fn equal<T: PartialEq + fmt::Debug>(
        &mut self,
        what: impl fmt::Display,
        ours: T,
        recorded: T,
    ) -> Checked {
        self.checks += 1;
        if ours == recorded {
            Ok(())
        } else {
            Err(format!("{what} is {ours:?}, recorded {recorded:?}"))
        }
    }

    /// Checks that two numbers are the same bit for bit, except that every NaN equals every other.
    pub(crate) fn same(&mut self, what: impl fmt::Display, ours: f64, recorded: f64) -> Checked {
        self.checks += 1;
        if ours.to_bits() == recorded.to_bits() || (ours.is_nan() && recorded.is_nan()) {
            Ok(())
        } else {
            Err(format!("{what} is {ours:e}, recorded {recorded:e}"))
        }
    }

    /// Checks that something holds which has no recorded value.
    pub(crate) fn holds(&mut self, what: impl fmt::Display, holds: bool) -> Checked {
        self.checks += 1;
        if holds { Ok(()) } else { Err(format!("does not hold: {what}")) }
    }

    /// Checks that two numbers agree within a tolerance.
    pub(crate) fn close(
        &mut self,
        what: impl fmt::Display,
        ours: f64,
        recorded: f64,
        tolerance: &Tolerance,
    ) -> Checked {
        self.within(what, ours, recorded, recorded.abs(), tolerance)
    }

    /// Checks that the difference of two numbers is within a tolerance in units of `unit`, and notes
    /// it.
    pub(crate) fn within(
        &mut self,
        what: impl fmt::Display,
        ours: f64,
        recorded: f64,
        unit: f64,
        tolerance: &Tolerance,
    ) -> Checked {
        self.checks += 1;
        if ours == recorded {
            return Ok(());
        }
        let (worst, most) = ((ours - recorded).abs() / unit, tolerance.most);
        if !tolerance.allows(worst) {
            return Err(format!(
                "{what} is {ours:e}, recorded {recorded:e}: {worst:e} of {unit:e}, {most:e} allowed"
            ));
        }
        self.deviate(tolerance.name, Deviation { worst, most });
        Ok(())
    }

    /// Checks the bits of a whole array; a NaN equals any other.
    pub(crate) fn array(
        &mut self,
        what: impl fmt::Display,
        ours: impl IntoIterator<Item = u32>,
        recorded: &Tensor,
    ) -> Checked {
        let ours: Vec<u32> = ours.into_iter().collect();
        self.checks += recorded.bits.len();
        if ours.len() != recorded.bits.len() {
            let (ours, recorded) = (ours.len(), recorded.bits.len());
            return Err(format!("{what} has {ours} elements, recorded {recorded}"));
        }
        let differs = |(&ours, &recorded_bits): (&u32, &u32)| {
            let [a, b] = [ours, recorded_bits].map(|bits| recorded.dtype.widen(bits));
            ours != recorded_bits && !(a.is_nan() && b.is_nan())
        };
        match ours.iter().zip(&recorded.bits).position(differs) {
            None => Ok(()),
            Some(at) => Err(format!(
                "{what}: element {at} is {:#x} ({:e}), recorded {:#x} ({:e})",
                ours[at],
                recorded.dtype.widen(ours[at]),
                recorded.bits[at],
                recorded.dtype.widen(recorded.bits[at])
            )),
        }
    }

    /// Takes the record out of the passed ones, for a reason that the caller has checked.
    pub(crate) fn except(&mut self, reason: Reason) {
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// Notes a use of an allowance; the record still passes.
    pub(crate) fn allow(&mut self, allowance: &'static str, uses: usize) {
        if uses > 0 {
            *self.allowances.entry(allowance).or_default() += uses;
        }
    }

    fn deviate(&mut self, name: &'static str, deviation: Deviation) {
        let entry = self.deviations.entry(name).or_insert(deviation);
        entry.worst = entry.worst.max(deviation.worst);
    }
}

/// The verdicts on the records of one file.
pub(crate) struct Tally {
    name: String,
    cases: usize,
    passed: usize,
    excepted: usize,
    failures: Vec<String>,
    sum: Case,
    reasons: BTreeMap<Reason, usize>,
}

impl Tally {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cases: 0,
            passed: 0,
            excepted: 0,
            failures: Vec::new(),
            sum: Case::default(),
            reasons: BTreeMap::new(),
        }
    }

    /// Takes the verdict on one record; `place` is its file and line.
    pub(crate) fn count(&mut self, place: &str, case: Case, checked: Checked) {
        self.cases += 1;
        self.sum.checks += case.checks;
        if let Err(message) = checked {
            self.failures.push(format!("{place}: {message}"));
            return;
        }
        if case.reasons.is_empty() {
            self.passed += 1;
        } else {
            self.excepted += 1;
        }
        for reason in case.reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
        for (allowance, uses) in case.allowances {
            self.sum.allow(allowance, uses);
        }
        for (name, deviation) in case.deviations {
            self.sum.deviate(name, deviation);
        }
    }

    /// Takes a failure of the file as a whole.
    pub(crate) fn fail(&mut self, message: String) {
        self.failures.push(message);
    }

    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Prints one row per file, and below it why records were excepted, which allowances were used and
/// how much of each tolerance.
pub(crate) fn print_table(tallies: &[Tally]) {
    if tallies.is_empty() {
        return;
    }
    let width = tallies.iter().map(|tally| tally.name.len()).chain([4]).max().unwrap_or(4);
    println!(
        "{:width$} {:>6} {:>7} {:>9} {:>7} {:>9}",
        "file", "cases", "passed", "excepted", "failed", "checks"
    );
    for tally in tallies {
        let Tally { name, cases, passed, excepted, failures, sum, reasons } = tally;
        let failed = failures.len();
        println!(
            "{name:width$} {cases:>6} {passed:>7} {excepted:>9} {failed:>7} {:>9}",
            sum.checks
        );
        for (reason, count) in reasons {
            println!("    excepted {count:>5}  {reason}");
        }
        for (allowance, uses) in &sum.allowances {
            println!("    used     {uses:>5}  {allowance}");
        }
        for (name, Deviation { worst, most }) in &sum.deviations {
            println!("    at worst {worst:.1e} of {most:.1e}  {name}");
        }
    }
}
