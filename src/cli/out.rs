//! What is said to a person: standard output, and the one line of a complaint.

use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};

use crate::names::escape;

/// Standard output, locked and buffered until it is dropped or flushed.
///
/// A reader that went away is an error of the kind `BrokenPipe`, which ends the program quietly.
pub(super) struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    pub(super) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Writes a line.
    pub(super) fn line(&mut self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{text}")
    }

    /// Writes bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Brings everything out. Must be called at the end: what fails in a drop is not seen.
    pub(super) fn flush(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Says one line on standard output.
pub(super) fn say(text: impl fmt::Display) -> io::Result<()> {
    let mut out = Out::new();
    out.line(text)?;
    out.flush()
}

/// Writes a complaint to standard error. Control characters in it are escaped, but for the line
/// breaks.
pub(super) fn complain(message: &str) {
    let lines: Vec<String> = message
        .lines()
        .map(|line| escape(line.as_bytes()))
        .collect();
    let written = writeln!(io::stderr().lock(), "autosync: {}", lines.join("\n"));
    // Nobody is left to be told that standard error is closed.
    drop(written);
}

/// Returns words in lines of at most `width` characters; a longer word has a line of its own.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let length = |text: &str| text.chars().count();
        match lines.last_mut() {
            Some(line) if length(line) + 1 + length(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Returns a number with its noun: `1 file`, `2 files`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_long_ones_stand_alone() {
        assert_eq!(
            wrap("a bb ccc dddddddd e", 6),
            ["a bb", "ccc", "dddddddd", "e"]
        );
        assert!(wrap("  ", 6).is_empty());
    }
}
