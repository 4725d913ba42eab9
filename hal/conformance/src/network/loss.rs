//! `softmax_cross_entropy`: gradients and sums, with rows that do not count.

use crate::{
    Case, Failure, Shape,
    bench::{Bench, pattern},
    near::{Near, Sum, UNIT_F64},
    results::Expected,
    tensor::{Tensor, read_one},
    values,
};
use adaloss_hal::{
    AddressSpace, Memory,
    network::{HasLoss, LossSum, SoftmaxCrossEntropy},
};

/// Rows and classes.
const SHAPES: [[usize; 2]; 9] =
    [[1, 1], [3, 2], [5, 10], [33, 3], [2, 300], [64, 7], [257, 5], [0, 4], [7, 33]];

/// What the sum holds before: so much that an f32 would not notice a row's loss.
const BEFORE: LossSum = LossSum { loss: 1_073_741_824.0, weight: 2.5, rows: 7, correct: 3 };

/// What the logits are.
#[derive(Clone, Copy)]
enum Kind {
    /// Numbers below 8.
    Small,
    /// Numbers whose exponential no f32 holds.
    Large,
    /// Small integers, of which several are the greatest.
    Ties,
    /// NaN and infinities in rows of their own.
    NonFinite,
}

pub(super) fn check<D: Memory + HasLoss>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    for (stream, [rows, classes]) in (0..).zip(SHAPES) {
        for kind in [Kind::Small, Kind::Large, Kind::Ties, Kind::NonFinite] {
            for is_weighted in [false, true] {
                Rows { rows, classes, kind, is_weighted, stream }.check(bench)?;
            }
        }
    }
    check_refusals(bench)
}

/// Rows of known logits.
#[derive(Clone, Copy)]
struct Rows {
    rows: usize,
    classes: usize,
    kind: Kind,
    is_weighted: bool,
    stream: u32,
}

impl Rows {
    fn logit(self, index: usize) -> f32 {
        let small = values::random(self.stream, index, -4, 2);
        match (self.kind, index / self.classes % 8) {
            (Kind::NonFinite, 1) if index.is_multiple_of(self.classes) => f32::NAN,
            (Kind::NonFinite, 3) if index % self.classes == 1 => f32::INFINITY,
            (Kind::NonFinite, 5) if index % self.classes == 1 => f32::NEG_INFINITY,
            (Kind::Small | Kind::NonFinite, _) => small,
            (Kind::Large, _) => values::random(self.stream, index, 2, 9),
            (Kind::Ties, _) => (values::word(self.stream, index) >> 16 & 3) as f32,
        }
    }

    /// Returns a label; of some rows none that is a class.
    fn label(self, row: usize) -> u32 {
        let word = values::word(self.stream + 1000, row);
        match word >> 24 & 15 {
            0 => u32::MAX,
            1 => self.classes as u32,
            _ => word % self.classes as u32,
        }
    }

    fn counts(self, row: usize) -> bool {
        (self.label(row) as usize) < self.classes
    }

    /// Returns the weight of a class: eighths, whose sums are exact.
    fn weight(self, class: usize) -> f32 {
        if self.is_weighted { (1 + class * 5 % 16) as f32 / 8.0 } else { 1.0 }
    }

    fn row(self, row: usize) -> impl Iterator<Item = f32> {
        (row * self.classes..(row + 1) * self.classes).map(move |index| self.logit(index))
    }

    /// Returns the greatest logit of a row; NaN where one is not finite.
    fn max(self, row: usize) -> f32 {
        match self.row(row).all(f32::is_finite) {
            true => self.row(row).fold(f32::NEG_INFINITY, f32::max),
            false => f32::NAN,
        }
    }

    /// Returns the sum of the exponentials of a row.
    fn total(self, row: usize) -> Near {
        let max = Near::exact(self.max(row));
        Near::sum(self.row(row).map(|x| (Near::exact(x) - max).exp()))
    }

    /// Returns the sum of the weights of the rows that count.
    fn weights(self) -> f64 {
        let counting = (0..self.rows).filter(|&row| self.counts(row));
        counting.map(|row| f64::from(self.weight(self.label(row) as usize))).sum()
    }

    fn gradient(self, index: usize) -> Expected {
        let (row, class) = (index / self.classes, index % self.classes);
        if !self.counts(row) {
            return Expected::Bits(0);
        }
        let label = self.label(row) as usize;
        let share = Near::exact(self.weight(label)) / Near::exact(self.weights());
        let below = Near::exact(self.logit(index)) - Near::exact(self.max(row));
        let target = if class == label { 1.0 } else { 0.0 };
        Expected::Near(share * (below.exp() / self.total(row) - Near::exact(target)))
    }

    /// Returns what is added to the sum, but for the loss.
    fn counted(self) -> LossSum {
        let mut sum = LossSum { weight: self.weights(), ..LossSum::default() };
        for row in (0..self.rows).filter(|&row| self.counts(row)) {
            let (max, label) = (self.max(row), self.label(row) as usize);
            let greatest = self.row(row).filter(|&x| x == max).count();
            let is_correct = greatest == 1 && self.logit(row * self.classes + label) == max;
            (sum.rows, sum.correct) = (sum.rows + 1, sum.correct + u64::from(is_correct));
        }
        sum
    }

