//! `autosync stop`

use clap::Args;

use super::out::say;
use super::scene::Scene;
use crate::error::Exit;

/// Stop the agent
///
/// The agent finishes or safely drops what it is doing and ends within 5 seconds. What you change
/// afterwards is committed and pushed when it starts again.
#[derive(Debug, Args)]
pub(super) struct StopArgs {}

pub(super) fn run(args: &StopArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let StopArgs {} = args;
    scene.ask(async |client| client.stop().await)?;
    say("The agent is stopping.")?;
    Ok(Exit::Done)
}
