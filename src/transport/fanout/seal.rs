//! The seal on a line: who does not have the key can neither make one nor use one again.
//!
//! Both sides add a number that nobody chose before to the key, and seal with what comes of it. So
//! what was heard in one session is worth nothing in another. Within a session each line has a
//! number that is higher than those before it.
//!
//! A sealed line is `NUMBER SEAL LINE`; the seal is HMAC-SHA256, in hex, over the side that speaks,
//! the number and the whole line, in which the channel and the message stand.
//!
//! Absent: secrecy. Whoever sees the line reads it; what it says is a hint and no content.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What makes a key of a session another thing than any other use of the key.
const LABEL: &[u8] = b"autosync fanout 1\0";
/// The shortest key, in bytes.
const SHORTEST: usize = 16;
/// The longest, in bytes.
const LONGEST: usize = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("the key file `{path}` cannot be read: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("the key file `{path}` can be read by others", path = .0.display())]
    Open(PathBuf),
    /// It is somebody else's.
    #[error("the key file `{path}` belongs to another user", path = .0.display())]
    Foreign(PathBuf),
    /// Too short or too long.
    #[error("the key in `{path}` must have {SHORTEST} to {LONGEST} characters", path = .0.display())]
    Length(PathBuf),
}

impl KeyError {
    /// Returns what to do, a sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::Io { path, .. } | Self::Length(path) => {
                let path = path.display();
                format!("Make one with `umask 077; openssl rand -hex 32 > {path}`.")
            }
            Self::Open(path) => format!("Run `chmod 600 {}`.", path.display()),
            Self::Foreign(_) => "Let it be this user's.".to_owned(),
        }
    }
}

/// The key that hosts and server share.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Takes a key.
    pub fn new(bytes: &[u8]) -> Self {
        Self(keyed(bytes))
    }

    /// Reads a key from a file that nobody else can read. White space around it does not count.
    ///
    /// What systemd hands to a service, in the directory `credentials`, is private by itself
    /// whatever its mode says.
    pub fn read(path: &Path, credentials: Option<&Path>) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let found = file.metadata().map_err(io)?;
        if !credentials.is_some_and(|dir| path.starts_with(dir)) {
            if found.mode() & 0o077 != 0 {
                return Err(KeyError::Open(path.to_owned()));
            }
            if found.uid() != rustix::process::geteuid().as_raw() {
                return Err(KeyError::Foreign(path.to_owned()));
            }
        }
        let mut bytes = Vec::new();
        let most = u64::try_from(LONGEST + 2).unwrap_or(u64::MAX);
        file.take(most).read_to_end(&mut bytes).map_err(io)?;
        let key = bytes.trim_ascii();
        if !(SHORTEST..=LONGEST).contains(&key.len()) {
            return Err(KeyError::Length(path.to_owned()));
        }
        Ok(Self::new(key))
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The host.
    Client,
    /// The server.
    Server,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    fn mark(self) -> &'static [u8] {
        match self {
            Self::Client => b"client",
            Self::Server => b"server",
        }
    }
}

/// Seals what one side of a session says, and opens what the other said.
#[derive(Clone)]
pub struct Seal {
    key: Hmac<Sha256>,
    side: Side,
    said: u64,
    heard: u64,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({:?}, {}, {})", self.side, self.said, self.heard)
    }
}

impl Seal {
    /// Creates the seal of a session from what both sides added.
    pub fn new(key: &Key, client: &str, server: &str, side: Side) -> Self {
        let mut mac = key.0.clone();
        mac.update(LABEL);
        mac.update(client.as_bytes());
        mac.update(b"\0");
        mac.update(server.as_bytes());
        Self {
            key: keyed(&mac.finalize().into_bytes()),
            side,
            said: 0,
            heard: 0,
        }
    }

    /// Returns what shows the other side that this one has the key.
    pub fn proof(&self) -> String {
        hex(&self.mac(self.side, 0, b"").finalize().into_bytes())
    }

    /// Returns whether the other side has the key.
    pub fn believes(&self, proof: &str) -> bool {
        let mac = self.mac(self.side.other(), 0, b"");
        unhex(proof).is_some_and(|proof| mac.verify_slice(&proof).is_ok())
    }

    /// Returns the line sealed, without its end.
    pub fn close(&mut self, line: &str) -> String {
        self.said += 1;
        let mac = self.mac(self.side, self.said, line.as_bytes());
        let seal = hex(&mac.finalize().into_bytes());
        format!("{} {seal} {line}", self.said)
    }

