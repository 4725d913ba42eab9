//! Ranks over MPI: a group of [adaloss](adaloss_hal) on a communicator.
//!
//! All operations are MPI's nonblocking ones (`MPI_Iallreduce`, `MPI_Ibcast`), polled until a deadline.  A rank that gives up then
//! calls the others, and names one that does not answer, as those do that wait like itself: it takes a second more.  MPI has no way
//! to take back an operation that others never come to: after [`Failure::Timeout`] the communicator is of no
//! further use, and a program that ends in the ordinary way would wait in `MPI_Finalize` for ever.  It calls
//! [`Ranks::abort`], or leaves without finalizing.
//!
//! `MPI_Init` and the duplication of a communicator have no deadline.
//!
//! **All ranks bring messages of the same length.**  MPI does not find out for certain where they do not: Open MPI has been seen to write
//! beyond a buffer.  [`meet`](adaloss_hal::group::meet) before the first step
//! compares the number of cells.
//!
//! # Examples
//!
//! What each rank of `mpirun -n 4 program` does.
//!
//! ```no_run
//! use std::time::Duration;
//! use adaloss_core::{format::{Format, f16}, policy::Config, unscale::Verdict};
//! use adaloss_core::scaler::{LossScaler, share::message_bytes};
//! use adaloss_hal::group::{Group, agree, meet};
//! use adaloss_mpi::Ranks;
//!
//! let universe = mpi::initialize().expect("an MPI that was not initialized before");
//! let mut ranks = Ranks::duplicate(&universe.world(), Duration::from_secs(300))?;
//! let mut scaler = LossScaler::<4>::new(Config::for_format(Format::BINARY16));
//! let mut room = [0; message_bytes(4)];
//! meet(&scaler.begin().share(), &mut ranks, &mut room)?;
//!
//! let mut step = scaler.begin();
//! step.loss().apply(&[2.0e-8, -1.0e-6], &mut [f16::ZERO; 2])?; // each rank its own
//! if let Err(error) = agree(&mut step.share(), &mut ranks, &mut room) {
//!     eprintln!("rank {}: {error}", ranks.rank());
//!     ranks.abort(1);
//! }
//! if step.finish() == Verdict::Apply { /* let the optimizer step, on every rank */ }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod roll;

use std::{
    ffi::{c_int, c_void},
    fmt,
    mem::{ManuallyDrop, MaybeUninit},
    thread,
    time::{Duration, Instant},
};

/// The crate that a universe and communicators are of.
pub use mpi;

use adaloss_hal::group::{Exchange, Group, GroupError, GroupErrorKind};
use mpi::{
    ffi,
    topology::{Communicator, SimpleCommunicator},
    traits::AsRaw,
};

/// The ranks of a communicator.
///
/// Dropped, it frees the communicator, unless an operation on it failed.
pub struct Ranks {
    communicator: ManuallyDrop<SimpleCommunicator>,
    /// For calls, where an operation does not come to an end.
    calls: ManuallyDrop<SimpleCommunicator>,
    rank: usize,
    size: usize,
    deadline: Duration,
    failure: Option<MpiError>,
}

impl Ranks {
    /// Makes a group of the ranks of a communicator, on a duplicate of it: no other message can get in between.
    ///
    /// All of its ranks call this; `deadline` is how long an operation waits for the others.
    ///
    /// # Errors
    ///
    /// MPI refused.
    pub fn duplicate(of: &impl Communicator, deadline: Duration) -> Result<Self, MpiError> {
        Self::over(of.duplicate(), deadline)
    }

    /// Makes a group on a communicator that nothing else uses; all of its ranks call this.
    ///
    /// Its errors are returned from now on, where MPI's default is to end the program.
    ///
    /// # Errors
    ///
    /// MPI refused.
    pub fn over(communicator: SimpleCommunicator, deadline: Duration) -> Result<Self, MpiError> {
        // SAFETY: the communicator is live, as long as `communicator` is, and the handler is a constant of MPI's that is
        // initialised before a communicator can exist.
        let code = unsafe {
            ffi::MPI_Comm_set_errhandler(communicator.as_raw(), ffi::RSMPI_ERRORS_RETURN)
        };
        checked(code)?;
        let (rank, size) = (communicator.rank() as usize, communicator.size() as usize);
        let calls = ManuallyDrop::new(communicator.duplicate());
        let communicator = ManuallyDrop::new(communicator);
        Ok(Self { communicator, calls, rank, size, deadline, failure: None })
    }

