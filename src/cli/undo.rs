//! `autosync undo`

use clap::Args;

use super::recall::{RecallArgs, recall};
use super::scene::Scene;
use crate::engine::recall::Wanted;
use crate::error::Exit;

/// Undo the last operation, on all your computers
///
/// Whatever was done last in the folder, by you, by another computer or by an undo of a path, is
/// taken back: the files are again as they were before it. Run it again to go further back, and
/// `autosync redo` to go forward again. With an operation of `autosync log` that one is taken back:
/// what was changed since stays, and where both touched the same lines the old version comes to
/// stand beside the file as a conflict copy.
///
/// Nothing is rewritten: an undo is one more commit, so your other computers follow, and it can be
/// undone itself. What you change in the very moment is kept and merged.
#[derive(Debug, Args)]
pub(super) struct UndoArgs {
    /// The operation: its number in `autosync log`, or the commit that it made
    #[arg(value_name = "OPERATION")]
    operation: Option<String>,
    #[command(flatten)]
    how: RecallArgs,
}

pub(super) fn run(args: &UndoArgs, scene: &Scene) -> anyhow::Result<Exit> {
    recall(scene, &args.how, |_| {
        Ok(Wanted::Undo(args.operation.clone()))
    })
}
