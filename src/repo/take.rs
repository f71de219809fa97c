//! Steps S2 and S3 together: candidates become tree entries, or say why not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::blobs::{self, Store};
use super::filter::{self, Above, Form, Parents, Storage};
use super::folder::Folder;
use super::renamed::Renamed;
use super::scan::{Candidates, Known, files_below};
use super::spelling::{Spellings, folds};
use super::stable::{self, Found};
use super::{Place, RepoError, junk, open, scan, secrets};
use crate::clock;
use crate::engine::event::{Code, Waiting};
use crate::git::GitError;
use crate::git::tree::{Edits, Entry, FILE, GITLINK, Lookup, SYMLINK};
use crate::names::secret::{LOOK, Secret};
use crate::names::transient::{Transient, transient};
use crate::names::{DEEPEST, ObjectId, RepoPath, danger};

/// How long a staging by hand (`git add -p`) is left alone.
const STAGING: Duration = Duration::from_secs(60);

/// Names that only look transient are taken for such this long, in seconds.
const YOUNG: i64 = 60;

/// Why a file is left out that its owner keeps from being read.
const UNREADABLE: &str = "it may not be read";

/// What a batch came to.
#[derive(Debug, Default)]
pub struct Taken {
    /// What each path becomes.
    pub edits: Edits,
    /// Paths in motion.
    pub busy: Vec<Waiting>,
    /// Paths that will not be committed.
    pub skipped: Vec<Waiting>,
    /// Base-map paths that stand at HEAD's content again, with that content.
    pub released: BTreeMap<RepoPath, Option<Entry>>,
    /// What the user changed at and around base-map paths: what is there now, and the commit that
    /// it is an edit of.
    pub sides: BTreeMap<RepoPath, (Option<Entry>, ObjectId)>,
    /// Staged content that the tree replaces, to be kept.
    pub staged: BTreeMap<RepoPath, Entry>,
    /// What was read and differs from HEAD, to be made durable.
    pub read: Vec<RepoPath>,
    /// What the disk cannot have beside another name that HEAD has, too: no deletions.
    pub twins: BTreeSet<RepoPath>,
    /// What was not there.
    missing: BTreeSet<RepoPath>,
    /// Secrets that nobody let through, with what the history would get.
    secrets: BTreeMap<RepoPath, Entry>,
    /// More of them, with their modes, of which that is not known yet.
    unhashed: BTreeMap<RepoPath, u32>,
}

/// A file to be read.
struct Wanted {
    path: RepoPath,
    meta: Metadata,
    link: bool,
    head: Option<Entry>,
    based: bool,
}

/// Runs S2 and S3 over the candidates.
pub fn take(
    folder: &mut Folder,
    candidates: &Candidates,
    head: &Lookup,
    is_unborn: bool,
    even_open: &BTreeSet<RepoPath>,
) -> Result<Taken, RepoError> {
    let mut taken = Taken::default();
    for path in &candidates.nested {
        taken.skip(path, "a repository of its own");
    }
    for path in &candidates.unreadable {
        taken.skip(path, "this directory cannot be read");
        folder.unreadable.insert(path.clone());
    }
    if candidates.everything {
        folder.held.clear();
    }
    let storage = Storage::read(&folder.place)?;
    let mut wanted = choose(folder, candidates, head, even_open, &mut taken)?;
    let is_new = |file: &&Wanted| {
        file.head.is_none() && !file.based && !folder.view.staged.contains_key(&file.path)
    };
    let new: Vec<(RepoPath, u64)> = wanted
        .iter()
        .filter(is_new)
        .map(|file| (file.path.clone(), file.meta.len()))
        .collect();
    let renamed = Renamed::of(&taken.edits, head)?;
    let held = junk::hold(
        folder,
        head,
        is_unborn,
        &new,
        renamed,
        candidates.everything,
    )?;
    wanted.retain(|file| !held.contains(&file.path));
    let paths: Vec<&RepoPath> = wanted.iter().map(|file| &file.path).collect();
    let forms = storage.forms(&folder.place, &paths)?;
    read(folder, wanted, &forms, &storage, &mut taken)?;
    let moved = moved_secrets(folder, head, &mut taken)?;
    for (path, entry) in moved {
        folder.held.remove(&path);
        taken.edits.insert(path, Some(entry));
    }
    taken.leave_out_torn();
    Ok(taken)
}

