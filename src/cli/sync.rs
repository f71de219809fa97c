//! `autosync sync`

use clap::Args;

use super::out::say;
use super::scene::{Scene, folder_word};
use crate::error::Exit;

/// Look, commit, push and fetch now
///
/// Does not wait for quiet, and goes on even where `push` or `receive` is "manual". Returns when
/// the agent has begun; `autosync status --wait synced` returns when it is done.
#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// Only this folder: its name in `autosync status`, or its path
    #[arg(value_name = "FOLDER")]
    folder: Option<String>,
}

pub(super) fn run(args: &SyncArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let folder = args.folder.as_deref().map(folder_word);
    scene.ask(async |client| client.sync(folder.as_deref()).await)?;
    say("Looking, committing, pushing and fetching now.")?;
    Ok(Exit::Done)
}
