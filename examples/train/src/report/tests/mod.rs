//! The report of results that were made up.

mod figures;
mod files;
mod gap;
mod lost;
mod synthetic;
