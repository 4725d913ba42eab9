//! Networks have the parameters and multiply-adds that were published.

use adaloss_train::{
    cost::{Cost, cost},
    data::Input,
    model::{Heads, Model},
    optimizer::Optimizer,
};

/// Returns what a network costs on square images with three channels.
fn costs(name: &str, side: usize, classes: usize) -> Cost {
    let model: Model = name.parse().unwrap();
    let input = Input::Image { height: side, width: side, channels: 3 };
    cost::<f32, f32>(&model, (input, classes), &Optimizer::SGD, 1).unwrap()
}

/// He et al. (2016), table 6, gives 0.27, 0.46, 0.66, 0.85 and 1.7 million; the last digits are those
/// of the layers that section 4.2 describes, biases of the last layer included.
#[test]
fn residual_networks_have_the_published_parameters() {
    for (name, exact, published) in [
        ("resnet20", 269_722, 0.27),
        ("resnet32", 464_154, 0.46),
        ("resnet44", 658_586, 0.66),
        ("resnet56", 853_018, 0.85),
        ("resnet110", 1_727_962, 1.7),
    ] {
        let found = costs(name, 32, 10).parameters;
        assert_eq!(found, exact, "{name}");
        let digits = if published > 1.0 { 10.0 } else { 100.0 };
        assert_eq!((found as f64 / 1e6 * digits).round() / digits, published, "{name}");
    }
}

/// He et al. (2016b), table 2: 1.7 million.
#[test]
fn the_preactivated_network_has_the_published_parameters() {
    let found = costs("preresnet164:bottleneck:projected", 32, 10);
    assert_eq!((found.parameters as f64 / 1e5).round(), 17.0, "{}", found.parameters);
}

/// Two projections of 1x1 with their normalisations: 16 x 32 + 64 and 32 x 64 + 128.
#[test]
fn projected_shortcuts_add_their_own() {
    assert_eq!(costs("resnet20:projected", 32, 10).parameters, 269_722 + 576 + 2176);
}

/// torchvision's documentation gives parameters to the last one, and GFLOPs, by which it means multiply-adds, of `ResNet18_Weights`
/// and its siblings.
#[test]
fn networks_for_imagenet_are_those_of_torchvision() {
    for (name, parameters, giga) in [
        ("resnet18", 11_689_512, 1.81),
        ("resnet34", 21_797_672, 3.66),
        ("resnet50", 25_557_032, 4.09),
        ("resnet101", 44_549_160, 7.8),
        ("resnet152", 60_192_808, 11.51),
    ] {
        let found = costs(name, 224, 1000);
        assert_eq!(found.parameters, parameters, "{name}");
        let digits = |x: f64| (x * 100.0).round() / 100.0;
        assert_eq!(digits(found.forward as f64 / 1e9), giga, "{name}: {}", found.forward);
    }
}

/// A backward pass takes twice the products of the forward one, but for the gradient of the images.
#[test]
fn a_step_is_three_times_the_forward_pass_less_the_gradient_of_the_input() {
    let found = costs("resnet20:projected", 32, 10);
    let stem = 32 * 32 * 16 * 27;
    let biases = 10; // the product with a column of ones
    assert_eq!(found.step, 3 * found.forward - stem + biases);
}

/// torchvision's documentation, of `VGG16_Weights`, `VGG16_BN_Weights` and their siblings; a normalised network has the same
/// multiply-adds.
#[test]
fn vgg_is_that_of_torchvision() {
    for (name, parameters, giga) in [
        ("vgg11", 132_863_336, 7.61),
        ("vgg13", 133_047_848, 11.31),
        ("vgg16", 138_357_544, 15.47),
        ("vgg16:normalised", 138_365_992, 15.47),
        ("vgg19", 143_667_240, 19.63),
        ("vgg19:normalised", 143_678_248, 19.63),
    ] {
        let found = costs(name, 224, 1000);
        assert_eq!(found.parameters, parameters, "{name}");
        let digits = |x: f64| (x * 100.0).round() / 100.0;
        assert_eq!(digits(found.forward as f64 / 1e9), giga, "{name}: {}", found.forward);
    }
}

/// torchvision's `ssd300_vgg16` has 35,641,826 parameters and 34.86 GFLOPs with 90 classes and a background, and 26,285,486
/// parameters with 20; its layers for 512 x 512 pixels have 27,188,676 with 20.
#[test]
fn ssd_is_that_of_torchvision() {
    let found = costs("ssd300", 300, 90);
    assert_eq!(found.parameters, 35_641_826);
    assert_eq!((found.forward as f64 / 1e7).round() / 100.0, 34.86, "{}", found.forward);
    assert_eq!(costs("ssd300", 300, 20).parameters, 26_285_486);
    assert_eq!(costs("ssd512", 512, 20).parameters, 27_188_676);
}

/// Liu et al. (2016), table 7.
#[test]
fn ssd_has_the_published_boxes() {
    for (name, side, boxes) in [("ssd300", 300, 8732), ("ssd512", 512, 24_564)] {
        let model: Model = name.parse().unwrap();
        let input = Input::Image { height: side, width: side, channels: 3 };
        let mut device = adaloss_hal::meta::Meta::default();
        let layers = model.layers::<f32, f32, _>(&mut device, None, input, 20).unwrap();
        let Heads::Boxes(heads) = layers.heads else { panic!("{name} is a detector") };
        assert_eq!(heads.boxes.len(), boxes, "{name}");
    }
}

/// Seven convolutions of 64 x 64 x 7 x 7 and one of 64 x 3 x 7 x 7, eight normalisations, and the last layer.  Badrinarayanan et al. (2017),
/// table 2, give 1.425 million for SegNet-Basic, 0.6 % more.
#[test]
fn segnet_basic_has_nearly_the_published_parameters() {
    let model: Model = "segnet:widths=64-64-64-64:kernel=7".parse().unwrap();
    // CamVid's rows cannot be halved four times evenly.
    let input = Input::Image { height: 360, width: 480, channels: 3 };
    let found = cost::<f32, f32>(&model, (input, 11), &Optimizer::SGD, 1).unwrap().parameters;
    assert_eq!(found, 7 * 64 * 64 * 49 + 64 * 3 * 49 + 8 * 128 + 64 * 11 + 11);
    assert!((found as f64 / 1.425e6 - 1.0).abs() < 0.01, "{found}");
}
