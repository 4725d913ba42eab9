//! Generated customers, whose value has a Pareto tail: few are worth more than all others.

use std::ops::Range;

use anyhow::{Result, ensure};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::{Batch, Dataset, Input, Inputs, Judged, View, view::generator};

/// The tail index of what customers spent, and so that of their values: up to the limit, the mean of values is one and their
/// variance grows with every customer more. Published ones of wealth, claims and sales lie between 1 and 2.
const TAIL_INDEX: f64 = 1.5;

/// The most that a customer spent, in units of the least: the tail is cut there, as credit limits do.
const LIMIT: f64 = 512.0;

/// The deviation of the logarithm of what no feature tells.
const UNKNOWN: f64 = 0.5;

/// The deviation of the weight that each further feature has in the logarithm of the value.
const WEIGHT: f64 = 0.15;

/// Values of a customer that the network sees: a constant, since hidden layers have no bias; the logarithm of what was
/// spent so far, with mean 0 and deviation 1; and others of a standard normal distribution.
const FEATURES: usize = 16;

/// How many customers there are, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Customers that train.
    pub train: usize,
    /// Customers that test.
    pub test: usize,
    /// Of everything that is random.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { train: 1 << 18, test: 1 << 13, seed: 0 }
    }
}

/// Customers with features and a value, each drawn when it is asked for: what a customer spent so far, times what the
/// further features tell, times an unobserved factor; in units of the mean.
///
/// A network is trained with values that contain the unobserved factor, and tested against their expectation, as if each
/// test customer were drawn many times. Without that a handful of the largest values would decide the metric, and a
/// method that skips the largest batches could come out ahead by chance.
#[derive(Clone, Debug)]
pub struct Customers {
    plan: Plan,
    /// How much each further feature counts in the logarithm of the value.
    weights: Vec<f64>,
    /// The mean of all values.
    mean: f64,
}

/// One of them.
struct Customer {
    features: Vec<f32>,
    /// Both in units of the mean.
    expected: f64,
    value: f64,
}

impl Customers {
    /// Makes the rule that customers are drawn by.
    ///
    /// # Errors
    ///
    /// There are no customers to train with, or none to test with.
    pub fn generate(plan: Plan) -> Result<Self> {
        ensure!(plan.train > 0, "there are no customers to train with: give at least one");
        ensure!(plan.test > 0, "there are no customers to test with: give at least one");
        let mut generator = generator(b"weights-", [plan.seed, 0, 0]);
        let weights: Vec<f64> =
            normal(&mut generator).take(FEATURES - 2).map(|weight| WEIGHT * weight).collect();
        // The mean of a lognormal variable is that of its logarithm's variance.
        let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
        let mean = mean_spent() * (0.5 * squares).exp();
        Ok(Self { plan, weights, mean })
    }

    fn draw(&self, index: usize) -> Customer {
        let mut generator = generator(b"customer", [self.plan.seed, index as u64, 0]);
        let spent = spent(generator.random());
        let unknown: f64 = StandardNormal.sample(&mut generator);
        let further: Vec<f64> = normal(&mut generator).take(FEATURES - 2).collect();
        let told: f64 = self.weights.iter().zip(&further).map(|(weight, x)| weight * x).sum();
        let expected = spent * told.exp() / self.mean;
        // Its mean is 1.
        let value = expected * (UNKNOWN * unknown - 0.5 * UNKNOWN * UNKNOWN).exp();
        // The logarithm has nearly an exponential distribution.
        let features = [1.0, TAIL_INDEX * spent.ln() - 1.0]
            .into_iter()
            .chain(further)
            .map(|x| x as f32)
            .collect();
        Customer { features, expected, value }
    }

    fn batch(
        &self,
        customers: impl Iterator<Item = usize>,
        quantity: impl Fn(&Customer) -> f64,
    ) -> Batch {
        let (mut features, mut quantities) = (Vec::new(), Vec::new());
        for customer in customers.map(|index| self.draw(index)) {
            quantities.push(quantity(&customer) as f32);
            features.extend(customer.features);
        }
        let samples = quantities.len();
        Batch { quantities, ..Batch::of(Inputs::Images(features), samples) }
    }
}

/// Returns what a customer spent, of a Pareto distribution between 1 and the limit, from a uniform number from 0 to 1.
fn spent(uniform: f64) -> f64 {
    (1.0 - uniform * (1.0 - LIMIT.powf(-TAIL_INDEX))).powf(-1.0 / TAIL_INDEX)
}

/// Returns the mean of what customers spent.
fn mean_spent() -> f64 {
    let [inside, all] = [1.0 - TAIL_INDEX, -TAIL_INDEX].map(|power| 1.0 - LIMIT.powf(power));
    TAIL_INDEX / (TAIL_INDEX - 1.0) * inside / all
}

fn normal(generator: &mut ChaCha8Rng) -> impl Iterator<Item = f64> {
    StandardNormal.sample_iter(generator)
}

