//! What is wrong on one rank is found on all of them, with its name: nobody hangs, and nobody goes on.

use std::time::{Duration, Instant};

use adaloss_core::{
    format::{Format, f16},
    policy::{Cell, Config},
    propagate::Scaled,
    scale::Scale,
    scaler::{
        State,
        share::{ShareError, message_bytes},
    },
    unscale::Place,
};
use adaloss_hal::group::{
    AgreeError, Difference, Group, GroupError, GroupErrorKind, What, agree, meet,
};
use adaloss_threads::{Member, ThreadError};

use super::{
    LONG, ranks,
    steps::{CELLS, backward},
};

type Said = Result<(), AgreeError<ThreadError>>;

/// A rank whose scaler lies in the open.
struct Rank {
    group: Member,
    state: State,
    cells: Vec<Cell>,
}

impl Rank {
    fn new(group: Member, config: Config, cells: usize) -> Self {
        Self { group, state: State::new(config), cells: vec![Cell::new(); cells] }
    }

    fn step(&mut self) -> Said {
        let nth = self.state.totals().steps;
        let mut step = self.state.begin(&mut self.cells);
        backward::<f16>(&mut step, nth, self.group.rank() as u64);
        let mut room = vec![0; message_bytes(CELLS)];
        agree(&mut step.share(), &mut self.group, &mut room)?;
        let _ = step.finish();
        Ok(())
    }

    fn meet(&mut self) -> Said {
        let mut room = vec![0; message_bytes(self.cells.len())];
        let mut step = self.state.begin(&mut self.cells);
        meet(&step.share(), &mut self.group, &mut room)
    }

    fn flip(&mut self, id: usize, byte: usize, bits: u8) {
        let mut bytes = self.cells[id].to_bytes();
        bytes[byte] ^= bits;
        self.cells[id] = Cell::from_bytes(&bytes).expect("a legal cell");
    }
}

fn config() -> Config {
    Config::for_format(Format::BINARY16)
}

/// What all ranks say at the step after the tenth, before which something is done to one of them.
fn after_ten(size: usize, odd: usize, plant: impl Fn(&mut Rank) + Sync) -> Vec<Said> {
    ranks(size, LONG, |group| {
        let mut rank = Rank::new(group, config(), CELLS);
        for _ in 0..10 {
            rank.step().expect("ranks that are alike");
        }
        if rank.group.rank() == odd {
            plant(&mut rank);
        }
        rank.step()
    })
}

#[test]
fn a_flipped_bit_is_named_with_rank_step_and_cell() {
    for (size, odd) in [(2, 1), (4, 0), (4, 3), (16, 9)] {
        for (id, byte) in [(0, 3), (4, 20), (2, 0)] {
            let said = after_ten(size, odd, |rank| rank.flip(id, byte, 1));
            let what = What::Cell(Place::Layer(id));
            let expected = AgreeError::Differs(Difference { rank: odd, step: 10, what });
            assert_eq!(said, vec![Err(expected); size], "{size} ranks");
        }
    }
}

/// Of several cells the first is named, however far back.
#[test]
fn a_flipped_bit_among_many_cells_is_found() {
    const MANY: usize = 200;
    for at in [29, 30, 31, 94, MANY - 1] {
        let said = ranks(3, LONG, |group| {
            let mut rank = Rank::new(group, config(), MANY);
            let _ = rank.state.begin(&mut rank.cells).finish();
            let mut step = rank.state.begin(&mut rank.cells);
            let visit = step.layer(MANY - 1, Scaled::new((), Scale::ONE));
            visit.expect("a cell").apply(&[1.0e-3], &mut [f16::ZERO]).expect("one length");
            let _ = step.finish();
            if rank.group.rank() == 2 {
                rank.flip(at, 23, 1);
            }
            rank.meet()
        });
        let what = What::Cell(Place::Layer(at));
        let expected = AgreeError::Differs(Difference { rank: 2, step: 2, what });
        assert_eq!(said, [Err(expected); 3]);
    }
}

#[test]
fn a_rank_that_is_a_step_late_is_named_with_its_step() {
    let late = |rank: &mut Rank| {
        // It repeats what it had before its last step.
        let (mut state, mut cells) = (State::new(config()), vec![Cell::new(); CELLS]);
        for _ in 0..9 {
            let _ = state.begin(&mut cells).finish();
        }
        (rank.state, rank.cells) = (state, cells);
    };
    for odd in [0, 2] {
        let said = after_ten(4, odd, late);
        let expected = Difference { rank: odd, step: 9, what: What::Step };
        assert_eq!(said, [Err(AgreeError::Differs(expected)); 4]);
    }
}

