//! The `uvm` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    uvm::cli::main(std::env::args_os())
}
