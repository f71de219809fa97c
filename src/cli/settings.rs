//! `autosync config`

use std::os::unix::ffi::OsStrExt;

use clap::{Args, Subcommand};

use super::out::{Out, count};
use super::scene::Scene;
use crate::config::{EXAMPLE, Settings};
use crate::error::Exit;
use crate::names::{escape, without_secrets};

/// Check, show or find the configuration
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// Say what the configuration means, or what is wrong with it
    ///
    /// Ends with 2 if something is wrong. A running agent reads its configuration again on SIGHUP.
    Check,
    /// Print a configuration with every key, its default and what it is for
    Example,
    /// Print the path of the configuration, whether it exists or not
    Path,
}

pub(super) fn run(args: &ConfigArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let mut out = Out::new();
    match args.what {
        What::Check => check(scene, &mut out)?,
        What::Example => out.raw(EXAMPLE.as_bytes())?,
        What::Path => {
            let file = scene.config_file();
            let file = file.unwrap_or_else(|| scene.paths.config_file());
            // As it is: this is for scripts.
            out.raw(file.as_os_str().as_bytes())?;
            out.raw(b"\n")?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn check(scene: &Scene, out: &mut Out) -> anyhow::Result<()> {
    let settings = scene.settings()?;
    let name = |path: &std::path::Path| escape(path.as_os_str().as_bytes());
    match scene.config_file() {
        Some(file) => out.line(format_args!("{} is good.", name(&file)))?,
        None => out.line(format_args!(
            "There is no {}; the defaults count.",
            name(&scene.paths.config_file())
        ))?,
    }
    let Settings { host, folders, .. } = &settings;
    out.line(format_args!(
        "This host is {host}, with {}.",
        count(folders.len(), "folder")
    ))?;
    for folder in folders {
        let there = if folder.path.is_dir() {
            ""
        } else {
            " (not there yet)"
        };
        out.line(format_args!(
            "  {}: {}{there}",
            folder.name,
            name(&folder.path)
        ))?;
        if let Some(hub) = &folder.hub {
            out.line(format_args!("    hub {}", without_secrets(hub)))?;
        }
    }
    Ok(())
}
