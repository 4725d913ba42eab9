//! What is learnt, on which device, and how it is told to break.

use std::{cell::RefCell, rc::Rc};

use adaloss_core::format::f16;
use adaloss_cpu::Cpu;
use adaloss_hal::{
    OperationKind,
    fault::{Fault, Injection},
};
use adaloss_train::{
    checkpoint::Checkpoint,
    data::{Dataset, Source, digits},
    method::Method,
    network::Saved,
    task::Task,
    trainer::{Settings, Trainer},
};

type Plan = Box<dyn FnMut(OperationKind, usize) -> Option<Injection>>;

/// One device and one pair of formats for all tests: every network is compiled for each.
pub(crate) type Run<'d> = Trainer<'d, Fault<Cpu, Plan>, f16, f16>;

/// What goes wrong with a device; told while the device is at work.
#[derive(Clone, Default)]
pub(crate) struct Breaks(Rc<RefCell<Option<Plan>>>);

impl Breaks {
    /// From now on the device breaks by this plan.
    pub(crate) fn by(&self, plan: impl FnMut(OperationKind, usize) -> Option<Injection> + 'static) {
        *self.0.borrow_mut() = Some(Box::new(plan));
    }

    /// From now on the device is sound.
    pub(crate) fn never(&self) {
        *self.0.borrow_mut() = None;
    }

    fn device(&self) -> Fault<Cpu, Plan> {
        let plan = self.0.clone();
        let asked = move |operation, elements| plan.borrow_mut().as_mut()?(operation, elements);
        Fault::new(Cpu::new(1).expect("the caller's thread"), Box::new(asked))
    }
}

/// A network, and what it learns.
pub(crate) struct Lesson {
    task: Task,
    dataset: Box<dyn Dataset>,
    settings: Settings,
}

impl Lesson {
    /// The task `name` with a small network, for a few epochs.
    fn new(name: &str, model: &str, source: &Source, epochs: usize, period: u32) -> Self {
        let task: Task = name.parse().unwrap();
        let mut task = task.with_model(model.parse().unwrap()).unwrap();
        task.schedule.epochs = epochs;
        let dataset = source.open().unwrap();
        let format = "binary16".parse().unwrap();
        let settings = Settings { format, method: Method::MEASURED, seed: 0, period };
        Self { task, dataset, settings }
    }

    /// Three linear layers.
    pub(crate) fn perceptron(epochs: usize, period: u32) -> Self {
        Self::new("digits-mlp", "mlp:hidden=32", &digits(), epochs, period)
    }

    /// Convolutions, batch normalisations, joins, a pooling.
    pub(crate) fn residual(epochs: usize) -> Self {
        Self::new("digits-resnet", "resnet8:width=4", &digits(), epochs, 10)
    }

    /// Embeddings, layer normalisations, attention, dropout, clipping, AdamW.
    pub(crate) fn transformer() -> Self {
        let text = Source::Text { file: None, length: 8 };
        Self::new("text-transformer", "transformer:blocks=1:heads=2:width=8", &text, 1, 10)
    }

    /// Begins a run.
    pub(crate) fn begin(&self, breaks: &Breaks) -> Run<'_> {
        Trainer::new(&self.task, &*self.dataset, self.settings, breaks.device()).unwrap()
    }

    /// Goes on from a checkpoint.
    pub(crate) fn resume(&self, breaks: &Breaks, from: &Checkpoint) -> Run<'_> {
        let device = breaks.device();
        Trainer::resume(&self.task, &*self.dataset, self.settings, device, from.clone()).unwrap()
    }
}

fn digits() -> Source {
    Source::Embedded(digits::Options::default())
}

/// Returns the bits of everything that training changes.
pub(crate) fn bits(pieces: &[Saved]) -> Vec<u32> {
    let values = pieces.iter().flat_map(|piece| piece.values.iter().chain(&piece.state));
    values.map(|x| x.to_bits()).collect()
}
