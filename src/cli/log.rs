//! `autosync log`

use std::path::PathBuf;

use clap::Args;

use super::out::{Out, say};
use super::recall::{Located, inside, lexical, locate};
use super::scene::Scene;
use super::status::ago;
use crate::clock;
use crate::control::LogQuestion;
use crate::engine::recall::Listed;
use crate::error::{Complaint, Exit};
use crate::names::RepoPath;
use crate::repo::listing::listing;

/// List what was done in a folder, newest first
///
/// Each line is an operation: its number, which `autosync undo` takes, when, and what. They are kept
/// for 30 days; the versions themselves are in git's history for ever. What was taken back is marked
/// as undone.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// The folder: its name in `autosync status` or its path; with a path inside of one, only what
    /// touched that
    #[arg(value_name = "FOLDER|PATH")]
    place: Option<String>,
    /// Only so many
    #[arg(short = 'n', long = "number", value_name = "N", default_value_t = 20)]
    number: usize,
    /// Print JSON, whose form is kept from version to version
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &LogArgs, scene: &Scene) -> anyhow::Result<Exit> {
    scene.start_quiet_log()?;
    let (located, path) = find(args, scene)?;
    let lines = read(scene, &located, path.as_ref(), args.number)?;
    if args.json {
        say(serde_json::to_string_pretty(&lines)?)?;
        return Ok(Exit::Done);
    }
    let mut out = Out::new();
    for line in texts(&lines, clock::wall_seconds()) {
        out.line(line)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Returns the folder that is meant, and the path inside.
fn find(args: &LogArgs, scene: &Scene) -> anyhow::Result<(Located, Option<RepoPath>)> {
    let here = std::env::current_dir()?;
    let Some(asked) = &args.place else {
        return Ok((locate(scene, None, &here)?, None));
    };
    // A name first, as everywhere.
    match locate(scene, Some(asked), &here) {
        Ok(located) if !std::path::Path::new(asked).exists() => return Ok((located, None)),
        Ok(_) | Err(_) => {}
    }
    let path = PathBuf::from(asked);
    let located = locate(scene, None, &lexical(&path)?)?;
    let path = inside(&located.root, &path)?;
    Ok((located, path))
}

/// Asks the agent, or reads where none cares for the folder.
fn read(
    scene: &Scene,
    located: &Located,
    path: Option<&RepoPath>,
    number: usize,
) -> anyhow::Result<Vec<Listed>> {
    if located.tended {
        let root = located.root.to_string_lossy().into_owned();
        let question = LogQuestion::new(Some(root), path, number);
        return scene.put(async |client| client.log(&question).await);
    }
    listing(&located.root, located.git_dir.as_deref(), path, number)
        .map_err(|error| Complaint::from(&error.trouble()).into())
}

fn texts(lines: &[Listed], now: i64) -> Vec<String> {
    if lines.is_empty() {
        return vec!["Nothing was done here yet.".into()];
    }
    let when: Vec<String> = lines.iter().map(|line| ago(&line.at, now)).collect();
    let wide = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let numbers = wide(&mut lines.iter().map(|line| line.operation.to_string().len()));
    let times = wide(&mut when.iter().map(String::len));
    lines
        .iter()
        .zip(when)
        .map(|(line, when)| {
            let number = line.operation;
            let mut text = format!("{number:>numbers$}  {when:<times$}  {}", line.what);
            if line.only_here {
                text.push_str(" (only here)");
            }
            if line.undone {
                text.push_str(" (undone)");
            }
            text
        })
        .collect()
}
