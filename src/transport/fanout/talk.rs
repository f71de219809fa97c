//! A client's side of a conversation with a server: what it says first, and what it makes of the
//! answers. Pure: lines go in, lines come out.
//!
//! A server of ours answers `hello`; with a key it shows that it has the same one, and every line
//! after that is sealed. Any other server says nothing to that, but answers `ping`, which is the
//! way to know that it will not.
//!
//! Invariant: with a key, nothing is taken from a server that has not shown that it has it.

use super::line::{Told, VERSION, told};
use super::seal::{Key, Seal, Side};

/// What a line means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// Nothing.
    Nothing,
    /// The conversation may begin: the channels are to be subscribed.
    Ready,
    /// The server lives.
    Pong,
    /// A message on a channel.
    Message(&'a str, &'a str),
    /// The server has no room for us now.
    Busy,
    /// It will not be without a person's help: what is the matter, and what to do.
    Refused(&'static str, &'static str),
}

/// A conversation.
#[derive(Debug)]
pub(super) struct Talk {
    key: Option<Key>,
    nonce: String,
    seal: Option<Seal>,
    ready: bool,
}

impl Talk {
    /// Begins a conversation; `nonce` is a number that nobody chose before. Returns what is said
    /// first, too.
    pub(super) fn new(key: Option<Key>, nonce: String) -> (Self, String) {
        let first = if key.is_some() {
            format!("hello {VERSION} {nonce}\n")
        } else {
            format!("hello {VERSION}\nping\n")
        };
        let this = Self {
            key,
            nonce,
            seal: None,
            ready: false,
        };
        (this, first)
    }

    /// Returns whether the server has said enough for the conversation to begin.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Returns a line as it is to be sent, with its end.
    pub(super) fn say(&mut self, line: &str) -> String {
        let mut line = match &mut self.seal {
            Some(seal) => seal.close(line),
            None => line.to_owned(),
        };
        line.push('\n');
        line
    }

    /// Takes a line of the server, without its end.
    pub(super) fn hear<'a>(&mut self, line: &'a [u8]) -> Heard<'a> {
        if let Some(seal) = &mut self.seal {
            let Some(inner) = seal.open(line) else {
                tracing::debug!("a line without a good seal was dropped");
                return Heard::Nothing;
            };
            return match told(inner) {
                Told::Message(channel, message) => Heard::Message(channel, message),
                Told::Pong => Heard::Pong,
                Told::Hello(_) | Told::Busy | Told::Nothing => Heard::Nothing,
            };
        }
        match told(line) {
            Told::Hello(answer) if !self.ready => self.greeted(answer),
            Told::Busy if !self.ready => Heard::Busy,
            Told::Pong if self.ready => Heard::Pong,
            // It is no server of ours, and lives.
            Told::Pong if self.key.is_none() => self.begin(),
            Told::Message(channel, message) if self.ready => Heard::Message(channel, message),
            Told::Hello(_) | Told::Message(..) | Told::Pong | Told::Busy | Told::Nothing => {
                Heard::Nothing
            }
        }
    }

    fn greeted(&mut self, answer: Option<&str>) -> Heard<'static> {
        match (&self.key, answer) {
            (None, None) => self.begin(),
            (None, Some(_)) => Heard::Refused(
                "the fanout server wants a key",
                "Set `key_file` in the table [fanout] to the same key as the server's.",
            ),
            (Some(_), None) => Heard::Refused(
                "the fanout server has no key",
                "Start it with `--key-file`, or remove `key_file` from the table [fanout].",
            ),
            (Some(key), Some(answer)) => {
                let (nonce, proof) = answer.split_once(' ').unwrap_or((answer, ""));
                let seal = Seal::new(key, &self.nonce, nonce, Side::Client);
                if !seal.believes(proof) {
                    return Heard::Refused(
                        "the fanout server has another key",
                        "Let `key_file` in the table [fanout] have the same key as the server's.",
                    );
                }
                self.seal = Some(seal);
                self.begin()
            }
        }
    }

    fn begin(&mut self) -> Heard<'static> {
        self.ready = true;
        Heard::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(b"0123456789abcdef")
    }

    #[test]
    fn a_server_of_sparkleshare_is_known_by_its_pong() {
        let (mut talk, first) = Talk::new(None, "n".into());
        assert_eq!(first, "hello autosync/1\nping\n");
        assert_eq!(talk.hear(b"debug!connected..."), Heard::Nothing);
        assert_eq!(talk.hear(b"a!b"), Heard::Nothing, "not yet");
        assert_eq!(talk.hear(b"1795202989"), Heard::Ready);
        assert_eq!(talk.hear(b"1795203049"), Heard::Pong);
        assert_eq!(talk.hear(b"a!b c"), Heard::Message("a", "b c"));
        assert_eq!(talk.hear(b"hello!autosync/1"), Heard::Nothing);
        assert_eq!(talk.say("subscribe a"), "subscribe a\n");
    }

    #[test]
    fn a_server_of_ours_is_known_by_its_answer() {
        let (mut talk, _) = Talk::new(None, "n".into());
        assert_eq!(talk.hear(b"hello!autosync/1"), Heard::Ready);
        assert_eq!(talk.hear(b"1795202989"), Heard::Pong);
        let (mut talk, _) = Talk::new(None, "n".into());
        assert_eq!(talk.hear(b"debug!busy"), Heard::Busy);
    }

    #[test]
    fn with_a_key_only_sealed_lines_count() {
        let (mut talk, first) = Talk::new(Some(key()), "n".into());
        assert_eq!(first, "hello autosync/1 n\n");
        assert_eq!(talk.hear(b"1795202989"), Heard::Nothing);
        assert_eq!(talk.hear(b"a!b"), Heard::Nothing);
        let mut server = Seal::new(&key(), "n", "s", Side::Server);
        let hello = format!("hello!autosync/1 s {}", server.proof());
        assert_eq!(talk.hear(hello.as_bytes()), Heard::Ready);
        assert_eq!(talk.hear(b"a!b"), Heard::Nothing);
        assert_eq!(talk.hear(hello.as_bytes()), Heard::Nothing);
        let sealed = server.close("a!b");
        assert_eq!(talk.hear(sealed.as_bytes()), Heard::Message("a", "b"));
        assert_eq!(talk.hear(sealed.as_bytes()), Heard::Nothing, "again");
        let sealed = talk.say("subscribe a");
        let opened = server.open(sealed.trim_end().as_bytes());
        assert_eq!(opened, Some(b"subscribe a".as_slice()));
    }

    #[test]
    fn keys_that_do_not_agree_are_told_apart() {
        let said = |key: Option<Key>, line: &str| {
            let (mut talk, _) = Talk::new(key, "n".into());
            let Heard::Refused(message, _) = talk.hear(line.as_bytes()) else {
                panic!("not refused: {line}");
            };
            message
        };
        let other = Seal::new(&Key::new(b"fedcba9876543210"), "n", "s", Side::Server);
        let hello = format!("hello!autosync/1 s {}", other.proof());
        assert_eq!(
            said(Some(key()), &hello),
            "the fanout server has another key"
        );
        assert_eq!(said(None, &hello), "the fanout server wants a key");
        let plain = "hello!autosync/1";
        assert_eq!(said(Some(key()), plain), "the fanout server has no key");
    }
}
