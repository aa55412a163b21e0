//! The interface to what only one operating system has. It imports nothing else of the crate.

pub mod socket;
pub mod unix;
