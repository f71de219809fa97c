//! Who listens to which channel, and what was said there last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Settings;
use super::client::Client;
use super::outbox::Message;
use crate::clock;

/// What all clients share.
#[derive(Debug)]
pub(super) struct Room {
    /// What the server was told.
    pub(super) settings: Settings,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    channels: BTreeMap<Arc<str>, Channel>,
    /// The channels with a latest message, by the number of it: the oldest is forgotten first.
    ages: BTreeMap<u64, Arc<str>>,
    said: u64,
    came: u64,
}

#[derive(Debug, Default)]
struct Channel {
    listeners: BTreeMap<u64, Arc<Client>>,
    latest: Option<(u64, Arc<str>)>,
}

impl Room {
    /// Creates an empty room.
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            shared: Mutex::default(),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of a client that comes.
    pub(super) fn number(&self) -> u64 {
        let mut shared = self.shared();
        shared.came += 1;
        shared.came
    }

    /// Lets a client listen to a channel. Returns the channel's name as everybody shares it, and
    /// what was said there last.
    pub(super) fn subscribe(
        &self,
        client: &Arc<Client>,
        name: &str,
    ) -> (Arc<str>, Option<Message>) {
        let mut shared = self.shared();
        let name = shared.name(name);
        let channel = shared.channels.entry(Arc::clone(&name)).or_default();
        channel.listeners.insert(client.number, Arc::clone(client));
        let latest = channel.latest.as_ref().map(|(_, text)| Message {
            channel: Arc::clone(&name),
            text: Arc::clone(text),
        });
        (name, latest)
    }

    /// Lets a client listen to a channel no longer.
    pub(super) fn unsubscribe(&self, client: &Client, name: &str) {
        let mut shared = self.shared();
        if let Some(channel) = shared.channels.get_mut(name) {
            channel.listeners.remove(&client.number);
            shared.tidy(name);
        }
    }

    /// Says something on a channel to everybody who listens.
    pub(super) fn announce(&self, name: &str, text: &str) {
        let now = clock::now();
        let mut shared = self.shared();
        let name = shared.name(name);
        let text: Arc<str> = text.into();
        shared.said += 1;
        let said = shared.said;
        let channel = shared.channels.entry(Arc::clone(&name)).or_default();
        let old = channel.latest.replace((said, Arc::clone(&text)));
        for client in channel.listeners.values() {
            let message = Message {
                channel: Arc::clone(&name),
                text: Arc::clone(&text),
            };
            client.tell(message, now);
        }
        if let Some((age, _)) = old {
            shared.ages.remove(&age);
        }
        shared.ages.insert(said, name);
        while shared.ages.len() > self.settings.limits.remembered {
            let Some((_, oldest)) = shared.ages.pop_first() else {
                break;
            };
            if let Some(channel) = shared.channels.get_mut(&oldest) {
                channel.latest = None;
            }
            shared.tidy(&oldest);
        }
    }
}

impl Shared {
    /// Returns the name of a channel as everybody shares it.
    fn name(&self, name: &str) -> Arc<str> {
        let known = self.channels.get_key_value(name);
        known.map_or_else(|| name.into(), |(name, _)| Arc::clone(name))
    }

    /// Forgets a channel without listeners and without a latest message.
    fn tidy(&mut self, name: &str) {
        let of_use = |channel: &Channel| !channel.listeners.is_empty() || channel.latest.is_some();
        if !self.channels.get(name).is_some_and(of_use) {
            self.channels.remove(name);
        }
    }
}
