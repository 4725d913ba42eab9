//! What agreements cost on this machine, measured: `mpirun -n 2 cost` takes steps with one and without one in turns, and prints
//! beside them what the model of `adaloss-threads` (its example `model`) says at the latency and bandwidth that were measured in
//! the same run.  `mpirun -n 2 cost brief` only tries the program.
//!
//! A step is some work on each rank, visits of all cells, the sum of a gradient over the ranks, an agreement in every other step,
//! and the verdict.  Of its time the longest of all ranks counts, and all ranks begin together.
//!
//! More ranks than cores are no measurement: it times the operating system's scheduler.

use std::{
    env,
    hint::black_box,
    time::{Duration, Instant},
};

use adaloss_core::{
    format::{Format, f16},
    policy::{Cell, Config},
    propagate::Scaled,
    scale::Scale,
    scaler::{State, Step, share::message_bytes},
    unscale::Verdict,
};
use adaloss_hal::group::{Group, Solo, agree, meet, room_bytes, room_values, sum};
use adaloss_mpi::Ranks;

use cluster::Cluster;
use reduction::Network;

#[allow(dead_code, reason = "certificates are for `model`")]
#[path = "../../threads/examples/model/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "names are for `model`")]
#[path = "../../threads/examples/model/reduction.rs"]
mod reduction;

const DEADLINE: Duration = Duration::from_secs(60);
const CELLS: [usize; 2] = [100, 1000];
const WORK: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(20)];
/// Of the tensor of a cell, of the work, and of the gradient: 1 MiB.
const VALUES: usize = 64;
const WORK_VALUES: usize = 4096;
const GRADIENT: usize = (1 << 20) / size_of::<f32>();

/// How much is measured.
#[derive(Clone, Copy)]
struct Extent {
    repetitions: usize,
    /// Steps with and without an agreement.
    pairs: usize,
    small: usize,
    large: usize,
}

const FULL: Extent = Extent { repetitions: 7, pairs: 50, small: 2000, large: 50 };
const BRIEF: Extent = Extent { repetitions: 2, pairs: 4, small: 20, large: 2 };

/// The parts of a step, and all of it, in nanoseconds.
#[derive(Clone, Copy)]
struct Times {
    visits: u64,
    sum: u64,
    agreement: u64,
    /// Of the rank that came last, and so waited for none.
    shortest_agreement: u64,
    whole: u64,
}

/// A scaler whose cells lie in the open.
struct Scaler {
    state: State,
    cells: Vec<Cell>,
    room: Vec<u8>,
}

impl Scaler {
    fn new(config: Config, cells: usize) -> Self {
        let room = vec![0; message_bytes(cells)];
        Self { state: State::new(config), cells: vec![Cell::new(); cells], room }
    }
}

/// What a rank works on.
struct Rank {
    /// Of which the ranks agree on each step, and of which none does.
    shared: Scaler,
    own: Scaler,
    tensors: Vec<f32>,
    work: Vec<f32>,
    gradient: Vec<f32>,
    sums: Vec<f32>,
    sum_room: Vec<u8>,
    sum_rows: Vec<f32>,
    steps: usize,
}

impl Rank {
    fn new(group: &Ranks, cells: usize) -> Self {
        let config = Config::for_format(Format::BINARY16);
        let mut word = 1 + group.rank() as u64;
        let mut random = || {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            word >> 40
        };
        let mut fraction = || random() as f32 * 2.0_f32.powi(-24);
        let work = (0..WORK_VALUES).map(|_| 0.1 + 0.8 * fraction()).collect();
        let gradient = (0..GRADIENT).map(|_| fraction() - 0.5).collect();
        // Magnitudes of many binades, as gradients have them; one more tensor, to begin at another value in each step.
        let mut tensor = || (fraction() - 0.5) * (-28.0 + 16.0 * fraction()).exp2();
        let tensors = (0..(cells + 1) * VALUES).map(|_| tensor()).collect();
        Self {
            shared: Scaler::new(config, cells),
            own: Scaler::new(config, cells),
            tensors,
            work,
            gradient,
            sums: vec![0.0; GRADIENT],
            sum_room: vec![0; room_bytes::<f32>(GRADIENT, group.size())],
            sum_rows: vec![0.0; room_values(GRADIENT, group.size())],
            steps: 0,
        }
    }

