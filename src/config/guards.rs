//! The table `[guards]`: what is held until a person says something.

use std::time::Duration;

use toml::de::DeValue;

use super::written::{At, Section, bytes, number};
use super::xmpp::flag;
use super::{ConfigError, GuardSettings, amount, value_or};
use crate::engine::guard::MassDelete;

/// The table as written.
#[derive(Debug, Default)]
pub(super) struct WrittenGuards {
    mass_delete_files: Option<At<usize>>,
    mass_delete_percent: Option<At<u8>>,
    mass_delete_top: Option<At<usize>>,
    unattended: Option<At<Option<Duration>>>,
    secrets: Option<At<bool>>,
    junk: Option<At<bool>>,
    new_files: Option<At<usize>>,
    new_bytes: Option<At<u64>>,
}

impl WrittenGuards {
    pub(super) fn read(mut table: Section<'_>) -> Result<Self, ConfigError> {
        let count = |value: &DeValue<'_>| number(value, usize::MAX);
        let written = Self {
            mass_delete_files: table.take("mass_delete_files", count)?,
            mass_delete_percent: table.take("mass_delete_percent", |value| number(value, 100))?,
            mass_delete_top: table.take("mass_delete_top", count)?,
            unattended: table.take("unattended", unattended)?,
            secrets: table.take("secrets", flag)?,
            junk: table.take("junk", flag)?,
            new_files: table.take("new_files", count)?,
            new_bytes: table.take("new_bytes", bytes)?,
        };
        table.finish()?;
        Ok(written)
    }

    /// Returns what it means, with these in place of what is not given.
    pub(super) fn meant(self, default: GuardSettings) -> GuardSettings {
        GuardSettings {
            mass_delete: MassDelete {
                files: value_or(self.mass_delete_files, default.mass_delete.files),
                percent: value_or(self.mass_delete_percent, default.mass_delete.percent),
            },
            mass_delete_top: value_or(self.mass_delete_top, default.mass_delete_top),
            unattended: value_or(self.unattended, default.unattended),
            secrets: value_or(self.secrets, default.secrets),
            junk: value_or(self.junk, default.junk),
            new_files: value_or(self.new_files, default.new_files),
            new_bytes: value_or(self.new_bytes, default.new_bytes),
        }
    }
}

/// Reads `hold` or `apply-after 24h`.
fn unattended(value: &DeValue<'_>) -> Result<Option<Duration>, String> {
    let wrong = || "must be \"hold\" or \"apply-after\" with a time, as in \"apply-after 24h\"";
    let text = value.as_str().ok_or_else(wrong)?;
    if text == "hold" {
        return Ok(None);
    }
    let time = text.strip_prefix("apply-after ").ok_or_else(wrong)?.trim();
    let time = amount::duration(time).map_err(|why| format!("is \"{text}\": {why}"))?;
    if time < Duration::from_secs(1) {
        return Err("must leave at least 1s".to_owned());
    }
    Ok(Some(time))
}
