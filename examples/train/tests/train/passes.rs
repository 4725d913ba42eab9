//! The passes that a report counts are those of every visit, whichever steps are looked at.

use adaloss_core::{
    format::E4M3, format::f16, policy::Operands, scaler::Visit, statistics::Histogram,
};
use adaloss_cpu::Cpu;
use adaloss_train::{
    data::Source,
    layer::Observer,
    method::Method,
    results::RunReport,
    task::Task,
    trainer::{Measurements, Settings, Trainer},
};

/// Adds up what it is shown, at every step.
#[derive(Default)]
struct Sum {
    visits: u64,
    extra_passes: u64,
    replays: u64,
}

impl Observer for Sum {
    fn visited(&mut self, _: &str, visit: &Visit, _: &Histogram, _: Option<&Operands>) {
        self.visits += 1;
        self.extra_passes += u64::from(visit.passes) - 1;
        self.replays += u64::from(visit.replayed);
    }
}

fn trainer<'d>(
    task: &'d Task,
    dataset: &'d dyn adaloss_train::data::Dataset,
    method: Method,
) -> Trainer<'d, Cpu, f16, E4M3> {
    let format = "e4m3".parse().unwrap();
    let settings = Settings { format, method, seed: 3, period: 5 };
    Trainer::new(task, dataset, settings, Cpu::new(1).unwrap()).unwrap()
}

#[test]
fn all_visits_of_a_run_are_counted() {
    let mut task: Task = "digits-mlp".parse().unwrap();
    task.schedule.epochs = 1;
    let dataset = Source::Embedded(Default::default()).open().unwrap();
    for method in [Method::MEASURED, Method::AMAX, Method::BACKOFF] {
        let mut sum = Sum::default();
        let mut own = trainer(&task, &*dataset, method);
        while own.step_count() < own.last_step() {
            let _ = own.train_step(&mut sum).unwrap();
        }
        let run = |samples: u64| -> RunReport {
            let measurements = Measurements { samples, probes: 0, evaluations: 1 };
            let device = Cpu::new(1).unwrap();
            trainer(&task, &*dataset, method).run(measurements, device, |_| Ok(())).unwrap()
        };
        for samples in [0, 1, 7, u64::MAX] {
            let report = run(samples);
            let counted = (report.visits, report.extra_passes, report.recovered_steps);
            assert_eq!(counted, (sum.visits, sum.extra_passes, sum.replays), "{method}, {samples}");
        }
        // Where all steps are looked at, the cells have them all.
        let of_cells: u64 = run(u64::MAX).cells.iter().map(|cell| cell.extra_passes).sum();
        assert_eq!(of_cells, sum.extra_passes);
        // Three tensors at each step; only a method that decides for each of them measures.
        assert_eq!(sum.visits, 3 * own.last_step());
        assert_eq!(sum.extra_passes > 0, method != Method::BACKOFF, "{method}");
    }
}

/// Checks what the clipped share of mass is made from: that a visit's largest magnitude carries its incoming scale.
#[derive(Default)]
struct Largest(u64);

impl Observer for Largest {
    fn visited(&mut self, name: &str, visit: &Visit, results: &Histogram, _: Option<&Operands>) {
        let greatest =
            f64::from(visit.outcome.max_abs()) * f64::from(-visit.incoming.log2()).exp2();
        let Some(scale) = results.greatest_scale().filter(|_| greatest > 0.0) else { return };
        let scaled = greatest * f64::from(scale.log2()).exp2();
        // Halfway from the largest number to the next is the greatest that does not overflow.
        assert!(scaled <= 464.0 && 2.0 * scaled > 464.0, "{name}: {scaled}");
        self.0 += 1;
    }
}

#[test]
fn the_largest_magnitude_carries_the_incoming_scale() {
    let task: Task = "digits-resnet".parse().unwrap();
    let dataset = Source::Embedded(Default::default()).open().unwrap();
    let mut largest = Largest::default();
    let mut own = trainer(&task, &*dataset, Method::MEASURED);
    for _ in 0..3 {
        let _ = own.train_step(&mut largest).unwrap();
    }
    assert!(largest.0 > 40, "{} visits", largest.0);
}
