//! How ranks begin and end: as threads of this process, or as processes that MPI's launcher started.

use std::{env, thread, time::Duration};

use adaloss_train::{
    console,
    layer::Diverged,
    ranks::{Common, Elsewhere, Failure, OnRank, Team},
};
use anyhow::{Error, Result, anyhow, ensure};

use super::interrupt::Interrupted;

/// The most ranks that are threads.
const MOST_RANKS: usize = 256;

/// The ranks of a run.
pub(crate) enum Launch {
    /// There are no others.
    Alone,
    /// So many threads of this process, each of which waits so long for the others.
    Threads(usize, Duration),
    /// Processes, of which this is one.
    Process(Team),
}

impl Launch {
    /// Finds out what ranks there are: those that MPI's launcher started, or as many threads as are asked for.
    ///
    /// # Errors
    ///
    /// Both are there, this program was built without MPI, or MPI cannot be initialised.
    pub(crate) fn new(threads: usize, deadline: Duration) -> Result<Self> {
        let launched = Self::find(threads, deadline);
        // Where there is no MPI, all ranks are told so, and one says it.
        launched.map_err(|error| if is_first() { error } else { error.context(Elsewhere) })
    }

    fn find(threads: usize, deadline: Duration) -> Result<Self> {
        let is_threads = match threads {
            1 => Ok(false),
            2..=MOST_RANKS => Ok(true),
            _ => Err(anyhow!("--ranks {threads}: as threads, ranks have to be 1 to {MOST_RANKS}")),
        };
        match launched() {
            Some((_, size)) if size > 1 || cfg!(feature = "mpi") => {
                let team = process(deadline)?;
                let is_alone = is_threads.and_then(|is_threads| {
                    ensure!(!is_threads, "mpirun started {size} ranks: leave --ranks out");
                    Ok(())
                });
                end(team.all_or_none(is_alone), &team)?;
                Ok(Self::Process(team))
            }
            _ if is_threads? => Ok(Self::Threads(threads, deadline)),
            _ => Ok(Self::Alone),
        }
    }

    /// Tells whether this process writes files.
    pub(crate) fn writes(&self) -> bool {
        match self {
            Self::Process(team) => team.is_first(),
            Self::Alone | Self::Threads(..) => true,
        }
    }

    /// Goes on only if something succeeded on every rank that is a process.
    ///
    /// # Errors
    ///
    /// It failed on one of them.
    pub(crate) fn all_or_none<T>(&self, result: Result<T>) -> Result<T> {
        match self {
            Self::Process(team) => end(team.all_or_none(result), team),
            Self::Alone | Self::Threads(..) => result,
        }
    }

    /// Runs every rank that is in this process to its end.
    ///
    /// # Errors
    ///
    /// That of a rank; of several the one that is behind the others.
    pub(crate) fn run(&self, rank: impl Fn(Option<&Team>) -> Result<()> + Sync) -> Result<()> {
        match self {
            Self::Alone => rank(None),
            Self::Process(team) => end(rank(Some(team)), team),
            &Self::Threads(size, deadline) => {
                let rank = &rank;
                let ended: Vec<Result<()>> = thread::scope(|scope| {
                    let members = adaloss_threads::team(size, deadline).into_iter();
                    let threads: Vec<_> = members
                        .map(|member| {
                            scope.spawn(move || {
                                let team = Team::begin(|| Ok((member, ())), |_| {})?;
                                rank(Some(&team))
                            })
                        })
                        .collect();
                    let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
                    joined
                        .map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                        .collect()
                });
                let failed =
                    (0..).zip(ended).filter_map(|(rank, ended)| Some((rank, ended.err()?)));
                // The first of those that say most.
                match failed.min_by_key(|(_, error)| Says::of(error)) {
                    None => Ok(()),
                    Some((rank, error)) if Says::of(&error) == Says::Own => {
                        Err(error.context(format!("rank {rank}")))
                    }
                    Some((_, error)) => Err(error),
                }
            }
        }
    }
}