/// Returns the secrets that the history has already, under names that go: they only moved.
fn moved_secrets(
    folder: &Folder,
    head: &Lookup,
    taken: &mut Taken,
) -> Result<Vec<(RepoPath, Entry)>, RepoError> {
    let mut moved = Vec::new();
    if taken.edits.values().any(Option::is_none) {
        let unhashed = std::mem::take(&mut taken.unhashed);
        let ids = blobs::ids_of(&folder.place, &unhashed.keys().collect::<Vec<_>>())?;
        for (path, id) in ids {
            let mode = unhashed.get(&path).copied().unwrap_or(FILE);
            taken.secrets.insert(path, Entry { mode, id });
        }
    }
    if taken.secrets.is_empty() {
        return Ok(moved);
    }
    let mut went = BTreeSet::new();
    for (path, _) in taken.edits.iter().filter(|(_, entry)| entry.is_none()) {
        if let Some(before) = head.get(path)?
            && taken.secrets.values().any(|entry| entry.id == before.id)
            && secrets::was_one(&folder.place, path, before)
        {
            went.insert(before.id);
        }
    }
    for (path, entry) in &taken.secrets {
        if went.contains(&entry.id) && folder.bases.near(path).is_none() {
            moved.push((path.clone(), *entry));
        }
    }
    Ok(moved)
}

