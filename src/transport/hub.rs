//! The `hub` transport: sees the hub's branch move, so it needs no account, server or port.
//!
//! A hub on a path is watched as a directory; a hub on an ssh server through one held session
//! for all folders there; any other hub is left to the poll. Other hosts see our pushes the same
//! way, so there is nothing to announce.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::watch::{Order, Watch};
use super::{Board, Folder, Sink, State, Transport, hub_path, hub_ssh};
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::notice::Notice;
use crate::engine::status::TransportStatus;
use crate::git::hub::Kind;
use crate::git::ssh::Server;

/// How often a hub is looked at, or a server spoken to, without a cause.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// A path hub that the kernel watches for us: in case it missed something.
    pub heartbeat: Duration,
    /// A path hub on a file system where other hosts' writes raise no event.
    pub doubtful: Duration,
    /// A hub that is away: first after this long, then doubling...
    pub away: Duration,
    /// ...up to this; for a server up to a minute.
    pub away_max: Duration,
    /// A held session: how often both sides show that they live.
    pub beat: Duration,
    /// A held session: how long the server may take to answer.
    pub answer: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(30),
            doubtful: Duration::from_secs(2),
            away: Duration::from_secs(5),
            away_max: Duration::from_secs(30),
            beat: Duration::from_secs(10),
            answer: Duration::from_secs(10),
        }
    }
}

/// A server, and the ssh command by which the folder reaches it.
type Login = (Server, Option<String>);

/// The hub as a transport.
pub struct HubTransport {
    board: Arc<Board>,
    pace: Pace,
    runtime: PathBuf,
    paths: Option<Watch>,
    servers: BTreeMap<Login, Watch>,
    folders: BTreeMap<String, Folder>,
}

impl HubTransport {
    /// Creates the transport, which does nothing until it has a folder.
    ///
    /// `runtime` is a private directory, at most 48 bytes long, for the sockets of shared ssh
    /// connections; the same as in the network lane's terms.
    pub fn new(sink: Sink, runtime: PathBuf, pace: Pace) -> Self {
        Self {
            board: Arc::new(Board::new("hub", sink)),
            pace,
            runtime,
            paths: None,
            servers: BTreeMap::new(),
            folders: BTreeMap::new(),
        }
    }

    fn start(&mut self, folder: Folder) -> io::Result<()> {
        match &folder.hub {
            Kind::Path(_) => {
                let paths = match &self.paths {
                    Some(paths) => paths,
                    None => self
                        .paths
                        .insert(hub_path::start(Arc::clone(&self.board), self.pace)?),
                };
                paths.order(Order::Watch(Box::new(folder)));
            }
            Kind::Ssh(server, _) => {
                let login = (server.clone(), folder.ssh_command.clone());
                if !self.servers.contains_key(&login) {
                    let watch = hub_ssh::start(
                        Arc::clone(&self.board),
                        self.pace,
                        self.runtime.clone(),
                        login.0.clone(),
                        login.1.clone(),
                    )?;
                    self.servers.insert(login.clone(), watch);
                }
                if let Some(watch) = self.servers.get(&login) {
                    watch.order(Order::Watch(Box::new(folder)));
                }
            }
            Kind::Https | Kind::Other => {
                let message = "this hub cannot say that it changed, so it is polled";
                let trouble = Trouble::new(Code::Declined, Recovery::Hold, message, "");
                self.board.set(&folder.key, State::Held(trouble));
            }
        }
        Ok(())
    }
}

impl Transport for HubTransport {
    fn name(&self) -> &'static str {
        "hub"
    }

    fn watch(&mut self, folder: &Folder) {
        // What else is known of it makes no difference to its hub.
        let same = |known: &Folder| {
            (&known.hub, &known.branch, &known.ssh_command)
                == (&folder.hub, &folder.branch, &folder.ssh_command)
        };
        if self.folders.get(&folder.key).is_some_and(same) {
            return;
        }
        self.unwatch(&folder.key);
        self.folders.insert(folder.key.clone(), folder.clone());
        self.board.set(&folder.key, State::Connecting);
        if let Err(error) = self.start(folder.clone()) {
            let message = format!("the hub cannot be watched: {error}");
            let hint = "If there are too many watches, raise fs.inotify.max_user_instances.";
            let trouble = Trouble::new(Code::Watches, Recovery::Hold, message, hint);
            self.board.set(&folder.key, State::Held(trouble));
        }
    }

    fn unwatch(&mut self, key: &str) {
        let Some(folder) = self.folders.remove(key) else {
            return;
        };
        match folder.hub {
            Kind::Path(_) => {
                if let Some(paths) = &self.paths {
                    paths.order(Order::Unwatch(key.to_owned()));
                }
            }
            Kind::Ssh(server, _) => {
                let login = (server, folder.ssh_command);
                let last = !self.folders.values().any(|other| match &other.hub {
                    Kind::Ssh(server, _) => (server, &other.ssh_command) == (&login.0, &login.1),
                    Kind::Path(_) | Kind::Https | Kind::Other => false,
                });
                if last {
                    self.servers.remove(&login);
                } else if let Some(watch) = self.servers.get(&login) {
                    watch.order(Order::Unwatch(key.to_owned()));
                }
            }
            Kind::Https | Kind::Other => {}
        }
        self.board.forget(key);
    }

    fn announce(&self, _notice: &Notice) {}

    fn retry(&self) {
        for watch in self.paths.iter().chain(self.servers.values()) {
            watch.order(Order::Retry);
        }
    }

    fn status(&self) -> TransportStatus {
        self.board.status()
    }
}
