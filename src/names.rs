//! Names: paths inside a folder, object ids, and which names are dangerous.
//!
//! Everything that crosses a border of the program is named by one of these types: a
//! [`RepoPath`] is relative, never empty and never climbs; an [`ObjectId`] is the id that git
//! gave, in SHA-1 or SHA-256 form.
//!
//! Invariants:
//! 1. A `RepoPath` holds bytes, not text: git and Linux allow any byte but NUL and `/`.
//! 2. No component of a `RepoPath` is empty, `.` or `..`.
//!
//! Absent: any look at a disk. Whether a name exists, or can, is for the edges to say.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod danger;

pub mod junk;
pub mod secret;
pub mod transient;

pub use danger::{danger, representable};

/// So many directories may lie inside each other: more are no folder of a person, and every look
/// at one costs by its depth.
pub const DEEPEST: usize = 200;

/// The largest `.gitignore` or `.gitattributes` that is obeyed if others made it, in bytes: rules are
/// read whole, and every pattern costs at every look.
pub const LONGEST_RULES: u64 = 1 << 20;

/// A path relative to the root of a folder, in git's form: bytes, separated by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Arc<[u8]>);

/// Why some bytes are no [`RepoPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a path inside a folder")]
pub struct NotARepoPath {
    /// The bytes as given, escaped for a person.
    pub path: String,
}

impl RepoPath {
    /// Creates a path from git's form.
    ///
    /// Errors if the bytes are empty, absolute, hold NUL, or have an empty, `.` or `..` component.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, NotARepoPath> {
        let bytes = bytes.as_ref();
        let bad = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
        if bytes.contains(&0) || bytes.split(|b| *b == b'/').any(bad) {
            return Err(NotARepoPath {
                path: escape(bytes),
            });
        }
        Ok(Self(bytes.into()))
    }

    /// Creates a path from an operating system's relative path.
    pub fn from_path(path: &Path) -> Result<Self, NotARepoPath> {
        Self::new(path.as_os_str().as_bytes())
    }

    /// Returns git's form of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the path as the operating system wants it, still relative.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Returns the path below `root`.
    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(self.as_path())
    }

    /// Returns the directory that holds this path, or `None` at the top level.
    pub fn parent(&self) -> Option<Self> {
        let at = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..at].into()))
    }

    /// Returns the last component.
    pub fn file_name(&self) -> &[u8] {
        let at = self
            .0
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(0, |at| at + 1);
        &self.0[at..]
    }

    /// Returns this path with one component or a relative path appended.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, NotARepoPath> {
        let mut bytes = self.0.to_vec();
        bytes.push(b'/');
        bytes.extend_from_slice(name.as_ref());
        Self::new(bytes)
    }

    /// Returns the components, first to last.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// Returns every directory above this path, the nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// Returns whether this path is `dir` or lies below it, component by component.
    pub fn is_within(&self, dir: &Self) -> bool {
        match self.0.strip_prefix(&*dir.0) {
            Some(rest) => rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }
}

impl fmt::Display for RepoPath {
    /// Writes the path for a person: control characters, bidirectional marks and bytes that are
    /// no UTF-8 are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl AsRef<[u8]> for RepoPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for RepoPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl serde::Serialize for RepoPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Returns bytes as text for a person, with everything escaped that could steer a terminal.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let steers = c.is_control()
                || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if steers {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.extend(['\\', 'x', hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
    }
    out
}

/// Returns a hub's address for a person: escaped, and without anything that could be a secret.
///
/// Of a URL the password goes, of one that is not for ssh the user as well (a token stands there),
/// and so does a query. A path and ssh's `user@host:path` have no place for a secret.
pub fn without_secrets(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return escape(address.as_bytes());
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    // A password may hold an `@` that nobody encoded: the last one counts.
    let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user = login.split(':').next().unwrap_or_default();
    let shown = if user.is_empty() || !scheme.contains("ssh") {
        format!("{scheme}://{host}{path}")
    } else {
        format!("{scheme}://{user}@{host}{path}")
    };
    escape(shown.as_bytes())
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('?')
}

/// The id of a git object: 20 bytes (SHA-1) or 32 bytes (SHA-256).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    len: u8,
    bytes: [u8; 32],
}

/// Some text was no object id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no object id")]
pub struct NotAnObjectId(pub String);

impl ObjectId {
    /// Creates an id from its 20 or 32 raw bytes.
    pub fn from_bytes(raw: &[u8]) -> Result<Self, NotAnObjectId> {
        if raw.len() != 20 && raw.len() != 32 {
            return Err(NotAnObjectId(escape(raw)));
        }
        let mut bytes = [0; 32];
        bytes[..raw.len()].copy_from_slice(raw);
        Ok(Self {
            len: u8::try_from(raw.len()).unwrap_or(20),
            bytes,
        })
    }

