//! An experiment as it was published, in a file: network, data, schedule, and what came of it with each way to choose scales.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    data::Wanted,
    method::{FormatName, Method},
    model::Model,
    optimizer::Optimizer,
    schedule::{Decay, Rise, Schedule},
};

/// An experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What it is.
    pub title: String,
    /// Where it was published, and where its settings are from.
    pub sources: Vec<String>,
    /// What is not known, or is different here.
    pub notes: Vec<String>,
    /// The network.
    pub model: Model,
    /// What it learns from.
    pub data: DataKind,
    /// Rows and columns of the images, where they can be chosen and are not those that the network was published for.
    pub image_size: Option<usize>,
    /// What a run was judged by.
    pub metric: String,
    /// Its runs.
    pub runs: Vec<RecipeRun>,
    schedule: ScheduleTable,
}

/// A data set in the form in which it is distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// CIFAR-10 or CIFAR-100, binary version.
    Cifar,
    /// ImageNet.
    Imagenet,
    /// PASCAL VOC 2007 and 2012.
    Voc,
    /// CamVid, as SegNet's tutorial distributes it.
    Camvid,
}

impl DataKind {
    /// Returns what is learnt from it.
    pub const fn wanted(self) -> Wanted {
        match self {
            Self::Cifar | Self::Imagenet => Wanted::Images,
            Self::Camvid => Wanted::Scenes,
            Self::Voc => Wanted::Objects,
        }
    }

    /// Returns the rows and columns that a network takes images at, where they can be chosen.
    fn size(self, model: &Model) -> Option<usize> {
        match self {
            Self::Cifar | Self::Camvid => None,
            Self::Imagenet | Self::Voc => Some(model.published().extent[0]),
        }
    }
}

/// A run of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipeRun {
    /// The format of gradients.
    pub format: FormatName,
    /// How scales are chosen.
    pub method: Method,
    /// What was published of it, from 0 to 1: one figure or those of several runs.
    pub published: Vec<f64>,
    /// What is to be known of the published figures.
    pub note: String,
}

