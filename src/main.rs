//! The binary: keeps the allocator from returning memory, then hands over to the command line. Nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    candlescope_ops::fast_alloc();
    candlescope::cli::main()
}
