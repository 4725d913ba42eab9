//! What is learnt: a network, a data set and a schedule, under one name.

use std::{path::Path, str::FromStr};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cost,
    data::{DataArgs, Dataset, Score, Wanted},
    model::{Block, Model, Pinn, Resnet, Segnet, Ssd, Transformer, Twin, Wgan},
    optimizer::Optimizer,
    recipe::Recipe,
    results::TaskReport,
    schedule::{Decay, Rise, Schedule},
    unit::Unit,
};

/// What is learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The name in reports and on the command line.
    pub name: String,
    /// The network.
    pub model: Model,
    /// What it learns from.
    pub wanted: Wanted,
    /// How it learns.
    pub schedule: Schedule,
    /// What its loss is given in.
    pub unit: Unit,
    /// Whether images train as they are, unless the command line says otherwise: neither moved nor warped.
    pub still: bool,
    /// The folder of data that it needs, where it is not built in.
    pub folder: Option<Folder>,
}

/// What a task needs of a folder of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Rows and columns at which images are seen, where they can be chosen and the command line says nothing else.
    pub image_size: Option<usize>,
}

impl Task {
    /// The names that are built in.
    pub const NAMES: [&'static str; 4] =
        ["digits-resnet", "scenes-segnet", "text-transformer", "digits-mlp"];

    /// The names of what is built in to break one scale for all tensors or for all steps: losses of another size, or far
    /// apart; as many steps as dynamic scaling needs to grow; single batches whose gradient is a thousand times the usual; a
    /// deep network whose weights are clipped behind one whose are not.
    pub const STRESSED: [&'static str; 11] = [
        "objects-ssd",
        "scenes-megapixel",
        "text-growing",
        "digits-units-N",
        "digits-units-N-normalised",
        "digits-towers-N",
        "digits-towers-N-normalised",
        "digits-long-N",
        "customers-mlp",
        "helmholtz-N",
        "digits-wgan",
    ];

    /// Makes the task of a recipe, under a name.
    ///
    /// # Errors
    ///
    /// Its network cannot learn from its data.
    pub fn of_recipe(name: &str, recipe: &Recipe, schedule: Schedule) -> Result<Self> {
        let (wanted, expected) = (wanted(&recipe.model), recipe.data.wanted());
        ensure!(
            wanted == expected,
            "{} cannot learn from {:?}: its targets are of another kind",
            recipe.model,
            recipe.data
        );
        let folder = Some(Folder { image_size: recipe.size() });
        Ok(Self { wanted, folder, ..Self::named(name, recipe.model, schedule) })
    }

    /// Makes the task of a recipe that counts in steps, under the name of its file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no recipe, or counts in epochs.
    pub fn of_recipe_file(path: &Path) -> Result<Self> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let recipe = Recipe::read(path)?;
        let schedule = recipe.schedule_in_steps();
        let schedule = schedule.with_context(|| path.display().to_string())?;
        Self::of_recipe(&name, &recipe, schedule)
    }

    /// Returns the task with another network for the same samples.
    ///
    /// # Errors
    ///
    /// The network is for samples of another kind.
    pub fn with_model(mut self, model: Model) -> Result<Self> {
        let is_mlp = matches!(model, Model::Mlp { .. });
        ensure!(
            wanted(&model) == self.wanted || self.wanted == Wanted::Customers && is_mlp,
            "{model} cannot learn {}: its inputs or targets are of another kind",
            self.name
        );
        self.model = model;
        Ok(self)
    }

    /// Opens the samples.
    ///
    /// # Errors
    ///
    /// A file of the user's cannot be read or is no data set.
    pub fn open(&self, data: &DataArgs) -> Result<Box<dyn Dataset>> {
        let mut data = data.clone();
        if let Some(Folder { image_size }) = self.folder {
            ensure!(data.data.is_some(), "{} learns from a folder: --data DIR", self.name);
            data.image_size = data.image_size.or(image_size);
        }
        if self.still {
            data.shift.get_or_insert(0.0);
            data.warp.get_or_insert(0.0);
        }
        data.source(self.wanted).open()
    }

