//! What each rank of `mpirun -n 4 ranks <what>` does: `steps` are shared and compared with one scaler that saw everything;
//! the others plant a mistake on the last rank, and expect to be told: `bit`, `late`, `config`, `cells`, `absent`, `gone`.
//!
//! `../check.sh` runs them all.

use std::{
    env, process, thread,
    time::{Duration, Instant},
};

use adaloss_core::{
    format::{Element, Format, f16},
    policy::{Cell, Config},
    propagate::Scaled,
    scale::Scale,
    scaler::{State, Step, share::message_bytes},
    unscale::{Place, Unscaled, Verdict},
};
use adaloss_hal::group::{
    AgreeError, Difference, Exchange, Group, Solo, What, agree, meet, merge_histogram, room_bytes,
    room_values, sum,
};
use adaloss_mpi::{Failure, MpiError, Ranks};

const CELLS: usize = 12;
const STEPS: u64 = 200;
/// Of a rank that never comes, and of all others.
const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(60);

/// A scaler whose cells lie in the open.
struct Scaler {
    state: State,
    cells: Vec<Cell>,
    room: Vec<u8>,
}

impl Scaler {
    fn new(config: Config, cells: usize) -> Self {
        let cells = vec![Cell::new(); cells];
        let room = vec![0; message_bytes(cells.len())];
        Self { state: State::new(config), cells, room }
    }

    fn meet<G: Group>(&mut self, group: &mut G) -> Result<(), AgreeError<G::Error>> {
        meet(&self.state.begin(&mut self.cells).share(), group, &mut self.room)
    }

    /// Takes a step with the batches of some ranks.
    fn step<G: Group>(
        &mut self,
        group: &mut G,
        ranks: impl IntoIterator<Item = u64>,
    ) -> Result<Verdict, AgreeError<G::Error>> {
        let nth = self.state.totals().steps;
        let mut step = self.state.begin(&mut self.cells);
        ranks.into_iter().for_each(|rank| backward(&mut step, nth, rank));
        agree(&mut step.share(), group, &mut self.room)?;
        Ok(step.finish())
    }

    /// What has to be the same everywhere.
    fn parts(&mut self) -> Vec<u64> {
        let mut step = self.state.begin(&mut self.cells);
        let share = step.share();
        (0..).map_while(|index| share.part(index)).map(|(_, digest)| digest).collect()
    }
}

/// Goes backward through what a rank has in a step: other layers on each.
fn backward(step: &mut Step<'_>, nth: u64, rank: u64) {
    let mut word = 1 + 1000 * nth + rank;
    let mut random = |below: u64| {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (word >> 33) % below
    };
    let mut tensor = || {
        let centre = random(20) as i32 - 30;
        [(); 4].map(|()| (1.0 + random(1 << 20) as f32 * 2.0_f32.powi(-20)) * 2.0_f32.powi(centre))
    };
    let mut narrowed = [f16::ZERO; 4];
    step.loss().apply(&tensor(), &mut narrowed).expect("equal lengths");
    for id in 0..CELLS {
        let values = tensor();
        if (nth + rank + id as u64).is_multiple_of(2) {
            let visit = step.layer(id, Scaled::new((), Scale::ONE)).expect("a cell");
            visit.apply(&values, &mut narrowed).expect("equal lengths");
        }
    }
    if nth % 16 == 15 && nth / 16 % 2 == rank {
        step.unscaled(0, &Unscaled { elements: 1, nonfinite: 1, tiny: 0 });
    }
}

fn main() {
    let what = env::args().nth(1).expect("what to do");
    let universe = mpi::initialize().expect("an MPI that was not initialized before");
    let is_short = ["absent", "gone"].contains(&what.as_str());
    let deadline = if is_short { SHORT } else { LONG };
    let mut group = Ranks::duplicate(&universe.world(), deadline).expect("a communicator");
    let config = Config::for_format(Format::BINARY16);
    let is_odd = group.rank() == group.size() - 1;
    match what.as_str() {
        "steps" => steps(&mut group, config),
        "time" => time(&mut group, config),
        "config" | "cells" => {
            let seed = config.with_rounding(config.narrowing().rounding, 1);
            let (config, cells, what) = match what.as_str() {
                "config" if is_odd => (seed, CELLS, What::Config),
                "config" => (config, CELLS, What::Config),
                _ if is_odd => (config, CELLS + 1, What::Cells),
                _ => (config, CELLS, What::Cells),
            };
            let said = Scaler::new(config, cells).meet(&mut group);
            told(&group, said, Difference { rank: group.size() - 1, step: 0, what });
        }
        "bit" | "late" => {
            let (mut scaler, rank) = (Scaler::new(config, CELLS), group.rank() as u64);
            for _ in 0..10 {
                let _ = scaler.step(&mut group, [rank]).expect("ranks that are alike");
            }
            let (what, step) = match what.as_str() {
                "bit" => (What::Cell(Place::Layer(7)), 10),
                _ => (What::Step, 9),
            };
            if is_odd && step == 9 {
                scaler = Scaler::new(config, CELLS);
                for _ in 0..9 {
                    let _ = scaler.step(&mut Solo, [rank]).expect("alone");
                }
            } else if is_odd {
                let mut bytes = scaler.cells[7].to_bytes();
                bytes[2] ^= 1;
                scaler.cells[7] = Cell::from_bytes(&bytes).expect("a legal cell");
            }
            let said = scaler.step(&mut group, [rank]).map(drop);
            told(&group, said, Difference { rank: group.size() - 1, step, what });
        }
        "absent" | "gone" => absent(&mut group, config, is_odd, what == "gone"),
        other => panic!("{other} is nothing that there is to do"),
    }
}

