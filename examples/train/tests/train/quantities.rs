//! A quantity is learnt and judged, beside the classes and alone.

use adaloss_core::format::{Element, f16};
use adaloss_cpu::Cpu;
use adaloss_hal::Plain;
use adaloss_train::{
    data::{Dataset, Source, customers, digits},
    layer::Machine,
    results::{QuantityReport, RunReport},
    task::Task,
    trainer::{Measurements, Settings, Trainer},
};

fn run<W: Element + Plain>(
    task: &Task,
    dataset: &dyn Dataset,
    [format, method]: [&str; 2],
) -> RunReport
where
    Cpu: Machine<W, W> + Machine<W, f32>,
{
    let (format, method) = (format.parse().unwrap(), method.parse().unwrap());
    let settings = Settings { format, method, seed: 1, period: 100 };
    let device = Cpu::new(1).unwrap();
    let trainer = Trainer::<_, W, W>::new(task, dataset, settings, device.clone()).unwrap();
    let measurements = Measurements { samples: 4, probes: 1, evaluations: 2 };
    trainer.run(measurements, device, |_| Ok(())).unwrap()
}

fn digits() -> Box<dyn Dataset> {
    let still = digits::Options { shift: Some(0.0), warp: Some(0.0), ..Default::default() };
    Source::Embedded(still).open().unwrap()
}

fn customers() -> (Task, Box<dyn Dataset>) {
    let task: Task = "customers-mlp".parse().unwrap();
    let plan = customers::Plan { train: 4096, test: 1024, ..Default::default() };
    (task, Source::Customers(plan).open().unwrap())
}

#[test]
fn beside_the_classes() {
    let mut task: Task = "digits-units-0".parse().unwrap();
    task.schedule.epochs = 8;
    let dataset = digits();
    let found = run::<f32>(&task, &*dataset, ["f32", "f32"]);
    let quantity = found.quantity.unwrap();
    assert_eq!(quantity.relative_to, QuantityReport::DEVIATION);
    assert!(quantity.explained_variance.unwrap() > 0.3, "{quantity:?}");
    assert!(quantity.bias.unwrap().abs() < 0.2, "{quantity:?}");
    // The metric is that of the classes.
    assert!(found.metric > 0.5 && Some(found.metric) != quantity.explained_variance);
}

#[test]
fn alone() {
    let (task, dataset) = customers();
    let found = run::<f32>(&task, &*dataset, ["f32", "f32"]);
    let quantity = found.quantity.unwrap();
    assert_eq!(quantity.relative_to, QuantityReport::MEAN);
    assert_eq!(Some(found.metric), quantity.explained_variance);
    assert!(found.metric > 0.1, "{quantity:?}");
    assert!(quantity.bias.unwrap().abs() < 0.4, "{quantity:?}");
    // Every weight is compared with the reference, which it is itself.
    assert!(found.weights.iter().all(|weight| weight.relative_l2 == [Some(0.0)]));
}

/// Where nothing reaches the weights, nothing is learnt, and both figures tell.
#[test]
fn what_is_never_updated_explains_nothing() {
    let (task, dataset) = customers();
    let found = run::<f16>(&task, &*dataset, ["binary16", "fixed:40"]);
    assert!(found.skipped_steps == found.steps || found.stopped.is_some(), "{found:?}");
    let quantity = found.quantity.unwrap();
    assert!(found.metric < 0.05 && quantity.bias.unwrap() < -0.4, "{quantity:?}");
}

#[test]
fn names_say_what_is_learnt() {
    for (name, has_quantity) in [
        ("customers-mlp", true),
        ("digits-units-3", true),
        ("digits-long-30", true),
        ("helmholtz-20", true),
        ("digits-mlp", false),
    ] {
        assert_eq!(name.parse::<Task>().unwrap().has_quantity(), has_quantity, "{name}");
    }
    let long: Task = "digits-long-30".parse().unwrap();
    assert!(long.schedule.steps(&*digits()) >= 20_000);
    let customers: Task = "customers-mlp".parse().unwrap();
    let error = customers.with_model("resnet8".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("cannot learn customers-mlp"), "{error}");
    for name in ["helmholtz-", "helmholtz-61", "helmholtz-x"] {
        let error = name.parse::<Task>().unwrap_err().to_string();
        assert!(error.contains("from 0 to 60"), "{error}");
    }
}
