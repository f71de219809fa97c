//! `autosync init`

use std::path::PathBuf;

use clap::Args;

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
