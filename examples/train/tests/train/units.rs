//! A loss in another unit is the same training: in f32 to the last bit.

use adaloss_core::format::Format;
use adaloss_cpu::Cpu;
use adaloss_train::{
    data::{Dataset, Source, helmholtz, scenes},
    layer::NoObserver,
    method::{FormatName, Method},
    task::Task,
    trainer::{Settings, Trainer},
    unit::Unit,
};

fn weights(task: &Task, dataset: &dyn Dataset, steps: u64) -> Vec<Vec<u32>> {
    let format = FormatName(Format::BINARY32);
    let settings = Settings { format, method: Method::F32, seed: 3, period: 1 };
    let mut trainer: Trainer<'_, Cpu, f32, f32> =
        Trainer::new(task, dataset, settings, Cpu::new(1).unwrap()).unwrap();
    for _ in 0..steps {
        trainer.train_step(&mut NoObserver).unwrap();
    }
    let pieces = trainer.checkpoint().unwrap().pieces;
    pieces.into_iter().map(|piece| piece.values.iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn a_unit_changes_no_bit_in_f32() {
    let source = Source::Scenes(scenes::Plan { size: 16, train: 8, test: 4, ..Default::default() });
    let dataset = source.open().unwrap();
    let plain: Task = "scenes-segnet".parse().unwrap();
    let expected = weights(&plain, &*dataset, 4);
    for unit in [
        Unit { log2: -12, ..plain.unit },
        Unit { log2: 30, ..plain.unit },
        Unit { log2: -5, doubling: Some(1), ..plain.unit },
    ] {
        let task = Task { unit, ..plain.clone() };
        assert!(weights(&task, &*dataset, 4) == expected, "{unit:?}");
    }
}

/// How far the losses of a field lie apart is a matter of units.
#[test]
fn a_gap_that_is_taken_out_changes_no_bit_in_f32() {
    let plan = helmholtz::Plan { train: 512, test_side: 3 };
    let dataset = Source::Helmholtz(plan).open().unwrap();
    let at = |name: &str| weights(&name.parse().unwrap(), &*dataset, 6);
    let expected = at("helmholtz-0");
    for name in ["helmholtz-20", "helmholtz-60"] {
        assert!(at(name) == expected, "{name}");
    }
}
