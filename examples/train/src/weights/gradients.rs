//! Results and gradients of a network in f32, in the layouts of torchvision: what a comparison with it needs.

use std::path::Path;

use adaloss_core::format::{Format, Narrowing};
use adaloss_cpu::Cpu;
use anyhow::{Context, Result, ensure};

use super::{
    Tensors, add, layout::Layout, names, read, read_bytes, tensors_of, values_of, write_tensors,
};
use crate::{
    data::{Input, Inputs},
    layer::{NoObserver, NoSink, Tensor},
    model::Model,
    network::{Mode, Network, Outputs},
    probe::unscaled,
};

/// Reads `images`, of the extents (samples, channels, rows, columns), and `gradients.K` of each result from a file, takes them forward as in
/// training and back, and writes the results, `results.K`, and the gradients of everything that is learnt by its name.
///
/// # Errors
///
/// A file cannot be read or written, or has other tensors than the network needs.
pub fn gradients(
    model: &Model,
    classes: usize,
    weights: &Path,
    inputs: &Path,
    out: &Path,
) -> Result<()> {
    let bytes = read_bytes(inputs)?;
    let file = tensors_of(inputs, &bytes)?;
    let images = file.tensor("images").context("there is no tensor \"images\"")?;
    let &[samples, channels, height, width] = images.shape() else {
        anyhow::bail!("\"images\" has not the extents (samples, channels, rows, columns)");
    };
    let input = Input::Image { height, width, channels };
    let layout = Layout::Filters([samples, height, width, channels]);
    let images = Inputs::Images(layout.of_file(&values_of(&images)?));
    let narrowing = Narrowing::to(Format::BINARY32);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let network =
        Network::<_, f32, f32>::new(model, Cpu::new(threads)?, (input, classes), narrowing, None);
    let mut network = network?;
    let (mut saved, extents) = (network.save()?, network.extents());
    read(weights, (model, input), &mut saved, &extents)?;
    network.load(&saved)?;
    let mut scalers = unscaled(&mut network, 1)?;
    network.refresh()?;
    network.begin(&mut scalers, &NoObserver)?;
    let mode = Mode { training: true, ..Mode::default() };
    let results = network.forward(&images, mode)?;
    let mut written = Tensors::new();
    let mut of_results = Vec::new();
    for (nth, result) in results.0.iter().enumerate() {
        let shape = result.shape();
        // A row of logits is a map of one pixel.
        let layout = match shape.extent() {
            [1, 1] if results.0.len() == 1 => Layout::Same(vec![samples, shape.channels]),
            [height, width] => Layout::Filters([samples, height, width, shape.channels]),
        };
        let values = layout.to_file(&network.read(result)?);
        let name = format!("gradients.{nth}");
        let gradient =
            file.tensor(&name).ok().with_context(|| format!("there is no tensor \"{name}\""))?;
        ensure!(
            gradient.shape() == layout.extents(),
            "\"{name}\" has the extents {:?}, and {:?} are needed",
            gradient.shape(),
            layout.extents()
        );
        let mut tensor = Tensor::zeroed(network.device(), shape)?;
        let device = network.device();
        adaloss_hal::Device::write(
            device,
            &layout.of_file(&values_of(&gradient)?),
            tensor.view_mut(),
        )?;
        of_results.push(tensor);
        written.insert(format!("results.{nth}"), (layout.extents(), values));
    }
    drop(results);
    network.backward(&Outputs(of_results), &mut scalers.first, mode, &mut NoSink)?;
    for (of, extents) in network.all_gradients()?.iter().zip(&extents) {
        if !of.values.is_empty() {
            add(&mut written, names::parts(model, input, &of.name, extents), &of.values);
        }
    }
    write_tensors(out, &written)
}
