//! `autosync restore`

use std::path::PathBuf;

use clap::Args;

use super::out::{Out, say};
use super::recall::when::parse;
use super::recall::{RecallArgs, inside, lexical, locate, recall};
use super::scene::Scene;
use crate::clock;
use crate::engine::recall::{VersionListed, Wanted};
use crate::error::{Complaint, Exit};
use crate::repo::versions::versions;

/// Bring a file or directory back as it was
///
/// Without `--at` that is the newest version that is another than now, or the last one before it was
/// deleted; `--at` goes further back. In a directory every file that went or changed comes
/// back; what came since stays. `autosync restore .` in the folder brings back what was deleted and
/// not committed yet, such as a delete that is held, or what was deleted elsewhere and waits here for
/// `autosync approve`.
///
/// What a program wrote to the old file after another version had come in is a version, too.
/// `--list` lists them all.
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
    /// Only list the versions that there are, newest first
    #[arg(long, conflicts_with_all = ["at", "only_here", "dry_run", "yes"])]
    list: bool,
    #[command(flatten)]
    how: RecallArgs,
}

pub(super) fn run(args: &RestoreArgs, scene: &Scene) -> anyhow::Result<Exit> {
    if args.list {
        return list(args, scene);
    }
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

/// Lists the versions of a path.
fn list(args: &RestoreArgs, scene: &Scene) -> anyhow::Result<Exit> {
    scene.start_quiet_log()?;
    let near = lexical(&args.path)?;
    let located = locate(scene, args.how.folder.as_deref(), &near)?;
    let path = inside(&located.root, &args.path)?;
    let listed = versions(&located.root, located.git_dir.as_deref(), path.as_ref())
        .map_err(|error| Complaint::from(&error.trouble()))?;
    if args.how.json {
        say(serde_json::to_string_pretty(&listed)?)?;
        return Ok(Exit::Done);
    }
    let mut out = Out::new();
    if listed.is_empty() {
        out.line("There are no versions of it in this folder.")?;
    }
    for version in &listed {
        out.line(line(version))?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn line(version: &VersionListed) -> String {
    let minute = version.at.get(..16).unwrap_or_default().replace('T', " ");
    let commit = version.commit.as_deref().and_then(|id| id.get(..8));
    let commit = commit.unwrap_or("-");
    let mut text = format!("{minute}  {commit:<8}  {}", version.what);
    if version.is_now {
        text.push_str(" (as it is now)");
    }
    if version.is_deleted {
        text.push_str(" (deleted)");
    }
    text
}
