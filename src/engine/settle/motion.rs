//! What is known about one path that waits.

use crate::engine::event::ChangeKind;
use crate::engine::timer::Moment;

/// What is known about one path that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Motion {
    pub(super) first: Moment,
    pub(super) last: Moment,
    pub(super) open: bool,
    pub(super) removed: bool,
    pub(super) probed: bool,
    /// How often a snapshot found it in motion, and until when it is left alone for that.
    pub(super) busy: u32,
    pub(super) busy_until: Moment,
}

impl Motion {
    /// A path that changes for the first time.
    pub(super) fn new(now: Moment) -> Self {
        Self {
            first: now,
            last: now,
            open: false,
            removed: false,
            probed: false,
            busy: 0,
            busy_until: Moment::default(),
        }
    }

    /// Notes what happened to it.
    pub(super) fn note(&mut self, now: Moment, kind: ChangeKind) {
        self.last = now;
        self.probed = false;
        match kind {
            ChangeKind::Written => {
                self.open = true;
                self.removed = false;
            }
            ChangeKind::Closed | ChangeKind::Subtree => {
                self.open = false;
                self.removed = false;
                self.busy = 0;
                self.busy_until = Moment::default();
            }
            ChangeKind::Removed => {
                self.open = false;
                self.removed = true;
                self.busy = 0;
                self.busy_until = Moment::default();
            }
            ChangeKind::Attributes => {}
        }
    }
}
