//! The report of results that were made up.

mod figures;
mod files;
mod further;
mod gap;
mod lost;
mod price;
mod synthetic;
