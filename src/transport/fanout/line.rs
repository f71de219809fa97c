//! The lines of `SparkleShare`'s protocol, and the few words of ours in it.
//!
//! A line is text that ends in a line feed, and nothing before that says how long it will be. The
//! client says a verb and its words, the server `CHANNEL!MESSAGE`. What is not understood is met
//! with silence by both, which is what leaves room for a word of our own: `hello`.
//!
//! Invariants:
//! 1. Nothing longer than its limit is kept, not even until its end comes.
//! 2. No control character gets through, a carriage return least of all: the servers that this
//!    protocol was made for do not take one either.
//!
//! Absent: seals, which are around lines, and time.

/// The longest line, its end not counted, in bytes.
pub const LINE_LIMIT: usize = 512;
/// The longest name of a channel, in bytes.
pub const CHANNEL_LIMIT: usize = 128;
/// The longest message, in bytes.
pub const MESSAGE_LIMIT: usize = 256;
/// What a server says first.
pub const GREETING: &str = "debug!connected...\n";
/// What a server says to one too many.
pub const BUSY: &str = "debug!busy\n";
/// What our clients say first, and our servers answer on the channel of the verb.
pub const VERSION: &str = "autosync/1";

/// Channels that are the servers' own.
const RESERVED: &[&str] = &["all", "debug", "hello"];

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// It is one of ours; its part of the session's key, if it has a key.
    Hello(Option<&'a str>),
    /// It wants the messages of a channel.
    Subscribe(&'a str),
    /// It wants them no longer.
    Unsubscribe(&'a str),
    /// It has a message for a channel.
    Announce(&'a str, &'a str),
    /// It wants to know whether we live.
    Ping,
    /// Nothing that deserves an answer.
    Nothing,
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// It is one of ours; what it adds to the version.
    Hello(Option<&'a str>),
    /// A message on a channel.
    Message(&'a str, &'a str),
    /// It lives.
    Pong,
    /// It has no room for us.
    Busy,
    /// Nothing that we know.
    Nothing,
}

/// Reads a line of a client, without its end.
pub fn asked(line: &[u8]) -> Asked<'_> {
    let Some((verb, rest)) = clean(line).map(cut) else {
        return Asked::Nothing;
    };
    let channel = rest.filter(|name| is_channel(name));
    match (verb, rest) {
        ("ping", None) => Asked::Ping,
        ("hello", Some(rest)) => match cut(rest) {
            (VERSION, nonce) => Asked::Hello(nonce),
            _ => Asked::Nothing,
        },
        ("subscribe", _) => channel.map_or(Asked::Nothing, Asked::Subscribe),
        ("unsubscribe", _) => channel.map_or(Asked::Nothing, Asked::Unsubscribe),
        ("announce", Some(rest)) => match cut(rest) {
            (channel, Some(message)) if is_channel(channel) && is_message(message) => {
                Asked::Announce(channel, message)
            }
            _ => Asked::Nothing,
        },
        _ => Asked::Nothing,
    }
}

/// Reads a line of a server, without its end.
pub fn told(line: &[u8]) -> Told<'_> {
    let Some(text) = clean(line) else {
        return Told::Nothing;
    };
    match text.split_once('!') {
        Some(("hello", rest)) => match cut(rest) {
            (VERSION, more) => Told::Hello(more),
            _ => Told::Nothing,
        },
        Some(("debug", "busy")) => Told::Busy,
        Some((channel, message)) if is_channel(channel) && is_message(message) => {
            Told::Message(channel, message)
        }
        None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => Told::Pong,
        Some(_) | None => Told::Nothing,
    }
}

/// Returns whether a channel may be called so: plain characters, no `!`, none of the servers' own.
pub fn is_channel(name: &str) -> bool {
    (1..=CHANNEL_LIMIT).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'!')
        && !RESERVED.contains(&name)
}

fn is_message(text: &str) -> bool {
    (1..=MESSAGE_LIMIT).contains(&text.len()) && !text.trim().is_empty()
}

