//! Networks have the parameters that were published.

use adaloss_train::{
    data::{Batch, Dataset, Input, Inputs, Judged, View},
    model::{Model, Resnet, Shortcut},
    task::Task,
};

/// Images in the shape of CIFAR-10, none of them.
struct Cifar;

impl Dataset for Cifar {
    fn describe(&self) -> String {
        String::new()
    }

    fn input(&self) -> Input {
        Input::Image { height: 32, width: 32, channels: 3 }
    }

    fn classes(&self) -> usize {
        10
    }

    fn judged(&self) -> Judged {
        Judged::PerSample
    }

    fn train_samples(&self) -> usize {
        0
    }

    fn test_samples(&self) -> usize {
        0
    }

    fn train(&self, _: &[usize], _: View) -> Batch {
        Batch::of(Inputs::Images(Vec::new()), 0)
    }

    fn test(&self, _: std::ops::Range<usize>) -> Batch {
        self.train(&[], View { seed: 0, epoch: 0 })
    }
}

fn parameters(model: Model) -> u64 {
    let task: Task = "digits-resnet".parse().unwrap();
    task.with_model(model).unwrap().parameters(&Cifar).unwrap()
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
        let found = parameters(name.parse().unwrap());
        assert_eq!(found, exact, "{name}");
        let digits = if published > 1.0 { 10.0 } else { 100.0 };
        assert_eq!((found as f64 / 1e6 * digits).round() / digits, published, "{name}");
    }
}

/// Two projections of 1x1 with their normalisations: 16 x 32 + 64 and 32 x 64 + 128.
#[test]
fn projected_shortcuts_add_their_own() {
    let projected = Resnet { shortcut: Shortcut::Projected, ..Resnet::new(20) };
    assert_eq!(parameters(Model::Resnet(projected)), 269_722 + 576 + 2176);
}
