//! `autosync resume`

use clap::Args;

use super::out::say;
use super::scene::{Scene, folder_word};
use crate::error::Exit;

/// Go on after a pause
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// Only this folder: its name in `autosync status`, or its path
    #[arg(value_name = "FOLDER")]
    folder: Option<String>,
}

pub(super) fn run(args: &ResumeArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let folder = args.folder.as_deref().map(folder_word);
    scene.ask(async |client| client.resume(folder.as_deref()).await)?;
    say("Going on.")?;
    Ok(Exit::Done)
}
