//! `autosync redo`

use clap::Args;

use super::recall::{RecallArgs, recall};
use super::scene::Scene;
use crate::engine::recall::Wanted;
use crate::error::Exit;

/// Take back the last undo
///
/// What the last `autosync undo` took back is there again. Run it again to take back the undo before.
#[derive(Debug, Args)]
pub(super) struct RedoArgs {
    #[command(flatten)]
    how: RecallArgs,
}

pub(super) fn run(args: &RedoArgs, scene: &Scene) -> anyhow::Result<Exit> {
    recall(scene, &args.how, |_| Ok(Wanted::Redo))
}
