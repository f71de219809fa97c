//! `autosync reflect`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::out::say;
use crate::config::LogSettings;
use crate::error::{Complaint, Exit};
use crate::logging;
use crate::paths::Env;
use crate::transport::fanout::seal::{Key, KeyError};
use crate::transport::reflector::{ReflectError, Reflector, Settings, raise_open_files};

/// Pass notices on between your computers
///
/// A small server for a router or whatever is always on: hosts with `[fanout] server` in their
/// configuration tell each other over it that something was pushed. It speaks SparkleShare's line
/// protocol, keeps nothing on disk and carries no contents.
///
/// Without a key it listens to this computer only. With one, only hosts with the same key
/// (`[fanout] key_file`) are served; a key is any 16 characters or more in a file that nobody else can
/// read. Stays in the foreground and ends on SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
pub struct ReflectArgs {
    /// Where to listen: an address and a port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1986")]
    pub listen: SocketAddr,
    /// The key that the hosts share with the server
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Serve SparkleShare hosts, which have no key, too
    #[arg(long, requires = "key_file")]
    pub legacy: bool,
}

impl From<KeyError> for Complaint {
    fn from(error: KeyError) -> Self {
        Self::new(Exit::Usage, error.to_string(), error.hint())
    }
}

impl From<ReflectError> for Complaint {
    fn from(error: ReflectError) -> Self {
        let exit = match &error {
            ReflectError::NoKey(_) => Exit::Usage,
            ReflectError::Bind { .. } => Exit::Failed,
        };
        Self::new(exit, error.to_string(), error.hint())
    }
}

pub(super) fn run(args: &ReflectArgs, env: &Env, verbose: u8) -> anyhow::Result<Exit> {
    logging::start(LogSettings::default(), verbose, env)
        .map_err(|error| Complaint::new(Exit::Usage, error.to_string(), ""))?;
    let credentials = env.get("CREDENTIALS_DIRECTORY").map(Path::new);
    let read = |file: &PathBuf| Key::read(file, credentials).map_err(Complaint::from);
    let settings = Settings {
        key: args.key_file.as_ref().map(read).transpose()?,
        legacy: args.legacy,
        ..Settings::default()
    };
    raise_open_files();
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio.block_on(async {
        let reflector = Reflector::bind(args.listen, settings)
            .await
            .map_err(Complaint::from)?;
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        say(format!("Listening on {}.", reflector.address()?))?;
        let mut exit = Exit::Done;
        let stop = async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => exit = Exit::Interrupted,
            }
        };
        reflector.serve(stop).await;
        Ok(exit)
    })
}
