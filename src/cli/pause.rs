//! `autosync pause`

use std::time::Duration;

use clap::Args;

use super::out::say;
use super::scene::{Scene, folder_word};
use crate::config;
use crate::error::Exit;

/// Pause syncing, for a while or until `autosync resume`
///
/// Nothing is committed, pushed, fetched or written until `autosync resume` or until the time is
/// over. What you change meanwhile is kept in the folder and committed afterwards.
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// Only this folder: its name in `autosync status`, or its path
    #[arg(value_name = "FOLDER")]
    folder: Option<String>,
    /// Go on by itself after this time, such as 30m or 2h
    #[arg(long, value_name = "TIME", value_parser = config::duration)]
    r#for: Option<Duration>,
}

pub(super) fn run(args: &PauseArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let folder = args.folder.as_deref().map(folder_word);
    scene.ask(async |client| client.pause(folder.as_deref(), args.r#for).await)?;
    match args.r#for {
        Some(time) => say(format_args!("Paused for {}.", config::show_duration(time)))?,
        None => say("Paused until `autosync resume`.")?,
    }
    Ok(Exit::Done)
}