impl Taken {
    /// Returns whether something is missing.
    pub(super) fn deletes(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Leaves out what is below a directory that waits by now, and what was missing only while it
    /// was looked at.
    pub(super) fn leave_out_hidden(&mut self, place: &Place) {
        let mounts = place.mounts.borrow();
        let mut spellings = Spellings::new(place);
        let mut is_back = |path: &RepoPath| match stable::look(&place.on_disk(path)) {
            Ok(Found::Missing | Found::Directory) => false,
            Ok(Found::File(_) | Found::Symlink(_) | Found::Special) => {
                spellings.twin(place, path).is_none()
            }
            Err(_) => true,
        };
        let missing = std::mem::take(&mut self.missing);
        let back: BTreeSet<RepoPath> = missing.into_iter().filter(|it| is_back(it)).collect();
        let stays = |path: &RepoPath| mounts.hindrance(path).is_none() && !back.contains(path);
        self.edits.retain(|path, _| stays(path));
        self.sides.retain(|path, _| stays(path));
        self.released.retain(|path, _| stays(path));
        for path in &back {
            self.busy(path, "it was away while the folder was looked at");
        }
    }

    fn skip(&mut self, path: &RepoPath, why: &str) {
        self.skipped.push(Waiting {
            path: path.clone(),
            why: why.to_owned(),
        });
    }

    pub(super) fn busy(&mut self, path: &RepoPath, why: &str) {
        self.busy.push(Waiting {
            path: path.clone(),
            why: why.to_owned(),
        });
    }
}

/// S2: returns the files to be read; everything else is decided here.
fn choose(
    folder: &mut Folder,
    candidates: &Candidates,
    head: &Lookup,
    even_open: &BTreeSet<RepoPath>,
    taken: &mut Taken,
) -> Result<Vec<Wanted>, RepoError> {
    let mut parents = Parents::default();
    let mut spellings = Spellings::new(&folder.place);
    let mut respelled = BTreeSet::new();
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut unasked: BTreeSet<RepoPath> = BTreeSet::new();
    let mut queue: Vec<(RepoPath, Known)> = candidates
        .paths
        .iter()
        .map(|(path, known)| (path.clone(), *known))
        .collect();
    if candidates.everything {
        queue.extend(
            folder
                .bases
                .iter()
                .map(|(path, _)| (path.clone(), Known::Listed)),
        );
    }
    queue.extend(scan::readable_again(folder, head)?);
    let mut seen: BTreeSet<RepoPath> = BTreeSet::new();
    while let Some((path, known)) = queue.pop() {
        if !seen.insert(path.clone())
            || path
                .components()
                .any(|name| name == b".git" || name == b".autosync-stage")
        {
            continue;
        }
        if folder.place.mounts.borrow().hindrance(&path).is_some() {
            continue;
        }
        folder.held.remove(&path);
        folder.held_deletes.remove(&path);
        let based = folder.bases.get(&path).is_some();
        if !based && !folder.patterns.take(&path) {
            continue;
        }
        let place = &folder.place;
        if path.components().count() > DEEPEST {
            taken.skip(&path, "too many directories inside each other");
            continue;
        }
        let before = head.get(&path)?;
        let leaf = before.filter(|entry| !entry.is_tree());
        let new = leaf.is_none() && !based && !folder.view.staged.contains_key(&path);
        if new && folder.tracked_only {
            continue;
        }
        let is_submodule = |entry: &Entry| entry.mode == GITLINK;
        if !based
            && (leaf.is_some_and(|it| is_submodule(&it)) || folder.view.flagged.contains(&path))
        {
            continue;
        }
        let (found, twin) = match parents.above(place, &path) {
            Above::Ours => spellings.look(place, &path),
            Above::Missing => (Ok(Found::Missing), spellings.twin(place, &path)),
            Above::Symlink(dir) => {
                queue.push((dir, Known::Name));
                continue;
            }
            Above::Nested(dir) => {
                taken.skip(&dir, "a repository of its own");
                continue;
            }
            Above::Unreadable(dir) => {
                folder.unreadable.insert(dir.clone());
                taken.skip(&dir, "this directory cannot be read");
                continue;
            }
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                taken.skip(&path, &format!("cannot be looked at: {error}"));
                continue;
            }
        };
        if let Some(twin) = twin {
            // Who wrote by this name wrote there.
            if known == Known::Name && !seen.contains(&twin) {
                let below = files_below(place, &twin);
                let there = [twin.clone()].into_iter().chain(below);
                queue.extend(there.map(|path| (path, Known::Name)));
            }
            let have = folder.bases.get(&twin).and_then(|base| base.have);
            if have.is_some() || head.get(&twin)?.is_some() {
                // The disk has the one and cannot have the other, which nobody deleted.
                if based && leaf.is_none() {
                    taken.released.insert(path, None);
                } else if !based && leaf.is_some() {
                    taken.twins.insert(path);
                }
                continue;
            }
        }
        let tells = match &found {
            Found::File(_) | Found::Symlink(_) => true,
            // Who deleted by another spelling is told of by that.
            Found::Missing => folds(place),
            Found::Directory | Found::Special => false,
        };
        if leaf.is_none() && !based && tells {
            let gone = spellings.respelled(place, head, &path, &mut respelled)?;
            queue.extend(gone.into_iter().map(|path| (path, Known::Listed)));
        }
        match found {
            Found::Missing if based => {
                if filter::absence_is_certain(place, &path) {
                    taken.missing.insert(path.clone());
                    side(folder, &path, leaf, None, taken);
                }
            }
            Found::Missing => {
                if leaf.is_none() {
                    // With a directory goes what was held below it.
                    folder.held.retain(|held, _| !held.is_within(&path));
                    continue;
                }
                if filter::absence_is_certain(place, &path) {
                    taken.missing.insert(path.clone());
                    taken.edits.insert(path, None);
                } else {
                    taken.skip(&path, "missing, but its directory cannot be read");
                }
            }
            Found::Directory => {
                if based {
                    // A directory is what a submodule has, whatever is in it.
                    let have = folder.bases.get(&path).and_then(|base| base.have);
                    let now = leaf.filter(is_submodule).or(have.filter(is_submodule));
                    side(folder, &path, leaf, now, taken);
                    // `git status` does not look below an entry of the index that is no
                    // directory, so what the user put there is found here.
                    for below in files_below(&folder.place, &path) {
                        queue.push((below, Known::Name));
                    }
                } else if leaf.is_some() {
                    taken.edits.insert(path, None);
                }
            }
            Found::Special => taken.skip(&path, "no file, directory or link"),
            Found::File(meta) => {
                if meta.len() > folder.place.settings.max_file {
                    let message = format!("`{path}` is larger than `max_file`");
                    folder.held.insert(path, (Code::TooBig, message));
                    continue;
                }
                if !even_open.contains(&path) && open::open_for_writing(&place.on_disk(&path)) {
                    taken.busy(&path, "open for writing");
                    continue;
                }
                if leaf.is_none() && !based && known == Known::Name {
                    unasked.insert(path.clone());
                }
                wanted.push(Wanted {
                    path,
                    meta,
                    link: false,
                    head: leaf,
                    based,
                });
            }
            Found::Symlink(meta) => {
                if leaf.is_none() && !based && known == Known::Name {
                    unasked.insert(path.clone());
                }
                wanted.push(Wanted {
                    path,
                    meta,
                    link: true,
                    head: leaf,
                    based,
                });
            }
        }
    }
    let ignored = filter::ignored(&folder.place, &unasked.iter().collect::<Vec<_>>())?;
    wanted.retain(|file| {
        let new = file.head.is_none() && !file.based;
        let staged = folder.view.staged.contains_key(&file.path);
        !(ignored.contains(&file.path) || (new && !staged && is_transient(file, taken)))
    });
    wanted.retain(|file| file.head.is_some() || file.based || is_harmless(folder, file));
    wanted.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(wanted)
}

