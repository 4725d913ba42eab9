//! Times by the device's own events, with nothing of the host between them.

use std::time::Instant;

use adaloss_gpu::Cuda;
use anyhow::Context;
use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use serde_json::{Value, json};

/// What a graph should take: much longer than it takes to launch it.
const GRAPH_MS: f64 = 4.0;

/// The most launches in a graph.
const MOST_LAUNCHES: usize = 64;

/// Graphs that are timed, after one that is not.
const TIMES: usize = 11;

/// Times of one launch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timed {
    /// The median.
    pub(crate) ms: f64,
    /// The least and the greatest.
    pub(crate) range_ms: [f64; 2],
    /// Launches in each graph.
    pub(crate) launches: usize,
}

impl Timed {
    /// Writes it down.
    pub(crate) fn json(self) -> Value {
        let Self { ms, range_ms: [least, greatest], launches } = self;
        json!({ "ms": ms, "ms_least": least, "ms_greatest": greatest, "launches": launches })
    }

    fn of(mut times: Vec<f64>, launches: usize) -> Self {
        times.sort_by(f64::total_cmp);
        let range_ms = [times[0], times[times.len() - 1]];
        Self { ms: times[times.len() / 2], range_ms, launches }
    }
}

/// Times launches, which are given their numbers: captured into a graph as often as it takes to be long, which is
/// launched again and again.
///
/// A launch that is asked for between two events is timed with what the host does meanwhile, which is as much as a
/// short kernel takes.
pub(crate) fn time(
    device: &mut Cuda,
    mut launch: impl FnMut(&mut Cuda, usize) -> anyhow::Result<()>,
) -> anyhow::Result<Timed> {
    // What a first launch brings along is not timed, and what it does wrong is said here.
    launch(device, 0)?;
    let [once] = replay(device, 1, &mut launch, 1)?[..] else { anyhow::bail!("one time") };
    let launches = ((GRAPH_MS / once.max(1.0e-6)) as usize).clamp(1, MOST_LAUNCHES);
    let times = replay(device, launches, &mut launch, TIMES)?;
    Ok(Timed::of(times, launches))
}

/// Returns the times of one launch in so many graphs of launches.
fn replay(
    device: &mut Cuda,
    launches: usize,
    launch: &mut impl FnMut(&mut Cuda, usize) -> anyhow::Result<()>,
    times: usize,
) -> anyhow::Result<Vec<f64>> {
    let graph = device.capture(|device| (0..launches).try_for_each(|nth| launch(device, nth)))?;
    let stream = device.stream().clone();
    let event = || stream.record_event(Some(CU_EVENT_DEFAULT)).context("cannot record an event");
    // SAFETY: what is captured is borrowed by the function that launches it, which is still borrowed.
    unsafe { graph.launch() }?;
    let mut events = Vec::new();
    for _ in 0..times {
        let begin = event()?;
        // SAFETY: as above.
        unsafe { graph.launch() }?;
        events.push((begin, event()?));
    }
    let elapsed = |(begin, end): &(cudarc::driver::CudaEvent, cudarc::driver::CudaEvent)| -> anyhow::Result<f64> {
        end.synchronize().context("the device failed")?;
        let ms = begin.elapsed_ms(end).context("cannot read the time of an event")?;
        Ok(f64::from(ms) / launches as f64)
    };
    events.iter().map(elapsed).collect()
}

/// Times what a host asks for, until it is done, by the host's clock.
pub(crate) fn time_called(
    device: &mut Cuda,
    mut work: impl FnMut(&mut Cuda) -> anyhow::Result<()>,
) -> anyhow::Result<Timed> {
    let stream = device.stream().clone();
    let mut times = Vec::new();
    for _ in 0..=TIMES {
        let began = Instant::now();
        work(device)?;
        stream.synchronize().context("the device failed")?;
        times.push(1000.0 * began.elapsed().as_secs_f64());
    }
    // The first one brings along what is not timed.
    times.remove(0);
    Ok(Timed::of(times, 1))
}
