//! Which other connections are there: the hosts that are told of a push.
//!
//! Known by presence alone, so a host that went is told no more, and one that came is told at once.
//!
//! Invariants: bounded, whatever is sent; nothing of a lost connection is kept.

use std::collections::BTreeMap;

use tokio_xmpp::jid::{FullJid, Jid};
use tokio_xmpp::parsers::presence::{Presence, Type};

use super::legacy;
use super::stanza::{self, Ears, Whose};
use crate::clock;
use crate::engine::timer::Moment;

/// More connections of one account than this are not kept.
const MOST: usize = 100;

/// Another connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sibling {
    /// Its host; empty if it does not say.
    pub(super) host: String,
    /// Whether it is an old host of dvcs-autosync.
    pub(super) is_old: bool,
    /// Whose it is.
    pub(super) whose: Whose,
    /// When it was last heard.
    pub(super) heard: Moment,
}

/// The other connections that are there now.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    there: BTreeMap<FullJid, Sibling>,
    warned: bool,
}

impl Siblings {
    /// Takes a presence; returns the connection if it was not known before.
    pub(super) fn take(&mut self, presence: &Presence, ears: &Ears) -> Option<FullJid> {
        let from = presence.from.as_ref()?;
        match presence.type_ {
            Type::None => {}
            Type::Unavailable => {
                match from.try_as_full() {
                    Ok(full) => drop(self.there.remove(full)),
                    Err(bare) => self.there.retain(|jid, _| jid.to_bare() != *bare),
                }
                return None;
            }
            Type::Error
            | Type::Probe
            | Type::Subscribe
            | Type::Subscribed
            | Type::Unsubscribe
            | Type::Unsubscribed => return None,
        }
        let (jid, whose) = ears.whose(from)?;
        let is_old = ears.legacy && whose == Whose::Own && legacy::is_old(jid.resource());
        let host = match stanza::agent_host(presence) {
            Some(host) => host,
            None if is_old => legacy::host(jid.resource()).to_owned(),
            None => {
                if ears.legacy && whose == Whose::Own {
                    self.warn(&jid, presence.priority.0);
                }
                self.there.remove(&jid);
                return None;
            }
        };
        let sibling = Sibling {
            host,
            is_old,
            whose,
            heard: clock::now(),
        };
        let is_new = !self.there.contains_key(&jid);
        let bare = jid.to_bare();
        let of_account = self.there.keys().filter(|other| other.to_bare() == bare);
        if is_new && of_account.count() >= MOST {
            return None;
        }
        self.there.insert(jid.clone(), sibling);
        is_new.then_some(jid)
    }

    /// What an old host says to the account goes to the most important connection only.
    fn warn(&mut self, jid: &FullJid, priority: i8) {
        if priority > 0 && !self.warned {
            self.warned = true;
            tracing::warn!(
                connection = %jid,
                priority,
                "a chat program gets what old hosts say to the account; lower its priority to 0"
            );
        }
    }

    /// Takes that a connection said something.
    pub(super) fn heard(&mut self, jid: &FullJid) {
        if let Some(sibling) = self.there.get_mut(jid) {
            sibling.heard = clock::now();
        }
    }

    /// Returns what is known of a connection.
    pub(super) fn get(&self, jid: &Jid) -> Option<&Sibling> {
        self.there.get(jid.try_as_full().ok()?)
    }

    /// Returns the connections.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&FullJid, &Sibling)> {
        self.there.iter()
    }

    /// Forgets all: the connection is lost.
    pub(super) fn clear(&mut self) {
        self.there.clear();
    }

    /// Returns the hosts that are there, each with when it was last heard.
    pub(super) fn hosts(&self) -> BTreeMap<String, Moment> {
        let mut hosts = BTreeMap::new();
        for (jid, sibling) in &self.there {
            let name = match sibling.host.as_str() {
                "" => jid.resource().to_string(),
                host => host.to_owned(),
            };
            let name = match &sibling.whose {
                Whose::Own => name,
                Whose::Peer(bare) => format!("{name} ({bare})"),
            };
            let heard = hosts.entry(name).or_insert(sibling.heard);
            *heard = (*heard).max(sibling.heard);
        }
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tokio_xmpp::jid::BareJid;

    fn ears(legacy: bool) -> Ears {
        Ears {
            me: FullJid::new("me@x.org/autosync.desk.1a2b").unwrap(),
            peers: BTreeSet::from([BareJid::new("bob@y.org").unwrap()]),
            legacy,
        }
    }

    fn agent(from: &str, host: &str) -> Presence {
        stanza::presence(host, std::iter::empty(), false).with_from(Jid::new(from).unwrap())
    }

    #[test]
    fn agents_of_our_account_and_of_peers_are_siblings_until_they_go() {
        let mut siblings = Siblings::default();
        let ears = ears(false);
        let laptop = agent("me@x.org/a", "laptop");
        assert!(siblings.take(&laptop, &ears).is_some());
        assert_eq!(siblings.take(&laptop, &ears), None);
        assert!(
            siblings
                .take(&agent("bob@y.org/b", "bobs"), &ears)
                .is_some()
        );
        for nobody in [
            agent("me@x.org/autosync.desk.1a2b", "desk"),
            agent("eve@x.org/a", "laptop"),
            Presence::available().with_from(Jid::new("me@x.org/phone").unwrap()),
            Presence::available()
                .with_from(Jid::new("me@x.org/AutosyncJabberBot on alpha").unwrap()),
        ] {
            assert_eq!(siblings.take(&nobody, &ears), None);
        }
        let hosts: Vec<String> = siblings.hosts().into_keys().collect();
        assert_eq!(hosts, ["bobs (bob@y.org)", "laptop"]);
        let gone = Presence::unavailable().with_from(Jid::new("me@x.org/a").unwrap());
        assert_eq!(siblings.take(&gone, &ears), None);
        let gone = Presence::unavailable().with_from(Jid::new("bob@y.org").unwrap());
        assert_eq!(siblings.take(&gone, &ears), None);
        assert!(siblings.hosts().is_empty());
    }

    #[test]
    fn old_hosts_are_siblings_where_they_are_expected() {
        let mut siblings = Siblings::default();
        let old = Jid::new("me@x.org/AutosyncJabberBot on alpha").unwrap();
        let presence = Presence::available().with_from(old.clone());
        assert!(siblings.take(&presence, &ears(true)).is_some());
        let sibling = siblings.get(&old).unwrap();
        assert!(sibling.is_old && sibling.host == "alpha");
    }

    #[test]
    fn no_more_are_kept_than_fit() {
        let mut siblings = Siblings::default();
        for nth in 0..2 * MOST {
            siblings.take(&agent(&format!("me@x.org/{nth}"), "h"), &ears(false));
        }
        assert_eq!(siblings.iter().count(), MOST);
        // The crowd of one account keeps nobody else out.
        assert!(
            siblings
                .take(&agent("bob@y.org/b", "bobs"), &ears(false))
                .is_some()
        );
    }
}
