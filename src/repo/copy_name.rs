//! What a conflict copy is called. Pure.

use crate::git::tree::Entry;
use crate::names::RepoPath;

/// The longest name that a disk takes, in bytes.
const LONGEST: usize = 255;

/// So much of a name's beginning stays, however long its extension is.
const SPARED: usize = 60;

/// The mark at which a copy's name departs from the original's.
const MARK: &[u8] = b" (conflict ";

/// What loading directories do not load.
const INERT: &[u8] = b".conflict";

/// Where a version comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The host, fit for a file name.
    pub(super) host: String,
    /// When it was committed, RFC 3339 in the commit's own zone.
    pub(super) since: String,
}

impl Origin {
    fn date(&self) -> &str {
        self.since.get(..10).unwrap_or("0000-00-00")
    }
}

/// Returns a host's name without what no disk, or no copy's name, can hold.
pub(super) fn fit_for_a_name(host: &str) -> String {
    let fit = |c: char| {
        let bad = c.is_control() || r#"/\<>:"|?*()"#.contains(c);
        if bad || crate::names::escape(c.to_string().as_bytes()).len() > c.len_utf8() {
            '-'
        } else {
            c
        }
    };
    let mut text: String = host.chars().map(fit).collect();
    while text.len() > 64 {
        text.pop();
    }
    let text = text.trim_matches([' ', '.']);
    if text.is_empty() { "unknown" } else { text }.to_owned()
}

/// Returns whether what appears beside this path may be loaded for being there.
pub(super) fn is_loaded(path: &RepoPath) -> bool {
    let dirs = path.parent();
    let loading = |name: &[u8]| name == b"systemd" || name.ends_with(b".d");
    path.components().any(|name| name.starts_with(b"."))
        || dirs.is_some_and(|dirs| dirs.components().any(loading))
}

/// Returns the name of the `nth` copy of a file or directory called `name`; `inert` puts
/// `.conflict` behind it.
pub(super) fn copy_name(
    name: &[u8],
    entry: Entry,
    origin: &Origin,
    inert: bool,
    nth: usize,
) -> Vec<u8> {
    let (plain, rest) = without_suffix(name);
    let (mut stem, mut ext) = match rest {
        Some(ext) => (plain, ext),
        None if entry.is_tree() => (plain, Vec::new()),
        None => split_extension(&plain),
    };
    let count = if nth > 1 {
        format!(" {nth}")
    } else {
        String::new()
    };
    let (host, date, short) = (&origin.host, origin.date(), entry.id.short());
    let mut tail = MARK.to_vec();
    tail.extend(format!("{host} {date} {short}{count})").bytes());
    let end = if inert { INERT } else { b"" };
    // Whoever named a copy anew may have given it an extension of any length.
    let others = tail.len() + end.len() + stem.len().min(SPARED);
    cut(&mut ext, LONGEST.saturating_sub(others));
    tail.extend(ext);
    tail.extend_from_slice(end);
    cut(&mut stem, LONGEST.saturating_sub(tail.len()));
    stem.extend(tail);
    stem
}

/// Shortens a text to so many bytes at most, at the border of a character.
fn cut(text: &mut Vec<u8>, room: usize) {
    if text.len() > room {
        let inside = |at: usize| text[at] & 0xc0 == 0x80;
        let at = (room.saturating_sub(3)..=room)
            .rev()
            .find(|at| !inside(*at))
            .unwrap_or(room);
        text.truncate(at);
    }
}

/// Splits `name.ext`; the extension keeps its dot and is empty where there is none.
fn split_extension(name: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let at = name.iter().rposition(|b| *b == b'.').unwrap_or(0);
    let ext = &name[at..];
    let plausible = at > 0 && ext.len() > 1 && ext.len() <= 32 && !ext.contains(&b' ');
    if plausible {
        (name[..at].to_vec(), ext.to_vec())
    } else {
        (name.to_vec(), Vec::new())
    }
}

/// Returns a name without the suffix that made it a copy's, and without those of what that is a copy
/// of: the stem, and the extension if the name was a copy's and so told it.
pub(super) fn without_suffix(name: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut stem, mut ext) = (name.to_vec(), None);
    while let Some((start, end)) = suffix(&stem) {
        let inner = &stem[end..];
        let mut all = inner.strip_suffix(INERT).unwrap_or(inner).to_vec();
        all.extend(ext.unwrap_or_default());
        ext = Some(all);
        stem.truncate(start);
    }
    (stem, ext)
}