/// Returns whether a new file may go to other hosts by its name; each of them would refuse the whole
/// update with one that may not, so it is held.
fn is_harmless(folder: &mut Folder, file: &Wanted) -> bool {
    let Some(why) = danger(&file.path, if file.link { SYMLINK } else { FILE }) else {
        return true;
    };
    let message = format!("`{}` is not committed: {why}", file.path);
    folder
        .held
        .insert(file.path.clone(), (Code::DangerousName, message));
    false
}

/// Returns whether a new file has a name that programs use while they work.
fn is_transient(file: &Wanted, taken: &mut Taken) -> bool {
    match transient(file.path.file_name()) {
        Some(Transient::Always) => true,
        Some(Transient::WhileYoung) if clock::wall_seconds() - file.meta.ctime() < YOUNG => {
            taken.busy(
                &file.path,
                "its name looks like one that a program uses while it works",
            );
            true
        }
        Some(Transient::WhileYoung) | None => false,
    }
}

/// S3: reads what was chosen, and stores what differs from HEAD.
fn read(
    folder: &mut Folder,
    wanted: Vec<Wanted>,
    forms: &BTreeMap<RepoPath, Form>,
    storage: &Storage,
    taken: &mut Taken,
) -> Result<(), RepoError> {
    let mut store = Store::default();
    let mut converted: Vec<Wanted> = Vec::new();
    let mut count = folder.place.meter.start("snapshot", wanted.len());
    for file in wanted {
        count.add(1);
        let form = if file.link {
            &Form::Plain
        } else {
            forms.get(&file.path).unwrap_or(&Form::Plain)
        };
        match form {
            Form::Plain => {}
            Form::Converted => {
                let mode = stable::mode_of(&file.meta, storage.trust_mode, file.head);
                if !hold_converted(folder, &file, mode, taken)? {
                    converted.push(file);
                }
                continue;
            }
            Form::Unknown(name) => {
                let message = format!("`{}` needs the filter `{name}`", file.path);
                folder.held.insert(file.path, (Code::Filter, message));
                continue;
            }
        }
        let disk = folder.place.on_disk(&file.path);
        let mode = stable::mode_of(&file.meta, storage.trust_mode, file.head);
        if file.meta.len() > stable::IN_MEMORY && !file.link {
            // It becomes an object while it is read.
            let Some(head) = first_bytes(&disk, &file.path, taken)? else {
                continue;
            };
            if let Some(secret) = is_secret(folder, &file, &head)? {
                hold_secret(folder, &file.path, secret);
                if !file.based {
                    taken.unhashed.insert(file.path, mode);
                }
                continue;
            }
        }
        let reading = if file.link {
            stable::read_link(&folder.place, &disk, &file.meta)
        } else {
            stable::read_file(&folder.place, &disk, &file.meta, mode)
        };
        let reading = match reading {
            Ok(Some(reading)) => reading,
            Ok(None) => {
                taken.busy(&file.path, "it moved while it was read");
                continue;
            }
            Err(RepoError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                taken.skip(&file.path, UNREADABLE);
                continue;
            }
            Err(error) => return Err(error),
        };
        let entry = Entry {
            mode: reading.mode,
            id: reading.id,
        };
        if let (Some(content), false) = (&reading.content, file.link)
            && !is_known(folder, &file, entry)
            && let Some(secret) = is_secret(folder, &file, content)?
        {
            hold_secret(folder, &file.path, secret);
            if !file.based {
                taken.secrets.insert(file.path, entry);
            }
            continue;
        }
        if accept(folder, &file, entry, taken)? {
            taken.read.push(file.path);
            store.add(&folder.place, reading)?;
        }
    }
    store.finish(&folder.place)?;
    convert(folder, &converted, storage, taken)
}

