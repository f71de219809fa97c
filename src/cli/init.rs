//! `autosync init`

use std::path::PathBuf;

use clap::Args;

use super::once::{again, report, sync};
use super::run::introduce;
use super::scene::Scene;
use crate::agent::prepare::{Wish, prepare};
use crate::error::Exit;

/// Make a folder ready, with its first contact to a hub
///
/// Makes DIR and a repository in it where they are missing. A hub that is empty receives what is
/// in DIR; from a hub that is not, its history is taken, and what is in DIR becomes changes on top
/// of it. Nothing in DIR is lost.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The hub: a path or anything that git can push to; a new one on this computer if not given
    #[arg(long, value_name = "URL")]
    pub hub: Option<String>,
    /// Make the hub usable by everybody in its group
    #[arg(long)]
    pub shared: bool,
}

pub(super) fn run(args: &InitArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let settings = scene.settings_for(std::slice::from_ref(&args.dir))?;
    scene.start_quiet_log()?;
    let wish = Wish {
        make: true,
        make_hub: true,
        hub: args.hub.clone(),
        shared: args.shared,
        alone: true,
        ..Wish::default()
    };
    let folder = &settings.folders[0];
    let ready = prepare(folder, &settings, &scene.paths, &wish)?;
    introduce(&ready)?;
    let outcome = sync(folder, &ready.settings, &settings, scene)?;
    report(&outcome, &again(&args.dir))
}