    /// Returns the line in a sealed one of the other side; `None` if the seal is not right, or was
    /// there before.
    pub fn open<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let (number, seal, inner) = (words.next()?, words.next()?, words.next()?);
        let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
        let seal = unhex(std::str::from_utf8(seal).ok()?)?;
        let mac = self.mac(self.side.other(), number, inner);
        mac.verify_slice(&seal).ok()?;
        if number <= self.heard {
            return None;
        }
        self.heard = number;
        Some(inner)
    }

    fn mac(&self, side: Side, number: u64, line: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(side.mark());
        mac.update(&number.to_be_bytes());
        mac.update(line);
        mac
    }
}

/// Returns a number that nobody chose before, as text.
pub fn nonce() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

fn keyed(bytes: &[u8]) -> Hmac<Sha256> {
    match Hmac::new_from_slice(bytes) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn pair(client: &str, server: &str) -> (Seal, Seal) {
        let key = Key::new(b"0123456789abcdef");
        (
            Seal::new(&key, client, server, Side::Client),
            Seal::new(&key, client, server, Side::Server),
        )
    }

    #[test]
    fn a_sealed_line_opens_once_and_only_on_the_other_side() {
        let (mut client, mut server) = pair("c", "s");
        let sealed = client.close("announce a b");
        assert_eq!(client.clone().open(sealed.as_bytes()), None, "its own");
        assert_eq!(
            server.open(sealed.as_bytes()),
            Some(b"announce a b".as_slice())
        );
        assert_eq!(server.open(sealed.as_bytes()), None, "again");
        let next = client.close("ping");
        let later = client.close("announce a c");
        assert!(server.open(later.as_bytes()).is_some());
        assert_eq!(server.open(next.as_bytes()), None, "an old number");
    }

    #[test]
    fn nothing_of_a_sealed_line_can_be_changed() {
        let (mut client, server) = pair("c", "s");
        let sealed = client.close("announce a b");
        assert!(server.clone().open(sealed.as_bytes()).is_some());
        for at in 0..sealed.len() {
            let mut bad = sealed.clone().into_bytes();
            bad[at] ^= 1;
            assert_eq!(server.clone().open(&bad), None, "{at}");
        }
        assert_eq!(server.clone().open(b"announce a b"), None);
        assert_eq!(server.clone().open(b""), None);
        assert_eq!(server.clone().open(b"1 00 announce a b"), None, "shorter");
    }

    #[test]
    fn the_seal_of_one_session_is_worth_nothing_in_another() {
        let (mut client, _) = pair("c", "s");
        let sealed = client.close("announce a b");
        for (ours, theirs) in [("c", "t"), ("d", "s"), ("", "cs")] {
            let (_, mut server) = pair(ours, theirs);
            assert_eq!(server.open(sealed.as_bytes()), None);
        }
        let mut other = Seal::new(&Key::new(b"another key of 16"), "c", "s", Side::Server);
        assert_eq!(other.open(sealed.as_bytes()), None);
    }

    #[test]
    fn who_has_the_key_can_show_it() {
        let (client, server) = pair("c", "s");
        assert!(client.believes(&server.proof()));
        assert!(!client.believes(&client.proof()), "an echo is no proof");
        assert!(!client.believes(""));
        let (_, other) = pair("c", "t");
        assert!(!client.believes(&other.proof()));
        assert_eq!(nonce().unwrap().len(), 32);
        assert_ne!(nonce().unwrap(), nonce().unwrap());
    }

    #[test]
    fn a_key_file_is_private_and_long_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(matches!(Key::read(&path, None), Err(KeyError::Io { .. })));
        write("0123456789abcdef\n", 0o600);
        assert!(Key::read(&path, None).is_ok());
        write("0123456789abcde\n", 0o600);
        assert!(matches!(Key::read(&path, None), Err(KeyError::Length(_))));
        write(&"k".repeat(LONGEST + 1), 0o600);
        assert!(matches!(Key::read(&path, None), Err(KeyError::Length(_))));
        write("0123456789abcdef\n", 0o640);
        let error = Key::read(&path, None).unwrap_err();
        assert!(matches!(error, KeyError::Open(_)));
        assert!(error.hint().contains("chmod 600"), "{}", error.hint());
        assert!(Key::read(&path, Some(dir.path())).is_ok());
        assert_eq!(format!("{:?}", Key::new(b"secret of 16 byte")), "Key");
    }
}