    /// Takes a step, and returns how long the slowest rank took.
    fn step(&mut self, group: &mut Ranks, passes: u64, agrees: bool) -> Times {
        self.sums.copy_from_slice(&self.gradient);
        self.steps += 1;
        let scaler = if agrees { &mut self.shared } else { &mut self.own };
        let began = Instant::now();
        work(&mut self.work, passes);

        let cells = scaler.cells.len();
        let mut step = scaler.state.begin(&mut scaler.cells);
        let at = Instant::now();
        visit(&mut step, cells, &self.tensors[self.steps % VALUES..]);
        let visits = at.elapsed();

        let at = Instant::now();
        let (room, rows) = (&mut self.sum_room, &mut self.sum_rows);
        sum::<f32, _>(&mut self.sums, Scale::ONE, group, room, rows).expect("all come");
        let sum = at.elapsed();

        let at = Instant::now();
        if agrees {
            agree(&mut step.share(), group, &mut scaler.room).expect("ranks that are alike");
        }
        let agreement = at.elapsed();
        assert_eq!(step.finish(), Verdict::Apply);
        let whole = began.elapsed();

        let nanos = [visits, sum, agreement, whole].map(|part| part.as_nanos() as u64);
        let mut slowest = [nanos[0], nanos[1], nanos[2], u64::MAX - nanos[2], nanos[3]];
        // Nobody begins the next step before all have ended this one.
        group.max_u64(&mut slowest).expect("all come");
        let [visits, sum, agreement, shortest, whole] = slowest;
        Times { visits, sum, agreement, shortest_agreement: u64::MAX - shortest, whole }
    }
}

/// Visits the loss and all cells.
fn visit(step: &mut Step<'_>, cells: usize, tensors: &[f32]) {
    let mut narrowed = [f16::ZERO; VALUES];
    step.loss().apply(&tensors[..VALUES], &mut narrowed).expect("one length");
    for (id, values) in tensors.chunks_exact(VALUES).take(cells).enumerate() {
        let visit = step.layer(id, Scaled::new((), Scale::ONE)).expect("a cell");
        visit.apply(values, &mut narrowed).expect("one length");
    }
    black_box(narrowed);
}

/// Works through values so many times: they never repeat themselves, and stay between 0 and 1.
fn work(values: &mut [f32], passes: u64) {
    for _ in 0..passes {
        for value in black_box(&mut *values) {
            *value *= 3.7 * (1.0 - *value);
        }
    }
}

/// Returns how many passes take so long on rank 0, for all ranks.
fn passes(group: &mut Ranks, rank: &mut Rank, long: Duration) -> u64 {
    const TRIED: u64 = 200;
    work(&mut rank.work, TRIED);
    let tries = (0..9).map(|_| timed(|| work(&mut rank.work, TRIED)));
    let each = median(tries) / TRIED as f64;
    let mut passes = ((long.as_secs_f64() / each) as u64).to_le_bytes();
    group.broadcast(0, &mut passes).expect("all come");
    u64::from_le_bytes(passes)
}

/// Measures what the model asks for: the network by one byte and by 1 MiB, the host by agreements of this rank alone.
fn cluster(group: &mut Ranks, extent: Extent, rank: &mut Rank) -> Cluster {
    let mut reduced = |bytes: usize, times: usize| {
        let mut message = vec![1; bytes];
        median((0..times).map(|_| timed(|| group.max_u8(&mut message).expect("all come"))))
    };
    const LARGE: usize = 1 << 20;
    let latency = reduced(1, extent.small);
    let large = reduced(LARGE, extent.large);
    let scaler = &mut rank.own;
    let cells = scaler.cells.len();
    let mut step = scaler.state.begin(&mut scaler.cells);
    visit(&mut step, cells, &rank.tensors);
    let alone = || agree(&mut step.share(), &mut Solo, &mut scaler.room).expect("one rank");
    let alone = repeated(extent.small, alone);
    let _ = step.finish();
    // Two ranks exchange all they have once; what a byte takes to be merged is in what it takes to be sent.
    let per_byte = (large - latency).max(0.0) / LARGE as f64;
    let network = Network { latency, per_byte, per_merged_byte: 0.0, per_call: 0.0 };
    Cluster { network, per_cell: alone / cells as f64 }
}

/// Returns how long agreements take one after the other.
fn in_a_row(group: &mut Ranks, extent: Extent, rank: &mut Rank) -> f64 {
    let scaler = &mut rank.shared;
    let cells = scaler.cells.len();
    let mut step = scaler.state.begin(&mut scaler.cells);
    visit(&mut step, cells, &rank.tensors);
    let agreement =
        || agree(&mut step.share(), group, &mut scaler.room).expect("ranks that are alike");
    let seconds = repeated(extent.small, agreement);
    assert_eq!(step.finish(), Verdict::Apply);
    seconds
}