    /// Creates an id from its 40 or 64 hexadecimal digits; white space around them is ignored.
    pub fn from_hex(text: impl AsRef<[u8]>) -> Result<Self, NotAnObjectId> {
        let text = text.as_ref().trim_ascii();
        let digit = |b: u8| {
            char::from(b)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        let mut raw = Vec::with_capacity(32);
        for pair in text.chunks(2) {
            match (
                pair.first().copied().and_then(digit),
                pair.get(1).copied().and_then(digit),
            ) {
                (Some(high), Some(low)) => raw.push(high << 4 | low),
                _ => return Err(NotAnObjectId(escape(text))),
            }
        }
        Self::from_bytes(&raw).map_err(|_| NotAnObjectId(escape(text)))
    }

    /// Returns the raw bytes, 20 or 32 of them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Returns the first seven hexadecimal digits.
    pub fn short(&self) -> String {
        self.to_string()[..7].to_owned()
    }

    /// Returns whether this is the id of all zeros, git's word for "nothing".
    pub fn is_zero(&self) -> bool {
        self.bytes.iter().all(|b| *b == 0)
    }

    /// Returns the id of all zeros of the same kind.
    #[must_use]
    pub fn zero_like(self) -> Self {
        Self {
            len: self.len,
            bytes: [0; 32],
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl serde::Serialize for ObjectId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ObjectId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        Self::from_hex(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_climbs_and_never_is_empty() {
        for bad in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b"] {
            assert!(RepoPath::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b", "...", "-rf", "a b", ".git-not", "\u{e4}/\n"] {
            assert_eq!(RepoPath::new(good).unwrap().as_bytes(), good.as_bytes());
        }
    }

    #[test]
    fn within_is_by_component() {
        let path = |text: &str| RepoPath::new(text).unwrap();
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(!path("ab").is_within(&path("a")));
        assert_eq!(
            path("a/b/c").ancestors().collect::<Vec<_>>(),
            [path("a/b"), path("a")]
        );
    }

    #[test]
    fn an_id_reads_what_it_writes() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(ObjectId::from_hex(text).unwrap().to_string(), text);
        assert!(ObjectId::from_hex("0123").is_err());
        assert!(ObjectId::from_hex(format!("{}é", &text[..38])).is_err());
        assert!(ObjectId::from_hex(text).unwrap().zero_like().is_zero());
    }

    #[test]
    fn an_address_for_a_person_holds_no_secret() {
        for (address, shown) in [
            ("https://me:secret@host/a.git", "https://host/a.git"),
            (
                "https://token@host:8443/a.git?key=secret",
                "https://host:8443/a.git",
            ),
            ("https://me:se@cr@host", "https://host"),
            ("https://host/me@work/a.git", "https://host/me@work/a.git"),
            ("ssh://me:secret@host:22/a.git", "ssh://me@host:22/a.git"),
            ("git+ssh://me@host/a.git", "git+ssh://me@host/a.git"),
            ("me@host:a.git", "me@host:a.git"),
            ("/srv/a@b\n.git", "/srv/a@b\\n.git"),
            ("file:///srv/a.git", "file:///srv/a.git"),
        ] {
            assert_eq!(without_secrets(address), shown);
        }
    }

    #[test]
    fn names_for_a_person_cannot_steer_the_terminal() {
        assert_eq!(
            escape(b"a\x1b[31m\n\xff\xe2\x80\xae"),
            "a\\u{1b}[31m\\n\\xff\\u{202e}"
        );
    }
}