    /// Ends the processes of the whole job, where they wait for whatever it may be.
    ///
    /// What MPI does to a communicator's ranks alone is up to it: MPICH 4.0 left them waiting.
    pub fn abort(&self, code: i32) -> ! {
        SimpleCommunicator::world().abort(code)
    }

    /// Replaces values by what an operation makes of those of all ranks.
    ///
    /// # Safety
    ///
    /// `datatype` is MPI's name of `T`, of which all bit patterns are legal, and `operation` is defined on it.
    unsafe fn reduce<T: Copy + Default>(
        &mut self,
        values: &mut [T],
        datatype: ffi::MPI_Datatype,
        operation: ffi::MPI_Op,
    ) -> Result<(), MpiError> {
        let count = self.count(values.len())?;
        // Without bytes a buffer has no address of its own, and MPI takes some addresses for orders.
        if count == 0 {
            return Ok(());
        }
        // On the heap and this call's own: where MPI never comes to an end, they are its for ever.
        let from = ManuallyDrop::new(values.to_vec());
        let mut to = ManuallyDrop::new(vec![T::default(); values.len()]);
        let mut request = MaybeUninit::uninit();
        // SAFETY: both buffers have `count` elements of the datatype, by the caller's promise, do not overlap, and stay
        // where they are until the operation has ended: they are freed below only if `wait` saw that, and
        // never moved by a move of the vectors.  The communicator is live.  The request is written before this returns
        // without an error.
        let code = unsafe {
            ffi::MPI_Iallreduce(
                from.as_ptr().cast::<c_void>(),
                to.as_mut_ptr().cast::<c_void>(),
                count,
                datatype,
                operation,
                self.communicator.as_raw(),
                request.as_mut_ptr(),
            )
        };
        // SAFETY: the request is that of the operation begun above.
        unsafe { self.wait(code, request) }?;
        values.copy_from_slice(&to);
        drop((ManuallyDrop::into_inner(from), ManuallyDrop::into_inner(to)));
        Ok(())
    }

    /// Hands bytes to all ranks, by an operation that has a part for each.
    ///
    /// # Safety
    ///
    /// `begin` is given where the bytes are and where `to.len()` bytes go, both on the heap, and begins at most that with them.
    unsafe fn exchange(
        &mut self,
        from: &[u8],
        to: &mut [u8],
        begin: impl FnOnce(*const c_void, *mut c_void, ffi::MPI_Comm, *mut ffi::MPI_Request) -> c_int,
    ) -> Result<(), MpiError> {
        if from.is_empty() {
            return Ok(());
        }
        // As in `reduce`.
        let from = ManuallyDrop::new(from.to_vec());
        let mut into = ManuallyDrop::new(vec![0_u8; to.len()]);
        let mut request = MaybeUninit::uninit();
        let code = begin(
            from.as_ptr().cast(),
            into.as_mut_ptr().cast(),
            self.communicator.as_raw(),
            request.as_mut_ptr(),
        );
        // SAFETY: the request is that of the operation begun above, whose buffers are freed below only if it has ended.
        unsafe { self.wait(code, request) }?;
        to.copy_from_slice(&into);
        drop((ManuallyDrop::into_inner(from), ManuallyDrop::into_inner(into)));
        Ok(())
    }

    /// Waits for an operation until the deadline; an error is the end of the group.
    ///
    /// # Safety
    ///
    /// Where `code` is MPI's success, `request` is that of an active operation, whose buffers stay until this returns without an
    /// error, and for ever if it returns with one.
    unsafe fn wait(
        &mut self,
        code: c_int,
        request: MaybeUninit<ffi::MPI_Request>,
    ) -> Result<(), MpiError> {
        let waited = checked(code).and_then(|()| {
            // SAFETY: MPI reported success and so wrote the request, by the caller's promise.
            let mut request = unsafe { request.assume_init() };
            let (began, mut limit, mut called) = (Instant::now(), self.deadline, None);
            loop {
                let mut is_done = 0;
                // SAFETY: the request is active, as it was not found to be done; the status may be ignored by this name.
                let code =
                    unsafe { ffi::MPI_Test(&mut request, &mut is_done, ffi::RSMPI_STATUS_IGNORE) };
                checked(code)?;
                if is_done != 0 {
                    return Ok(());
                }
                let waited = began.elapsed();
                if waited >= limit {
                    if let Some(missing) = called {
                        return Err(MpiError { failure: Failure::Timeout { missing }, code: 0 });
                    }
                    let missing = roll::missing(&self.calls);
                    called = Some(missing);
                    // Where all are here now, one was late, and the operation ends soon.
                    let more = if missing.is_none() { GRACE } else { Duration::ZERO };
                    limit = began.elapsed() + more;
                    continue;
                }
                // Others may need this core to come at all.
                if waited < PATIENT {
                    thread::yield_now();
                } else {
                    roll::answer(&self.calls);
                    thread::sleep(PAUSE);
                }
            }
        });
        waited.inspect_err(|error| self.failure = Some(*error))
    }