/// Measures one kind of step, and prints it on rank 0.
fn measure(group: &mut Ranks, extent: Extent, cells: usize, long: Duration) {
    let mut rank = Rank::new(group, cells);
    meet(&rank.shared.state.begin(&mut rank.shared.cells).share(), group, &mut rank.shared.room)
        .expect("ranks that are alike");
    let passes = passes(group, &mut rank, long);
    for nth in 0..8 {
        rank.step(group, passes, nth % 2 == 0);
    }
    let cluster = cluster(group, extent, &mut rank);
    let in_a_row = in_a_row(group, extent, &mut rank);
    let model = cluster.agreement_seconds(cells, group.size());

    let (mut runs, mut all) = (Vec::new(), Vec::new());
    for _ in 0..extent.repetitions {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for nth in 0..extent.pairs {
            // Which of the two comes first takes turns, too.
            for agrees in [nth % 2 == 0, nth % 2 != 0] {
                let times = rank.step(group, passes, agrees);
                if agrees { with.push(times) } else { without.push(times) }
            }
        }
        let of = |steps: &[Times], part: fn(&Times) -> u64| {
            median(steps.iter().map(|times| part(times) as f64 * 1.0e-9))
        };
        runs.push([of(&with, |times| times.whole), of(&without, |times| times.whole)]);
        all.push([with, without]);
    }
    if group.rank() > 0 {
        return;
    }
    let every = |part: fn(&Times) -> u64, which: usize| {
        let steps = all.iter().flat_map(|pair| &pair[which]);
        median(steps.map(|times| part(times) as f64 * 1.0e-9))
    };
    let (with, without) = (every(|times| times.whole, 0), every(|times| times.whole, 1));
    let (agreement, shortest) =
        (every(|times| times.agreement, 0), every(|times| times.shortest_agreement, 0));
    let ratios: Vec<f64> = runs.iter().map(|[with, without]| with / without).collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "{} ranks, {cells} cells, {} bytes, work of {} ms: visits {:.0} us, sum of 1 MiB {:.0} us",
        group.size(),
        message_bytes(cells),
        long.as_millis(),
        every(|times| times.visits, 1) * 1.0e6,
        every(|times| times.sum, 1) * 1.0e6,
    );
    println!(
        "  measured here: {:.2} us a message, {:.2} GB/s, {:.1} ns a cell",
        cluster.network.latency * 1.0e6,
        1.0e-9 / cluster.network.per_byte,
        cluster.per_cell * 1.0e9,
    );
    println!(
        "  an agreement: {:.1} us by the model, {:.1} us in a row; in a step {:.1} us on the rank that comes last, {:.1} us with the wait for it",
        model * 1.0e6,
        in_a_row * 1.0e6,
        shortest * 1.0e6,
        agreement * 1.0e6,
    );
    println!(
        "  a step: {:.3} ms with, {:.3} ms without; ratio {:.4}, {least:.4} to {greatest:.4} in {} runs of {} pairs",
        with * 1.0e3,
        without * 1.0e3,
        median(ratios.iter().copied()),
        runs.len(),
        extent.pairs,
    );
    println!(
        "  share of a step: {:.3} % by the model, {:.3} % on the rank that comes last, {:.3} % with the wait",
        100.0 * model / without,
        100.0 * shortest / without,
        100.0 * agreement / without,
    );
}

/// Returns what one of many calls takes that are too short to be timed alone.
fn repeated(times: usize, mut call: impl FnMut()) -> f64 {
    const AT_ONCE: usize = 10;
    let mut block = || timed(|| (0..AT_ONCE).for_each(|_| call()));
    median((0..times.div_ceil(AT_ONCE)).map(|_| block())) / AT_ONCE as f64
}

fn timed(call: impl FnOnce()) -> f64 {
    let began = Instant::now();
    call();
    began.elapsed().as_secs_f64()
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

fn main() {
    let extent = match env::args().nth(1).as_deref() {
        None => FULL,
        Some("brief") => BRIEF,
        Some(other) => panic!("{other} is nothing that there is to do: brief, or nothing"),
    };
    let universe = mpi::initialize().expect("an MPI that was not initialized before");
    let mut group = Ranks::duplicate(&universe.world(), DEADLINE).expect("a communicator");
    for cells in CELLS {
        for long in WORK {
            measure(&mut group, extent, cells, long);
        }
    }
}
