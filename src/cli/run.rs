//! `autosync run`

use std::path::PathBuf;

use clap::Args;

/// Keep folders in sync until stopped
///
/// Without DIR: the folders of the configuration. With DIR: those alone, with all defaults. A DIR
/// that does not exist is made; one that is no repository becomes one; one without a hub gets a
/// hub of its own on this computer, and the line to type on the next one is printed.
///
/// Stays in the foreground and ends on SIGTERM, on Ctrl-C or by `autosync stop`; reads its
/// configuration again on SIGHUP. There is one agent for each user: a second one ends with 11.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The folders, instead of those of the configuration
    #[arg(value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
}
