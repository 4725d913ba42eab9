//! What a plug relies on, without a framework.

mod apply;
mod checkpoint;
mod micro_batch;
mod walk;
