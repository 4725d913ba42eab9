use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::{Input, Inputs, Judged, Source, digits::Options as Digits};

/// Samples that say what was asked for, and take a while; a sample of the number that is told is broken, or panics.
#[derive(Default)]
struct Slow {
    broken: Option<usize>,
    panics: Option<usize>,
    millis: u64,
    /// Samples that are read at the moment, and the most at once.
    reading: AtomicUsize,
    most: AtomicUsize,
    /// How often something was read.
    reads: AtomicUsize,
    log: Mutex<Vec<usize>>,
}

impl Slow {
    fn of(&self, samples: impl Iterator<Item = usize>, offset: f32) -> Result<Batch> {
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for sample in samples {
            let now = 1 + self.reading.fetch_add(1, Ordering::SeqCst);
            self.most.fetch_max(now, Ordering::SeqCst);
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.log.lock().unwrap().push(sample);
            thread::sleep(Duration::from_millis(self.millis));
            self.reading.fetch_sub(1, Ordering::SeqCst);
            assert!(self.panics != Some(sample), "sample {sample} is cursed");
            ensure!(self.broken != Some(sample), "sample {sample} is broken");
            values.push(sample as f32 + offset);
            labels.push(sample as u32 % 2);
        }
        let samples = labels.len();
        Ok(Batch { labels, ..Batch::of(Inputs::Images(values), samples) })
    }
}

impl Dataset for Slow {
    fn describe(&self) -> String {
        "slow".to_owned()
    }

    fn input(&self) -> Input {
        Input::Image { height: 1, width: 1, channels: 1 }
    }

    fn classes(&self) -> usize {
        2
    }

    fn judged(&self) -> Judged {
        Judged::PerSample
    }

    fn train_samples(&self) -> usize {
        1000
    }

    fn test_samples(&self) -> usize {
        100
    }

    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        self.of(chosen.iter().copied(), view.epoch as f32 / 4.0)
    }

    fn test(&self, range: Range<usize>) -> Result<Batch> {
        self.of(range, 0.5)
    }
}

const VIEW: View = View { seed: 0, epoch: 1 };

fn train(chosen: Range<usize>) -> Request {
    Request::Train { chosen: chosen.rev().collect(), view: VIEW }
}

fn loader(dataset: &Arc<Slow>, threads: usize, ahead: usize) -> Loader {
    Loader::new(Arc::clone(dataset) as Arc<dyn Dataset>, Options { threads, ahead }).unwrap()
}

/// Waits until something is the case; a test that waits too long fails.
fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came to be");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn batches_are_those_of_the_data_set_for_any_number_of_threads() {
    let dataset: Arc<dyn Dataset> = Source::Embedded(Digits::default()).open().unwrap().into();
    let order = VIEW.order(dataset.train_samples());
    let mut requests: Vec<Request> = order
        .chunks(37)
        .take(6)
        .map(|chosen| Request::Train { chosen: chosen.to_vec(), view: VIEW })
        .collect();
    requests.extend([Request::Test(0..50), Request::Test(7..7), Request::Test(390..397)]);
    for (threads, ahead) in [(1, 0), (1, 3), (2, 1), (5, 4), (16, 2)] {
        let loader = Loader::new(Arc::clone(&dataset), Options { threads, ahead }).unwrap();
        for (nth, request) in requests.iter().enumerate() {
            let expected = request.read(&*dataset).unwrap();
            let found = loader.take(request, requests[nth + 1..].to_vec()).unwrap();
            assert_eq!(found, expected, "{threads} threads, {ahead} ahead");
        }
        let Progress { batches, samples, .. } = loader.progress();
        assert_eq!((batches, samples), (9, 6 * 37 + 57));
    }
}

#[test]
fn what_comes_next_is_read_meanwhile_and_no_more() {
    let dataset = Arc::new(Slow::default());
    let loader = loader(&dataset, 3, 2);
    loader.take(&train(0..4), [train(4..8), train(8..12), train(12..16)]).unwrap();
    until(|| dataset.reads.load(Ordering::SeqCst) == 12);
    thread::sleep(Duration::from_millis(30));
    // The last of the three has no room.
    assert_eq!(dataset.reads.load(Ordering::SeqCst), 12);
    let before = loader.progress().waited;
    loader.take(&train(4..8), [train(8..12)]).unwrap();
    loader.take(&train(8..12), []).unwrap();
    assert_eq!(dataset.reads.load(Ordering::SeqCst), 12);
    assert!(loader.progress().waited - before < Duration::from_secs(1));
}

#[test]
fn the_batch_that_is_needed_first_is_read_first_and_by_all() {
    let dataset = Arc::new(Slow { millis: 4, ..Slow::default() });
    let loader = loader(&dataset, 4, 3);
    loader.take(&train(0..16), [train(16..32), train(32..48)]).unwrap();
    assert_eq!(dataset.most.load(Ordering::SeqCst), 4);
    let log = dataset.log.lock().unwrap().clone();
    // All of the first batch was begun before anything of the second, but for what runs side by side.
    let first: BTreeSet<_> = log.iter().take(16).copied().collect();
    assert_eq!(first, (0..16).collect());
}

#[test]
fn a_wrong_guess_costs_no_bit() {
    let dataset = Arc::new(Slow::default());
    let loader = loader(&dataset, 2, 2);
    loader.take(&train(0..4), [train(4..8), train(8..12)]).unwrap();
    let found = loader.take(&Request::Test(3..9), [train(100..104)]).unwrap();
    assert_eq!(found, dataset.test(3..9).unwrap());
    let found = loader.take(&train(8..12), []).unwrap();
    assert_eq!(found, dataset.train(&[11, 10, 9, 8], VIEW).unwrap());
}

#[test]
fn errors_and_panics_reach_the_caller_and_end_nothing_else() {
    let dataset = Arc::new(Slow { broken: Some(5), panics: Some(9), ..Slow::default() });
    let loader = loader(&dataset, 3, 2);
    let next = || [train(4..8), train(8..12)];
    loader.take(&train(0..4), next()).unwrap();
    for _ in 0..2 {
        let error = loader.take(&train(4..8), next()).unwrap_err();
        assert_eq!(error.to_string(), "sample 5 is broken");
        let error = loader.take(&train(8..12), next()).unwrap_err();
        assert_eq!(error.to_string(), "a thread that reads samples panicked: sample 9 is cursed");
    }
    // Every thread is still there.
    assert_eq!(loader.take(&train(12..40), []).unwrap().samples, 28);
}

#[test]
fn a_loader_that_is_dropped_ends_its_threads() {
    let dataset = Arc::new(Slow { millis: 1, ..Slow::default() });
    let loader = loader(&dataset, 4, 2);
    loader.take(&train(0..8), [train(8..500), train(500..1000)]).unwrap();
    drop(loader);
    // The threads' shares of the data set are gone with them, and most was not read.
    assert_eq!(Arc::strong_count(&dataset), 1);
    assert!(dataset.reads.load(Ordering::SeqCst) < 900);
}

#[test]
fn impossible_options_are_errors() {
    for (threads, ahead) in [(0, 1), (1025, 1), (1, 1025)] {
        let dataset: Arc<dyn Dataset> = Arc::new(Slow::default());
        assert!(Loader::new(dataset, Options { threads, ahead }).is_err());
    }
}
