//! `autosync restore`

use std::path::PathBuf;

use clap::Args;

use super::recall::when::parse;
use super::recall::{RecallArgs, inside, recall};
use super::scene::Scene;
use crate::clock;
use crate::engine::recall::Wanted;
use crate::error::{Complaint, Exit};

/// Bring a file or directory back as it was
///
/// Without `--at` that is the newest version that is another than now, or the last one before it was
/// deleted; `--at` goes further back. In a directory every file that went or changed comes
/// back; what came since stays. `autosync restore .` in the folder brings back what was deleted and
/// not committed yet, such as a delete that is held.
///
/// The version comes back as one more commit, on all your computers, and `autosync undo` takes it
/// back. What you change in the very moment is kept and merged.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The file or directory, which need not be there any more
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// As it was then: 2h, yesterday, 2026-11-20, "2026-11-20 14:00", an RFC 3339 time, or a commit
    ///
    /// A day without a time of day is the end of that day. Within the last 30 days it is what stood
    /// on this computer then, before that what the branch had by the dates of its commits.
    #[arg(long, value_name = "TIME|COMMIT")]
    at: Option<String>,
    #[command(flatten)]
    how: RecallArgs,
}

pub(super) fn run(args: &RestoreArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let at = args.at.as_deref();
    let at = at.map(|text| parse(text, &clock::zoned())).transpose();
    let at = at.map_err(|why| {
        let hint = "Say it like 2h, yesterday, \"2026-11-20 14:00\", or as a commit.";
        Complaint::new(Exit::Usage, why, hint)
    })?;
    let mut how = args.how.clone();
    how.near = Some(args.path.clone());
    recall(scene, &how, |root| {
        Ok(Wanted::Restore {
            path: inside(root, &args.path)?,
            at,
        })
    })
}