/// Returns whether a content is one that the history, the base map or the user's staging has.
fn is_known(folder: &Folder, file: &Wanted, entry: Entry) -> bool {
    let have = folder.bases.get(&file.path).and_then(|base| base.have);
    let staged = folder.view.staged.get(&file.path).copied().flatten();
    [file.head, have, staged].contains(&Some(entry))
}

/// Returns what secret a file is that nobody let through. What the user staged has been decided.
fn is_secret(folder: &Folder, file: &Wanted, head: &[u8]) -> Result<Option<Secret>, RepoError> {
    if matches!(folder.view.staged.get(&file.path), Some(Some(_))) {
        return Ok(None);
    }
    let before = if file.based {
        folder.bases.get(&file.path).and_then(|base| base.have)
    } else {
        file.head
    };
    secrets::unasked(&folder.place, &file.path, head, before)
}

fn hold_secret(folder: &mut Folder, path: &RepoPath, secret: Secret) {
    let message = format!("`{path}` looks like {}", secret.words());
    folder.held.insert(path.clone(), (Code::Secret, message));
}

/// Holds a file that git would convert if it is a secret that would not be sealed. Returns whether
/// it is.
fn hold_converted(
    folder: &mut Folder,
    file: &Wanted,
    mode: u32,
    taken: &mut Taken,
) -> Result<bool, RepoError> {
    let disk = folder.place.on_disk(&file.path);
    let Some(head) = first_bytes(&disk, &file.path, taken)? else {
        return Ok(true);
    };
    let Some(secret) = is_secret(folder, file, &head)? else {
        return Ok(false);
    };
    if secrets::is_sealed(&folder.place, &file.path)? {
        return Ok(false);
    }
    hold_secret(folder, &file.path, secret);
    if !file.based {
        taken.unhashed.insert(file.path.clone(), mode);
    }
    Ok(true)
}

