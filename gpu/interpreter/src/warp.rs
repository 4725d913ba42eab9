//! A warp: the registers of its threads, and where they are.

use std::collections::{HashMap, VecDeque};

use crate::{
    code::{Code, File, Place, Register, Special},
    lanes::{LANES, Lanes, lanes_of, map},
    schedule::Order,
};

/// Threads of a warp that are at the same instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) at: usize,
    pub(crate) mask: u32,
    pub(crate) state: State,
}

/// What a group is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Runs,
    /// It waits for the other threads of a mask, to execute its instruction with them.
    Meets(u32),
    /// It waits at a barrier of the block.
    Waits,
}

/// A copy under way to shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub(crate) to: usize,
    pub(crate) size: usize,
    pub(crate) from: u64,
    /// What it copies; zeros behind.
    pub(crate) count: usize,
    pub(crate) bytes: [u8; 16],
}

/// The copies of a thread: those that are in no group yet, and groups, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copies {
    pub(crate) open: Vec<Copy>,
    pub(crate) groups: VecDeque<Vec<Copy>>,
}

/// A warp.
#[derive(Debug)]
pub(crate) struct Warp {
    /// Its number in its block.
    pub(crate) index: u32,
    /// The threads that it began with.
    pub(crate) threads: u32,
    /// Those that have not exited.
    pub(crate) live: u32,
    pub(crate) groups: Vec<Group>,
    pub(crate) words: Vec<Lanes<u32>>,
    pub(crate) longs: Vec<Lanes<u64>>,
    pub(crate) predicates: Vec<u32>,
    /// Lanes that hold noise, or what was made of it, by file and register.
    pub(crate) made: HashMap<(u8, Register), u32>,
    /// For each register of each file, the lanes that have written it.
    pub(crate) defined: [Vec<u32>; 3],
    /// The local memory of each thread, one after the other.
    pub(crate) local: Vec<u8>,
    pub(crate) copies: Vec<Copies>,
    /// How many groups have used up their turns one after the other, and wait for others perhaps.
    pub(crate) turns: usize,
    /// When all its threads were synchronised.
    pub(crate) since: u32,
}

impl Warp {
    /// Makes a warp that can be launched; constants are there.
    pub(crate) fn new(code: &Code, index: u32) -> Self {
        let mut warp = Self {
            index,
            threads: 0,
            live: 0,
            groups: Vec::new(),
            words: vec![[0; LANES]; code.words],
            longs: vec![[0; LANES]; code.longs],
            predicates: vec![0; code.predicates],
            defined: [vec![0; code.words], vec![0; code.longs], vec![0; code.predicates]],
            made: HashMap::new(),
            local: vec![0; LANES * code.local_bytes],
            copies: vec![Copies::default(); LANES],
            turns: 0,
            since: 0,
        };
        for &(register, value) in &code.constant_words {
            warp.words[usize::from(register)] = [value; LANES];
        }
        for &(register, value) in &code.constant_longs {
            warp.longs[usize::from(register)] = [value; LANES];
        }
        for &(register, value) in &code.constant_predicates {
            warp.predicates[usize::from(register)] = if value { u32::MAX } else { 0 };
        }
        warp
    }

    /// Begins a launch of so many blocks and threads of each, some of which are its own.
    pub(crate) fn launch(&mut self, code: &Code, blocks: u32, threads: u32) {
        let first = 32 * self.index;
        self.threads = u32::MAX >> (32 - (threads - first).min(32));
        let lane: Lanes<u32> = std::array::from_fn(|lane| lane as u32);
        for &(register, special) in &code.specials {
            self.words[usize::from(register)] = match special {
                Special::Thread => map(&lane, |lane| first + lane),
                Special::Lane => lane,
                Special::Threads => [threads; LANES],
                Special::Blocks => [blocks; LANES],
                Special::One => [1; LANES],
                Special::Zero | Special::Block => [0; LANES],
            };
        }
    }

