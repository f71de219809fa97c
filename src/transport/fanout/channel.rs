//! On which channels a folder is told of, and in which words.
//!
//! Hosts of ours know each other by a channel that is made from the folder's identity, so nobody
//! has to agree on one, and it tells a server nothing. Where the folder has a file `.sparkleshare`
//! there are hosts with `SparkleShare` perhaps, which know no other channel than the content of that
//! file, and no other message than a commit.
//!
//! Both are used where both are there: whether a host has the file in its tree depends on what it
//! takes part in, and on which commit it is at.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::line::{MESSAGE_LIMIT, is_channel};
use super::seal::hex;
use crate::engine::notice::Notice;
use crate::names::ObjectId;
use crate::transport::{Folder, wire};

/// The file in a folder's root that names its channel.
pub const FILE: &str = ".sparkleshare";
/// What makes a channel another thing than any other digest of an identity.
const LABEL: &[u8] = b"autosync fanout channel 1\0";
/// The longest file that is looked at, in bytes.
const LONGEST: u64 = 256;

/// A channel of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Whether it is the folder's own, or what `SparkleShare` knows.
    pub own: bool,
}

/// Returns the channels of a folder; none if it has neither an identity nor the file.
pub fn channels(folder: &Folder) -> Vec<Channel> {
    let own = (!folder.id.is_empty()).then(|| Channel {
        name: derived(&folder.id),
        own: true,
    });
    let theirs = read(&folder.root).map(|name| Channel { name, own: false });
    own.into_iter().chain(theirs).collect()
}

/// Returns the channel of a folder with this identity.
pub fn derived(id: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(LABEL);
    digest.update(id.as_bytes());
    hex(&digest.finalize())
}

/// Returns the channel that the file in a folder's root names.
fn read(root: &Path) -> Option<String> {
    match content(&root.join(FILE)) {
        Ok(text) => {
            let name = text.trim();
            let good = is_channel(name);
            if !good {
                tracing::debug!(root = %root.display(), "{FILE} names no channel");
            }
            good.then(|| name.to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::debug!(root = %root.display(), %error, "{FILE} is not looked at");
            None
        }
    }
}

/// Reads a short plain file; never waits for a pipe and never follows a link.
fn content(path: &Path) -> io::Result<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.len() > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Returns what is said of a notice on a channel: on our own the whole notice, unless its branch is
/// too long for a message; on the other the commit. `None` if there is nothing to say there.
pub fn message(notice: &Notice, channel: &Channel) -> Option<String> {
    let whole = channel.own.then(|| wire::to_line(notice));
    let commit = notice.commit.map(|commit| commit.to_string());
    whole.filter(|line| line.len() <= MESSAGE_LIMIT).or(commit)
}

/// Reads a message on a channel of a folder; `None` if it is about nothing of the folder.
pub fn notice(message: &str, folder: &Folder) -> Option<Notice> {
    if let Ok(notice) = wire::from_line(message) {
        return (notice.folder == folder.id).then_some(notice);
    }
    let commit = ObjectId::from_hex(message.trim()).ok()?;
    Some(Notice {
        folder: folder.id.clone(),
        branch: folder.branch.clone(),
        commit: Some(commit),
        host: String::new(),
        sequence: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::git::hub::Kind;

    fn folder(root: &Path, id: &str) -> Folder {
        Folder {
            key: "1".into(),
            id: id.into(),
            name: "Sync".into(),
            root: root.into(),
            branch: "main".into(),
            url: String::new(),
            peers: Vec::new(),
            hub: Kind::Other,
            ssh_command: None,
        }
    }

    fn told() -> Notice {
        Notice {
            folder: "0123456789".into(),
            branch: "main".into(),
            commit: Some(ObjectId::from_hex("ab".repeat(20)).unwrap()),
            host: "laptop".into(),
            sequence: 7,
        }
    }

    #[test]
    fn the_file_names_a_channel_if_it_is_plain_short_and_has_a_name_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let name = || read(dir.path());
        assert_eq!(name(), None);
        for (text, channel) in [
            (" 9db571f07a2d\n", Some("9db571f07a2d")),
            ("", None),
            ("all\n", None),
            ("a b\n", None),
            ("a!b\n", None),
            ("a\nb\n", None),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(name().as_deref(), channel, "{text:?}");
        }
        fs::write(&file, "a".repeat(300)).unwrap();
        assert_eq!(name(), None);
        fs::write(&file, b"\xff\xfe").unwrap();
        assert_eq!(name(), None);
        fs::remove_file(&file).unwrap();
        fs::write(dir.path().join("other"), "abc").unwrap();
        std::os::unix::fs::symlink("other", &file).unwrap();
        assert_eq!(name(), None, "a link");
        fs::remove_file(&file).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, 0o600.into()).unwrap();
        assert_eq!(name(), None, "a pipe");
    }

    #[test]
    fn a_folder_has_its_own_channel_and_that_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(channels(&folder(dir.path(), "")), []);
        let own = &channels(&folder(dir.path(), "0123456789"))[0];
        assert_eq!(own.name.len(), 64);
        assert!(own.own && is_channel(&own.name));
        assert_ne!(own.name, derived("0123456788"));
        fs::write(dir.path().join(FILE), "abc\n").unwrap();
        let both = channels(&folder(dir.path(), "0123456789"));
        assert_eq!(both.len(), 2);
        assert_eq!((both[1].name.as_str(), both[1].own), ("abc", false));
    }

    #[test]
    fn each_channel_hears_what_its_hosts_understand() {
        let channel = |own| Channel {
            name: "c".into(),
            own,
        };
        let hex = "ab".repeat(20);
        assert_eq!(message(&told(), &channel(false)).as_deref(), Some(&*hex));
        let line = message(&told(), &channel(true)).unwrap();
        assert_eq!(wire::from_line(&line), Ok(told()));
        let long = Notice {
            branch: "b".repeat(200),
            ..told()
        };
        assert_eq!(message(&long, &channel(true)).as_deref(), Some(&*hex));
        let unknown = Notice {
            commit: None,
            ..told()
        };
        assert_eq!(message(&unknown, &channel(false)), None);
        assert!(message(&unknown, &channel(true)).is_some());
    }

    #[test]
    fn a_message_is_a_notice_of_this_folder_or_nothing() {
        let ours = folder(&PathBuf::new(), "0123456789");
        assert_eq!(notice(&wire::to_line(&told()), &ours), Some(told()));
        let bare = notice(&"ab".repeat(20), &ours).unwrap();
        assert_eq!((bare.branch.as_str(), bare.host.as_str()), ("main", ""));
        assert_eq!((bare.folder, bare.commit), (told().folder, told().commit));
        let other = Notice {
            folder: "9999999999".into(),
            ..told()
        };
        for bad in [wire::to_line(&other).as_str(), "hello", "", "abcd"] {
            assert_eq!(notice(bad, &ours), None, "{bad}");
        }
    }
}