/// What an error says of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Says {
    /// It is this rank's, and no other knows of it.
    Own,
    /// It is this rank's, and all others know of it.
    Told,
    /// All ranks have the same.
    Common,
    /// The group failed, because of another rank.
    Group,
    /// Another rank has it.
    Elsewhere,
}

impl Says {
    fn of(error: &Error) -> Self {
        if error.is::<Elsewhere>() {
            Self::Elsewhere
        } else if error.is::<OnRank>() {
            Self::Told
        } else if error.is::<Common>() || error.is::<Interrupted>() || error.is::<Diverged>() {
            Self::Common
        } else if error.chain().any(<dyn std::error::Error>::is::<Failure>) {
            Self::Group
        } else {
            Self::Own
        }
    }
}

/// Ends a rank that is a process, and says why: before MPI is left, since its launcher may end all others then.
///
/// What only this rank knows of ends the others as well.
fn end<T>(result: Result<T>, team: &Team) -> Result<T> {
    result.map_err(|error| {
        let says = Says::of(&error);
        match says {
            Says::Elsewhere => return error,
            Says::Common if !team.is_first() => {}
            Says::Common | Says::Told => console::note(format_args!("error: {error:#}")),
            Says::Own | Says::Group => {
                console::note(format_args!("error: rank {}: {error:#}", team.rank()));
                // One after the other: launchers have been seen to hang where many abort at once.
                thread::sleep(PAUSE * (team.rank() as u32).min(MOST_PAUSES));
                team.abort();
            }
        }
        error.context(Elsewhere)
    })
}

/// Lets one rank say what is wrong before there is a group: the first that knows of it, which is handed its number.
///
/// Where others may be about to share a run, it takes part in their first decision, so that they do not wait for it.
pub(crate) fn say_once(is_shared: bool, say: impl FnOnce(usize)) {
    let Some((rank, size)) = launched() else { return say(0) };
    let launch = if is_shared && size > 1 { Launch::new(1, SHORT).ok() } else { None };
    let tells = match &launch {
        Some(Launch::Process(team)) => {
            let told = team.all_or_none::<()>(Err(anyhow!("bad arguments")));
            told.is_err_and(|error| !error.is::<Elsewhere>())
        }
        _ => rank == 0,
    };
    // Before MPI is left, since its launcher may end all others then.
    if tells {
        say(rank);
    }
    drop(launch);
}

/// How much later than the rank before it a rank aborts, and for how many.
const PAUSE: Duration = Duration::from_millis(200);
const MOST_PAUSES: u32 = 10;

/// How long a rank waits that has nothing to do but to say so.
const SHORT: Duration = Duration::from_secs(60);

/// Tells whether this process says what all of them know before there is a group.
fn is_first() -> bool {
    launched().is_none_or(|(rank, _)| rank == 0)
}

/// Tells whether MPI's launcher started this process, with others.
pub(crate) fn is_launched() -> bool {
    launched().is_some_and(|(_, size)| size > 1)
}

/// Returns which rank this process is, and how many there are, if MPI's launcher started it.
fn launched() -> Option<(usize, usize)> {
    let number = |name| env::var(name).ok()?.parse::<usize>().ok();
    let names = [
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMI_RANK", "PMI_SIZE"),
        ("PMIX_RANK", "SLURM_NTASKS"),
    ];
    names.into_iter().find_map(|(rank, size)| Some((number(rank)?, number(size)?)))
}

#[cfg(not(feature = "mpi"))]
fn process(_: Duration) -> Result<Team> {
    anyhow::bail!(
        "this program was built without MPI: cargo build --release -p adaloss-train --features mpi builds it \
         (it needs an MPI, as Debian's libopenmpi-dev, and libclang-dev); --ranks N has ranks that are threads"
    )
}

#[cfg(feature = "mpi")]
fn process(deadline: Duration) -> Result<Team> {
    use adaloss_mpi::{
        Ranks,
        mpi::{self, Threading},
    };
    use anyhow::Context;
    // All calls are made by the thread that initialises MPI.
    let make = move || {
        let initialised = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) = initialised.context("MPI cannot be initialised")?;
        Ok((Ranks::duplicate(&universe.world(), deadline)?, universe))
    };
    Team::begin(make, |ranks| ranks.abort(1))
}
