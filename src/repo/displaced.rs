//! What applies moved out of the way (A6): kept until nobody can write to it any more.
//!
//! A program that has the old file open goes on writing into it after the exchange. So the old
//! files stay for a while, and one that has other bytes in the end is an edit that came late: of
//! the commit whose content it was.
//!
//! Invariants:
//! 1. A file stays at least [`GRACE`], and as long as somebody has it open for writing.
//! 2. A file with other bytes than expected is only dropped by [`drop_late`], after its bytes are
//!    safe in a commit.
//! 3. What went in an approved mass deletion stays for 30 days, as long as there is room.
//! 4. Without room, what nobody had open goes at once, the oldest first; what somebody has open
//!    stays, and is told.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::disk::{self, Kind, Seen};
use super::exchange::Left;
use super::filter::{Form, Storage};
use super::journal::Journal;
use super::open::{self, Writer, writer};
use super::records::{self, Fields, damaged};
use super::slots::{Area, numbers, slot};
use super::{Place, RepoError, publish, secrets, stable, verify};
use crate::clock;
use crate::engine::event::Waiting;
use crate::engine::timer::Moment;
use crate::fault;
use crate::git::objects::Kind as ObjectKind;
use crate::git::tree::{EXECUTABLE, Entry, FILE, SYMLINK};
use crate::git::{self, GitError};
use crate::names::secret::{LOOK, Secret};
use crate::names::{ObjectId, RepoPath};
use crate::process;

/// How long everything stays at least.
pub const GRACE: Duration = Duration::from_secs(60);
/// How long a file stays of which nobody can say whether it is being written.
const GRACE_UNKNOWN: Duration = Duration::from_secs(600);
/// How long a mass deletion stays, in seconds.
const MASS: i64 = 30 * 24 * 3600;
/// Above this many bytes, what nobody has open goes before its time.
const CAP: u64 = 1 << 30;
/// The same as a share of the disk, in percent.
const CAP_PERCENT: u64 = 5;

/// The kind and version of the index of a finished stage.
pub(super) const KIND: &str = "autosync displaced 1";
/// How many fields a record has.
pub(super) const FIELDS: usize = 7;

/// A file that was written to after it had left the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateEdit {
    /// Where it stood.
    pub path: RepoPath,
    /// The commit that it is an edit of.
    pub base: ObjectId,
    /// What it came to; the blob is written.
    pub content: Entry,
    /// Where its bytes are until [`drop_late`].
    pub slot: PathBuf,
}

/// A file that became a secret after it had left the tree: its bytes stay where they are, and
/// nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateSecret {
    /// Where it stood.
    pub path: RepoPath,
    /// Which secret it looks like.
    pub secret: Secret,
    /// Where its bytes are.
    pub slot: PathBuf,
}

/// What was written to files after they had left the tree.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Late {
    /// What is to be committed.
    pub edits: Vec<LateEdit>,
    /// What a person is asked about.
    pub secrets: Vec<LateSecret>,
}

/// By what a sweep decides.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The present moment.
    pub now: Moment,
    /// The present wall time, in seconds since 1970.
    pub wall: i64,
    /// How many bytes may lie here; `None` for what the disk allows.
    pub cap: Option<u64>,
}

impl Limits {
    /// Returns the usual limits.
    pub fn at(now: Moment) -> Self {
        Self {
            now,
            wall: clock::wall_seconds(),
            cap: None,
        }
    }

    fn cap(&self, dir: &Path) -> Result<u64, RepoError> {
        match self.cap {
            Some(cap) => Ok(cap),
            None => cap(dir),
        }
    }
}

/// One file in a finished stage.
struct Kept {
    number: usize,
    path: RepoPath,
    left: Left,
    size: u64,
    modified: i128,
}

/// A finished stage.
pub(super) struct Store {
    dir: PathBuf,
    boot: Vec<u8>,
    since: Duration,
    wall: i64,
    mass: bool,
    files: Vec<Kept>,
}

