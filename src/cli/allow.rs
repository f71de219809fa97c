//! `autosync allow`

use std::path::PathBuf;

use clap::Args;

use super::out::say;
use super::scene::Scene;
use super::spot::Spot;
use crate::error::Exit;
use crate::repo::allowed::{What, allow};

/// Let through what a guard holds at a path, for good
///
/// New files that look like secrets, build output, caches and very many new files at once are held
/// back and listed by `autosync status`. What you name here is synced all the same, on this computer
/// from now on, and comes to your other computers like every other file.
///
/// A directory lets through the build output or the many files below it, but not the secrets: name
/// those one by one, or say `--with-secrets`.
#[derive(Debug, Args)]
pub(super) struct AllowArgs {
    /// The files and directories
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Let through the secrets in a directory, too
    #[arg(long)]
    with_secrets: bool,
}

pub(super) fn run(args: &AllowArgs, scene: &Scene) -> anyhow::Result<Exit> {
    scene.start_quiet_log()?;
    let spots = args.paths.iter().map(|path| Spot::find(path, scene));
    for spot in spots.collect::<anyhow::Result<Vec<Spot>>>()? {
        let what = if spot.is_directory && !args.with_secrets {
            What::Junk
        } else {
            What::Everything
        };
        let store = spot.git.dir().join("autosync");
        allow(&store, spot.path.as_ref(), what)
            .map_err(|error| crate::error::Complaint::from(&error.trouble()))?;
        let secrets = match what {
            What::Junk => ", but no secrets in it",
            What::Everything => "",
        };
        let next = if spot.look_again(scene)? {
            "it is synced now"
        } else {
            "the next sync takes it"
        };
        say(format!("Allowed `{}`{secrets}; {next}.", spot.shown()))?;
    }
    Ok(Exit::Done)
}
