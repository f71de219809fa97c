//! `autosync demo`
//!
//! Two hosts in a temporary place, each with a home of its own and a real agent in a process of
//! its own, and a hub between them. `script` edits and waits for what must be seen, `verdict`
//! compares at the end, `tale` tells. Whatever happens, the agents end before we do.
//!
//! Absent: any shortcut. The agents are started, asked and stopped as a user would do it.

use clap::Args;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use self::script::Script;
use self::tale::Tale;
use super::scene::Scene;
use crate::error::Exit;

mod host;
mod script;
mod tale;
mod verdict;

/// Watch two computers keep a folder in sync, in a temporary place
///
/// Starts two real agents, "laptop" and "server", with a hub between them. Shows a scripted minute
/// of edits as they arrive on the other side and how long they took: a merge, a conflict, an agent
/// that is killed. Ends with 0 only if both folders are the same and nothing is missing.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Print JSON, one object on each line
    #[arg(long)]
    pub json: bool,
    /// Keep the temporary place and print where it is
    #[arg(long)]
    pub keep: bool,
}

pub(super) fn run(args: &DemoArgs, scene: &Scene) -> anyhow::Result<Exit> {
    scene.start_quiet_log()?;
    // Short, because a socket in it has to have a short path.
    let place = tempfile::Builder::new().prefix("asdemo-").tempdir()?;
    let tale = Tale::new(args.json);
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let exit = tokio.block_on(play(&place, &tale, scene));
    if args.keep {
        tale.kept(&place.keep())?;
    } else if let Err(error) = place.close() {
        tracing::warn!(%error, "the temporary place could not be removed");
    }
    exit
}

/// Plays the script and judges it. A signal ends it early; the agents end with the script.
async fn play(place: &TempDir, tale: &Tale, scene: &Scene) -> anyhow::Result<Exit> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    // Everything below is reached by the name that the system uses for it.
    let root = place.path().canonicalize()?;
    let mut script = Script::new(&root, &scene.env, tale)?;
    let verdict = tokio::select! {
        verdict = script.play() => verdict?,
        _ = term.recv() => return Ok(Exit::Interrupted),
        _ = int.recv() => return Ok(Exit::Interrupted),
    };
    tale.verdict(&verdict)?;
    Ok(if verdict.failures.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}