/// Turns the stage of a finished apply into a store of what it displaced.
///
/// `lefts` are the slots that are worth a look later.
pub fn keep(place: &Place, journal: &Journal, lefts: &[(usize, Left)]) -> Result<(), RepoError> {
    let stage = &journal.stage;
    if stage.symlink_metadata().is_err() {
        // Finished before a kill.
        return Ok(());
    }
    let dir = disk::open_directory(stage)?;
    let mut all: Vec<Fields> = vec![
        [
            process::boot_id(),
            clock::now().0.as_secs().to_string(),
            clock::wall_seconds().to_string(),
            if journal.mass { "mass" } else { "-" }.to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
        ]
        .map(String::into_bytes)
        .to_vec(),
    ];
    for (number, left) in lefts {
        let seen = disk::look(&dir, &slot(*number)).map_err(|e| RepoError::io(stage, e))?;
        let (Some(seen), Some(op)) = (seen, journal.ops.get(*number)) else {
            continue;
        };
        let writer = match left.writer {
            Writer::No => "no",
            Writer::Yes => "yes",
            Writer::Unknown => "unknown",
        };
        let mut fields = [
            number.to_string(),
            left.base.to_string(),
            left.bytes.to_string(),
            writer.to_owned(),
            seen.size.to_string(),
            seen.modified.to_string(),
        ]
        .map(String::into_bytes)
        .to_vec();
        fields.push(op.path.as_bytes().to_vec());
        all.push(fields);
    }
    let area = Area::of(place)?;
    if all.len() == 1 {
        return fs::remove_dir_all(stage).map_err(|error| RepoError::io(stage, error));
    }
    records::write(&stage.join("index"), KIND, &all)?;
    fault::at("A6.index");
    let to = area.displaced().join(stage.file_name().unwrap_or_default());
    fs::rename(stage, &to).map_err(|error| RepoError::io(&to, error))?;
    records::sync_parent(&to).map_err(|error| RepoError::io(&to, error))
}

/// Drops displaced files whose time has come, and returns those that were written to late.
///
/// A late edit is returned again and again until [`drop_late`].
pub fn sweep_displaced(place: &Place, now: Moment) -> Result<Late, RepoError> {
    sweep_within(place, &Limits::at(now))
}

/// As [`sweep_displaced`], by limits of the caller's.
pub fn sweep_within(place: &Place, limits: &Limits) -> Result<Late, RepoError> {
    let mut late = Late::default();
    each(place, limits, |store, crowded| {
        sweep(place, store, limits, crowded, &mut late)
    })?;
    Ok(late)
}

