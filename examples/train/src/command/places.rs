//! Where methods are compared: tasks, each in some gradient formats.

use std::path::Path;

use adaloss_core::format::Format;
use adaloss_train::{
    data::{DataArgs, Dataset},
    method::{FormatName, Method},
    results::TaskReport,
    schedule::ScheduleArgs,
    task::Task,
};
use anyhow::{Context, Error, Result, anyhow, ensure};

/// The places of the usual comparison: runs of some five seconds of one core at most, those first whose
/// table is complete first.
pub(super) const USUAL: &str =
    "digits-units-40:binary16,text-growing@2:binary16,digits-resnet@25:e4m3";

/// The places that something makes hard for one scale or another: runs of some twenty seconds of one core
/// at most.
pub(super) const GALLERY: [&str; 14] = [
    "digits-units-40:binary16+e5m2",
    "digits-units-30:binary16-flushing",
    "digits-units-20:e4m3",
    "digits-towers-40:binary16+e4m3",
    "text-growing@4:binary16",
    "digits-resnet:e4m3",
    "scenes-megapixel@10:binary16-flushing",
    "digits-units-40-normalised:binary16+e4m3",
    "customers-mlp:binary16+e4m3",
    "digits-long-30:binary16-flushing",
    "objects-ssd:e4m3",
    "helmholtz-40:binary16+binary16-flushing",
    "helmholtz-20:e4m3",
    "digits-wgan:e4m3",
];

/// The gradient formats of the full comparison.
const FORMATS: &str = "binary16+binary16-flushing+bfloat16+e5m2+e4m3";

/// A task and the gradient formats that it is trained in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Comparison {
    pub(super) task: Task,
    pub(super) formats: Vec<FormatName>,
}

impl std::str::FromStr for Comparison {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::read(text, "binary16")
    }
}

impl Comparison {
    /// Reads a task, its own epochs if it has any, and its formats; `usual` are those of a task without any.
    pub(super) fn read(text: &str, usual: &str) -> Result<Self> {
        let (task, formats) = text.split_once(':').unwrap_or((text, usual));
        let formats = formats.split('+').map(str::parse).collect::<Result<_>>()?;
        let (name, epochs) = match task.split_once('@') {
            Some((name, epochs)) => (name, Some(epochs)),
            None => (task, None),
        };
        let is_recipe = Path::new(name).extension().is_some_and(|extension| extension == "toml");
        let mut task = match is_recipe {
            true => Task::of_recipe_file(name.as_ref()).map_err(in_one_sentence)?,
            false => name.parse()?,
        };
        if let Some(epochs) = epochs {
            ensure!(task.schedule.steps.is_none(), "{name} counts in steps, and not in epochs");
            task.schedule.epochs = epochs.parse().with_context(|| {
                format!("the epochs of \"{text}\" are no whole number, as in digits-mlp@4")
            })?;
        }
        Ok(Self { task, formats: once(formats) })
    }

    /// Returns what is named, separated by commas.
    pub(super) fn list(names: &str) -> Result<Vec<Self>> {
        names.split(',').map(str::parse).collect()
    }

    /// Returns every ordinary task in every format, and the rest of the gallery.
    pub(super) fn full() -> Result<Vec<Self>> {
        let ordinary = Task::NAMES.map(|name| format!("{name}:{FORMATS}"));
        let mut all = Self::list(&ordinary.join(","))?;
        let gallery = Self::list(&GALLERY.join(","))?;
        all.extend(gallery.into_iter().filter(|of| !Task::NAMES.contains(&&of.task.name[..])));
        Ok(all)
    }

    /// Returns the format to go without scaling in beside these: bfloat16, where going without is compared and one
    /// of these has 16 bits, unless it is one of them.
    pub(super) fn unscaled(&self, methods: &[Method]) -> Option<FormatName> {
        let bfloat16 = FormatName(Format::BFLOAT16);
        let has_16_bits = |format: &FormatName| format.0.encoding.bits() == 16;
        let is_wanted = methods.contains(&Method::None)
            && self.formats.iter().any(has_16_bits)
            && !self.formats.contains(&bfloat16);
        is_wanted.then_some(bfloat16)
    }
}

/// Returns an error with its causes in one sentence: `clap` prints an error without them.
fn in_one_sentence(error: Error) -> Error {
    anyhow!("{error:#}")
}

/// Returns what was named, in this order, once each.
pub(super) fn once<T: PartialEq>(named: Vec<T>) -> Vec<T> {
    let mut once = Vec::new();
    for value in named {
        if !once.contains(&value) {
            once.push(value);
        }
    }
    once
}

/// Returns tasks that were named, in this order, each once and with all of its formats; with the changes to their
/// schedules made.
///
/// # Errors
///
/// A task was named with two numbers of epochs.
pub(super) fn merged(named: &[Comparison], schedule: &ScheduleArgs) -> Result<Vec<Comparison>> {
    let mut merged: Vec<Comparison> = Vec::new();
    for Comparison { task, formats } in named.iter().cloned() {
        let task = Task { schedule: schedule.apply(task.schedule), ..task };
        match merged.iter_mut().find(|of| of.task.name == task.name) {
            Some(of) => {
                let (first, second) = (of.task.schedule.epochs, task.schedule.epochs);
                ensure!(
                    first == second,
                    "{} is named with {first} and with {second} epochs",
                    task.name
                );
                of.formats = once([&of.formats[..], &formats].concat());
            }
            None => merged.push(Comparison { task, formats }),
        }
    }
    Ok(merged)
}

/// Opens each task's data set.
pub(super) fn open(comparisons: &[Comparison], data: &DataArgs) -> Result<Vec<Box<dyn Dataset>>> {
    comparisons.iter().map(|comparison| comparison.task.open(data)).collect()
}

/// Describes the tasks for the report.
pub(super) fn describe(
    comparisons: &[Comparison],
    datasets: &[Box<dyn Dataset>],
) -> Result<Vec<TaskReport>> {
    let tasks = comparisons.iter().zip(datasets);
    tasks.map(|(comparison, dataset)| comparison.task.describe(&**dataset)).collect()
}