/// Expects that all ranks are told the same, and of whom.
fn told(group: &Ranks, said: Result<(), AgreeError<MpiError>>, expected: Difference) {
    match said {
        Err(AgreeError::Differs(found)) if found == expected => {
            println!("rank {}: {found}", group.rank());
        }
        other => panic!("rank {}: {other:?} instead of {expected:?}", group.rank()),
    }
}

/// Shares steps, and takes them alone with the batches of all ranks: the same verdicts and cells.
fn steps(group: &mut Ranks, config: Config) {
    let (rank, size) = (group.rank() as u64, group.size() as u64);
    let (mut shared, mut whole) = (Scaler::new(config, CELLS), Scaler::new(config, CELLS));
    shared.meet(group).expect("ranks that are alike");
    let mut skipped = 0;
    for nth in 0..STEPS {
        let verdict = shared.step(group, [rank]).expect("ranks that are alike");
        assert_eq!(Ok(verdict), whole.step(&mut Solo, 0..size), "step {nth}");
        assert_eq!(shared.parts(), whole.parts(), "step {nth}");
        skipped += u32::from(verdict != Verdict::Apply);
    }
    // A histogram, and numbers of both widths.
    let mut histogram = adaloss_core::statistics::Histogram::new(config.narrowing());
    histogram.observe(&[1.0e-5; 3], Scale::ONE);
    merge_histogram(&mut histogram, group).expect("one narrowing");
    assert_eq!(histogram.nonzero(), 3 * size);
    let mut greatest = [rank, u64::MAX - rank];
    group.max_u64(&mut greatest).expect("all come");
    assert_eq!(greatest, [size - 1, u64::MAX]);
    let mut from = [rank as u8; 9];
    group.broadcast(group.size() - 1, &mut from).expect("all come");
    assert_eq!(from, [size as u8 - 1; 9]);
    assert!(group.broadcast(group.size(), &mut from).is_err());
    summed::<f32>(group);
    summed::<f16>(group);
    assert!(group.all_gather(&[0; 2], &mut [0; 3]).is_err());
    group.max_u8(&mut []).expect("nothing to agree on");
    group.broadcast(0, &mut []).expect("nothing to bring");
    group.all_gather(&[], &mut []).expect("nothing to bring");
    group.all_to_all(&[], &mut []).expect("nothing to bring");
    println!("rank {rank} of {size}: {STEPS} steps, {skipped} skipped, as one scaler took them");
}

/// Sums small whole numbers, which every format holds exactly.
fn summed<T: Element>(group: &mut Ranks) {
    const VALUES: usize = 1001;
    let (rank, size) = (group.rank(), group.size());
    let mut values: Vec<f32> = (0..VALUES).map(|nth| (nth % 17 * (rank + 1)) as f32).collect();
    let mut room = vec![0; room_bytes::<T>(VALUES, size)];
    let mut rows = vec![0.0; room_values(VALUES, size)];
    sum::<T, _>(&mut values, Scale::ONE, group, &mut room, &mut rows).expect("all come");
    let all = size * (size + 1) / 2;
    assert!(values.into_iter().eq((0..VALUES).map(|nth| (nth % 17 * all) as f32)));
}

/// Measures how long an agreement takes.
fn time(group: &mut Ranks, config: Config) {
    const AGREEMENTS: u32 = 200;
    for cells in [100, 1000, 10_000] {
        let mut scaler = Scaler::new(config, cells);
        scaler.meet(group).expect("ranks that are alike");
        let began = Instant::now();
        for _ in 0..AGREEMENTS {
            let mut step = scaler.state.begin(&mut scaler.cells);
            agree(&mut step.share(), group, &mut scaler.room).expect("ranks that are alike");
        }
        let each = began.elapsed() / AGREEMENTS;
        if group.rank() == 0 {
            let (ranks, bytes) = (group.size(), scaler.room.len());
            println!("{ranks} ranks, {cells} cells, {bytes} bytes: {each:?}");
        }
    }
}

/// Leaves an agreement out on one rank: the others give up at their deadline.
fn absent(group: &mut Ranks, config: Config, is_odd: bool, is_gone: bool) {
    let (mut scaler, rank) = (Scaler::new(config, CELLS), group.rank() as u64);
    for _ in 0..3 {
        let _ = scaler.step(group, [rank]).expect("ranks that are alike");
    }
    if is_odd {
        if is_gone {
            process::exit(0);
        }
        thread::sleep(10 * SHORT);
        println!("rank {rank}: nobody ended this");
        return;
    }
    let began = Instant::now();
    let said = scaler.step(group, [rank]);
    match said {
        Err(AgreeError::Group(error))
            if error.failure() == (Failure::Timeout { missing: Some(group.size() - 1) }) =>
        {
            println!("rank {rank}: {error}, after {:?}", began.elapsed());
            // The other ranks are about to say the same.
            thread::sleep(SHORT / 2);
            group.abort(3);
        }
        other => panic!("rank {rank}: {other:?}"),
    }
}
