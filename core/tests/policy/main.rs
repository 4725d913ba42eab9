//! The room `policy`: scales against their words and the whole past, evidence against a search over every
//! scale and element, storms, and what a cell and a configuration are as bytes.

mod amax;
mod backoff;
mod cell;
mod certificate;
mod config;
mod measured;
mod moved;
mod names;
mod normal;
mod range;
mod recovery;
mod split;
mod storms;
mod tensor;
mod triggers;
mod visit;
