//! `autosync approve`

use clap::Args;

use super::out::say;
use super::scene::{Scene, folder_word};
use crate::error::Exit;
use crate::names::escape;

/// Approve what is held back, once
///
/// A delete of very many files, a file that is too large and the like are held back until you say
/// that you meant it. `autosync status` shows what is held and why. The approval counts for what
/// is held now, not for what comes later.
#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// Only this folder: its name in `autosync status`, or its path
    #[arg(value_name = "FOLDER")]
    folder: Option<String>,
}

pub(super) fn run(args: &ApproveArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let folder = args.folder.as_deref().map(folder_word);
    let approved = scene.ask(async |client| client.approve(folder.as_deref()).await)?;
    let names = escape(approved.join(", ").as_bytes());
    say(format_args!("Approved what was held in {names}."))?;
    Ok(Exit::Done)
}