    /// Returns the loss that is added to the sum.
    fn loss(self) -> Near {
        let mut sum = Sum::default();
        for row in (0..self.rows).filter(|&row| self.counts(row)) {
            let label = self.label(row) as usize;
            let logit = Near::exact(self.logit(row * self.classes + label));
            let loss = self.total(row).ln() - (logit - Near::exact(self.max(row)));
            sum.take(Near::exact(self.weight(label)) * loss);
        }
        sum.finish()
    }

    fn check<D: Memory + HasLoss>(self, bench: &mut Bench<'_, D>) -> Result<(), Failure> {
        let Self { rows, classes, .. } = self;
        let elements = rows * classes;
        let case = Case::new("softmax_cross_entropy", elements);
        let case = case.of(Shape::rows(rows, classes));
        let logits = Tensor::<D, f32>::filled(case, bench.device, elements, |i| self.logit(i))?;
        let labels = Tensor::<D, u32>::filled(case, bench.device, rows, |row| self.label(row))?;
        let weights = Tensor::<D, f32>::filled(case, bench.device, classes, |i| self.weight(i))?;
        let mut sum = case.succeeds(bench.device.zeroed::<LossSum>(1))?;
        case.succeeds(bench.device.write(&[BEFORE], D::view_mut(&mut sum)))?;
        let mut gradient = Tensor::<D, f32>::filled(case, bench.device, elements, pattern)?;
        let (logits, labels) = (logits.view(case)?, labels.view(case)?);
        let weights = if self.is_weighted { Some(weights.view(case)?) } else { None };
        let mut into = D::view_mut(&mut sum);
        bench.writes(
            case,
            &mut gradient,
            &pattern,
            move |device, mut gradient| {
                let gradient = D::Space::reborrow_mut(&mut gradient);
                let sum = D::Space::reborrow_mut(&mut into);
                device.run(SoftmaxCrossEntropy { classes, logits, labels, weights, gradient, sum })
            },
            &|index| self.gradient(index),
        )?;
        let found = read_one(case, bench.device, D::view(&sum))?;
        self.compare(case, found)
    }

    fn compare(self, case: Case, found: LossSum) -> Result<(), Failure> {
        let counted = self.counted();
        let count =
            |what, expected: u64, found: u64| case.number(what, expected as i64, found as i64);
        count("the rows of the loss", BEFORE.rows + counted.rows, found.rows)?;
        count("the rows classified rightly", BEFORE.correct + counted.correct, found.correct)?;
        case.whole("the loss's weight", &(BEFORE.weight + counted.weight), &found.weight)?;
        let loss = self.loss();
        // Sums are f64: each row may cost the last digit of what was there before.
        let rounding = (self.rows + 1) as f64 * UNIT_F64 * BEFORE.loss;
        let is_near = (found.loss - BEFORE.loss - loss.value).abs() <= loss.error + rounding;
        let is_right = is_near || loss.value.is_nan() && found.loss.is_nan();
        case.whole("the sum of the losses", &true, &is_right)
    }
}

/// Operands that do not fit.
fn check_refusals<D: Memory + HasLoss>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    let case = Case::new("softmax_cross_entropy refused", 12);
    let logits = Tensor::<D, f32>::filled(case, bench.device, 12, |_| 1.0)?;
    let labels = Tensor::<D, u32>::filled(case, bench.device, 4, |_| 0)?;
    let weights = Tensor::<D, f32>::filled(case, bench.device, 3, |_| 1.0)?;
    let (logits, labels, weights) = (logits.view(case)?, labels.view(case)?, weights.view(case)?);
    let mut gradient = Tensor::<D, f32>::filled(case, bench.device, 12, pattern)?;
    let mut sums = case.succeeds(bench.device.zeroed::<LossSum>(2))?;
    // Classes that there are not, or too many of, and more than one sum.
    for (classes, of_sums) in [(0, 1), (1 << (usize::BITS - 1), 1), (3, 2)] {
        let mut sum = case.finds(D::Space::part_mut(D::view_mut(&mut sums), 0..of_sums))?;
        bench.refuses_write(case, &mut gradient, move |device, mut gradient| {
            let gradient = D::Space::reborrow_mut(&mut gradient);
            let (weights, sum) = (None, D::Space::reborrow_mut(&mut sum));
            device.run(SoftmaxCrossEntropy { classes, logits, labels, weights, gradient, sum })
        })?;
    }
    let mut sum = case.finds(D::Space::part_mut(D::view_mut(&mut sums), 0..1))?;
    bench.refuses_mutated_writes(case, &mut gradient, &mut |device, mut gradient, mutation| {
        let gradient = D::Space::reborrow_mut(&mut gradient);
        let (classes, weights, sum) = (3, Some(weights), D::Space::reborrow_mut(&mut sum));
        let loss = SoftmaxCrossEntropy { classes, logits, labels, weights, gradient, sum };
        device.run(mutation.apply(loss))
    })?;
    drop(sum);
    let mut found = [BEFORE; 2];
    case.succeeds(bench.device.read(D::view(&sums), &mut found))?;
    case.whole("the sum of a refused loss", &[LossSum::default(); 2], &found)
}
