//! The `bondgate` program: see the library's documentation for how it is laid out.

use std::process::ExitCode;

use bondgate::platform::allocator::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    bondgate::cli::main()
}
