//! The room `format` against independent references: every pattern of every 8- and 16-bit format,
//! dense sweeps of f32, every shift.

mod element;
mod narrow;
mod shifted;
mod shifts;
mod stochastic;
mod widen;
