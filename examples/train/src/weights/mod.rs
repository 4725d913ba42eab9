//! Weights in files of the format safetensors, by the names that torchvision gives them.
//!
//! ```text
//! ours: conv (filters, rows, columns, channels)  <-->  theirs: conv.weight (filters, channels, rows, columns)
//!       norm gains, offsets                             bn.weight, bn.bias
//!       norm.running means, variances                   bn.running_mean, bn.running_var
//! ```
//!
//! A network that torchvision has not keeps its own names and extents.

mod gradients;
mod layout;
mod names;

use std::{collections::BTreeMap, fs, path::Path};

use adaloss_core::format::{Element, bf16, f16};
use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

pub use self::gradients::gradients;
use self::layout::Layout;
use crate::{data::Input, file::write_whole, model::Model, network::Saved};

/// A tensor in a file: a whole one of a network, or a part of one.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    /// Its name there.
    name: String,
    /// How it lies there.
    layout: Layout,
}

/// What was taken from a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// Tensors of the network that were.
    pub taken: usize,
    /// Those that were not in the file and stay as they were.
    pub left: Vec<String>,
}

/// Writes the weights of a network.
///
/// # Errors
///
/// The file cannot be written; an old one is as it was.
pub fn write(
    path: &Path,
    (model, input): (&Model, Input),
    saved: &[Saved],
    extents: &[Vec<usize>],
) -> Result<()> {
    let mut tensors = Tensors::new();
    for (of, extents) in saved.iter().zip(extents) {
        add(&mut tensors, names::parts(model, input, &of.name, extents), &of.values);
    }
    write_tensors(path, &tensors)
}

/// Tensors as a file has them: their extents and elements, by their names.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Adds what belongs to the elements of a tensor of ours, part by part.
fn add(to: &mut Tensors, parts: Vec<Part>, values: &[f32]) {
    let mut rest = values;
    for Part { name, layout } in parts {
        let (values, behind) = rest.split_at(layout.elements());
        rest = behind;
        to.insert(name, (layout.extents(), layout.to_file(values)));
    }
}

/// Writes tensors to a file.
fn write_tensors(path: &Path, tensors: &Tensors) -> Result<()> {
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let tensors: Vec<_> =
        tensors.iter().map(|(name, (extents, values))| (name, extents, bytes(values))).collect();
    let views = tensors.iter().map(|(name, extents, bytes)| {
        Ok((name, TensorView::new(Dtype::F32, extents.to_vec(), bytes)?))
    });
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let written_by = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    write_whole(path, &safetensors::serialize(views, Some(written_by))?)
}

/// Reads the bytes of a file.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Finds the tensors in the bytes of a file.
fn tensors_of<'b>(path: &Path, bytes: &'b [u8]) -> Result<SafeTensors<'b>> {
    SafeTensors::deserialize(bytes)
        .with_context(|| format!("{} is no file of the format safetensors", path.display()))
}

/// Replaces the weights of a network by those of a file.
///
/// A detector takes those of a classifier as well, as far as its base goes; what the file has not stays as it was, which
/// [`Taken`] says.  Of any other network all have to be there.
///
/// # Errors
///
/// The file cannot be read, is none of this format, or has tensors of other extents or kinds.
pub fn read(
    path: &Path,
    (model, input): (&Model, Input),
    saved: &mut [Saved],
    extents: &[Vec<usize>],
) -> Result<Taken> {
    let bytes = read_bytes(path)?;
    let file = tensors_of(path, &bytes)?;
    let taken = take(&file, (model, input), saved, extents);
    taken.with_context(|| format!("{} has not the weights of {model}", path.display()))
}

fn take(
    file: &SafeTensors<'_>,
    (model, input): (&Model, Input),
    saved: &mut [Saved],
    extents: &[Vec<usize>],
) -> Result<Taken> {
    let of_base = names::is_classifier(model, |name| file.tensor(name).is_ok());
    let mut taken = Taken::default();
    let mut all = Vec::new();
    for (of, extents) in saved.iter().zip(extents) {
        let parts = match of_base {
            true => names::base_parts(&of.name, extents),
            false => Some(names::parts(model, input, &of.name, extents)),
        };
        let Some(parts) = parts else {
            taken.left.push(of.name.clone());
            all.push(None);
            continue;
        };
        let mut values = Vec::new();
        for Part { name, layout } in parts {
            let tensor = file.tensor(&name);
            let tensor = tensor.ok().with_context(|| format!("it has no tensor \"{name}\""))?;
            let expected = layout.extents();
            ensure!(
                tensor.shape() == expected,
                "\"{name}\" has the extents {:?}, and {expected:?} are needed",
                tensor.shape()
            );
            let found = values_of(&tensor).with_context(|| format!("\"{name}\""))?;
            values.extend(layout.of_file(&found));
        }
        ensure!(
            values.iter().all(|x| x.is_finite()),
            "\"{}\" has a value that is not finite",
            of.name
        );
        taken.taken += 1;
        all.push(Some(values));
    }
    // All of it or nothing.
    for (of, values) in saved.iter_mut().zip(all) {
        if let Some(values) = values {
            of.values = values;
        }
    }
    Ok(taken)
}

/// Returns the values of a tensor as f32.
fn values_of(tensor: &TensorView<'_>) -> Result<Vec<f32>> {
    let bytes = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
        Dtype::F16 => halves(bytes, |bits| f16::from_bits(bits).widen()),
        Dtype::BF16 => halves(bytes, |bits| bf16::from_bits(bits).widen()),
        other => bail!("its elements are {other:?}, and F32, F16 or BF16 are needed"),
    })
}

fn halves(bytes: &[u8], widen: impl Fn(u16) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|x| widen(u16::from_le_bytes(*x))).collect()
}

#[cfg(test)]
mod tests;
