//! The `hub` transport: sees the hub's branch move, so it needs no account, server or port.
//!
//! A hub on a path is watched as a directory. Other hosts see our pushes the same way, so there
//! is nothing to announce.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::hub_path::PathWatch;
use super::{Board, Folder, Sink, State, Transport};
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::notice::Notice;
use crate::engine::status::TransportStatus;
use crate::git::hub::Kind;

/// How often a hub is looked at without a cause.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// A path hub that the kernel watches for us: in case it missed something.
    pub heartbeat: Duration,
    /// A path hub on a file system where other hosts' writes raise no event.
    pub doubtful: Duration,
    /// A hub that is away: first after this long, then doubling...
    pub away: Duration,
    /// ...up to this.
    pub away_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(30),
            doubtful: Duration::from_secs(2),
            away: Duration::from_secs(5),
            away_max: Duration::from_secs(30),
        }
    }
}

/// The hub as a transport.
pub struct HubTransport {
    board: Arc<Board>,
    pace: Pace,
    paths: Option<PathWatch>,
    folders: BTreeMap<String, Folder>,
}

impl HubTransport {
    /// Creates the transport, which does nothing until it has a folder.
    pub fn new(sink: Sink, pace: Pace) -> Self {
        Self {
            board: Arc::new(Board::new("hub", sink)),
            pace,
            paths: None,
            folders: BTreeMap::new(),
        }
    }

    fn watch_path(&mut self, folder: Folder) {
        if self.paths.is_none() {
            match PathWatch::start(Arc::clone(&self.board), self.pace) {
                Ok(watch) => self.paths = Some(watch),
                Err(error) => {
                    let message = format!("the hub cannot be watched: {error}");
                    let trouble = Trouble::new(Code::Io, Recovery::Hold, message, "");
                    self.board.set(&folder.key, State::Held(trouble));
                    return;
                }
            }
        }
        if let Some(paths) = &self.paths {
            paths.watch(folder);
        }
    }
}

impl Transport for HubTransport {
    fn name(&self) -> &'static str {
        "hub"
    }

    fn watch(&mut self, folder: &Folder) {
        if self.folders.get(&folder.key) == Some(folder) {
            return;
        }
        self.unwatch(&folder.key);
        self.folders.insert(folder.key.clone(), folder.clone());
        match &folder.hub {
            Kind::Path(_) => {
                self.board.set(&folder.key, State::Connecting);
                self.watch_path(folder.clone());
            }
            Kind::Ssh(..) | Kind::Https | Kind::Other => {}
        }
    }

    fn unwatch(&mut self, key: &str) {
        if let Some(folder) = self.folders.remove(key) {
            match folder.hub {
                Kind::Path(_) => {
                    if let Some(paths) = &self.paths {
                        paths.unwatch(key);
                    }
                }
                Kind::Ssh(..) | Kind::Https | Kind::Other => {}
            }
            self.board.forget(key);
        }
    }

    fn announce(&self, _notice: &Notice) {}

    fn status(&self) -> TransportStatus {
        self.board.status()
    }
}
