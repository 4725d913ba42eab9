//! Where control goes: post-dominators, and what lies between a branch and the place where its ways meet again.

/// Blocks of instructions and where each can be left to.  Block 0 is entered first.
#[derive(Clone, Debug)]
pub struct Flow {
    successors: Vec<Vec<usize>>,
    /// The blocks that every way from a block to the end passes, the block itself and the end included.
    passed: Vec<Set>,
}

impl Flow {
    /// Analyses a graph; the number of blocks stands for the end.
    ///
    /// # Panics
    ///
    /// A successor is neither a block nor the end.
    pub fn new(successors: Vec<Vec<usize>>) -> Self {
        let end = successors.len();
        assert!(successors.iter().flatten().all(|&to| to <= end), "a successor is a block");
        // What never ends is taken to end at any time: threads in it meet nobody.
        let reaches = reaching(&successors);
        let onward = |block: usize| {
            let leaves = (!reaches[block]).then_some(end);
            successors[block].iter().copied().chain(leaves)
        };
        // From what is passed at most to what is: a greatest fixed point.
        let mut passed = vec![Set::all(end + 1); end];
        passed.push(Set::new(end + 1));
        passed[end].insert(end);
        let mut changed = true;
        while changed {
            changed = false;
            for block in (0..end).rev() {
                let mut on_all_ways = Set::all(end + 1);
                for to in onward(block) {
                    on_all_ways.intersect(&passed[to]);
                }
                on_all_ways.insert(block);
                if on_all_ways != passed[block] {
                    passed[block] = on_all_ways;
                    changed = true;
                }
            }
        }
        Self { successors, passed }
    }

    /// Returns how many blocks there are.
    pub const fn len(&self) -> usize {
        self.successors.len()
    }

    /// Tells whether there is no block.
    pub const fn is_empty(&self) -> bool {
        self.successors.is_empty()
    }

    /// Returns where a block can be left to; [`len`](Self::len) is the end.
    pub fn successors(&self, block: usize) -> &[usize] {
        &self.successors[block]
    }

    /// Returns where all ways from a block meet first, if that is a block: its immediate post-dominator.
    pub fn meeting(&self, block: usize) -> Option<usize> {
        // Of what is passed, the one that passes all the others.
        let rest = self.passed[block].iter().filter(|&other| other != block).count();
        let nearest = self.passed[block]
            .iter()
            .find(|&other| other != block && self.passed[other].iter().count() == rest);
        nearest.filter(|&other| other < self.len())
    }

    /// Returns the blocks that threads may be in which a branch at the end of `block` has parted: those on a way
    /// from it that does not pass the place where all ways meet.
    ///
    /// The block itself is among them where it is in a loop that the branch leaves.
    pub fn parted(&self, block: usize) -> Vec<usize> {
        let meeting = self.meeting(block).unwrap_or(self.len());
        let mut seen = vec![false; self.len()];
        let mut next: Vec<_> = self.successors(block).to_vec();
        let mut parted = Vec::new();
        while let Some(block) = next.pop() {
            if block == meeting || block == self.len() || seen[block] {
                continue;
            }
            seen[block] = true;
            parted.push(block);
            next.extend(self.successors(block));
        }
        parted
    }
}

/// Tells of each block whether the end can be reached from it.
fn reaching(successors: &[Vec<usize>]) -> Vec<bool> {
    let end = successors.len();
    let mut reaches = vec![false; end];
    let mut changed = true;
    while changed {
        changed = false;
        for (block, to) in successors.iter().enumerate() {
            if !reaches[block] && to.iter().any(|&to| to == end || reaches[to]) {
                reaches[block] = true;
                changed = true;
            }
        }
    }
    reaches
}

/// Numbers below a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    words: Vec<u64>,
    bound: usize,
}

impl Set {
    pub(crate) fn new(bound: usize) -> Self {
        Self { words: vec![0; bound.div_ceil(64)], bound }
    }

    fn all(bound: usize) -> Self {
        let mut set = Self::new(bound);
        (0..bound).for_each(|number| set.insert(number));
        set
    }

    pub(crate) fn holds(&self, number: usize) -> bool {
        self.words[number / 64] >> (number % 64) & 1 == 1
    }

    pub(crate) fn insert(&mut self, number: usize) {
        self.words[number / 64] |= 1 << (number % 64);
    }

    pub(crate) fn remove(&mut self, number: usize) {
        self.words[number / 64] &= !(1 << (number % 64));
    }

    fn intersect(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(one, other)| *one &= other);
    }

    /// Adds the numbers of another set; returns whether one of them is new.
    pub(crate) fn unite(&mut self, other: &Self) -> bool {
        let before = self.words.clone();
        self.words.iter_mut().zip(&other.words).for_each(|(one, other)| *one |= other);
        self.words != before
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.bound).filter(|&number| self.holds(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```text
    /// 0 -> 1 -> 3 -> 4 (end)
    /// 0 -> 2 -> 3
    /// ```
    #[test]
    fn both_ways_of_a_branch_meet() {
        let flow = Flow::new(vec![vec![1, 2], vec![3], vec![3], vec![4], vec![5]]);
        assert_eq!(flow.meeting(0), Some(3));
        let mut parted = flow.parted(0);
        parted.sort_unstable();
        assert_eq!(parted, [1, 2]);
    }

    /// ```text
    /// 0 -> 1 -> 2 -> 1 (a loop), 2 -> 3 (end)
    /// ```
    #[test]
    fn a_loop_is_left_at_different_times() {
        let flow = Flow::new(vec![vec![1], vec![2], vec![1, 3], vec![4]]);
        assert_eq!(flow.meeting(2), Some(3));
        let mut parted = flow.parted(2);
        parted.sort_unstable();
        assert_eq!(parted, [1, 2]);
    }

    #[test]
    fn ways_that_end_apart_meet_nowhere() {
        let flow = Flow::new(vec![vec![1, 2], vec![3], vec![3]]);
        assert_eq!(flow.meeting(0), None);
        assert_eq!(flow.parted(0).len(), 2);
    }

    /// 1 is left by nobody: who comes to 2 does so without those.
    #[test]
    fn an_endless_loop_is_parted_from_the_rest() {
        let flow = Flow::new(vec![vec![1, 2], vec![1], vec![3]]);
        assert_eq!(flow.meeting(0), None);
        let mut parted = flow.parted(0);
        parted.sort_unstable();
        assert_eq!(parted, [1, 2]);
    }
}
