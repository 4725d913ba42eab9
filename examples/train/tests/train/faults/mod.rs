//! Training on a device that breaks: a step that is skipped, an error that names the place, or a
//! network that has learnt all the same; never one that is lost in silence.

mod lesson;
mod random;
mod single;