#[test]
fn another_configuration_is_named_before_the_first_step() {
    let other = |configs: [Config; 2], cells: [usize; 2]| {
        ranks(4, LONG, |group| {
            let is_odd = usize::from(group.rank() == 1);
            Rank::new(group, configs[is_odd], cells[is_odd]).meet()
        })
    };
    let named = |what| [Err(AgreeError::Differs(Difference { rank: 1, step: 0, what })); 4];
    let same = config();
    let seed = same.with_rounding(same.narrowing().rounding, 1);
    assert_eq!(other([same, seed], [CELLS; 2]), named(What::Config));
    assert_eq!(other([same, same], [CELLS, CELLS + 1]), named(What::Cells));
    // And at a step, where nobody asked before.
    let said = ranks(4, LONG, |group| {
        let config = if group.rank() == 1 { seed } else { same };
        Rank::new(group, config, CELLS).step()
    });
    assert_eq!(said, named(What::Config));
}

/// Of messages of different lengths the group says that they cannot be merged.
#[test]
fn another_number_of_cells_at_a_step_is_a_mismatch() {
    let said = ranks(3, LONG, |mut group| {
        let cells = if group.rank() == 1 { 2 } else { 3 };
        let (mut state, mut cells) = (State::new(config()), vec![Cell::new(); cells]);
        let mut room = vec![0; message_bytes(cells.len())];
        agree(&mut state.begin(&mut cells).share(), &mut group, &mut room)
    });
    for said in said {
        let Err(AgreeError::Group(error)) = said else { panic!("{said:?}") };
        assert_eq!(error.kind(), GroupErrorKind::Mismatch);
    }
}

/// What the others say where rank 2 leaves the agreement of a step out.
fn without_rank_2(deadline: Duration, instead: impl Fn(Rank) + Sync) -> Vec<(GroupErrorKind, u64)> {
    let said = ranks(4, deadline, |group| {
        let mut rank = Rank::new(group, config(), CELLS);
        for _ in 0..3 {
            rank.step().expect("ranks that are alike");
        }
        if rank.group.rank() == 2 {
            instead(rank);
            return None;
        }
        let said = rank.step();
        let Err(AgreeError::Group(error)) = said else { panic!("{said:?}") };
        assert_eq!(GroupError::rank(&error), Some(2), "{error}");
        // The step was not finished.
        Some((error.kind(), rank.state.totals().steps))
    });
    said.into_iter().flatten().collect()
}

#[test]
fn a_rank_that_leaves_a_step_out_is_named_and_nobody_hangs() {
    let began = Instant::now();
    // It skips its step on its own, goes on, and comes to the next one when the others have given up.
    let deadline = Duration::from_millis(300);
    let said = without_rank_2(deadline, |mut rank| {
        let _ = rank.state.begin(&mut rank.cells).finish();
        std::thread::sleep(3 * deadline);
        assert!(rank.step().is_err());
    });
    assert_eq!(said, [(GroupErrorKind::Timeout, 3); 3]);
    // It ends.
    assert_eq!(without_rank_2(LONG, drop), [(GroupErrorKind::Disconnected, 3); 3]);
    assert!(began.elapsed() < LONG);
}

/// A rank that leaves one agreement out and is at the next one meanwhile.
#[test]
fn a_rank_that_skips_alone_is_named() {
    let said = after_ten(4, 2, |rank| {
        let _ = rank.state.begin(&mut rank.cells).finish();
    });
    let expected = Difference { rank: 2, step: 11, what: What::Step };
    assert_eq!(said, [Err(AgreeError::Differs(expected)); 4]);
}

#[test]
fn a_rank_without_room_says_so() {
    let (mut state, mut cells) = (State::new(config()), [Cell::new(); 2]);
    let mut group = adaloss_hal::group::Solo;
    let said = agree(&mut state.begin(&mut cells).share(), &mut group, &mut [0; 9]);
    let room = ShareError::Room { expected: message_bytes(2), length: 9 };
    assert_eq!(said, Err(AgreeError::Share(room)));
}
