//! What only one operating system has, behind a plain interface.

pub mod files;