    /// Returns a length as MPI takes it; an error where the group has failed, and where the length is more than MPI counts.
    fn count(&self, length: usize) -> Result<c_int, MpiError> {
        match self.failure {
            Some(failure) => Err(failure),
            None => {
                c_int::try_from(length).map_err(|_| MpiError { failure: Failure::Refused, code: 0 })
            }
        }
    }
}

/// How long an operation is polled without a pause, and the pauses from then on.
const PATIENT: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_micros(100);

/// How much longer than the deadline an operation may take where all ranks turn out to wait.
const GRACE: Duration = Duration::from_secs(1);

impl Drop for Ranks {
    fn drop(&mut self) {
        // To free a communicator takes all of its ranks, and no operation under way.
        if self.failure.is_none() {
            // SAFETY: they are not used behind this, since the group is dropped.
            unsafe {
                ManuallyDrop::drop(&mut self.communicator);
                ManuallyDrop::drop(&mut self.calls);
            }
        }
    }
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, size, deadline, failure, .. } = self;
        let mut shown = f.debug_struct("Ranks");
        shown.field("rank", rank).field("size", size).field("deadline", deadline);
        shown.field("failure", failure).finish_non_exhaustive()
    }
}

impl Group for Ranks {
    type Error = MpiError;

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn max_u8(&mut self, bytes: &mut [u8]) -> Result<(), MpiError> {
        // SAFETY: these are MPI's names of u8 and of the maximum, which is defined on integers.
        unsafe { self.reduce(bytes, ffi::RSMPI_UINT8_T, ffi::RSMPI_MAX) }
    }

    fn max_u64(&mut self, numbers: &mut [u64]) -> Result<(), MpiError> {
        // SAFETY: these are MPI's names of u64 and of the maximum, which is defined on integers.
        unsafe { self.reduce(numbers, ffi::RSMPI_UINT64_T, ffi::RSMPI_MAX) }
    }

    fn sum_u64(&mut self, numbers: &mut [u64]) -> Result<(), MpiError> {
        // SAFETY: these are MPI's names of u64 and of the sum, which is defined on integers.
        unsafe { self.reduce(numbers, ffi::RSMPI_UINT64_T, ffi::RSMPI_SUM) }
    }

    fn broadcast(&mut self, from: usize, bytes: &mut [u8]) -> Result<(), MpiError> {
        let count = self.count(bytes.len())?;
        if from >= self.size {
            return Err(MpiError { failure: Failure::Refused, code: 0 });
        }
        if count == 0 {
            return Ok(());
        }
        let mut buffer = ManuallyDrop::new(bytes.to_vec());
        let mut request = MaybeUninit::uninit();
        // SAFETY: the buffer has `count` bytes, and stays where it is until the operation has ended, as in `reduce`.  The
        // communicator is live and has the rank.  The request is written before this returns without an error.
        let code = unsafe {
            ffi::MPI_Ibcast(
                buffer.as_mut_ptr().cast::<c_void>(),
                count,
                ffi::RSMPI_UINT8_T,
                from as c_int,
                self.communicator.as_raw(),
                request.as_mut_ptr(),
            )
        };
        // SAFETY: the request is that of the operation begun above.
        unsafe { self.wait(code, request) }?;
        bytes.copy_from_slice(&buffer);
        drop(ManuallyDrop::into_inner(buffer));
        Ok(())
    }
}