/// Returns what would have made room, but somebody has had it open ever since it was displaced.
pub fn ever_open(place: &Place, limits: &Limits) -> Result<Vec<Waiting>, RepoError> {
    let mut found = Vec::new();
    each(place, limits, |store, crowded| {
        for file in store.files.iter().filter(|_| crowded) {
            if open::open_for_writing(&store.dir.join(slot(file.number))) {
                let mib = file.size.div_ceil(1 << 20);
                found.push(Waiting {
                    path: file.path.clone(),
                    why: format!("a program still has its old version open, of {mib} MiB"),
                });
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Visits every store, the newest first: under the cap they are the last to go.
fn each(
    place: &Place,
    limits: &Limits,
    mut visit: impl FnMut(&Store, bool) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    for area in Area::all(place) {
        let dir = area.displaced();
        let mut stores = Vec::new();
        for number in numbers(&dir)? {
            let store = dir.join(number.to_string());
            match read(&store)? {
                Some(store) => stores.push(store),
                // Only an interrupted removal leaves a store without an index.
                None => remove_all(&store)?,
            }
        }
        if stores.is_empty() {
            continue;
        }
        let mut room = limits.cap(&dir)?;
        for store in stores.iter().rev() {
            let there = |file: &&Kept| {
                let slot = store.dir.join(slot(file.number));
                slot.symlink_metadata().is_ok()
            };
            let bytes: u64 = store.files.iter().filter(there).map(|file| file.size).sum();
            let crowded = bytes > room;
            room = room.saturating_sub(bytes);
            visit(store, crowded)?;
        }
    }
    Ok(())
}

/// Drops a late edit: to be called when its bytes are safe in a commit.
pub fn drop_late(edit: &LateEdit) -> Result<(), RepoError> {
    publish::remove(&edit.slot)
}

/// Returns the displaced files that somebody still has open, with where their bytes are.
pub fn still_open(place: &Place) -> Result<Vec<(RepoPath, PathBuf)>, RepoError> {
    let mut found = Vec::new();
    for store in stores(place)? {
        for file in store.files {
            let slot = store.dir.join(slot(file.number));
            if open::open_for_writing(&slot) {
                found.push((file.path, slot));
            }
        }
    }
    Ok(found)
}

/// Returns every store.
fn stores(place: &Place) -> Result<Vec<Store>, RepoError> {
    let mut found = Vec::new();
    for area in Area::all(place) {
        let dir = area.displaced();
        for number in numbers(&dir)? {
            found.extend(read(&dir.join(number.to_string()))?);
        }
    }
    Ok(found)
}

/// A file that lies here, as a version of its path.
pub(super) struct Lying {
    /// When it was written to last, in seconds since 1970.
    pub(super) seconds: i64,
    /// The commit that it was displaced from.
    pub(super) base: ObjectId,
    file: Kept,
    slot: PathBuf,
    seen: Seen,
}

/// Returns the versions of a path that lie here alone and that nobody is writing to, newest first.
pub(super) fn lying(place: &Place, path: &RepoPath) -> Result<Vec<Lying>, RepoError> {
    let mut found = Vec::new();
    for store in stores(place)? {
        for file in store.files.into_iter().filter(|file| file.path == *path) {
            let slot = store.dir.join(slot(file.number));
            let Ok(dir) = disk::open_directory(&store.dir) else {
                // It was dropped meanwhile.
                continue;
            };
            let failed = |error| RepoError::io(&slot, error);
            let name = self::slot(file.number);
            let Some(seen) = disk::look(&dir, &name).map_err(failed)? else {
                continue;
            };
            let untouched = seen.size == file.size && seen.modified == file.modified;
            if untouched && file.left.writer == Writer::No {
                // The commit that it was displaced from has it.
                continue;
            }
            if matches!(seen.kind, Kind::File | Kind::Symlink) && !open::open_for_writing(&slot) {
                found.push(Lying {
                    seconds: i64::try_from(seen.modified.div_euclid(1_000_000_000))
                        .unwrap_or_default(),
                    base: file.left.base,
                    file,
                    slot,
                    seen,
                });
            }
        }
    }
    found.sort_by_key(|it| std::cmp::Reverse(it.seconds));
    Ok(found)
}

impl Lying {
    /// Stores it as git would and returns what it is; or which secret it is that nobody let through.
    pub(super) fn store(&self, place: &Place) -> Result<Result<Entry, Secret>, RepoError> {
        if let Some(secret) = became_secret(place, &self.file, &self.slot)? {
            return Ok(Err(secret));
        }
        Ok(Ok(store_blob(
            place,
            &self.file.path,
            &self.slot,
            &self.seen,
        )?))
    }
}

/// Returns how long everything stays at least; the tests ask for less.
fn grace() -> Duration {
    fault::millis("AUTOSYNC_GRACE").unwrap_or(GRACE)
}

fn sweep(
    place: &Place,
    store: &Store,
    limits: &Limits,
    crowded: bool,
    late: &mut Late,
) -> Result<(), RepoError> {
    // After a reboot nobody has anything open from before.
    let rebooted = store.boot != process::boot_id().into_bytes();
    let age = if rebooted {
        GRACE_UNKNOWN
    } else {
        limits.now.0.saturating_sub(store.since)
    };
    let stays = store.mass && limits.wall.saturating_sub(store.wall) < MASS && !crowded;
    let dir = disk::open_directory(&store.dir)?;
    let mut settled = true;
    for file in &store.files {
        let name = slot(file.number);
        let failed = |error| RepoError::io(&store.dir.join(&name), error);
        let Some(seen) = disk::look(&dir, &name).map_err(failed)? else {
            continue;
        };
        if age < grace() && !(crowded && file.left.writer == Writer::No) {
            settled = false;
            continue;
        }
        // With another name, whatever is written to it is in the user's reach.
        let shared = seen.kind == Kind::File && seen.links > 1;
        if !shared {
            let untouched = seen.size == file.size && seen.modified == file.modified;
            let quiet = rebooted || file.left.writer == Writer::No && untouched;
            if !quiet && is_written(&dir, &name, &seen, age) {
                settled = false;
                continue;
            }
            let right = quiet && !rebooted
                || verify::hash(place, &dir, &name, &seen).map_err(failed)?
                    == Some(file.left.bytes);
            if !right {
                settled = false;
                let (path, slot) = (file.path.clone(), store.dir.join(&name));
                if let Some(secret) = became_secret(place, file, &slot)? {
                    late.secrets.push(LateSecret { path, secret, slot });
                    continue;
                }
                let content = store_blob(place, &path, &slot, &seen)?;
                late.edits.push(LateEdit {
                    path,
                    base: file.left.base,
                    content,
                    slot,
                });
                continue;
            }
        }
        if stays {
            settled = false;
        } else {
            publish::remove(&store.dir.join(&name))?;
        }
    }
    if settled {
        remove_all(&store.dir)?;
    }
    Ok(())
}

/// Returns what secret it is if what was written to a file after it had left the tree makes one of
/// it.
fn became_secret(place: &Place, file: &Kept, slot: &Path) -> Result<Option<Secret>, RepoError> {
    let head = stable::first_bytes(slot, LOOK as u64).map_err(|e| RepoError::io(slot, e))?;
    let before = match place.tree_of(Some(file.left.base))? {
        Some(tree) => place.objects.entry(tree, &file.path)?,
        None => None,
    };
    secrets::unasked(place, &file.path, &head, before)
}

fn is_written(dir: &std::os::fd::OwnedFd, name: &OsStr, seen: &Seen, age: Duration) -> bool {
    if seen.kind != Kind::File {
        return false;
    }
    match disk::open_file(dir, name).map(writer) {
        Ok(Writer::No) => false,
        Ok(Writer::Yes) => true,
        Ok(Writer::Unknown) | Err(_) => age < GRACE_UNKNOWN,
    }
}

/// Writes the bytes of a slot as the blob that git would store for the path.
fn store_blob(
    place: &Place,
    path: &RepoPath,
    slot: &Path,
    seen: &Seen,
) -> Result<Entry, RepoError> {
    let failed = |error| RepoError::io(slot, error);
    if seen.kind == Kind::Symlink {
        let target = fs::read_link(slot).map_err(failed)?;
        let id = place
            .objects
            .write(ObjectKind::Blob, target.as_os_str().as_encoded_bytes())?;
        return Ok(Entry { mode: SYMLINK, id });
    }
    let mode = if seen.executable() { EXECUTABLE } else { FILE };
    let form = Storage::read(place)?.forms(place, &[path])?.remove(path);
    let id = if matches!(form, Some(Form::Converted)) {
        let mut command = place.git.command("hash-object");
        command
            .args(["-w", "--stdin", "--path"])
            .arg(super::filter::argument(path))
            .stdin(Stdio::from(File::open(slot).map_err(failed)?))
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut running = process::Running::start(&mut command).map_err(GitError::Spawn)?;
        let mut out = Vec::new();
        if let Some(mut pipe) = running.child().stdout.take() {
            io::Read::read_to_end(&mut pipe, &mut out).map_err(failed)?;
        }
        let status = running.wait().map_err(GitError::Spawn)?;
        if !status.success() {
            return Err(git::unparsable("hash-object", &out).into());
        }
        ObjectId::from_hex(out).map_err(GitError::from)?
    } else {
        let content = fs::read(slot).map_err(failed)?;
        place.objects.write(ObjectKind::Blob, &content)?
    };
    Ok(Entry { mode, id })
}

/// Returns how many bytes may lie here.
fn cap(dir: &Path) -> Result<u64, RepoError> {
    let disk = rustix::fs::statvfs(dir).map_err(|error| RepoError::io(dir, error.into()))?;
    Ok(share(disk.f_blocks.saturating_mul(disk.f_frsize)))
}

/// Returns how many bytes may lie on a disk of that many.
fn share(disk: u64) -> u64 {
    CAP.min(disk / 100 * CAP_PERCENT)
}

fn remove_all(dir: &Path) -> Result<(), RepoError> {
    // The index last: without it the rest is rubbish.
    let entries = fs::read_dir(dir).map_err(|error| RepoError::io(dir, error))?;
    for entry in entries {
        let path = entry.map_err(|error| RepoError::io(dir, error))?.path();
        if path.file_name().is_some_and(|name| name != "index") {
            let removed = if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(|error| RepoError::io(&path, error))?;
        }
    }
    fs::remove_dir_all(dir).map_err(|error| RepoError::io(dir, error))
}

fn read(dir: &Path) -> Result<Option<Store>, RepoError> {
    let path = dir.join("index");
    let Some(all) = records::read(&path, KIND, FIELDS)? else {
        return Ok(None);
    };
    of_records(dir, &path, &all).map(Some)
}

/// Reads the records of the store `dir`; `path` is for messages.
pub(super) fn of_records(dir: &Path, path: &Path, all: &[Fields]) -> Result<Store, RepoError> {
    let mut all = all.iter();
    let head = all.next().ok_or_else(|| damaged(path, "it is empty"))?;
    let mut files = Vec::new();
    for fields in all {
        let id = |at: usize| {
            records::id(path, &fields[at])?.ok_or_else(|| damaged(path, "an id is missing"))
        };
        files.push(Kept {
            number: records::number(path, &fields[0])?,
            path: RepoPath::new(&fields[6])?,
            left: Left {
                base: id(1)?,
                bytes: id(2)?,
                writer: match fields[3].as_slice() {
                    b"no" => Writer::No,
                    b"yes" => Writer::Yes,
                    _ => Writer::Unknown,
                },
            },
            size: records::number(path, &fields[4])?,
            modified: records::number(path, &fields[5])?,
        });
    }
    Ok(Store {
        dir: dir.to_owned(),
        boot: head[0].clone(),
        since: Duration::from_secs(records::number(path, &head[1])?),
        wall: records::number(path, &head[2])?,
        mass: head[3] == b"mass",
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gibibyte_may_lie_here_on_a_small_disk_a_twentieth_of_it() {
        assert_eq!(share(1 << 40), CAP);
        assert_eq!(share(1_000_000_000), 50_000_000);
    }
}
