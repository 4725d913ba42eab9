//! Where the threads of a block go: branches that part them, and where they wait for one another.

use crate::{
    code::{File, NONE, Op, Place},
    error::{FaultKind, Step, Stop},
    lanes::lanes_of,
    machine::Machine,
    schedule::{Divergence, Order},
    warp::{Group, State, Warp},
};

/// Instructions that a group executes at most before others have their turn: it may wait for them in a loop.
const TURN: u32 = 1 << 16;

/// Groups of threads that a fault names at most.
const MOST_PLACES: usize = 8;

/// A fault and the warp that it is of.
pub(crate) type Fallen = (Box<Stop>, Option<u32>);

/// Runs the warps of a block to their ends.
pub(crate) fn run(
    machine: &mut Machine<'_>,
    warps: &mut [Warp],
    divergence: Divergence,
    order: &mut Order,
) -> Result<(), Fallen> {
    loop {
        for index in order.of(warps.len()) {
            let warp = &mut warps[index];
            run_warp(machine, warp, divergence, order)
                .map_err(|stop| (stop, Some(index as u32)))?;
        }
        if warps.iter().all(|warp| warp.live == 0) {
            return Ok(());
        }
        // The last to come may have used up its turn on the way.
        warps.iter_mut().for_each(meet);
        let runs = |warp: &Warp| warp.groups.iter().any(|group| group.state == State::Runs);
        if !warps.iter().any(runs) {
            pass_barrier(machine, warps)?;
        }
    }
}

/// Lets the groups of a warp run, each for a turn at most, until they all wait or have exited, or one has used up
/// its turn.
fn run_warp(
    machine: &mut Machine<'_>,
    warp: &mut Warp,
    divergence: Divergence,
    order: &mut Order,
) -> Step {
    loop {
        meet(warp);
        if divergence == Divergence::SmallestFirst {
            merge(warp);
        }
        let Some((index, limit)) = choose(warp, divergence, order) else { return Ok(()) };
        let group = warp.groups.swap_remove(index);
        let mut turn = match divergence {
            Divergence::SmallestFirst => TURN,
            Divergence::Parted => 64 + order.below(1024),
        };
        run_group(machine, warp, group, limit, &mut turn)?;
        warp.turns = if turn == 0 { warp.turns + 1 } else { 0 };
        if turn == 0 {
            return Ok(());
        }
    }
}

/// Returns a group that can run, and the instruction that it is not to pass.
///
/// Threads that are further on in the text wait for those that are behind, unless those have used up a turn: they
/// may be waiting themselves, in a loop.
fn choose(warp: &Warp, divergence: Divergence, order: &mut Order) -> Option<(usize, usize)> {
    let runs = || (0..warp.groups.len()).filter(|&of| warp.groups[of].state == State::Runs);
    let count = runs().count();
    match divergence {
        _ if count == 0 => None,
        Divergence::SmallestFirst if warp.turns == 0 => {
            let first = runs().min_by_key(|&of| warp.groups[of].at)?;
            let others = runs().filter(|&of| of != first).map(|of| warp.groups[of].at);
            Some((first, others.min().unwrap_or(usize::MAX)))
        }
        Divergence::SmallestFirst => {
            let mut all: Vec<_> = runs().collect();
            all.sort_by_key(|&of| warp.groups[of].at);
            Some((all[warp.turns % count], usize::MAX))
        }
        Divergence::Parted => Some((runs().nth(order.below(count as u32) as usize)?, usize::MAX)),
    }
}

/// Joins groups that are at the same instruction.
fn merge(warp: &mut Warp) {
    if warp.groups.len() < 2 {
        return;
    }
    warp.groups.sort_by_key(|group| (group.at, group.state != State::Runs));
    warp.groups.dedup_by(|other, group| {
        let same = other.at == group.at && other.state == State::Runs && group.state == State::Runs;
        if same {
            group.mask |= other.mask;
        }
        same
    });
}

/// Lets groups go on together that wait for one another and are all there.
fn meet(warp: &mut Warp) {
    let waits = |group: &Group| matches!(group.state, State::Meets(_));
    while let Some(first) = warp.groups.iter().position(|group| {
        waits(group) && {
            let State::Meets(members) = group.state else { return false };
            let same = |of: &&Group| of.at == group.at && of.state == group.state;
            let there = warp.groups.iter().filter(same).fold(0, |all, of| all | of.mask);
            there == members & warp.live
        }
    }) {
        let Group { at, state, .. } = warp.groups[first];
        let mut mask = 0;
        warp.groups.retain(|group| {
            let same = group.at == at && group.state == state;
            mask |= if same { group.mask } else { 0 };
            !same
        });
        warp.groups.push(Group { at, mask, state: State::Runs });
    }
}

