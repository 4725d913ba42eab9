//! Conversions, checked with every value there is.
//!
//! A [`Job`] is one question, such as what binary16 makes of every f32 to nearest even, cut into
//! blocks of equal size; a [`Slice`] is a share of the blocks of every job, so that a machine with
//! an hour answers all of it and one with a minute a part that is another one every day.  Answers
//! are compared with APFloat and exact arithmetic, of which `adaloss_oracle` takes care.
//!
//! What is checked is a [`Subject`], so that the checks can be checked: tests hand in subjects that
//! round, flush or count wrongly, and see each found.
//!
//! ```
//! use adaloss_exhaustive::{Core, References, jobs};
//! let references = References::new();
//! let jobs = jobs(&Core, &references);
//! let job = jobs.iter().find(|job| job.name() == "E4M3 unscaled from every scale").expect("listed");
//! let tally = job.check(0);
//! assert!(tally.cases > 0 && tally.mismatches == 0);
//! ```

#![forbid(unsafe_code)]

mod histogram;
mod job;
mod narrow;
mod run;
mod slice;
mod subject;
mod tally;
mod widen;

pub use job::{BLOCK, Job, References, jobs};
pub use run::run;
pub use slice::{Slice, SliceError};
pub use subject::{Core, Subject};
pub use tally::Tally;
