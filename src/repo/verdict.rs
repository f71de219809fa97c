//! One path, three versions: which stands, and which becomes a copy.
//!
//! Pure: the whole table for a single path is this file.

use super::Policy;
use super::merge::Prefer;
use crate::git::tree::{Entry, GITLINK};

/// The versions of one path; `None` where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Versions {
    /// What both sides started from.
    pub(super) base: Option<Entry>,
    /// The hub's.
    pub(super) hub: Option<Entry>,
    /// Ours.
    pub(super) local: Option<Entry>,
}

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What stands at the path.
    pub(super) stands: Option<Entry>,
    /// The local version, if it is to stand beside it.
    pub(super) loser: Option<Entry>,
    /// Whether a local move of a submodule was given up.
    pub(super) submodule: bool,
}

impl Verdict {
    /// Decides between versions that could not be merged.
    pub(super) fn of(versions: Versions, prefer: Prefer, policy: Policy) -> Self {
        let Versions { base, hub, local } = versions;
        let only = |stands| Self {
            stands,
            loser: None,
            submodule: false,
        };
        if hub == local || local == base {
            return only(hub);
        }
        if hub == base {
            return only(local);
        }
        let (hub, local) = match (hub, local) {
            (Some(hub), Some(local)) => (hub, local),
            (_, None) if prefer == Prefer::LocalSilently => return only(None),
            // An edit beats a delete.
            (one, other) => return only(one.or(other)),
        };
        let changed = |side: Entry| base.is_none_or(|base| !base.same_content(&side));
        let mode = merged_mode(base, hub, local);
        let standing = |side: Entry| {
            Some(if side.is_file() {
                Entry { mode, ..side }
            } else {
                side
            })
        };
        if hub.same_content(&local) || !changed(local) {
            return only(standing(hub));
        }
        if !changed(hub) || prefer == Prefer::LocalSilently || policy == Policy::Local {
            return only(standing(local));
        }
        let submodule = hub.mode == GITLINK && local.mode == GITLINK;
        let copied = policy != Policy::Hub && !submodule;
        Self {
            stands: standing(hub),
            loser: Some(local).filter(|_| copied),
            submodule,
        }
    }
}

/// Returns the mode that two sides make of a file, apart from its content: what one of them
/// changed. The hub's if it is no file everywhere.
pub(super) fn merged_mode(base: Option<Entry>, hub: Entry, local: Entry) -> u32 {
    if !hub.is_file() {
        return if local.is_file() {
            local.mode
        } else {
            hub.mode
        };
    }
    match base.filter(Entry::is_file) {
        Some(base) if local.is_file() && base.mode == hub.mode => local.mode,
        _ => hub.mode,
    }
}