/// Lets a group run until it comes to a limit, waits, parts or exits.
fn run_group(
    machine: &mut Machine<'_>,
    warp: &mut Warp,
    Group { mut at, mask, .. }: Group,
    limit: usize,
    turn: &mut u32,
) -> Step {
    let code = machine.code;
    while at < limit && *turn > 0 {
        let instruction = &code.instructions[at];
        let mut active = mask;
        if instruction.guard != NONE {
            let place = Place { file: File::Predicates, register: instruction.guard };
            let wrong = machine.check_read(warp, place, mask);
            wrong.map_err(|stop| placed(stop, at))?;
            let guard = warp.predicate(instruction.guard);
            active &= if instruction.is_negated { !guard } else { guard };
        }
        if machine.budget == 0 {
            let what = "more instructions than the launch allows".to_owned();
            let lane = Some(mask.trailing_zeros());
            return Err(Box::new(Stop { kind: FaultKind::Limit, lane, at: Some(at), what }));
        }
        machine.budget -= 1;
        *turn -= 1;
        let executed = &mut machine.executed[at];
        executed.by_warps += 1;
        executed.by_threads += u64::from(active.count_ones());
        let goes_on = match instruction.op {
            // A guard parts the threads that come to it from the others.
            Op::Branch(_) | Op::Return | Op::Barrier | Op::Trap => false,
            _ if instruction.is_of_warp => active == mask,
            _ => true,
        };
        if !goes_on {
            let left = leave(machine, warp, at, active, mask).map_err(|stop| placed(stop, at))?;
            match left {
                Some(next) => {
                    at = next;
                    continue;
                }
                None => return Ok(()),
            }
        }
        if active == 0 {
            at += 1;
            continue;
        }
        let stepped = if instruction.is_of_warp {
            match together(machine, warp, at, active) {
                Ok(true) => machine.execute_of_warp(warp, &instruction.op, active),
                Ok(false) => return Ok(()),
                Err(stop) => Err(stop),
            }
        } else {
            if machine.missing(warp, instruction.reads, active) == 0 {
                machine.execute(warp, &instruction.op, active)
            } else {
                machine.execute_undefined(warp, instruction, active)
            }
        };
        stepped.map_err(|stop| placed(stop, at))?;
        at += 1;
    }
    warp.groups.push(Group { at, mask, state: State::Runs });
    Ok(())
}

fn placed(mut stop: Box<Stop>, at: usize) -> Box<Stop> {
    stop.at.get_or_insert(at);
    stop
}

/// Executes what parts threads; returns where all of them go on, if they do together.
fn leave(
    machine: &mut Machine<'_>,
    warp: &mut Warp,
    at: usize,
    active: u32,
    mask: u32,
) -> Step<Option<usize>> {
    let rest = mask & !active;
    if active == 0 {
        return Ok(Some(at + 1));
    }
    let instruction = &machine.code.instructions[at];
    let runs = |at: usize, mask: u32| Group { at, mask, state: State::Runs };
    match instruction.op {
        Op::Branch(to) if rest == 0 => return Ok(Some(to as usize)),
        Op::Branch(to) => {
            machine.counts.divergences += 1;
            warp.groups.push(runs(to as usize, active));
        }
        Op::Return => warp.live &= !active,
        Op::Barrier => warp.groups.push(Group { at, mask: active, state: State::Waits }),
        Op::Trap => return Err(Stop::new(FaultKind::Trap, active.trailing_zeros(), "a trap")),
        // Those that the guard lets through come to it once more, alone.
        _ => {
            warp.groups.push(Group { at, mask: active, state: State::Runs });
            machine.uncount(at, active);
        }
    }
    if rest != 0 {
        warp.groups.push(runs(at + 1, rest));
    }
    Ok(None)
}

