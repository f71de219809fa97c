//! `autosync clone`

use std::path::PathBuf;

use clap::Args;

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
