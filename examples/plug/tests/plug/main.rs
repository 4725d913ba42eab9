//! What a plug relies on, without a framework.

mod apply;
mod checkpoint;
mod walk;
