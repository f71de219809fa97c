//! The `autosync` program.

use std::process::ExitCode;

use autosync::cli;
use autosync::paths::Env;

fn main() -> ExitCode {
    cli::run(std::env::args_os(), Env::of_process()).into()
}
