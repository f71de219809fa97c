//! `autosync status`

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::out::{Out, say};
use super::scene::Scene;
use crate::clock;
use crate::config;
use crate::control::Until;
use crate::engine::status::{State, Status};
use crate::error::{Complaint, Exit};

mod page;

pub(super) use page::ago;

/// Show what is in sync, what is not, and why
///
/// Ends with 0 if all is well, with 3 if something is held or syncing has stopped and is tried
/// again, and with 1 if no agent is running or what was waited for was not so in time. A pause,
/// yours or that for your own git, is well.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print JSON, whose form is kept from version to version
    #[arg(long)]
    json: bool,
    /// Wait first until there is nothing to do here (idle), or until the hubs have it too (synced)
    #[arg(long, value_name = "WHAT")]
    wait: Option<What>,
    /// Wait no longer than this, such as 500ms or 2m
    #[arg(
        long,
        value_name = "TIME",
        value_parser = config::duration,
        default_value = "30s",
        requires = "wait"
    )]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Idle,
    Synced,
}

impl From<What> for Until {
    fn from(what: What) -> Self {
        match what {
            What::Idle => Self::Idle,
            What::Synced => Self::Synced,
        }
    }
}

pub(super) fn run(args: &StatusArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let (status, late) = scene.ask(async |client| {
        let Some(what) = args.wait else {
            return client.status().await.map(|status| (status, None));
        };
        match client.wait(what.into(), args.timeout).await {
            Ok(status) => Ok((status, None)),
            // What is in the way is what the user wants to see now.
            Err(error) if error.is_timeout() => Ok((client.status().await?, Some(error))),
            Err(error) => Err(error),
        }
    })?;
    if args.json {
        say(serde_json::to_string_pretty(&status)?)?;
    } else {
        let mut out = Out::new();
        for line in page::lines(&status, clock::wall_seconds()) {
            out.line(line)?;
        }
        out.flush()?;
    }
    match late {
        Some(error) => Err(Complaint::new(Exit::Failed, error.to_string(), "").into()),
        None => Ok(exit(&status)),
    }
}

/// Returns what the status means for a script.
fn exit(status: &Status) -> Exit {
    let stopped = |state| matches!(state, State::Held | State::Retry);
    let folders = &mut status.folders.iter();
    if folders.any(|folder| stopped(folder.state) || !folder.held.is_empty()) {
        Exit::Partly
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests;