/// Returns where ` (conflict HOST DATE oid7)` begins and ends.
pub(super) fn suffix(name: &[u8]) -> Option<(usize, usize)> {
    let start = name.windows(MARK.len()).rposition(|part| part == MARK)?;
    let inside = &name[start + MARK.len()..];
    let length = inside.iter().position(|b| *b == b')')?;
    let rest = &inside[length + 1..];
    let mut words: Vec<&[u8]> = inside[..length].split(|b| *b == b' ').collect();
    let digits = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    let is_id = |word: &[u8]| word.len() == 7 && word.iter().all(u8::is_ascii_hexdigit);
    if words.len() > 3 && digits(words[words.len() - 1]) && is_id(words[words.len() - 2]) {
        words.pop();
    }
    let (id, date) = (words.pop()?, words.pop()?);
    let dated = date.len() == 10 && date.iter().all(|b| b.is_ascii_digit() || *b == b'-');
    let whole = is_id(id) && dated && !words.is_empty();
    (whole && (rest.is_empty() || rest[0] == b'.'))
        .then_some((start, start + MARK.len() + length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::tree::{DIRECTORY, FILE};
    use crate::names::ObjectId;

    fn named(name: &[u8], mode: u32, inert: bool, nth: usize) -> Vec<u8> {
        let id = ObjectId::from_hex("0123456789".repeat(4)).unwrap();
        let origin = Origin {
            host: "my.host".to_owned(),
            since: "2026-11-20T21:42:54+01:00".to_owned(),
        };
        copy_name(name, Entry { mode, id }, &origin, inert, nth)
    }

    fn text(name: &str, mode: u32, inert: bool, nth: usize) -> String {
        String::from_utf8(named(name.as_bytes(), mode, inert, nth)).unwrap()
    }

    #[test]
    fn a_copy_keeps_stem_and_extension() {
        let mark = "(conflict my.host 2026-11-20 0123456)";
        assert_eq!(text("a.txt", FILE, false, 1), format!("a {mark}.txt"));
        assert_eq!(text("a", FILE, false, 1), format!("a {mark}"));
        assert_eq!(text("a.d", DIRECTORY, false, 1), format!("a.d {mark}"));
        assert_eq!(
            text("Mr. Smith", FILE, false, 1),
            format!("Mr. Smith {mark}")
        );
        assert_eq!(
            text(".bashrc", FILE, true, 1),
            format!(".bashrc {mark}.conflict")
        );
        assert_eq!(
            text("a.conf", FILE, true, 1),
            format!("a {mark}.conf.conflict")
        );
        assert_eq!(
            text("a.txt", FILE, false, 3),
            "a (conflict my.host 2026-11-20 0123456 3).txt"
        );
    }

    #[test]
    fn a_copy_of_a_copy_replaces_the_suffix() {
        for name in ["a.txt", ".bashrc", "a", "x.tar.gz"] {
            for inert in [false, true] {
                let once = text(name, FILE, inert, 2);
                assert_eq!(
                    text(&once, FILE, inert, 1),
                    text(name, FILE, inert, 1),
                    "{once}"
                );
            }
        }
        for name in [
            "a (conflict h 2026-01-02 0123456) (conflict k 2026-01-02 1234567).txt",
            "a (conflict h 2026-01-02 0123456).txt (conflict k 2026-01-02 1234567)",
            "a (conflict h 2026-01-02 0123456 3) (conflict k 2026-01-02 1234567).txt.conflict",
        ] {
            assert_eq!(text(name, FILE, false, 1), text("a.txt", FILE, false, 1));
        }
        let not_ours = "a (conflict of interest).txt";
        assert!(text(not_ours, FILE, false, 1).starts_with("a (conflict of interest) (conflict "));
    }

    #[test]
    fn what_the_fuzzer_found() {
        let name =
            b"a (conflict a (conflict b 2026-00-02 12\xb34567) (conflict d 1970-01-01 0707070).x";
        crate::repo::fuzz::copy(name, b"d", "1970-01-01T00:00:00+00:00");
    }

    #[test]
    fn a_long_name_is_cut_at_the_border_of_a_character() {
        let long = format!("{}.txt", "\u{20ac}".repeat(90));
        let cut = text(&long, FILE, true, 10);
        assert!(cut.len() <= 255 && cut.len() > 252, "{}", cut.len());
        assert!(cut.ends_with("0123456 10).txt.conflict"));
        let raw = named(&[0xbf; 300], FILE, false, 1);
        assert_eq!(raw.len(), 255);
    }

    #[test]
    fn a_copy_whose_extension_is_long_has_a_copy_that_a_disk_can_hold() {
        let long = format!("a (conflict h 2026-01-02 0123456).{}", "e".repeat(220));
        for inert in [false, true] {
            let cut = text(&long, FILE, inert, 10);
            assert_eq!(cut.len(), LONGEST);
            assert!(cut.starts_with("a (conflict my.host 2026-11-20 0123456 10).eee"));
        }
    }

    #[test]
    fn a_hosts_name_cannot_leave_its_place() {
        assert_eq!(fit_for_a_name("../a/b (x)\n\u{202e}"), "-a-b -x---");
        assert_eq!(fit_for_a_name(" . "), "unknown");
        assert!(fit_for_a_name(&"\u{20ac}".repeat(90)).len() <= 64);
    }

    #[test]
    fn files_that_are_loaded_by_being_there_are_known() {
        let loaded = |text: &str| is_loaded(&RepoPath::new(text).unwrap());
        for yes in [
            "conf.d/a",
            ".bashrc",
            ".config/a",
            "etc/systemd/x/a",
            "a/.b/c",
        ] {
            assert!(loaded(yes), "{yes}");
        }
        for no in ["a.d", "notes/a.txt", "systemd", "a.b/c"] {
            assert!(!loaded(no), "{no}");
        }
    }
}
