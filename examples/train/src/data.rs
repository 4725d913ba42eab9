//! What networks learn from: [`adaloss_datasets`], and how the command line says what is wanted of it.

use std::path::PathBuf;

pub use adaloss_datasets::*;
use clap::Args;

use self::{objects::Objects, source::Seen, text::Text};

/// Where samples come from; each network asks for what it learns from.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// Images in IDX format, instead of the embedded digits.
    #[arg(long, value_name = "FILE", requires = "labels")]
    pub images: Option<PathBuf>,
    /// Labels in IDX format.
    #[arg(long, value_name = "FILE", requires = "images")]
    pub labels: Option<PathBuf>,
    /// Samples from the front that train; the rest tests.
    #[arg(long, value_name = "N", requires = "images")]
    pub train_samples: Option<usize>,
    /// Pixels by which digits are moved at random, at most, each way [default: 1 of 8, 2 of 28].
    #[arg(long, value_name = "PIXELS", conflicts_with = "cifar")]
    pub shift: Option<f32>,
    /// How much digits are warped at random, at most: 0.1 is 10 % of their size [default: 0.2].
    #[arg(long, value_name = "SHARE", conflicts_with = "cifar")]
    pub warp: Option<f32>,
    /// A folder of CIFAR-10 or CIFAR-100, binary version, instead of digits.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["images", "labels"])]
    pub cifar: Option<PathBuf>,
    /// A folder of a published data set, instead of what is built in: CIFAR-10, CIFAR-100 or ImageNet for what learns from images,
    /// CamVid for scenes, Pascal VOC or COCO for objects.  docs/datasets.md says what is expected in it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["images", "labels", "cifar", "text"])]
    pub data: Option<PathBuf>,
    /// Rows and columns at which the images of such a folder are seen [default: 224 of ImageNet, 300 of objects].
    #[arg(long, value_name = "PIXELS", requires = "data")]
    pub image_size: Option<usize>,
    /// What becomes of a broken file in such a folder: it ends the run (stop), or another sample is taken instead and what was left
    /// out is said at the end (skip).
    #[arg(long, value_name = "WHAT", requires = "data", default_value_t)]
    pub on_broken: OnBroken,
    /// Rows and columns of the generated scenes.
    #[arg(long, value_name = "PIXELS", default_value_t = scenes::Plan::default().size)]
    pub scene_size: usize,
    /// Generated scenes that train.
    #[arg(long, value_name = "N", default_value_t = scenes::Plan::default().train)]
    pub train_scenes: usize,
    /// Generated scenes that test.
    #[arg(long, value_name = "N", default_value_t = scenes::Plan::default().test)]
    pub test_scenes: usize,
    /// Rows and columns of the generated images with objects.
    #[arg(long, value_name = "PIXELS", default_value_t = Objects::PLAN.size)]
    pub picture_size: usize,
    /// Generated images with objects that train.
    #[arg(long, value_name = "N", default_value_t = Objects::PLAN.train)]
    pub train_pictures: usize,
    /// Generated images with objects that test.
    #[arg(long, value_name = "N", default_value_t = Objects::PLAN.test)]
    pub test_pictures: usize,
    /// A text in UTF-8, instead of the one that ships with this program.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Characters of a sample of text.
    #[arg(long, value_name = "N", default_value_t = Text::LENGTH)]
    pub text_length: usize,
}