/// Tells whether all threads are there that execute an instruction together; if not, the group waits.
fn together(machine: &mut Machine<'_>, warp: &mut Warp, at: usize, active: u32) -> Step<bool> {
    let instruction = &machine.code.instructions[at];
    machine.refuse_undefined(warp, instruction.reads, active)?;
    let first = active.trailing_zeros();
    let members = match instruction.op {
        Op::Shuffle { members, .. } | Op::WarpBarrier { members } => {
            let members = warp.word(members);
            let of_first = members[first as usize];
            if lanes_of(active).any(|lane| members[lane] != of_first) {
                return part(machine, warp, at, active);
            }
            of_first
        }
        _ if warp.live != u32::MAX => {
            let what = "the whole warp has to execute it, and threads have exited or never were";
            return Err(Stop::new(FaultKind::Barrier, first, what));
        }
        _ => u32::MAX,
    };
    if active & !members != 0 {
        let lane = (active & !members).trailing_zeros();
        let what = format!("its lane is not among the members {members:#010x}");
        return Err(Stop::new(FaultKind::Barrier, lane, what));
    }
    if active == members & warp.live {
        return Ok(true);
    }
    machine.uncount(at, active);
    warp.groups.push(Group { at, mask: active, state: State::Meets(members) });
    Ok(false)
}

/// Parts threads that name other members.
fn part(machine: &mut Machine<'_>, warp: &mut Warp, at: usize, active: u32) -> Step<bool> {
    let (Op::Shuffle { members, .. } | Op::WarpBarrier { members }) =
        machine.code.instructions[at].op
    else {
        return Ok(true);
    };
    machine.uncount(at, active);
    let members = *warp.word(members);
    let mut rest = active;
    while rest != 0 {
        let of_first = members[rest.trailing_zeros() as usize];
        let same = lanes_of(rest).filter(|&lane| members[lane] == of_first);
        let mask = same.fold(0, |mask, lane| mask | 1 << lane);
        if mask & !of_first != 0 {
            let what = format!("its lane is not among the members {of_first:#010x}");
            return Err(Stop::new(FaultKind::Barrier, (mask & !of_first).trailing_zeros(), what));
        }
        warp.groups.push(Group { at, mask, state: State::Meets(of_first) });
        rest &= !mask;
    }
    Ok(false)
}

/// Lets all threads pass the barrier that they wait at, or says why they cannot.
fn pass_barrier(machine: &mut Machine<'_>, warps: &mut [Warp]) -> Result<(), Fallen> {
    let all = || warps.iter().flat_map(|warp| warp.groups.iter().map(move |group| (warp, group)));
    let Some((_, first)) = all().next() else { return Ok(()) };
    let stop = |kind, at, what| Box::new(Stop { kind, lane: None, at: Some(at), what });
    if all().any(|(_, group)| group.state != State::Waits) {
        let what = format!("a deadlock: {}", stand(machine, warps));
        return Err((stop(FaultKind::Deadlock, first.at, what), None));
    }
    let at = first.at;
    if all().any(|(_, group)| group.at != at) {
        let what = format!("threads wait at different barriers: {}", stand(machine, warps));
        return Err((stop(FaultKind::Barrier, at, what), None));
    }
    if warps.iter().any(|warp| warp.live != warp.threads) {
        let what = format!("a barrier that others will not come to: {}", stand(machine, warps));
        return Err((stop(FaultKind::Barrier, at, what), None));
    }
    for warp in warps {
        warp.groups.clear();
        warp.groups.push(Group { at: at + 1, mask: warp.live, state: State::Runs });
    }
    machine.shared.barrier();
    machine.counts.barriers += 1;
    Ok(())
}

/// Says where the threads of a block are.
fn stand(machine: &Machine<'_>, warps: &[Warp]) -> String {
    let mut all = Vec::new();
    for warp in warps {
        let mut groups = warp.groups.clone();
        groups.sort_by_key(|group| group.mask.trailing_zeros());
        for group in &groups {
            let line = machine.code.instructions[group.at].line;
            let waits = match group.state {
                State::Runs => "run at".to_owned(),
                State::Waits => "wait at the barrier in".to_owned(),
                State::Meets(members) => format!("wait for {members:#010x} in"),
            };
            all.push(format!("{:#010x} of warp {} {waits} line {line}", group.mask, warp.index));
        }
        let exited = warp.threads & !warp.live;
        if exited != 0 {
            all.push(format!("{exited:#010x} of warp {} have exited", warp.index));
        }
    }
    // Of many warps, some are enough to see what is wrong: first those that others may wait for.
    let text = |of: &String| of.contains("the barrier in");
    if all.len() > MOST_PLACES {
        all.sort_by_key(text);
        let more = all.len() - MOST_PLACES;
        all.truncate(MOST_PLACES);
        all.push(format!("{more} more"));
    }
    all.join(", ")
}
