//! What torchvision calls the tensors of a network.

use super::{Part, layout::Layout};
use crate::{
    data::Input,
    model::{Model, Resnet, Ssd, Stem, Vgg},
};

/// Groups of convolutions of VGG-16.
const VGG_16: [usize; 5] = [2, 2, 3, 3, 3];

/// Returns what a tensor of ours is in a file, part by part.
pub(super) fn parts(model: &Model, input: Input, name: &str, extents: &[usize]) -> Vec<Part> {
    let plain = || {
        let layout = match *extents {
            [filters, rows, columns, channels] => {
                Layout::Filters([filters, rows, columns, channels])
            }
            _ => Layout::Same(extents.to_vec()),
        };
        vec![Part { name: name.to_owned(), layout }]
    };
    let theirs = match model {
        Model::Resnet(resnet) => of_resnet(resnet, name),
        Model::Vgg(vgg) => return of_vgg(vgg, input, name, extents).unwrap_or_else(plain),
        Model::Ssd(Ssd::Large300) => of_ssd(name),
        _ => None,
    };
    theirs.map_or_else(plain, |layer| tensors(&layer, name, extents))
}

/// Tells whether a file has the tensors of a classifier that a detector is to begin with.
pub(super) fn is_classifier(model: &Model, has: impl Fn(&str) -> bool) -> bool {
    let is_large = matches!(model, Model::Ssd(Ssd::Large300 | Ssd::Large512));
    is_large && has("features.0.weight") && !has("backbone.features.0.weight")
}

/// Returns what a tensor of a detector is in a file of VGG-16; nothing of those behind it.
pub(super) fn base_parts(name: &str, extents: &[usize]) -> Option<Vec<Part>> {
    let layer = name.strip_suffix(".bias").unwrap_or(name);
    let linear = match layer {
        "conv6" => Some(("classifier.0", [7, 7], 512)),
        "conv7" => Some(("classifier.3", [1, 1], 4096)),
        _ => None,
    };
    if let Some((theirs, image, channels)) = linear {
        let outputs = 4096;
        let (suffix, layout) = match *extents {
            [filters, rows, columns, kept] => {
                let filters = [filters, rows, columns, kept];
                ("weight", Layout::Decimated { filters, outputs, image, channels })
            }
            _ => ("bias", Layout::Every { kept: extents.iter().product(), of: outputs }),
        };
        return Some(vec![Part { name: format!("{theirs}.{suffix}"), layout }]);
    }
    let (group, nth) = group_of(layer)?;
    (group < 5).then(|| {
        let index = feature(&VGG_16, false, group, nth);
        tensors(&Layer::Product(format!("features.{index}")), name, extents)
    })
}

/// A layer of torchvision.
enum Layer {
    /// It has a weight and perhaps a bias.
    Product(String),
    /// It has gains, offsets and running moments.
    Norm(String),
    /// It has one tensor, of this name.
    Tensor(String),
}

/// Returns the tensors of a layer, of which `name` is one here.
fn tensors(layer: &Layer, name: &str, extents: &[usize]) -> Vec<Part> {
    let same = |name: String, length: usize| Part { name, layout: Layout::Same(vec![length]) };
    let count: usize = extents.iter().product();
    match layer {
        Layer::Product(layer) if name.ends_with(".bias") => {
            vec![same(format!("{layer}.bias"), count)]
        }
        Layer::Product(layer) => {
            let layout = match *extents {
                [filters, rows, columns, channels] => {
                    Layout::Filters([filters, rows, columns, channels])
                }
                _ => Layout::Same(extents.to_vec()),
            };
            vec![Part { name: format!("{layer}.weight"), layout }]
        }
        Layer::Norm(layer) => {
            let [first, second] = match name.ends_with(".running") {
                true => ["running_mean", "running_var"],
                false => ["weight", "bias"],
            };
            [first, second].map(|of| same(format!("{layer}.{of}"), count / 2)).to_vec()
        }
        Layer::Tensor(name) => vec![same(name.clone(), count)],
    }
}

