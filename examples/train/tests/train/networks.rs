//! Networks have the parameters and multiply-adds that were published.

use adaloss_train::{
    cost::{Cost, cost},
    data::Input,
    model::Model,
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
