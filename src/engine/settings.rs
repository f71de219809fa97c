//! What a person can set for one folder, as far as the engine needs to know.

use std::time::Duration;

use super::settle::Windows;

/// The settings of one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of this host, as it stands in notices.
    pub host: String,
    /// The branch that is kept identical.
    pub branch: String,
    /// When changes are committed.
    pub settle: Windows,
    /// When commits are pushed.
    pub push: PushWindows,
    /// How often the hub is asked while no transport is live.
    pub poll: Duration,
    /// How often the hub is asked while one is.
    pub poll_live: Duration,
    /// Whether commits are pushed.
    pub push_mode: Mode,
    /// Whether what the hub has is merged and applied.
    pub receive: Mode,
    /// How often everything is looked at again.
    pub rescan: Duration,
    /// How long a folder must have been without a commit before it is repacked.
    pub maintain_after: Duration,
    /// How many commits make a repack worth while.
    pub maintain_commits: u32,
    /// Whether the push of a lone commit waits a while for a person's words.
    pub ask: bool,
    /// Whether notes are brought together with those on the hub.
    pub notes: bool,
    /// After how long a mass delete that came in is carried out without a person's word; `None` is
    /// never.
    pub unattended: Option<Duration>,
    /// Whether there is a hub at all.
    pub has_hub: bool,
    /// A passing fault is told when it has lasted this long: everybody's network blinks.
    pub tell_after: Duration,
}

/// When commits are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushWindows {
    /// Quiet time after a commit; zero pushes at once.
    pub quiet: Duration,
    /// What the quiet time grows to in a burst.
    pub quiet_max: Duration,
    /// The longest that a commit waits.
    pub max_wait: Duration,
}

/// Whether something is done by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By itself.
    Auto,
    /// Only when a person asks.
    Manual,
    /// Never.
    Off,
}

impl Default for PushWindows {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(100),
            quiet_max: Duration::from_secs(5),
            max_wait: Duration::from_secs(10),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: String::new(),
            branch: "main".to_owned(),
            settle: Windows::default(),
            push: PushWindows::default(),
            poll: Duration::from_secs(60),
            poll_live: Duration::from_secs(600),
            push_mode: Mode::Auto,
            receive: Mode::Auto,
            rescan: Duration::from_secs(900),
            maintain_after: Duration::from_secs(600),
            maintain_commits: 50,
            ask: false,
            notes: false,
            unattended: None,
            has_hub: true,
            tell_after: Duration::from_secs(15),
        }
    }
}
