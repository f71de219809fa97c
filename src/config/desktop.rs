//! The table `[desktop]`: what is shown while the agent works.

use super::written::{At, Section, texts, word};
use super::{ConfigError, Scene, Word, value_or};

/// What the desktop shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesktopSettings {
    /// How much is shown.
    pub notify: Notify,
    /// Whether a lone commit asks for a message.
    pub describe: Describe,
    /// The program that asks for a message, with its arguments; `None` is the first of zenity,
    /// kdialog and yad that is there.
    pub describe_command: Option<Vec<String>>,
}

impl Default for DesktopSettings {
    fn default() -> Self {
        Self {
            notify: Notify::Steps,
            describe: Describe::Off,
            describe_command: None,
        }
    }
}

/// How much the desktop shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notify {
    /// Nothing.
    Off,
    /// What needs a person: problems, conflicts, holds.
    Problems,
    /// Also what came in.
    Summary,
    /// Also each step of what leaves.
    Steps,
}

impl Word for Notify {
    const ALL: &'static [(&'static str, Self)] = &[
        ("steps", Self::Steps),
        ("summary", Self::Summary),
        ("problems", Self::Problems),
        ("off", Self::Off),
    ];
}

/// Whether a lone commit asks for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Describe {
    /// Only who clicks is asked.
    Off,
    /// Each lone commit asks, and its push waits a while for the answer.
    Ask,
}

impl Word for Describe {
    const ALL: &'static [(&'static str, Self)] = &[("off", Self::Off), ("ask", Self::Ask)];
}

/// The table as written.
#[derive(Debug, Default)]
pub(super) struct WrittenDesktop {
    notify: Option<At<Notify>>,
    describe: Option<At<Describe>>,
    describe_command: Option<At<Vec<String>>>,
}

impl WrittenDesktop {
    /// Reads the form of every key.
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let this = Self {
            notify: section.take("notify", word)?,
            describe: section.take("describe", word)?,
            describe_command: section.take("describe_command", texts)?,
        };
        section.finish()?;
        Ok(this)
    }

    /// Returns what is meant.
    pub(super) fn meant(self, scene: &Scene<'_>) -> Result<DesktopSettings, ConfigError> {
        let default = DesktopSettings::default();
        if let Some(command) = &self.describe_command
            && command.value.is_empty()
        {
            let why = "must be a program and its arguments";
            return Err(scene.bad(command.line, "desktop.describe_command", why));
        }
        Ok(DesktopSettings {
            notify: value_or(self.notify, default.notify),
            describe: value_or(self.describe, default.describe),
            describe_command: self.describe_command.map(|at| at.value),
        })
    }
}