/// Returns the line as text, if it is text without control characters.
fn clean(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

fn cut(text: &str) -> (&str, Option<&str>) {
    text.split_once(' ')
        .map_or((text, None), |(word, rest)| (word, Some(rest)))
}

/// A line came that is longer than any may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is too long")]
pub struct TooLong;

/// Puts lines together from the pieces in which they come.
#[derive(Debug, Default)]
pub struct Lines {
    part: Vec<u8>,
}

impl Lines {
    /// Takes a piece; `each` gets every line that is complete now, without its end.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.part.len() + line.len() > LINE_LIMIT {
                return Err(TooLong);
            }
            if self.part.is_empty() {
                each(line);
            } else {
                self.part.extend_from_slice(line);
                each(&self.part);
                self.part.clear();
            }
            rest = after;
        }
        if self.part.len() + rest.len() > LINE_LIMIT {
            return Err(TooLong);
        }
        self.part.extend_from_slice(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_understood_or_met_with_silence() {
        for (line, meant) in [
            ("ping", Asked::Ping),
            ("subscribe a1", Asked::Subscribe("a1")),
            ("unsubscribe a1", Asked::Unsubscribe("a1")),
            ("announce a1 b 2!", Asked::Announce("a1", "b 2!")),
            ("hello autosync/1", Asked::Hello(None)),
            ("hello autosync/1 ff", Asked::Hello(Some("ff"))),
            ("announce a1", Asked::Nothing),
            ("announce a1 ", Asked::Nothing),
            ("announce a1    ", Asked::Nothing),
            ("announce  b", Asked::Nothing),
            ("announce all b", Asked::Nothing),
            ("announce debug b", Asked::Nothing),
            ("announce hello autosync/1", Asked::Nothing),
            ("announce a!b c", Asked::Nothing),
            ("subscribe", Asked::Nothing),
            ("subscribe ", Asked::Nothing),
            ("subscribe all", Asked::Nothing),
            ("subscribe a b", Asked::Nothing),
            ("subscribe a!", Asked::Nothing),
            ("ping\r", Asked::Nothing),
            ("subscribe a\r", Asked::Nothing),
            ("announce a b\r", Asked::Nothing),
            ("announce a b\0", Asked::Nothing),
            ("ping ", Asked::Nothing),
            ("hello autosync/2", Asked::Nothing),
            ("info", Asked::Nothing),
            ("", Asked::Nothing),
        ] {
            assert_eq!(asked(line.as_bytes()), meant, "{line:?}");
        }
        assert_eq!(asked(b"announce a \xff"), Asked::Nothing);
        let long = "c".repeat(CHANNEL_LIMIT + 1);
        assert_eq!(
            asked(format!("subscribe {long}").as_bytes()),
            Asked::Nothing
        );
        let long = "m".repeat(MESSAGE_LIMIT + 1);
        assert_eq!(
            asked(format!("announce a {long}").as_bytes()),
            Asked::Nothing
        );
    }

    #[test]
    fn what_a_server_says_is_understood_or_ignored() {
        for (line, meant) in [
            ("1795202989", Told::Pong),
            ("a1!b 2!", Told::Message("a1", "b 2!")),
            ("hello!autosync/1", Told::Hello(None)),
            ("hello!autosync/1 ab cd", Told::Hello(Some("ab cd"))),
            ("debug!busy", Told::Busy),
            ("debug!connected...", Told::Nothing),
            ("all!hi", Told::Nothing),
            ("a1!", Told::Nothing),
            ("!b", Told::Nothing),
            ("uptime: 0d", Told::Nothing),
            ("", Told::Nothing),
        ] {
            assert_eq!(told(line.as_bytes()), meant, "{line:?}");
        }
    }

    #[test]
    fn lines_are_put_together_whatever_the_pieces_are() {
        let text = b"sub\n\nscribe x\nrest";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for piece in text.chunks(size) {
                let line = |line: &[u8]| got.push(String::from_utf8(line.to_vec()).unwrap());
                lines.feed(piece, line).unwrap();
            }
            assert_eq!(got, ["sub", "", "scribe x"], "{size}");
        }
    }

    #[test]
    fn a_line_without_end_is_given_up_at_the_limit() {
        let full = [b'x'; LINE_LIMIT];
        let mut lines = Lines::default();
        let mut count = 0;
        lines.feed(&full, |_| count += 1).unwrap();
        lines.feed(b"\n", |_| count += 1).unwrap();
        assert_eq!(count, 1);
        lines.feed(&full, |_| count += 1).unwrap();
        assert_eq!(lines.feed(b"x", |_| count += 1), Err(TooLong));
        assert!(lines.part.capacity() <= 2 * LINE_LIMIT);
        let mut lines = Lines::default();
        let whole = [b"ping\n", full.as_slice(), b"x\n"].concat();
        assert_eq!(lines.feed(&whole, |_| count += 1), Err(TooLong));
    }
}
