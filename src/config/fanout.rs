//! The table `[fanout]`: a server of `SparkleShare`'s line protocol that passes notices on.

use std::path::PathBuf;

use super::written::{At, Section, text};
use super::xmpp::host_and_port;
use super::{ConfigError, Scene};

/// How the hosts tell each other over the line protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanoutSettings {
    /// The server's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The key that our hosts and the server share, a file; `None` speaks as `SparkleShare` does.
    pub key_file: Option<PathBuf>,
}

/// The table as written.
#[derive(Debug, Default)]
pub(super) struct WrittenFanout {
    pub(super) server: Option<At<String>>,
    key_file: Option<At<String>>,
}

impl WrittenFanout {
    /// Reads the form of every key.
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let this = Self {
            server: section.take("server", text)?,
            key_file: section.take("key_file", text)?,
        };
        section.finish()?;
        Ok(this)
    }

    /// Returns what is meant; `None` without a server.
    pub(super) fn meant(self, scene: &Scene<'_>) -> Result<Option<FanoutSettings>, ConfigError> {
        let Some(server) = self.server else {
            return Ok(None);
        };
        let place = server.value.strip_prefix("tcp://").ok_or_else(|| {
            let why = "must be like tcp://host:1986";
            scene.bad(server.line, "fanout.server", why)
        })?;
        let (host, port) = host_and_port(place.trim_end_matches('/'))
            .map_err(|_| "must be like tcp://host:1986")
            .map_err(|why| scene.bad(server.line, "fanout.server", why))?;
        Ok(Some(FanoutSettings {
            host,
            port,
            key_file: scene.path(self.key_file, "fanout.key_file")?,
        }))
    }
}
