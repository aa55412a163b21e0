//! The `bondgate` program: see the library's documentation for how it is laid out.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Gives back what it does not need any more, and serves each thread without a lock. Without huge pages: with
/// them it takes twice the memory.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    bondgate::cli::main()
}
