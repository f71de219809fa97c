//! The transport that is no bell: the engine asks the hub from time to time.
//!
//! It exists so that `status` names it. It needs no thread, never reports, and is never online in
//! the engine's sense, which would make the polls rare.

use super::{Folder, Transport};
use crate::clock;
use crate::engine::notice::Notice;
use crate::engine::status::TransportStatus;
use crate::engine::timer::Moment;

/// The poll as a transport.
#[derive(Debug)]
pub struct PollTransport {
    since: Moment,
}

impl PollTransport {
    /// Creates it.
    pub fn new() -> Self {
        Self {
            since: clock::now(),
        }
    }
}

impl Default for PollTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for PollTransport {
    fn name(&self) -> &'static str {
        "poll"
    }

    fn watch(&mut self, _folder: &Folder) {}

    fn unwatch(&mut self, _key: &str) {}

    fn announce(&self, _notice: &Notice) {}

    fn retry(&self) {}

    fn status(&self) -> TransportStatus {
        TransportStatus {
            name: "poll".to_owned(),
            state: "online".to_owned(),
            message: String::new(),
            hint: String::new(),
            since: clock::wall_at(self.since),
            peers: Vec::new(),
            folders: Vec::new(),
        }
    }
}