impl Dataset for Customers {
    fn describe(&self) -> String {
        let Plan { train, test, seed } = self.plan;
        format!(
            "customers: {train} training and {test} test customers of {FEATURES} features, values \
             with a Pareto tail of index {TAIL_INDEX}, judged by the expected ones, generated from \
             seed {seed}"
        )
    }

    fn input(&self) -> Input {
        Input::Image { height: 1, width: 1, channels: FEATURES }
    }

    fn classes(&self) -> usize {
        1
    }

    fn judged(&self) -> Judged {
        Judged::Quantity
    }

    fn train_samples(&self) -> usize {
        self.plan.train
    }

    fn test_samples(&self) -> usize {
        self.plan.test
    }

    fn train(&self, chosen: &[usize], _: View) -> Result<Batch> {
        for &index in chosen {
            assert!(index < self.plan.train, "{index} of {} training customers", self.plan.train);
        }
        Ok(self.batch(chosen.iter().copied(), |customer| customer.value))
    }

    fn test(&self, range: Range<usize>) -> Result<Batch> {
        assert!(range.end <= self.plan.test, "{range:?} of {} test customers", self.plan.test);
        Ok(self.batch(range.map(|index| self.plan.train + index), |customer| customer.expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(customers: &Customers) -> Batch {
        let chosen: Vec<usize> = (0..customers.train_samples()).collect();
        customers.train(&chosen, View { seed: 1, epoch: 2 }).unwrap()
    }

    #[test]
    fn values_have_mean_1_and_the_tail_of_a_pareto_distribution() {
        let customers = Customers::generate(Plan { train: 1 << 16, ..Plan::default() }).unwrap();
        let mut values = all(&customers).quantities;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
        assert!((0.95..1.05).contains(&mean), "{mean}");
        // Hill's estimate of the index from the largest hundredth; the limit makes it a little larger.
        values.sort_by(|a, b| b.total_cmp(a));
        let top = values.len() / 100;
        let logs = values[..top].iter().map(|value| f64::from(value / values[top]).ln());
        let index = top as f64 / logs.sum::<f64>();
        assert!((1.4..1.9).contains(&index), "{index}");
        // The largest is some 2^9 times the median.
        let (largest, median) = (values[0], values[values.len() / 2]);
        assert!(largest > 256.0 * median, "{largest} and {median}");
    }

    #[test]
    fn what_was_spent_is_between_1_and_the_limit() {
        assert!((spent(0.0) - 1.0).abs() < 1e-12 && (spent(1.0) - LIMIT).abs() < 1e-6);
        // The median of an unbounded one would be 2^(1/1.5).
        assert!((spent(0.5) - 2.0_f64.powf(1.0 / TAIL_INDEX)).abs() < 1e-3);
        let steps = 1 << 20;
        let sum: f64 = (0..steps).map(|i| spent((f64::from(i) + 0.5) / f64::from(steps))).sum();
        assert!((sum / f64::from(steps) - mean_spent()).abs() < 1e-3, "{sum}");
    }

    /// The unobserved factor has mean 1 and deviation sqrt(exp(0.5^2) - 1) = 0.53: that of the mean is 0.004.
    #[test]
    fn what_is_expected_is_the_mean_of_what_happens() {
        let customers = Customers::generate(Plan::default()).unwrap();
        let count = 20_000;
        let ratios = (0..count).map(|index| {
            let Customer { expected, value, .. } = customers.draw(index);
            value / expected
        });
        let mean = ratios.sum::<f64>() / count as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        let test = customers.test(5..6).unwrap().quantities;
        assert_eq!(test, [customers.draw(customers.plan.train + 5).expected as f32]);
    }

    #[test]
    fn a_customer_is_a_function_of_seed_and_index() {
        let plan = Plan { train: 8, test: 4, seed: 3 };
        let customers = Customers::generate(plan).unwrap();
        let more = Customers::generate(Plan { test: 9, ..plan }).unwrap();
        assert_eq!(customers.test(0..4).unwrap(), more.test(0..4).unwrap());
        assert_eq!(all(&customers), all(&more));
        let other = Customers::generate(Plan { seed: 4, ..plan }).unwrap();
        assert_ne!(all(&customers), all(&other));
        all(&customers).check(&customers).unwrap();
        assert_eq!(customers.train(&[7, 2], View { seed: 0, epoch: 0 }).unwrap().quantities, {
            let whole = all(&customers).quantities;
            [whole[7], whole[2]]
        });
    }

    #[test]
    fn a_plan_without_customers_is_an_error() {
        let error = |plan| Customers::generate(plan).unwrap_err().to_string();
        assert!(error(Plan { train: 0, ..Plan::default() }).contains("no customers to train with"));
        assert!(error(Plan { test: 0, ..Plan::default() }).contains("no customers to test with"));
    }
}
