//! The calls, as the CUDA driver's header declares them; what each does is said there.
//!
//! What a call needs of its pointers is what that documentation asks for: room for results, texts that
//! end in NUL, and memory of the host that stays as long as the work does that reads or writes it.

mod device;
mod graph;
mod memory;
mod module;
mod stream;
