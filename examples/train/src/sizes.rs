//! How large two losses are when training begins.

use adaloss_core::format::{Format, Narrowing};
use adaloss_hal::portable::Portable;
use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    data::{Dataset, View},
    network::{Mode, Network, Outputs},
    task::Task,
    unit::Units,
};

/// Returns the sizes of both losses at the first batch of a run, in f32 whatever its format is, so that every method
/// learns the same.
///
/// # Errors
///
/// The network is none for the samples, or learns no quantity.
pub(crate) fn first_sizes(task: &Task, dataset: &dyn Dataset, seed: u64) -> Result<[f64; 2]> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let (shape, narrowing) =
        ((dataset.input(), dataset.classes()), Narrowing::to(Format::BINARY32));
    let mut network: Network<Portable, f32, f32> =
        Network::new(&task.model, Portable, shape, narrowing, Some(&mut generator))?;
    let view = View { seed, epoch: 0 };
    let order = view.order(dataset.train_samples());
    let batch = dataset.train(&order[..task.schedule.batch], view)?;
    batch.check(dataset)?;
    network.refresh()?;
    let mut outputs = network.forward(&batch.inputs, Mode::default())?;
    ensure!(
        task.model.has_two_losses(),
        "losses are divided by their first values where a network has two, and this one has one"
    );
    let weights = dataset.class_weights();
    let mut size = |outputs: &Outputs<Portable>| {
        let loss = network.loss(outputs, &batch, &weights, Units::default())?;
        Ok::<_, anyhow::Error>(network.read_loss(&loss)?.mean())
    };
    let both = size(&outputs)?;
    outputs.0.truncate(1);
    let classes = size(&outputs)?;
    Ok([classes, both - classes])
}