impl Exchange for Ranks {
    fn all_gather(&mut self, own: &[u8], all: &mut [u8]) -> Result<(), MpiError> {
        let count = self.count(own.len())?;
        if own.len().checked_mul(self.size) != Some(all.len()) {
            return Err(MpiError { failure: Failure::Refused, code: 0 });
        }
        let begin = |from, to, communicator, request| {
            // SAFETY: by the promise of `exchange` there are `count` bytes to send and as many from each rank to receive, on a
            // live communicator, and the request is written before this returns without an error.
            unsafe {
                let byte = ffi::RSMPI_UINT8_T;
                ffi::MPI_Iallgather(from, count, byte, to, count, byte, communicator, request)
            }
        };
        // SAFETY: it begins nothing else.
        unsafe { self.exchange(own, all, begin) }
    }

    fn all_to_all(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), MpiError> {
        let count = self.count(from.len() / self.size)?;
        if from.len() != to.len() || !from.len().is_multiple_of(self.size) {
            return Err(MpiError { failure: Failure::Refused, code: 0 });
        }
        let begin = |from, to, communicator, request| {
            // SAFETY: by the promise of `exchange` there are `count` bytes for each rank and from each, on a live communicator,
            // and the request is written before this returns without an error.
            unsafe {
                let byte = ffi::RSMPI_UINT8_T;
                ffi::MPI_Ialltoall(from, count, byte, to, count, byte, communicator, request)
            }
        };
        // SAFETY: it begins nothing else.
        unsafe { self.exchange(from, to, begin) }
    }
}

/// What went wrong in MPI; the group is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MpiError {
    failure: Failure,
    /// MPI's error code.
    code: c_int,
}

/// The kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// Some rank did not come before the deadline.
    Timeout {
        /// The first rank that does not wait; `None` where all of them do, and so called different operations.
        missing: Option<usize>,
    },
    /// The ranks brought different lengths.
    Lengths,
    /// There is no such rank, a length is more than MPI counts, or it is not that of equal parts for all ranks.
    Refused,
    /// Another error of MPI's.
    Mpi,
}

impl MpiError {
    /// Returns what went wrong.
    pub const fn failure(&self) -> Failure {
        self.failure
    }
}

/// Returns an error where MPI reports one.
fn checked(code: c_int) -> Result<(), MpiError> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut class = 0;
    // SAFETY: it writes the class of any error code to where it is told; where it cannot, the class stays 0.
    unsafe { ffi::MPI_Error_class(code, &mut class) };
    let lengths = [ffi::MPI_ERR_TRUNCATE as c_int, ffi::MPI_ERR_COUNT as c_int];
    let failure = if lengths.contains(&class) { Failure::Lengths } else { Failure::Mpi };
    Err(MpiError { failure, code })
}

/// Returns what MPI says of an error code.
fn explained(code: c_int) -> String {
    let mut text = [0; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut length = 0;
    // SAFETY: the text has the room that MPI asks for, and the length goes to where it is told.
    let explained = unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr(), &mut length) };
    let text: Vec<u8> = text.iter().take(length.max(0) as usize).map(|&byte| byte as u8).collect();
    match explained == ffi::MPI_SUCCESS as c_int && !text.is_empty() {
        true => String::from_utf8_lossy(&text).into_owned(),
        false => format!("code {code}"),
    }
}

impl GroupError for MpiError {
    fn kind(&self) -> GroupErrorKind {
        match self.failure {
            Failure::Timeout { .. } => GroupErrorKind::Timeout,
            Failure::Lengths => GroupErrorKind::Mismatch,
            Failure::Refused | Failure::Mpi => GroupErrorKind::Other,
        }
    }

    fn rank(&self) -> Option<usize> {
        match self.failure {
            Failure::Timeout { missing } => missing,
            Failure::Lengths | Failure::Refused | Failure::Mpi => None,
        }
    }
}

impl fmt::Display for MpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure {
            Failure::Timeout { missing: Some(rank) } => {
                write!(f, "rank {rank} did not come before the deadline")
            }
            Failure::Timeout { missing: None } => f.write_str(
                "an operation did not come to an end before the deadline, though all ranks wait: they called different ones",
            ),
            Failure::Lengths => f.write_str("the ranks brought messages of different lengths"),
            Failure::Refused => f.write_str(
                "there is no such rank, or the message is too long or has no equal parts for all ranks",
            ),
            Failure::Mpi => write!(f, "MPI failed: {}", explained(self.code)),
        }
    }
}

impl std::error::Error for MpiError {}
