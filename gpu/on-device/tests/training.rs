//! Networks train on a GPU, step for step as on the portable device, through the simulated driver.

#![cfg(target_os = "linux")]

use std::{
    env, fs,
    path::Path,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use adaloss_core::format::{E4M3, E5M2, Element, Format, bf16, f16};
use adaloss_driver::Simulated;
use adaloss_gpu::Cuda;
use adaloss_hal::{Plain, portable::Portable};
use adaloss_train::{
    data::{Dataset, Source, scenes},
    layer::{Machine, NoObserver},
    method::{FormatName, Method},
    task::Task,
    trainer::{Settings, Trainer},
};

static DRIVER: LazyLock<Simulated> =
    LazyLock::new(|| Simulated::open().expect("Cargo built the simulated driver"));

/// The simulated grid, and the interpreted texts of 9.0 and 8.0.
const GRID: usize = 0;
const TEXTS: [usize; 2] = [3, 4];

/// To open a GPU waits for all of its context: no two tests do it at a time.
fn cuda(ordinal: usize) -> Cuda {
    static ALONE: Mutex<()> = Mutex::new(());
    LazyLock::force(&DRIVER);
    let _alone: MutexGuard<'_, ()> = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Cuda::new(ordinal).expect("the simulated driver has such a GPU")
}

/// A task by its name with a smaller network, and samples, in batches of so many.
fn task(name: &str, network: &str, source: Source, batch: usize) -> (Task, Box<dyn Dataset>) {
    let task: Task = name.parse().expect("a task");
    let mut task = task.with_model(network.parse().expect("a network")).expect("it fits");
    (task.schedule.batch, task.schedule.micro_batches) = (batch, 1);
    (task, source.open().expect("samples are embedded or generated"))
}

fn perceptron() -> (Task, Box<dyn Dataset>) {
    task("digits-mlp", "mlp:hidden=16", Source::Embedded(Default::default()), 16)
}

fn resnet() -> (Task, Box<dyn Dataset>) {
    task("digits-resnet", "resnet8:width=4", Source::Embedded(Default::default()), 4)
}

fn segnet() -> (Task, Box<dyn Dataset>) {
    let plan = scenes::Plan { size: 16, train: 8, test: 4, ..Default::default() };
    task("scenes-segnet", "segnet:widths=4-4-8-8:kernel=3", Source::Scenes(plan), 2)
}

fn transformer() -> (Task, Box<dyn Dataset>) {
    let source = Source::Text { file: None, length: 16 };
    task("text-transformer", "transformer:blocks=1:heads=2:width=16", source, 4)
}

/// What steps leave: the loss of each, and the bits of everything that was learnt.
#[derive(Debug, PartialEq)]
struct Trained {
    losses: Vec<f64>,
    pieces: Vec<Vec<u32>>,
}

/// Takes so many steps.
fn train<D, W, G>(
    device: D,
    (task, dataset): (&Task, &dyn Dataset),
    method: Method,
    steps: u64,
) -> Trained
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    let format = FormatName(Format::from(G::ENCODING));
    let settings = Settings { format, method, seed: 5, period: method.usual_period() };
    let mut trainer: Trainer<'_, D, W, G> =
        Trainer::new(task, dataset, settings, device).expect("a network");
    let step = |_| trainer.train_step(&mut NoObserver).expect("a step").loss;
    let losses = (0..steps).map(step).collect();
    let pieces = trainer.checkpoint().expect("a checkpoint").pieces;
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect();
    Trained { losses, pieces: pieces.iter().map(|piece| bits(&piece.values)).collect() }
}

/// Takes the same steps on a GPU and on the portable device.
fn agree<W, G>(ordinal: usize, of: (&Task, &dyn Dataset), method: Method, steps: u64)
where
    W: Element + Plain,
    G: Element + Plain,
    Cuda: Machine<W, G>,
    Portable: Machine<W, G>,
{
    let found = train::<Cuda, W, G>(cuda(ordinal), of, method, steps);
    let expected = train::<Portable, W, G>(Portable, of, method, steps);
    let name = format!("{} in {:?} by {method}", of.0.name, G::ENCODING);
    for (step, (found, expected)) in found.losses.iter().zip(&expected.losses).enumerate() {
        // The sum over a batch is added up in another order.
        assert!(
            (found / expected - 1.0).abs() < 1.0e-12,
            "{name}, step {step}: {found} and not {expected}"
        );
    }
    assert_eq!(found.pieces, expected.pieces, "{name}");
}

