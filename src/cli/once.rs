//! `autosync once`

use std::path::PathBuf;

use clap::Args;

/// Sync once, until there is nothing left to do, and end
///
/// Commits, fetches, merges and pushes as the agent would, without watching and without waiting
/// for quiet. Ends with 0 if the hub and the folder are the same, with 3 if something is held or
/// could not be done.
#[derive(Debug, Args)]
pub struct OnceArgs {
    /// The folder; the one around the current directory if not given
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The hub: the name of a remote, a path or a URL; the folder's own hub if not given
    #[arg(long, value_name = "URL")]
    pub remote: Option<String>,
}