impl DataArgs {
    /// Returns where what a network wants comes from.
    pub fn source(&self, wanted: Wanted) -> Source {
        let options =
            digits::Options { train: self.train_samples, shift: self.shift, warp: self.warp };
        if wanted == Wanted::Distribution {
            return Source::Unlabelled(Box::new(self.source(Wanted::Images)));
        }
        if let Some(folder) = &self.data {
            let seen = Seen { size: self.image_size, on_broken: self.on_broken };
            return Source::Folder { folder: folder.clone(), wanted, seen };
        }
        match (wanted, &self.cifar, &self.images, &self.labels) {
            (Wanted::Images, Some(folder), ..) => Source::Cifar(folder.clone()),
            (Wanted::Images, None, Some(images), Some(labels)) => {
                Source::Idx { images: images.clone(), labels: labels.clone(), options }
            }
            (Wanted::Images | Wanted::Distribution, ..) => Source::Embedded(options),
            (Wanted::Scenes, ..) => Source::Scenes(scenes::Plan {
                size: self.scene_size,
                train: self.train_scenes,
                test: self.test_scenes,
                ..Default::default()
            }),
            (Wanted::Objects, ..) => Source::Objects(scenes::Plan {
                size: self.picture_size,
                train: self.train_pictures,
                test: self.test_pictures,
                ..Objects::PLAN
            }),
            (Wanted::Text, ..) => {
                Source::Text { file: self.text.clone(), length: self.text_length }
            }
            (Wanted::Customers, ..) => Source::Customers(customers::Plan::default()),
            (Wanted::Helmholtz, ..) => Source::Helmholtz(helmholtz::Plan::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        data: DataArgs,
    }

    fn parsed(line: &str) -> Result<DataArgs, clap::Error> {
        Line::try_parse_from(["train"].into_iter().chain(line.split_whitespace()))
            .map(|line| line.data)
    }

    fn source(line: &str, wanted: Wanted) -> Source {
        parsed(line).unwrap().source(wanted)
    }

    #[test]
    fn without_arguments_everything_is_at_hand() {
        for (wanted, name) in [
            (Wanted::Images, "digits"),
            (Wanted::Scenes, "scenes"),
            (Wanted::Objects, "objects"),
            (Wanted::Text, "text"),
            (Wanted::Customers, "customers"),
            (Wanted::Helmholtz, "helmholtz"),
            (Wanted::Distribution, "digits"),
        ] {
            let line = "--train-scenes 2 --test-scenes 1 --scene-size 16 --train-pictures 2 --test-pictures 1";
            let dataset = source(line, wanted).open().unwrap();
            assert!(dataset.describe().starts_with(name), "{}", dataset.describe());
        }
        assert_eq!(source("", Wanted::Scenes), Source::Scenes(scenes::Plan::default()));
        assert_eq!(source("", Wanted::Objects), Source::Objects(Objects::PLAN));
        assert_eq!(source("", Wanted::Text), Source::Text { file: None, length: 64 });
    }

    #[test]
    fn each_argument_reaches_its_source() {
        let options = digits::Options { train: Some(9), shift: Some(0.5), warp: None };
        assert_eq!(
            source("--images a --labels b --train-samples 9 --shift 0.5", Wanted::Images),
            Source::Idx { images: "a".into(), labels: "b".into(), options }
        );
        assert_eq!(source("--cifar c", Wanted::Images), Source::Cifar("c".into()));
        let unlabelled = Source::Unlabelled(Box::new(Source::Cifar("c".into())));
        assert_eq!(source("--cifar c", Wanted::Distribution), unlabelled);
        assert_eq!(
            source("--cifar c --text t --text-length 8", Wanted::Text),
            Source::Text { file: Some("t".into()), length: 8 }
        );
        let seen = Seen { size: Some(64), on_broken: OnBroken::Skip };
        assert_eq!(
            source("--data d --image-size 64 --on-broken skip", Wanted::Objects),
            Source::Folder { folder: "d".into(), wanted: Wanted::Objects, seen }
        );
        let plan = scenes::Plan { size: 96, train: 3, test: 2, seed: 0 };
        assert_eq!(
            source("--picture-size 96 --train-pictures 3 --test-pictures 2", Wanted::Objects),
            Source::Objects(plan)
        );
        let warp = digits::Options { warp: Some(0.0), ..Default::default() };
        assert_eq!(source("--warp 0", Wanted::Images), Source::Embedded(warp));
    }

    #[test]
    fn contradictions_are_errors() {
        for line in [
            "--images a",
            "--labels b",
            "--train-samples 9",
            "--cifar c --images a --labels b",
            "--cifar c --warp 0.1",
            "--data d --cifar c",
            "--data d --images a --labels b",
            "--image-size 64",
            "--data d --on-broken ask",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (line, wanted) in [
            ("--images nowhere --labels nowhere", Wanted::Images),
            ("--cifar nowhere", Wanted::Images),
            ("--text nowhere", Wanted::Text),
        ] {
            let error = source(line, wanted).open().err().map(|error| format!("{error:#}"));
            assert!(error.is_some_and(|error| error.contains("nowhere")), "{line}");
        }
    }
}
