//! How well a network does on the test samples.

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::Result;

use crate::{
    data::{Batch, Dataset, Inputs, Judged, Quantities, Score, Sliced, quantity::QuantityReport},
    detect::{AveragePrecision, Rule},
    layer::Machine,
    network::{Network, Outputs},
    ranks::Team,
};

/// Judges test samples, batch by batch: by their labels, quantities or objects, or by samples that are generated, as the data set
/// and the network have them.
pub(crate) struct Judge {
    judged: Judged,
    score: Score,
    quantities: Quantities,
    detections: AveragePrecision,
    sliced: Sliced,
    /// Values of a sample.
    length: usize,
    /// Whether nothing that the network said so far was finite.
    is_lost: bool,
    /// Whether there is anything to judge.
    has_samples: bool,
}

/// What became of the test samples.
pub(crate) struct Judgement {
    /// The task's metric, from 0 to 1.
    pub(crate) metric: f64,
    /// What is to be said of a quantity, if one is learnt.
    pub(crate) quantity: Option<QuantityReport>,
}

impl Judge {
    /// Begins to judge the test samples of a data set.
    pub(crate) fn new(dataset: &dyn Dataset) -> Self {
        let (classes, judged) = (dataset.classes(), dataset.judged());
        Self {
            judged,
            score: Score::new(classes, judged),
            quantities: Quantities::default(),
            detections: AveragePrecision::new(classes),
            sliced: Sliced::default(),
            length: dataset.input().values(),
            is_lost: true,
            has_samples: dataset.test_samples() > 0,
        }
    }

    /// Judges what a network says of some samples.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub(crate) fn add<D: Machine<W, G>, W: Element + Plain, G: Element + Plain>(
        &mut self,
        network: &mut Network<D, W, G>,
        outputs: &Outputs<D>,
        batch: &Batch,
    ) -> Result<()> {
        if self.judged == Judged::Objects {
            let found = network.detections(outputs, batch.samples)?;
            self.is_lost &= found.is_none();
            for (detections, objects) in found.iter().flatten().zip(&batch.objects) {
                self.detections.add(detections, objects);
            }
            return Ok(());
        }
        let logits = network.read(outputs.first()?)?;
        self.is_lost &= logits.iter().all(|x| !x.is_finite());
        if self.judged == Judged::Distribution {
            if let Inputs::Images(real) = &batch.inputs {
                self.sliced.add(real, &logits, self.length);
            }
            return Ok(());
        }
        if let Some((found, target)) = network.quantities(outputs, batch)? {
            self.quantities.add(&found, &target);
        }
        if self.judged != Judged::Quantity {
            self.score.add(&logits, &batch.labels);
        }
        Ok(())
    }

    /// Takes in what the other ranks judged.
    ///
    /// # Errors
    ///
    /// The group failed.
    pub(crate) fn gather(&mut self, team: &Team) -> Result<()> {
        self.is_lost = team.sum(vec![u64::from(self.is_lost)])? == [team.size() as u64];
        self.score.set_counts(team.sum(self.score.counts().to_vec())?);
        let all = team.gather_any(&self.quantities.to_bytes())?;
        self.quantities = Quantities::of_bytes(&all.concat());
        if self.judged == Judged::Distribution {
            let all = team.gather_any(&self.sliced.to_bytes())?;
            self.sliced = Sliced::of_bytes(&all.concat());
        }
        if self.judged == Judged::Objects {
            let all = team.gather_any(&self.detections.to_bytes())?;
            self.detections = AveragePrecision::new(self.detections.classes());
            self.detections.add_bytes(&all.concat());
        }
        Ok(())
    }

    /// Returns what became of the samples; nothing if the network is lost.
    pub(crate) fn finish(self) -> Option<Judgement> {
        let Self { judged, score, quantities, detections, sliced, is_lost, has_samples, .. } = self;
        if is_lost && has_samples {
            return None;
        }
        let quantity = quantities.report();
        let metric = match (&quantity, judged) {
            (Some(report), Judged::Quantity) => report.metric(),
            (_, Judged::Objects) => detections.mean(Rule::ElevenPoints),
            (_, Judged::Distribution) => sliced.value(),
            _ => score.value(),
        };
        Some(Judgement { metric, quantity })
    }
}