/// A recipe as its file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    title: String,
    sources: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
    network: String,
    data: DataKind,
    image_size: Option<usize>,
    metric: String,
    schedule: ScheduleTable,
    #[serde(rename = "run")]
    runs: Vec<RunTable>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ScheduleTable {
    epochs: Option<f64>,
    steps: Option<u64>,
    batch: usize,
    #[serde(default = "one")]
    micro_batches: usize,
    learning_rate: f32,
    warm_up: Option<WarmUpTable>,
    lower: Option<LowerTable>,
    momentum: f32,
    weight_decay: f32,
    #[serde(default)]
    decays_all: bool,
    #[serde(default = "unit")]
    bias_rate: f32,
    #[serde(default)]
    recomputes_statistics: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WarmUpTable {
    epochs: Option<f64>,
    steps: Option<u64>,
    /// The share of the learning rate at which it begins.
    from: f32,
    /// Whether it stays there.
    #[serde(default)]
    constant: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LowerTable {
    #[serde(default)]
    epochs: Vec<f64>,
    #[serde(default)]
    steps: Vec<u64>,
    /// To this share of what it was.
    to: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RunTable {
    #[serde(default)]
    format: Option<String>,
    method: String,
    #[serde(default)]
    published: Vec<f64>,
    #[serde(default)]
    note: String,
}

const fn one() -> usize {
    1
}

const fn unit() -> f32 {
    1.0
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is no recipe; the error says where.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("the recipe {} cannot be read", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no recipe", path.display()))
    }

    /// Reads a recipe from its text.
    ///
    /// # Errors
    ///
    /// The text is no recipe.
    pub fn parse(text: &str) -> Result<Self> {
        let File { title, sources, notes, network, data, image_size, metric, schedule, runs } =
            toml::from_str(text)?;
        let model: Model = network.parse()?;
        ensure!(!runs.is_empty(), "it has no run");
        ensure!(
            schedule.epochs.is_some() != schedule.steps.is_some(),
            "its schedule needs epochs or steps, and not both"
        );
        let runs = runs
            .into_iter()
            .enumerate()
            .map(|(nth, run)| RecipeRun::of(run).with_context(|| format!("run {}", nth + 1)));
        let runs = runs.collect::<Result<_>>()?;
        ensure!(
            image_size.is_none() || data.size(&model).is_some(),
            "the images of {data:?} have one size: leave image-size out"
        );
        let recipe =
            Self { title, sources, notes, model, data, image_size, metric, runs, schedule };
        recipe.schedule(1 << 20)?;
        Ok(recipe)
    }

    /// Returns the rows and columns at which images are seen, where they can be chosen.
    pub fn size(&self) -> Option<usize> {
        self.image_size.or_else(|| self.data.size(&self.model))
    }

    /// Returns the schedule of a recipe that counts in steps, whatever the number of samples.
    ///
    /// # Errors
    ///
    /// Something in it is given in epochs.
    pub fn schedule_in_steps(&self) -> Result<Schedule> {
        let ScheduleTable { epochs, warm_up, lower, .. } = &self.schedule;
        let is_in_epochs = epochs.is_some()
            || warm_up.as_ref().is_some_and(|warm_up| warm_up.epochs.is_some())
            || lower.as_ref().is_some_and(|lower| !lower.epochs.is_empty());
        ensure!(!is_in_epochs, "its schedule is in epochs: give steps instead");
        self.schedule(0)
    }

    /// Returns the schedule with so many training samples, by which epochs are steps.
    ///
    /// # Errors
    ///
    /// Something is given twice or not at all, or more is lowered than can be.
    pub fn schedule(&self, samples: usize) -> Result<Schedule> {
        let table = &self.schedule;
        let per_epoch = (samples / table.batch.max(1)) as f64;
        let in_steps = |what: &str, epochs: Option<f64>, steps: Option<u64>| match (epochs, steps) {
            (Some(epochs), None) if epochs >= 0.0 => Ok((epochs * per_epoch).round() as u64),
            (None, Some(steps)) => Ok(steps),
            _ => bail!("{what} needs epochs or steps, and not both"),
        };
        let (warm_up, rise) = match &table.warm_up {
            None => (0, Rise::Equal),
            Some(WarmUpTable { epochs, steps, from, constant }) => {
                let rise = if *constant { Rise::At(*from) } else { Rise::From(*from) };
                (in_steps("the warm-up", *epochs, *steps)?, rise)
            }
        };
        let decay = match &table.lower {
            None => Decay::Constant,
            Some(LowerTable { epochs, steps, to }) => {
                let all = epochs.iter().map(|&epochs| in_steps("lower", Some(epochs), None));
                let all = all.chain(steps.iter().map(|&steps| Ok(steps)));
                let all = all.collect::<Result<Vec<_>>>()?;
                let mut at = [u64::MAX; 4];
                ensure!(
                    (1..=at.len()).contains(&all.len()) && all.is_sorted(),
                    "the learning rate can be lowered one to four times, in rising order"
                );
                at[..all.len()].copy_from_slice(&all);
                Decay::Milestones { at, share: *to }
            }
        };
        let &ScheduleTable { momentum, weight_decay, decays_all, bias_rate, .. } = table;
        Ok(Schedule {
            epochs: 1,
            steps: Some(in_steps("the schedule", table.epochs, table.steps)?.max(1)),
            batch: table.batch,
            micro_batches: table.micro_batches,
            learning_rate: table.learning_rate,
            warm_up,
            rise,
            decay,
            optimizer: Optimizer::Sgd { momentum, weight_decay, decays_all, bias_rate },
            max_norm: None,
            recomputes_statistics: table.recomputes_statistics,
            target: 1.0,
        })
    }
}

impl RecipeRun {
    fn of(run: RunTable) -> Result<Self> {
        let RunTable { format, method, published, note } = run;
        let format = format.as_deref().unwrap_or("binary16").parse()?;
        ensure!(
            published.iter().all(|share| (0.0..=1.0).contains(share)),
            "published figures are shares, from 0 to 1"
        );
        Ok(Self { format, method: method.parse()?, published, note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        title = "A small one"
        sources = ["nowhere"]
        network = "resnet20"
        data = "cifar"
        metric = "accuracy"

        [schedule]
        epochs = 10
        batch = 100
        learning-rate = 0.1
        warm-up = { epochs = 1, from = 0.5 }
        lower = { epochs = [5, 7.5], to = 0.1 }
        momentum = 0.9
        weight-decay = 1e-4
        decays-all = true

        [[run]]
        method = "measured"
        published = [0.9, 0.91]

        [[run]]
        method = "backoff:10"
        format = "e5m2"
    "#;

    #[test]
    fn epochs_become_steps() {
        let recipe = Recipe::parse(TEXT).unwrap();
        let schedule = recipe.schedule(50_000).unwrap();
        assert_eq!((schedule.steps, schedule.warm_up), (Some(5000), 500));
        let rate = |step| schedule.update(step, 5000).learning_rate;
        let near = |x: f32, y: f32| (x - y).abs() < 1e-6;
        assert!(near(rate(0), 0.05) && near(rate(250), 0.075) && near(rate(500), 0.1));
        assert!(near(rate(2499), 0.1) && near(rate(2500), 0.01) && near(rate(3750), 0.001));
        assert_eq!(recipe.runs[0].published, [0.9, 0.91]);
        assert_eq!(recipe.runs[1].method, Method::Backoff(10));
    }

    #[test]
    fn what_is_no_recipe_is_told_where() {
        let wrong = |from: &str, to: &str| {
            format!("{:#}", Recipe::parse(&TEXT.replace(from, to)).unwrap_err())
        };
        for (from, to, why) in [
            ("epochs = 10", "", "needs epochs or steps, and not both"),
            ("epochs = 10", "epochs = 10\nsteps = 3", "needs epochs or steps, and not both"),
            ("resnet20", "resnet21", "the depth 21 is not 6m + 2"),
            ("\"cifar\"", "\"mnist\"", "unknown variant `mnist`"),
            ("momentum", "momentun", "unknown field `momentun`"),
            ("\"backoff:10\"", "\"backof\"", "run 2"),
            ("[5, 7.5]", "[5, 4]", "in rising order"),
            ("0.91]", "91]", "shares, from 0 to 1"),
            ("[[run]]", "[[runs]]", "unknown field `runs`"),
        ] {
            let found = wrong(from, to);
            assert!(found.contains(why), "{to}: {found}");
        }
    }
}
