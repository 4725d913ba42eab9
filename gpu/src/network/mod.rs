//! Operations of layers as launches.

mod accumulate;
mod loss;
mod pointwise;
mod update;