    /// Tells whether a quantity is learnt, beside the classes or alone; a field is one.
    pub fn has_quantity(&self) -> bool {
        matches!(self.wanted, Wanted::Customers | Wanted::Helmholtz)
            || matches!(self.model, Model::Twin(_))
    }

    /// Describes the task for reports.
    ///
    /// # Errors
    ///
    /// The network is none for these samples.
    pub fn describe(&self, dataset: &dyn Dataset) -> Result<TaskReport> {
        Ok(TaskReport {
            name: self.name.clone(),
            network: self.model.to_string(),
            parameters: self.parameters(dataset)?,
            data: dataset.describe(),
            metric: Score::new(dataset.classes(), dataset.judged()).name().into(),
            target: self.schedule.target,
            schedule: format!("{}{}", self.schedule, self.unit),
        })
    }

    /// Returns the number of values that are learnt.
    ///
    /// # Errors
    ///
    /// The network is none for these samples.
    pub fn parameters(&self, dataset: &dyn Dataset) -> Result<u64> {
        cost::parameters(&self.model, (dataset.input(), dataset.classes()))
    }

    fn named(name: &str, model: Model, schedule: Schedule) -> Self {
        let (name, wanted, unit) = (name.into(), wanted(&model), Unit::default());
        Self { name, model, wanted, schedule, unit, still: false, folder: None }
    }

    /// Returns the task under another name, with its loss in another unit.
    fn stressed(self, name: &str, unit: Unit) -> Self {
        Self { name: name.into(), unit, ..self }
    }
}

/// Returns what a network learns from.
fn wanted(model: &Model) -> Wanted {
    match model {
        Model::Mlp { .. } | Model::Resnet(_) | Model::Vgg(_) | Model::Twin(_) => Wanted::Images,
        Model::Ssd(_) => Wanted::Objects,
        Model::Segnet(_) => Wanted::Scenes,
        Model::Transformer(_) => Wanted::Text,
        Model::Pinn(_) => Wanted::Helmholtz,
        Model::Wgan(_) => Wanted::Distribution,
    }
}

/// Reads how many binades the losses of a task lie apart.
fn binades(task: &str, text: &str) -> Result<i32> {
    let binades = text.parse().ok().filter(|binades| (0..=60).contains(binades));
    binades
        .with_context(|| format!("the N of \"{task}\" is no whole number of binades from 0 to 60"))
}

/// What the schedules of the built-in tasks have in common.
const SCHEDULE: Schedule = Schedule {
    epochs: 20,
    steps: None,
    batch: 64,
    micro_batches: 1,
    learning_rate: 0.1,
    warm_up: 0,
    rise: Rise::Equal,
    decay: Decay::Cosine,
    optimizer: Optimizer::SGD,
    max_norm: None,
    recomputes_statistics: false,
    target: 0.95,
};