/// Returns what has to be looked at of a file; `None` if it may not be read, and is left out.
fn first_bytes(
    disk: &Path,
    path: &RepoPath,
    taken: &mut Taken,
) -> Result<Option<Vec<u8>>, RepoError> {
    match stable::first_bytes(disk, LOOK as u64) {
        Ok(head) => Ok(Some(head)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            taken.skip(path, UNREADABLE);
            Ok(None)
        }
        Err(error) => Err(RepoError::io(disk, error)),
    }
}

/// Decides what a content that was read means; returns whether it is to be stored.
fn accept(
    folder: &mut Folder,
    file: &Wanted,
    entry: Entry,
    taken: &mut Taken,
) -> Result<bool, RepoError> {
    if file.based {
        return Ok(side(folder, &file.path, file.head, Some(entry), taken));
    }
    match folder.view.staged.get(&file.path).copied() {
        Some(staged) if staged != Some(entry) && staged.is_none_or(|it| it.mode != 0) => {
            if staged.is_none() && !filter::ignored(&folder.place, &[&file.path])?.is_empty() {
                // `git rm --cached` and an ignore rule: it leaves the history and stays here.
                taken.edits.insert(file.path.clone(), None);
                return Ok(false);
            }
            let now = clock::now();
            let since = *folder.staged_since.entry(file.path.clone()).or_insert(now);
            if now.since(since) < STAGING {
                taken.busy(&file.path, "staged by hand in another form");
                return Ok(false);
            }
            if let Some(staged) = staged {
                taken.staged.insert(file.path.clone(), staged);
            }
        }
        _ => {}
    }
    folder.staged_since.remove(&file.path);
    if file.head == Some(entry) {
        return Ok(false);
    }
    if let Some(base) = folder.bases.near(&file.path) {
        // On HEAD it would take back what came in beside it.
        let side = (Some(entry), base.base);
        taken.sides.insert(file.path.clone(), side);
    } else {
        taken.edits.insert(file.path.clone(), Some(entry));
    }
    Ok(true)
}

/// Rule 6: compares a base-map path with what it should have. Returns whether it changed.
fn side(
    folder: &Folder,
    path: &RepoPath,
    head: Option<Entry>,
    now: Option<Entry>,
    taken: &mut Taken,
) -> bool {
    let Some(base) = folder.bases.get(path) else {
        return false;
    };
    if now == head {
        taken.released.insert(path.clone(), head);
        false
    } else if now == base.have {
        false
    } else {
        taken.sides.insert(path.clone(), (now, base.base));
        true
    }
}

/// Stores files that git converts on the way, through the program.
fn convert(
    folder: &mut Folder,
    files: &[Wanted],
    storage: &Storage,
    taken: &mut Taken,
) -> Result<(), RepoError> {
    if files.is_empty() {
        return Ok(());
    }
    let paths: Vec<&RepoPath> = files.iter().map(|file| &file.path).collect();
    let ids = blobs::convert_all(&folder.place, &paths)?;
    for file in files {
        let id = match ids.get(&file.path) {
            Some(id) => Ok(*id),
            None => blobs::convert_one(&folder.place, &file.path),
        };
        let disk = folder.place.on_disk(&file.path);
        let id = match id {
            Ok(id) => id,
            Err(RepoError::Git(GitError::Failed { stderr, .. })) => {
                if stable::look(&disk).is_ok_and(|found| matches!(found, Found::File(_))) {
                    let message = format!("`{}` could not be filtered: {stderr}", file.path);
                    folder
                        .held
                        .insert(file.path.clone(), (Code::Filter, message));
                } else {
                    taken.busy(&file.path, "it moved while it was read");
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        let still = matches!(
            stable::look(&disk),
            Ok(Found::File(meta)) if stable::Still::of(&meta) == stable::Still::of(&file.meta)
        );
        if !still {
            taken.busy(&file.path, "it moved while it was read");
            continue;
        }
        let mode = stable::mode_of(&file.meta, storage.trust_mode, file.head);
        if accept(folder, file, Entry { mode, id }, taken)? {
            taken.read.push(file.path.clone());
        }
    }
    Ok(())
}
