//! Threads as ranks: the operations of a group, steps that are shared, sums, what ends a run, and what the model
//! of their cost counts.

mod engine;
mod group;
mod model;
mod planted;
mod steps;
mod sum;

use std::{thread, time::Duration};

use adaloss_threads::{Member, team};

/// Longer than any rank takes here that does come.
const LONG: Duration = Duration::from_secs(60);

/// Runs each rank in a thread of its own, and returns what they returned, in order.
fn ranks<T: Send>(size: usize, deadline: Duration, run: impl Fn(Member) -> T + Sync) -> Vec<T> {
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> = team(size, deadline)
            .into_iter()
            .map(|member| scope.spawn(move || run(member)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a rank that ends")).collect()
    })
}
