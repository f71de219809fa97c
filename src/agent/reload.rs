//! Going over to another configuration while the agent runs.
//!
//! Invariant: a folder of which nothing changed goes on as it is, whether its disk is there now or
//! not; so does one that is waited for.

use super::folder::FolderAgent;
use super::transports::transports;
use super::{Agent, Prepared};
use crate::config::{FolderSettings, Settings};

impl Agent {
    /// Goes over to another configuration: folders that are equal go on as they are.
    pub(super) fn reconfigure(&mut self, settings: Settings, folders: Vec<Prepared>) {
        let common_changed = (settings.settle, settings.push)
            != (self.settings.settle, self.settings.push)
            || settings.host != self.settings.host
            || settings.guards != self.settings.guards;
        let keep: Vec<&FolderSettings> = folders.iter().map(|(config, _)| config).collect();
        let gone: Vec<u64> = self
            .folders
            .iter()
            .filter(|(_, folder)| common_changed || !keep.contains(&&folder.config))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.stop_folder(id);
        }
        let forgotten: Vec<u64> = self
            .away
            .iter()
            .filter(|(_, away)| common_changed || !keep.contains(&&away.config))
            .map(|(id, _)| *id)
            .collect();
        for id in forgotten {
            self.away.remove(&id);
            self.desktop.forget(&id.to_string());
        }
        let bell = |settings: &Settings| {
            let Settings {
                notice,
                xmpp,
                fanout,
                host,
                ..
            } = settings;
            (notice.clone(), xmpp.clone(), fanout.clone(), host.clone())
        };
        let bell_changed = bell(&settings) != bell(&self.settings);
        let desktop_changed = settings.desktop != self.settings.desktop;
        self.settings = settings;
        if desktop_changed {
            self.change_desktop();
        }
        if bell_changed {
            for transport in &self.transports {
                self.desktop.solved(transport.name());
            }
            self.transports.clear();
            for folder in self.folders.values_mut() {
                folder.deafen();
            }
            self.transports = transports(&self.settings, &self.runtime, &self.inbox.0);
            for folder in self.folders.values().filter_map(FolderAgent::known) {
                for transport in &mut self.transports {
                    transport.watch(folder);
                }
            }
        } else {
            // What they need may be in files beside it.
            for transport in &self.transports {
                transport.retry();
            }
        }
        for (config, prepared) in folders {
            if self.folders.values().any(|folder| folder.config == config) {
                continue;
            }
            let known = self.away.iter().find(|(_, away)| away.config == config);
            if let Some((id, _)) = known {
                let id = *id;
                self.looked(id, prepared);
            } else {
                self.add_folder((config, prepared));
            }
        }
        tracing::info!(
            folders = self.folders.len(),
            "the configuration was read again"
        );
    }
}
