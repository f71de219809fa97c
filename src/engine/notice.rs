//! The message from host to host: "commit C of folder F is on the hub".

use crate::names::ObjectId;

/// A hint that the hub has something new. It never carries anything that is executed or fetched
/// from unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The folder's identity, `autosync.id`.
    pub folder: String,
    /// The branch that moved.
    pub branch: String,
    /// Its new tip; `None` from senders that do not say (old hosts, a ref watch).
    pub commit: Option<ObjectId>,
    /// The host that pushed; empty if unknown.
    pub host: String,
    /// Grows with every notice of a host since its start.
    pub sequence: u64,
}
