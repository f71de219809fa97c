//! What must hold for the files of our own state and for the names of conflict copies, whatever is
//! in them: see [`crate::fuzz`].

use std::path::Path;

use super::bases::{self, read_entry, write_entry};
use super::copies::{read_trailer, trailer as written};
use super::copy_name::{Origin, copy_name, fit_for_a_name, suffix, without_suffix};
use super::displaced;
use super::journal::{self, Journal};
use super::records::{self, Fields};
use crate::git::tree::Entry;
use crate::names::{ObjectId, RepoPath};

const FILE: &str = "state";

/// Returns the records in these bytes, as they are or with the seal that they lack.
fn records_in(input: &[u8], kind: &str, fields: usize) -> Vec<Fields> {
    let file = Path::new(FILE);
    let as_it_is = records::decode(file, input, kind, fields);
    as_it_is.unwrap_or_else(|_| {
        let parts = input.split(|byte| *byte == 0);
        let split = |part: &[u8]| {
            part.splitn(fields, |byte| *byte == b'\t')
                .map(<[u8]>::to_vec)
                .collect::<Fields>()
        };
        let whole: Vec<Fields> = parts.map(split).collect();
        let sealed = records::encode(kind, &whole);
        records::decode(file, &sealed, kind, fields).unwrap_or_default()
    })
}

/// The journal of an apply.
pub fn journal(input: &[u8]) {
    let file = Path::new(FILE);
    let all = records_in(input, journal::KIND, journal::FIELDS);
    let Ok(journal) = Journal::of_records(file, &all) else {
        return;
    };
    let sealed = records::encode(journal::KIND, &journal.to_records());
    let again = records::decode(file, &sealed, journal::KIND, journal::FIELDS)
        .and_then(|all| Journal::of_records(file, &all));
    assert_eq!(again.ok(), Some(journal));
}

/// The base map.
pub fn bases(input: &[u8]) {
    let file = Path::new(FILE);
    for fields in records_in(input, bases::KIND, bases::FIELDS) {
        if let Ok((path, base)) = read_entry(file, &fields) {
            let again = read_entry(file, &write_entry((&path, &base)));
            assert_eq!(again.ok(), Some((path, base)));
        }
    }
}

/// The index of a store of displaced files.
pub fn displaced(input: &[u8]) {
    let all = records_in(input, displaced::KIND, displaced::FIELDS);
    let _store = displaced::of_records(Path::new("store"), Path::new(FILE), &all);
}

/// The trailer that names a conflict copy.
pub fn trailer(value: &str) {
    if let Some((path, copy)) = read_trailer(value) {
        let again = read_trailer(&written(&path, &copy));
        assert_eq!(again, Some((path, copy)));
    }
}

/// The names of conflict copies: what is before the first NUL is the name of a file, then come the
/// host's and when it committed.
pub fn copies(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (name, host, when) = (next(), next(), next());
    let when = when.iter().fold(0, |all: i64, byte| {
        all.wrapping_mul(256).wrapping_add(i64::from(*byte))
    });
    let offset = i32::try_from(when % 2_000).unwrap_or_default();
    copy(name, host, &crate::clock::wall_in_zone(when, offset));
    trailer(&String::from_utf8_lossy(input));
    if let (Ok(path), Ok(other)) = (RepoPath::new(name), RepoPath::new(host)) {
        let pair = read_trailer(&written(&path, &other));
        assert_eq!(pair, Some((path, other)));
    }
}

/// The copy of a file of this name, by a host that calls itself so.
pub fn copy(name: &[u8], host: &[u8], date: &str) {
    let Ok(path) = RepoPath::new(name) else {
        return;
    };
    let Ok(id) = ObjectId::from_bytes(&[7; 20]) else {
        return;
    };
    let host = fit_for_a_name(&String::from_utf8_lossy(host));
    assert!(!host.contains(['/', '\0', '(', ')']), "{host}");
    let since = date.to_owned();
    let origin = Origin { host, since };
    let file = path.file_name();
    for (mode, inert, nth) in [
        (0o100_644, false, 1),
        (0o40_000, false, 2),
        (0o100_644, true, 99),
    ] {
        let entry = Entry { mode, id };
        let copy = copy_name(file, entry, &origin, inert, nth);
        let shown = crate::names::escape(&copy);
        assert!(
            copy.len() <= 255 || file.len() > 255,
            "{} bytes: {shown}",
            copy.len()
        );
        assert!(!copy.contains(&b'/') && !copy.contains(&0), "{shown}");
        assert!(!matches!(copy.as_slice(), b"" | b"." | b".."), "{shown}");
        // A file may have the very name already; then the next one is taken.
        let next = || copy_name(file, entry, &origin, inert, nth + 1);
        assert!(copy != file || next() != file, "{shown}");
        // A copy of the copy is named as the copy of the file is.
        let (stem, _) = without_suffix(&copy);
        let (before, _) = without_suffix(file);
        assert_eq!(suffix(&stem), None, "{shown}");
        assert!(
            before.starts_with(&stem) || stem.starts_with(&before),
            "{shown}"
        );
    }
}
