//! `autosync clone`

use std::path::PathBuf;

use clap::Args;

use super::once::{again, report, sync};
use super::run::introduce;
use super::scene::Scene;
use crate::agent::prepare::{Wish, prepare};
use crate::error::Exit;

/// Bring a hub's folder to this computer
///
/// DIR may exist and hold files: what is equal stays, and what differs becomes changes on top of
/// the hub's history. Nothing in DIR is lost.
#[derive(Debug, Args)]
pub struct CloneArgs {
    /// The hub: a path or anything that git can fetch from
    #[arg(value_name = "URL")]
    pub url: String,
    /// The folder
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

pub(super) fn run(args: &CloneArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let settings = scene.settings_for(std::slice::from_ref(&args.dir))?;
    scene.start_quiet_log()?;
    let wish = Wish {
        make: true,
        hub: Some(args.url.clone()),
        existing_hub: true,
        alone: true,
        ..Wish::default()
    };
    let folder = &settings.folders[0];
    let ready = prepare(folder, &settings, &scene.paths, &wish)?;
    introduce(&ready)?;
    let outcome = sync(folder, &ready.settings, &settings, scene)?;
    report(&outcome, &again(&args.dir))
}