impl FromStr for Task {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "digits-mlp" => {
                let model = Model::Mlp { hidden: 128 };
                let schedule = Schedule { epochs: 30, target: 0.9, ..SCHEDULE };
                Self::named(name, model, schedule)
            }
            "digits-resnet" => {
                let resnet = Resnet::small(8, Block::Basic)?;
                let model = Model::Resnet(Resnet { zero_init: true, ..resnet });
                let schedule = Schedule { epochs: 30, batch: 32, ..SCHEDULE };
                Self::named(name, model, schedule)
            }
            "scenes-segnet" => {
                let model = Model::Segnet(Segnet::default());
                let schedule = Schedule { epochs: 14, batch: 4, target: 0.45, ..SCHEDULE };
                Self::named(name, model, schedule)
            }
            "objects-ssd" => {
                let model = Model::Ssd(Ssd::Small { width: 8 });
                let schedule = Schedule {
                    epochs: 8,
                    batch: 16,
                    learning_rate: 2e-3,
                    warm_up: 100,
                    optimizer: Optimizer::ADAMW,
                    target: 0.25,
                    ..SCHEDULE
                };
                Self::named(name, model, schedule)
            }
            "text-transformer" => {
                let model = Model::Transformer(Transformer::default());
                let schedule = Schedule {
                    epochs: 4,
                    batch: 16,
                    learning_rate: 2e-3,
                    warm_up: 50,
                    optimizer: Optimizer::ADAMW,
                    max_norm: Some(1.0),
                    target: 0.4,
                    ..SCHEDULE
                };
                Self::named(name, model, schedule)
            }
            // The mean over some 2^24 pixels instead of 2^12: a batch of megapixel images.
            "scenes-megapixel" => {
                let unit = Unit { log2: -12, ..Unit::default() };
                "scenes-segnet".parse::<Self>()?.stressed(name, unit)
            }
            // A loss whose weight is annealed upwards, as that of a regulariser is.
            "text-growing" => {
                let unit = Unit { doubling: Some(1), ..Unit::default() };
                "text-transformer".parse::<Self>()?.stressed(name, unit)
            }
            "customers-mlp" => {
                // Momentum, and no clipping: what divides gradients by their size or clips them takes the largest
                // customers for less than they are, in f32 as well.
                let schedule = Schedule {
                    // Each customer is drawn once, so that none can be memorised.
                    epochs: 1,
                    batch: 32,
                    learning_rate: 3e-4,
                    warm_up: 50,
                    target: 0.75,
                    ..SCHEDULE
                };
                let task = Self::named(name, Model::Mlp { hidden: 64 }, schedule);
                Self { wanted: Wanted::Customers, ..task }
            }
            _ if name.starts_with("helmholtz-") => {
                let gap = binades(name, &name["helmholtz-".len()..])?;
                let model = Model::Pinn(Pinn::default());
                let schedule = Schedule {
                    epochs: 40,
                    learning_rate: 0.01,
                    warm_up: 50,
                    optimizer: Optimizer::ADAMW,
                    target: 0.95,
                    ..SCHEDULE
                };
                let unit = Unit { gap, is_balanced: true, ..Unit::default() };
                Self::named(name, model, schedule).stressed(name, unit)
            }
            "digits-wgan" => {
                let schedule = Schedule {
                    epochs: 180,
                    learning_rate: 5e-4,
                    optimizer: Optimizer::RMSPROP,
                    target: 0.7,
                    ..SCHEDULE
                };
                let task = Self::named(name, Model::Wgan(Wgan::default()), schedule);
                Self { still: true, ..task }
            }
            _ if ["digits-units-", "digits-towers-", "digits-long-"]
                .iter()
                .any(|kind| name.starts_with(kind)) =>
            {
                let plain = name.strip_suffix("-normalised");
                let (kind, gap) = plain.unwrap_or(name).rsplit_once('-').unwrap_or_default();
                let gap = binades(name, gap)?;
                let model = Model::Twin(Twin { hidden: 128, shared: kind == "digits-units" });
                let schedule = Schedule {
                    // 20,160 steps: dynamic scaling tries a larger scale after 2,000. The trunk of digits-units-N
                    // would be of the larger loss's making by then, which costs the classes dearly in f32 as well.
                    epochs: if kind == "digits-long" { 960 } else { 40 },
                    learning_rate: 2e-3,
                    warm_up: 20,
                    optimizer: Optimizer::ADAMW,
                    target: 0.85,
                    ..SCHEDULE
                };
                let task = Self { still: true, ..Self::named(name, model, schedule) };
                let is_normalised = plain.is_some();
                task.stressed(name, Unit { gap, is_normalised, ..Unit::default() })
            }
            _ => {
                let names = [&Self::NAMES[..], &Self::STRESSED].concat().join(", ");
                bail!("unknown task \"{name}\": one of {names}")
            }
        })
    }
}
