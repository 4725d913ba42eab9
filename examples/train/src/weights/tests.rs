use adaloss_core::format::{Format, Narrowing};
use adaloss_hal::portable::Portable;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::network::Network;

/// Returns a network with random weights on small images, and what it saves.
fn network(name: &str, side: usize) -> (Model, Input, Vec<Saved>, Vec<Vec<usize>>) {
    let model: Model = name.parse().unwrap();
    let input = Input::Image { height: side, width: side, channels: 3 };
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    let narrowing = Narrowing::to(Format::BINARY32);
    let network = Network::<Portable, f32, f32>::new(
        &model,
        Portable,
        (input, 3),
        narrowing,
        Some(&mut generator),
    );
    let mut network = network.unwrap();
    let (saved, extents) = (network.save().unwrap(), network.extents());
    (model, input, saved, extents)
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    for (name, side) in [("resnet18:width=4", 32), ("resnet20:width=2", 8), ("ssd:width=2", 32)] {
        let (model, input, saved, extents) = network(name, side);
        write(&path, (&model, input), &saved, &extents).unwrap();
        let mut other = saved.clone();
        other.iter_mut().for_each(|of| of.values.fill(0.5));
        let taken = read(&path, (&model, input), &mut other, &extents).unwrap();
        assert_eq!(other, saved, "{name}");
        assert_eq!((taken.taken, taken.left.len()), (saved.len(), 0));
    }
}

/// The names are those that `state_dict` of torchvision's ResNet-18 has, but for the counters of batches.
#[test]
fn names_are_those_of_torchvision() {
    let (model, input, saved, extents) = network("resnet18:width=4", 32);
    let all: Vec<_> = saved
        .iter()
        .zip(&extents)
        .flat_map(|(of, extents)| names::parts(&model, input, &of.name, extents))
        .map(|part| part.name)
        .collect();
    assert_eq!(all.len(), 102);
    for name in [
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.conv1.weight",
        "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.bias",
        "layer4.1.bn2.running_mean",
        "fc.bias",
    ] {
        assert!(all.iter().any(|found| found == name), "{name} is not in {all:?}");
    }
}

#[test]
fn what_does_not_fit_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let (model, input, saved, extents) = network("resnet20:width=2", 8);
    write(&path, (&model, input), &saved, &extents).unwrap();
    let whole = fs::read(&path).unwrap();
    let refused = |network: (Model, Input, Vec<Saved>, Vec<Vec<usize>>), why: &str| {
        let (model, input, mut saved, extents) = network;
        let before = saved.clone();
        let error = read(&path, (&model, input), &mut saved, &extents).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(why), "{error}");
        assert!(error.contains("weights.safetensors"), "{error}");
        assert_eq!(saved, before);
    };
    refused(
        network("resnet20:width=4", 8),
        "has the extents [2, 3, 3, 3], and [4, 3, 3, 3] are needed",
    );
    refused(network("resnet18:width=2", 32), "it has no tensor \"conv1.weight\"");
    for (bytes, why) in [
        (&whole[..whole.len() - 1], "no file of the format safetensors"),
        (&b""[..], "no file of the format safetensors"),
        (&b"PK\x03\x04 a file of another format"[..], "no file of the format safetensors"),
    ] {
        fs::write(&path, bytes).unwrap();
        refused(network("resnet20:width=2", 8), why);
    }
    fs::remove_file(&path).unwrap();
    refused(network("resnet20:width=2", 8), "cannot be read");
    let (model, input, mut saved, extents) = network("resnet20:width=2", 8);
    saved[0].values[0] = f32::NAN;
    write(&path, (&model, input), &saved, &extents).unwrap();
    refused(network("resnet20:width=2", 8), "has a value that is not finite");
}
