//! The folders that are told of over the account, and who is told of which.

use std::collections::{BTreeMap, BTreeSet};

use tokio_xmpp::jid::BareJid;

use super::legacy;
use super::siblings::Sibling;
use super::stanza::Whose;
use crate::config::XmppSettings;
use crate::transport::Folder;

/// The folders by their keys.
#[derive(Debug)]
pub(super) struct Folders {
    known: BTreeMap<String, Folder>,
    peers: BTreeSet<BareJid>,
}

impl Folders {
    /// Creates a list without folders.
    pub(super) fn new(settings: &XmppSettings) -> Self {
        Self {
            known: BTreeMap::new(),
            peers: addresses(&settings.peers),
        }
    }

    pub(super) fn insert(&mut self, folder: Folder) {
        self.known.insert(folder.key.clone(), folder);
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Folder> {
        self.known.remove(key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Folder> {
        self.known.get(key)
    }

    /// Returns all folders.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Folder> {
        self.known.values()
    }

    /// Returns the folders of this identity.
    pub(super) fn of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Folder> {
        self.iter()
            .filter(move |folder| folder.id == id && !id.is_empty())
    }

    /// Returns the folders that a notice of somebody may be about. One without an identity waits for
    /// the first push of whatever host of ours it has the hub in common with.
    pub(super) fn told<'a>(
        &'a self,
        id: &'a str,
        whose: &'a Whose,
    ) -> impl Iterator<Item = &'a Folder> {
        self.iter().filter(move |folder| match whose {
            Whose::Own => folder.id == id || folder.id.is_empty(),
            Whose::Peer(bare) => folder.id == id && !id.is_empty() && shares(folder, bare),
        })
    }

    /// Returns whether this sibling is told of the pushes of a folder of this identity. One that was
    /// never seen here, such as in a command that only announces, is shared with nobody.
    pub(super) fn tells(&self, id: &str, sibling: &Sibling) -> bool {
        match &sibling.whose {
            Whose::Own => true,
            Whose::Peer(bare) => {
                self.peers.contains(bare) && self.of(id).any(|folder| shares(folder, bare))
            }
        }
    }

    /// Returns the folders that an old host means by the address of its hub; all, if none of ours is
    /// written like that.
    pub(super) fn meant(&self, url: &str) -> Vec<&Folder> {
        let wanted = legacy::normal(url);
        let same: Vec<&Folder> = self
            .iter()
            .filter(|folder| legacy::normal(&folder.url) == wanted)
            .collect();
        if same.is_empty() {
            self.iter().collect()
        } else {
            same
        }
    }
}

fn shares(folder: &Folder, bare: &BareJid) -> bool {
    addresses(&folder.peers).contains(bare)
}

/// Reads addresses; what is none is nobody's.
pub(super) fn addresses(texts: &[String]) -> BTreeSet<BareJid> {
    let read = |text: &String| match BareJid::new(text) {
        Ok(bare) => Some(bare),
        Err(error) => {
            tracing::warn!(address = text, %error, "no address of an XMPP account");
            None
        }
    };
    texts.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::config::{Password, Tls};
    use crate::git::hub::Kind;

    fn settings() -> XmppSettings {
        XmppSettings {
            jid: "me@x.org".into(),
            password: Password::Credential,
            server: None,
            tls: Tls::StartTls,
            ca_file: None,
            resource: None,
            legacy: true,
            also_notify: Vec::new(),
            peers: vec!["Bob@Y.org".into(), "carol@y.org".into()],
        }
    }

    fn folder(key: &str, id: &str, url: &str, peers: &[&str]) -> Folder {
        Folder {
            key: key.into(),
            id: id.into(),
            name: key.into(),
            root: "/tmp".into(),
            branch: "main".into(),
            url: url.into(),
            peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
            hub: Kind::Other,
            ssh_command: None,
        }
    }

    fn folders() -> Folders {
        let mut folders = Folders::new(&settings());
        folders.insert(folder("0", "aaaa0000", "server:a.git", &["bob@y.org"]));
        folders.insert(folder("1", "bbbb0000", "ssh://server/b", &["dave@y.org"]));
        folders.insert(folder("2", "", "server:c.git", &[]));
        folders
    }

    fn keys<'a>(found: impl IntoIterator<Item = &'a Folder>) -> Vec<&'a str> {
        found.into_iter().map(|it| it.key.as_str()).collect()
    }

    #[test]
    fn a_peer_is_heard_and_told_of_the_folders_that_name_them_only() {
        let folders = folders();
        let peer = |jid: &str| Whose::Peer(BareJid::new(jid).unwrap());
        assert_eq!(keys(folders.told("aaaa0000", &Whose::Own)), ["0", "2"]);
        assert_eq!(keys(folders.told("aaaa0000", &peer("bob@y.org"))), ["0"]);
        assert!(keys(folders.told("aaaa0000", &peer("carol@y.org"))).is_empty());
        assert!(keys(folders.told("bbbb0000", &peer("bob@y.org"))).is_empty());
        assert!(keys(folders.told("", &peer("bob@y.org"))).is_empty());
        let sibling = |whose| Sibling {
            host: "h".into(),
            is_old: false,
            whose,
            heard: clock::now(),
        };
        assert!(folders.tells("cccc0000", &sibling(Whose::Own)));
        assert!(folders.tells("aaaa0000", &sibling(peer("bob@y.org"))));
        assert!(!folders.tells("aaaa0000", &sibling(peer("carol@y.org"))));
        // Named by the folder, but no peer of ours.
        assert!(!folders.tells("bbbb0000", &sibling(peer("dave@y.org"))));
    }

    #[test]
    fn an_old_host_means_the_folder_of_its_hub_or_all() {
        let folders = folders();
        assert_eq!(keys(folders.meant("me@server:a.git")), ["0"]);
        assert_eq!(keys(folders.meant("server:b.git/")), ["1"]);
        assert_eq!(keys(folders.meant("other:a.git")), ["0", "1", "2"]);
        assert_eq!(keys(folders.meant("")), ["0", "1", "2"]);
    }
}
