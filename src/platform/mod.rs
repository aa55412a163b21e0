//! What only one operating system has, behind one interface: `unix` and `windows` have the same modules. Imports nothing of
//! the crate.

pub mod allocator;
pub mod sandbox;

#[cfg(unix)]
#[path = "unix/mod.rs"]
mod system;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod system;

pub use self::system::*;
