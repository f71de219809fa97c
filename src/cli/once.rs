//! `autosync once`

use std::path::{Path, PathBuf};

use clap::Args;

use super::out::{complain, say};
use super::scene::Scene;
use crate::agent::once::{Outcome, once};
use crate::agent::prepare::{Wish, prepare};
use crate::config::{FolderSettings, Settings};
use crate::engine::action::Tell;
use crate::engine::event::{Code, Trouble};
use crate::error::{Complaint, Exit};
use crate::names::escape;
use crate::paths::private_dir;
use crate::repo;

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

pub(super) fn run(args: &OnceArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let asked = match &args.dir {
        Some(dir) => dir.clone(),
        None => around(&std::env::current_dir()?)?,
    };
    scene.start_quiet_log()?;
    let settings = scene.settings()?;
    // A folder of the configuration is synced as the configuration says.
    let absolute = std::path::absolute(&asked)?;
    let configured = settings
        .folders
        .iter()
        .position(|folder| folder.path == absolute);
    let (settings, at) = match configured {
        Some(at) => (settings, at),
        None => (settings.with_dirs(&[asked]).map_err(Complaint::from)?, 0),
    };
    let wish = Wish {
        hub: args.remote.clone(),
        only_now: true,
        ..Wish::default()
    };
    let folder = &settings.folders[at];
    let ready = prepare(folder, &settings, &scene.paths, &wish)?;
    let outcome = sync(folder, &ready.settings, &settings, scene)?;
    let again = match &args.dir {
        Some(dir) => again(dir),
        None => "`autosync once`".to_owned(),
    };
    report(&outcome, &again)
}

/// Returns the line that tries again what a sync could not do.
pub(super) fn again(dir: &Path) -> String {
    format!(
        "`autosync once {}`",
        escape(dir.as_os_str().as_encoded_bytes())
    )
}

/// Returns the work tree around a directory.
fn around(dir: &Path) -> Result<PathBuf, Complaint> {
    let found = dir.ancestors().find(|dir| dir.join(".git").exists());
    found.map(Path::to_owned).ok_or_else(|| {
        Complaint::new(
            Exit::NoRepository,
            "there is no git repository around this directory",
            "Give the folder, or make one with `autosync init DIR`.",
        )
    })
}

/// Syncs a folder once.
pub(super) fn sync(
    folder: &FolderSettings,
    ready: &repo::Settings,
    settings: &Settings,
    scene: &Scene,
) -> Result<Outcome, Complaint> {
    let runtime = scene.paths.runtime(&settings.host);
    private_dir(&runtime)?;
    once(folder, ready, settings, &runtime, |trouble| {
        complain(&Complaint::from(trouble).to_string());
    })
}

/// Says what a sync came to, and returns how the program ends. `again` is the line that tries it
/// again.
pub(super) fn report(outcome: &Outcome, again: &str) -> anyhow::Result<Exit> {
    for tell in &outcome.tells {
        match tell {
            Tell::Committed(made) => say(format!("Committed {}.", made.summary))?,
            Tell::Pushed(commit) => say(format!("Pushed {}.", commit.short()))?,
            Tell::Received { host, count, .. } => {
                let from = host
                    .as_deref()
                    .map_or(String::new(), |host| format!(" from {host}"));
                let files = if *count == 1 { "file" } else { "files" };
                say(format!("Received {count} {files}{from}."))?;
            }
            Tell::Conflict(copies) => {
                for copy in copies {
                    say(format!(
                        "Both sides changed `{}`; see `{}`.",
                        copy.path, copy.copy
                    ))?;
                }
            }
            Tell::Marked(marked) => {
                for file in marked {
                    say(format!("{}. {}", file.message(), file.hint()))?;
                }
            }
            Tell::Arrived { .. }
            | Tell::Held(_)
            | Tell::Problem(_)
            | Tell::Over(_)
            | Tell::Solved => {}
        }
    }
    for aside in &outcome.made_way {
        say(format!(
            "`{}`, which git ignores here, had to make room; it is now `{}`.",
            aside.path, aside.now
        ))?;
    }
    for held in &outcome.status.held {
        say(format!("Held: {}. {}", held.message, held.hint))?;
    }
    for waiting in &outcome.status.deferred {
        say(format!(
            "Left as it is: `{}`, {}.",
            waiting.path, waiting.why
        ))?;
    }
    if let Some(trouble) = &outcome.trouble {
        let complaint = complaint(trouble, again);
        if outcome.is_told {
            say(format!("Not in sync yet; {again} tries again."))?;
            return Ok(complaint.exit);
        }
        return Err(complaint.into());
    }
    if !outcome.status.held.is_empty() {
        return Ok(Exit::Partly);
    }
    if outcome.status.hub.is_some() && !outcome.synced || outcome.status.pending.paths > 0 {
        return Ok(Exit::Partly);
    }
    say("In sync.")?;
    Ok(Exit::Done)
}

/// Says what is in the way to somebody whose command ends here. An agent goes on by itself, and its
/// sentences say so.
fn complaint(trouble: &Trouble, again: &str) -> Complaint {
    let mut complaint = Complaint::from(trouble);
    if let Some(what) = trouble.message.strip_prefix("waiting: ") {
        what.clone_into(&mut complaint.message);
    }
    complaint.hint = match (trouble.code, trouble.hint.rsplit_once("; ")) {
        (Code::HubUnreachable, _) => {
            format!("What is here is committed and stays; {again} tries it again.")
        }
        (_, Some((first, rest))) if rest.ends_with(" goes on by itself.") => {
            format!("{first}, then run {again}.")
        }
        _ => complaint.hint,
    };
    complaint
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::Recovery;

    #[test]
    fn a_command_that_ends_promises_nothing_for_later() {
        for (code, hint, said) in [
            (
                Code::HubUnreachable,
                "Nothing to do if you are offline: commits go on, and are pushed when it answers.",
                "What is here is committed and stays; `autosync once a` tries it again.",
            ),
            (
                Code::DiskFull,
                "Free some space; syncing goes on by itself.",
                "Free some space, then run `autosync once a`.",
            ),
            (
                Code::ReadOnly,
                "Make it writable; pushing goes on by itself.",
                "Make it writable, then run `autosync once a`.",
            ),
            (
                Code::Auth,
                "Load the key; it is asked for.",
                "Load the key; it is asked for.",
            ),
        ] {
            let trouble = Trouble::new(code, Recovery::Retry, "waiting: no", hint);
            let complaint = complaint(&trouble, "`autosync once a`");
            assert_eq!(
                (complaint.message.as_str(), complaint.hint.as_str()),
                ("no", said)
            );
        }
    }
}
