//! Files of our own state: records, sealed with a checksum, replaced as a whole.
//!
//! A record is a list of fields; the last one may hold any byte but NUL, so that a path needs no
//! escaping. The form is `KIND NUL RECORD NUL ... sum HEX NUL` with tabs between the fields.
//!
//! Invariants:
//! 1. A file is written aside, fsynced and renamed, and its directory is fsynced: after a power
//!    cut the old one or the new one is there, whole.
//! 2. A file that is not whole is reported, never guessed from.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::RepoError;
use crate::names::ObjectId;

/// One record: its fields, first to last.
pub type Fields = Vec<Vec<u8>>;

/// Writes the file of the given kind; it is durable when this returns.
pub fn write(path: &Path, kind: &str, records: &[Fields]) -> Result<(), RepoError> {
    let raw = encode(kind, records);
    let aside = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(&raw)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        sync_parent(path)
    };
    write().map_err(|error| RepoError::io(path, error))
}

/// Returns the bytes of a file of the given kind.
pub fn encode(kind: &str, records: &[Fields]) -> Vec<u8> {
    let mut raw = kind.as_bytes().to_vec();
    raw.push(0);
    for record in records {
        raw.extend_from_slice(&record.join(&b'\t'));
        raw.push(0);
    }
    let sum = format!("sum {:016x}", checksum(&raw));
    raw.extend_from_slice(sum.as_bytes());
    raw.push(0);
    raw
}

/// Reads the records of a file with `fields` fields each; `None` if there is no such file.
pub fn read(path: &Path, kind: &str, fields: usize) -> Result<Option<Vec<Fields>>, RepoError> {
    match fs::read(path) {
        Ok(raw) => decode(path, &raw, kind, fields).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RepoError::io(path, error)),
    }
}

/// Reads the bytes of a file, whose name is for messages.
pub fn decode(
    path: &Path,
    raw: &[u8],
    kind: &str,
    fields: usize,
) -> Result<Vec<Fields>, RepoError> {
    let whole = raw.strip_suffix(b"\0").and_then(|raw| {
        let at = raw.iter().rposition(|b| *b == 0)? + 1;
        let (body, sum) = raw.split_at(at);
        (sum == format!("sum {:016x}", checksum(body)).as_bytes()).then_some(body)
    });
    let mut parts = whole
        .ok_or_else(|| damaged(path, "it is not whole"))?
        .split(|b| *b == 0);
    if parts.next() != Some(kind.as_bytes()) {
        return Err(damaged(path, "it is of another kind or version"));
    }
    let mut records: Vec<Fields> = parts
        .map(|part| {
            part.splitn(fields, |b| *b == b'\t')
                .map(<[u8]>::to_vec)
                .collect()
        })
        .collect();
    // What follows the last NUL of the body is nothing.
    records.pop();
    if records.iter().any(|record| record.len() != fields) {
        return Err(damaged(path, "a record is too short"));
    }
    Ok(records)
}

/// Removes a file of ours, if it is there; durable when this returns.
pub fn remove(path: &Path) -> Result<(), RepoError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path).map_err(|error| RepoError::io(path, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RepoError::io(path, error)),
    }
}

/// Makes the names in the directory of `path` durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Returns the error of a file that says something else than we wrote.
pub fn damaged(path: &Path, why: &str) -> RepoError {
    RepoError::State {
        file: crate::names::escape(path.as_os_str().as_encoded_bytes()),
        why: why.to_owned(),
    }
}

/// Reads a number from a field.
pub fn number<N: std::str::FromStr>(path: &Path, field: &[u8]) -> Result<N, RepoError> {
    std::str::from_utf8(field)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| damaged(path, "a number is none"))
}

/// Reads an object id from a field; `-` is none.
pub fn id(path: &Path, field: &[u8]) -> Result<Option<ObjectId>, RepoError> {
    if field == b"-" {
        return Ok(None);
    }
    ObjectId::from_hex(field)
        .map(Some)
        .map_err(|_| damaged(path, "an object id is none"))
}

/// The 64-bit FNV-1a sum: it finds torn and mixed-up files, not forgeries.
fn checksum(raw: &[u8]) -> u64 {
    raw.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written_whatever_the_last_field_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(read(&path, "kind 1", 2).unwrap(), None);
        let records = vec![
            vec![b"1".to_vec(), b"a\tb\nc\xff".to_vec()],
            vec![b"".to_vec(), b"".to_vec()],
        ];
        write(&path, "kind 1", &records).unwrap();
        assert_eq!(read(&path, "kind 1", 2).unwrap(), Some(records));
        write(&path, "kind 1", &[]).unwrap();
        assert_eq!(read(&path, "kind 1", 2).unwrap(), Some(vec![]));
        assert!(read(&path, "kind 2", 2).is_err());
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn no_torn_file_is_ever_taken_for_a_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let record = vec![b"1".to_vec(), b"some/path".to_vec()];
        write(&path, "kind 1", &[record.clone(), record]).unwrap();
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(read(&path, "kind 1", 2).is_err(), "{len} bytes");
        }
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            fs::write(&path, &torn).unwrap();
            assert!(read(&path, "kind 1", 2).is_err(), "byte {at}");
        }
    }
}
