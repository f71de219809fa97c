//! `autosync approve`

use clap::Args;

use super::out::say;
use super::scene::{Scene, folder_word};
use crate::control::ClientError;
use crate::error::Exit;
use crate::names::escape;

/// Approve what is held back, once
///
/// A delete of very many files, a root that is another directory than before, a hub whose history
/// was rewritten and the like are held back until you say that they are right. `autosync status`
/// shows what is held and why. The approval counts for what is held now, not for what comes later.
///
/// Which disk or directory is the right one is a question of its own: if something else is held, too,
/// that takes an approval first, and another one for the disk.
///
/// Some things no approval lets through: for a file that is too large raise `max_file`, for a
/// filter that is missing install it. What to do is said.
#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// Only this folder: its name in `autosync status`, or its path
    #[arg(value_name = "FOLDER")]
    folder: Option<String>,
}

pub(super) fn run(args: &ApproveArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let folder = args.folder.as_deref().map(folder_word);
    let (approved, status) = scene.ask(async |client| {
        // Before: what is approved is not held any more.
        let status = client.status().await?;
        let approved = client.approve(folder.as_deref()).await?;
        Ok::<_, ClientError>((approved, status))
    })?;
    let names = escape(approved.join(", ").as_bytes());
    say(format_args!("Approved what was held in {names}."))?;
    let mut exit = Exit::Done;
    for folder in status.folders {
        if approved.contains(&folder.name) {
            let other = folder.needs_another();
            for (message, hint) in other.into_iter().chain(folder.needs_more()) {
                let line = escape(format!("Still held: {message}. {hint}").as_bytes());
                say(format_args!("{line}"))?;
                exit = Exit::Partly;
            }
        }
    }
    Ok(exit)
}