    /// Begins a block: all threads are at the first instruction, and have written nothing.
    pub(crate) fn begin(&mut self, code: &Code, block: u32) {
        self.live = self.threads;
        self.groups.clear();
        self.groups.push(Group { at: 0, mask: self.threads, state: State::Runs });
        self.defined.iter_mut().for_each(|defined| defined.fill(0));
        // Of a constant it is asked beside a register.
        for &(register, _) in &code.constant_words {
            self.defined[File::Words as usize][usize::from(register)] = u32::MAX;
        }
        for &(register, _) in &code.constant_longs {
            self.defined[File::Longs as usize][usize::from(register)] = u32::MAX;
        }
        for &(register, _) in &code.constant_predicates {
            self.defined[File::Predicates as usize][usize::from(register)] = u32::MAX;
        }
        for &(register, _) in &code.specials {
            self.defined[File::Words as usize][usize::from(register)] = u32::MAX;
        }
        // A byte that is no small number, and of no float that is finite.
        self.local.fill(0xcb);
        self.copies.iter_mut().for_each(|copies| {
            copies.open.clear();
            copies.groups.clear();
        });
        self.made.clear();
        self.turns = 0;
        self.since = 0;
        for &(register, special) in &code.specials {
            if special == Special::Block {
                self.words[usize::from(register)] = [block; LANES];
            }
        }
    }

    /// Returns the lanes that have written a register.
    #[inline(always)]
    pub(crate) fn defined(&self, place: Place) -> u32 {
        self.defined[place.file as usize][usize::from(place.register)]
    }

    /// Says that what lanes have in a register was made of what they have not written.
    pub(crate) fn undefine(&mut self, place: Place, lanes: u32) {
        self.defined[place.file as usize][usize::from(place.register)] &= !lanes;
        *self.made.entry((place.file as u8, place.register)).or_default() |= lanes;
    }

    /// Puts noise into a register where lanes have neither written it nor made anything of noise.
    pub(crate) fn disturb(&mut self, place: Place, lanes: u32, noise: u64) {
        let made = self.made.entry((place.file as u8, place.register)).or_default();
        let register = usize::from(place.register);
        let lanes = lanes & !self.defined[place.file as usize][register] & !*made;
        *made |= lanes;
        let mut order = Order::new(noise ^ u64::from(self.index) << 48 ^ (register as u64) << 20);
        for lane in lanes_of(lanes) {
            match place.file {
                File::Words => self.words[register][lane] = order.below(1 << 16),
                File::Longs => self.longs[register][lane] = order.next(),
                File::Predicates => {
                    // Not what an earlier launch has left there.
                    self.predicates[register] &= !(1 << lane);
                    self.predicates[register] |= order.below(2) << lane;
                }
            }
        }
    }

    #[inline(always)]
    pub(crate) fn word(&self, register: Register) -> &Lanes<u32> {
        &self.words[usize::from(register)]
    }

    #[inline(always)]
    pub(crate) fn long(&self, register: Register) -> &Lanes<u64> {
        &self.longs[usize::from(register)]
    }

    #[inline(always)]
    pub(crate) fn predicate(&self, register: Register) -> u32 {
        self.predicates[usize::from(register)]
    }

    #[inline(always)]
    pub(crate) fn set_word(&mut self, register: Register, mask: u32, values: &Lanes<u32>) {
        let register = usize::from(register);
        let to = &mut self.words[register];
        if mask == u32::MAX {
            *to = *values;
        } else {
            for lane in 0..LANES {
                to[lane] = if mask >> lane & 1 == 1 { values[lane] } else { to[lane] };
            }
        }
        self.defined[File::Words as usize][register] |= mask;
    }

    #[inline(always)]
    pub(crate) fn set_long(&mut self, register: Register, mask: u32, values: &Lanes<u64>) {
        let register = usize::from(register);
        let to = &mut self.longs[register];
        if mask == u32::MAX {
            *to = *values;
        } else {
            for lane in 0..LANES {
                to[lane] = if mask >> lane & 1 == 1 { values[lane] } else { to[lane] };
            }
        }
        self.defined[File::Longs as usize][register] |= mask;
    }

    #[inline(always)]
    pub(crate) fn set_predicate(&mut self, register: Register, mask: u32, values: u32) {
        let register = usize::from(register);
        let to = &mut self.predicates[register];
        *to = *to & !mask | values & mask;
        self.defined[File::Predicates as usize][register] |= mask;
    }
}
