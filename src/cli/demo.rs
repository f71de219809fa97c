//! `autosync demo`

use clap::Args;

/// Watch two computers keep a folder in sync, in a temporary place
///
/// Starts two real agents, "laptop" and "server", with a hub between them. Shows a scripted minute
/// of edits as they arrive on the other side and how long they took: a merge, a conflict, an agent
/// that is killed. Ends with 0 only if both folders are the same and nothing is missing.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Print JSON, one object on each line
    #[arg(long)]
    pub json: bool,
    /// Keep the temporary place and print where it is
    #[arg(long)]
    pub keep: bool,
}