#[test]
fn a_perceptron_trains_in_every_format() {
    let (task, dataset) = perceptron();
    let of = (&task, &*dataset);
    agree::<f16, f16>(GRID, of, Method::MEASURED, 20);
    agree::<bf16, bf16>(GRID, of, Method::MEASURED, 20);
    agree::<f16, E5M2>(GRID, of, Method::MEASURED, 20);
    agree::<f16, E4M3>(GRID, of, Method::MEASURED, 20);
    agree::<f32, f32>(GRID, of, Method::F32, 20);
}

#[test]
fn a_perceptron_trains_by_every_method() {
    let (task, dataset) = perceptron();
    for method in [Method::AMAX, Method::BACKOFF, Method::NORMAL, Method::RANGE] {
        agree::<f16, f16>(GRID, (&task, &*dataset), method, 20);
        agree::<f16, E4M3>(GRID, (&task, &*dataset), method, 20);
    }
}

/// An epoch, and what it predicts.
#[test]
fn a_perceptron_trains_whole() {
    let (mut task, dataset) = perceptron();
    task.schedule.epochs = 1;
    let steps = task.schedule.steps(&*dataset);
    agree::<f16, E5M2>(GRID, (&task, &*dataset), Method::MEASURED, steps);
}

#[test]
fn larger_networks_train() {
    for (task, dataset) in [resnet(), segnet(), transformer()] {
        let of = (&task, &*dataset);
        agree::<f16, f16>(GRID, of, Method::MEASURED, 20);
        agree::<f16, E4M3>(GRID, of, Method::MEASURED, 20);
    }
}

/// The shipped texts, instruction by instruction: the same bits where tensor cores sum in order.
#[test]
fn texts_train_too() {
    LazyLock::force(&DRIVER).keep_order();
    let all = [perceptron(), resnet(), segnet(), transformer()];
    for ((task, dataset), ordinal) in all.into_iter().zip(TEXTS.into_iter().cycle()) {
        agree::<f16, E5M2>(ordinal, (&task, &*dataset), Method::MEASURED, 2);
    }
}

/// Tensor cores sum in an order of their own, cut off what is small, and threads go ahead of each other: what changes are some last
/// bits of activations in binary16.
#[test]
fn texts_train_in_any_order() {
    for (task, dataset) in [perceptron(), transformer()] {
        let of = (&task, &*dataset);
        let found = train::<_, f16, E5M2>(cuda(TEXTS[0]), of, Method::MEASURED, 2).losses;
        let expected = train::<_, f16, E5M2>(Portable, of, Method::MEASURED, 2).losses;
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found / expected - 1.0).abs() < 1.0e-4, "{found} and not {expected}");
        }
    }
}

/// What a step asks the driver for, which is committed.
///
/// ```sh
/// ADALOSS_BLESS=1 cargo test -p adaloss-on-device --test training    # writes the table anew
/// ```
#[test]
fn a_step_asks_for_no_more_than_the_table_says() {
    const STEPS: u64 = 5;
    let driver = LazyLock::force(&DRIVER);
    let calls = [
        ("launches", "cuLaunchKernel"),
        ("written", "cuMemcpyHtoDAsync_v2"),
        ("cleared", "cuMemsetD8Async"),
        ("copied", "cuMemcpyDtoDAsync_v2"),
        ("read", "cuMemcpyDtoHAsync_v2"),
        ("waits", "cuStreamSynchronize"),
        ("allocated", "cuMemAllocAsync"),
    ];
    let names: Vec<_> = calls.iter().map(|(name, _)| *name).collect();
    let mut table = format!("network,{}\n", names.join(","));
    let all = [perceptron(), resnet(), segnet(), transformer()];
    for ((task, dataset), name) in all.into_iter().zip(["mlp", "resnet8", "segnet", "transformer"])
    {
        let format = FormatName(Format::BINARY16);
        let method = Method::MEASURED;
        let settings = Settings { format, method, seed: 5, period: method.usual_period() };
        let mut trainer: Trainer<'_, Cuda, f16, f16> =
            Trainer::new(&task, &*dataset, settings, cuda(GRID)).expect("a network");
        let mut step = || {
            trainer.train_step(&mut NoObserver).expect("a step");
        };
        // First visits are measured.
        step();
        let before = calls.map(|(_, name)| driver.calls(name));
        for _ in 0..STEPS {
            step();
        }
        let asked = calls.map(|(_, name)| driver.calls(name));
        let of_step = asked.iter().zip(before).map(|(after, before)| (after - before) / STEPS);
        let of_step: Vec<_> = of_step.map(|count| count.to_string()).collect();
        table += &format!("{name},{}\n", of_step.join(","));
    }
    println!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../steps.csv");
    if env::var_os("ADALOSS_BLESS").is_some() {
        fs::write(&path, &table).expect("the table can be written");
    }
    assert_eq!(table, fs::read_to_string(&path).expect("the table is committed"));
}