fn of_resnet(resnet: &Resnet, name: &str) -> Option<Layer> {
    let is_theirs = resnet.stem == Stem::Large && !resnet.preactivation;
    let layer = name.strip_suffix(".running").unwrap_or(name);
    let layer = layer.strip_suffix(".bias").unwrap_or(layer);
    match layer {
        _ if !is_theirs => None,
        "stem.conv" => Some(Layer::Product("conv1".into())),
        "stem.norm" => Some(Layer::Norm("bn1".into())),
        "head" => Some(Layer::Product("fc".into())),
        _ => {
            let mut places = layer.split('.');
            let stage = places.next()?.strip_prefix("stage")?;
            let block: usize = places.next()?.strip_prefix("block")?.parse().ok()?;
            let block = format!("layer{stage}.{}", block - 1);
            match (places.next()?, places.next()) {
                ("shortcut", Some("conv")) => Some(Layer::Product(format!("{block}.downsample.0"))),
                ("shortcut", Some("norm")) => Some(Layer::Norm(format!("{block}.downsample.1"))),
                (conv, None) if conv.starts_with("conv") => {
                    Some(Layer::Product(format!("{block}.{conv}")))
                }
                (norm, None) => {
                    let nth = norm.strip_prefix("norm")?;
                    Some(Layer::Norm(format!("{block}.bn{nth}")))
                }
                _ => None,
            }
        }
    }
}

fn of_vgg(vgg: &Vgg, input: Input, name: &str, extents: &[usize]) -> Option<Vec<Part>> {
    let layer = name.strip_suffix(".running").unwrap_or(name);
    let layer = layer.strip_suffix(".bias").unwrap_or(layer);
    let linear = match layer {
        _ if vgg.small => None,
        "fc6" => Some("classifier.0"),
        "fc7" => Some("classifier.3"),
        "head" => Some("classifier.6"),
        _ => None,
    };
    if let (Some(theirs), "fc6", false, Input::Image { height, width, .. }) =
        (linear, layer, name.ends_with(".bias"), input)
    {
        let image = [height / 32, width / 32, 512];
        let layout = Layout::Flattened { outputs: extents[0], image };
        return Some(vec![Part { name: format!("{theirs}.weight"), layout }]);
    }
    if let Some(theirs) = linear {
        return Some(tensors(&Layer::Product(theirs.into()), name, extents));
    }
    let (conv, is_norm) = match layer.strip_suffix(".norm") {
        Some(conv) => (conv, true),
        None => (layer, false),
    };
    let (group, nth) = group_of(conv)?;
    let index = feature(&vgg.groups, vgg.normalised, group, nth);
    let of = match is_norm {
        true => Layer::Norm(format!("features.{}", index + 1)),
        false => Layer::Product(format!("features.{index}")),
    };
    Some(tensors(&of, name, extents))
}

/// Reads "conv3_2", as group 2 and convolution 1.
fn group_of(conv: &str) -> Option<(usize, usize)> {
    let (group, nth) = conv.strip_prefix("conv")?.split_once('_')?;
    Some((group.parse::<usize>().ok()?.checked_sub(1)?, nth.parse::<usize>().ok()?.checked_sub(1)?))
}

/// Returns the number of a convolution among the layers of VGG: each has a rectifier, perhaps a normalisation, and each group a
/// pooling.
fn feature(groups: &[usize; 5], is_normalised: bool, group: usize, nth: usize) -> usize {
    let per = if is_normalised { 3 } else { 2 };
    groups[..group].iter().map(|count| count * per + 1).sum::<usize>() + nth * per
}

fn of_ssd(name: &str) -> Option<Layer> {
    let layer = name.strip_suffix(".bias").unwrap_or(name);
    if layer == "map1.norm" {
        return Some(Layer::Tensor("backbone.scale_weight".into()));
    }
    if let Some((map, kind)) = layer.strip_prefix("map").and_then(|rest| rest.split_once('.')) {
        let map = map.parse::<usize>().ok()?.checked_sub(1)?;
        let head = match kind {
            "scores" => "classification_head",
            "offsets" => "regression_head",
            _ => return None,
        };
        return Some(Layer::Product(format!("head.{head}.module_list.{map}")));
    }
    let theirs = match layer {
        "conv6" => "backbone.extra.0.7.1".into(),
        "conv7" => "backbone.extra.0.7.3".into(),
        _ => match group_of(layer)? {
            // Behind a pooling.
            (4, nth) => format!("backbone.extra.0.{}", 1 + 2 * nth),
            (group @ 0..4, nth) => {
                format!("backbone.features.{}", feature(&VGG_16, false, group, nth))
            }
            (group, nth) => format!("backbone.extra.{}.{}", group - 6, 2 * nth),
        },
    };
    Some(Layer::Product(theirs))
}
