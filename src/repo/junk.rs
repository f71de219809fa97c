//! The guard on junk: new files that are build output or caches, or very many at once.
//!
//! They are held in *heaps*, each named by one path: a directory that is junk, or, of very many, the
//! topmost new directory. What is in a heap is neither read nor hashed, and a change below one costs
//! one look at the disk however much goes on there.
//!
//! Invariants:
//! 1. Only new files are held. A directory of which the history, here or on the hub, has anything is
//!    no heap for being junk, nor is one that has what goes under another name in the same batch.
//! 2. A heap ends when its directory goes, when the history gets something of it, when somebody
//!    lets it through, and with every full look, which judges anew.
//! 3. Nothing is held before the first contact with the hub.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use super::allowed::Allowed;
use super::folder::Folder;
use super::network::Remote;
use super::renamed::Renamed;
use super::{Place, RepoError, stable};
use crate::clock;
use crate::engine::action::Scope;
use crate::engine::event::{Code, Held};
use crate::engine::timer::Moment;
use crate::git::tree::Lookup;
use crate::names::junk::{Proof, Sign, TAG, is_tag, sign, tag_len};
use crate::names::{ObjectId, RepoPath};

/// Counting again takes at most this part of the time.
const PART: u32 = 50;
/// So many paths of a group are named.
const NAMED: usize = 20;

/// New files that are held together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heap {
    /// How many files it has, as far as they were counted.
    files: usize,
    /// Whether it is held for what it is, not for how much there was at once.
    is_junk: bool,
    /// Whether the history has nothing below it, so that nothing there needs a look.
    is_new: bool,
    /// When it was counted, and what that took.
    counted: (Moment, Duration),
}

/// The heaps of a folder, by path.
pub(super) type Heaps = BTreeMap<RepoPath, Heap>;

/// Returns the heap that a path is in.
fn above<'a>(heaps: &'a Heaps, path: &RepoPath) -> Option<(&'a RepoPath, &'a Heap)> {
    if heaps.is_empty() {
        return None;
    }
    let mut here = std::iter::once(path.clone()).chain(path.ancestors());
    here.find_map(|dir| heaps.get_key_value(&dir))
}

/// Returns what is left to be looked at of a batch of hints: what is below a heap needs no look, as
/// long as it is one.
pub(super) fn without_heaps(
    folder: &mut Folder,
    scope: &Scope,
    head: &Lookup,
) -> Result<Scope, RepoError> {
    let Scope::Paths(paths) = scope else {
        return Ok(Scope::Everything);
    };
    if folder.heaps.is_empty() {
        return Ok(scope.clone());
    }
    let touched: BTreeSet<RepoPath> = paths
        .iter()
        .filter_map(|path| above(&folder.heaps, path))
        .map(|(dir, _)| dir.clone())
        .collect();
    let allowed = Allowed::load(&folder.place.store)?;
    for dir in touched {
        let on_disk = folder.place.on_disk(&dir);
        let stays = on_disk.symlink_metadata().is_ok()
            && !allowed.lets_junk(&dir)
            && head.get(&dir)?.is_none_or(|entry| entry.is_tree());
        let Some(heap) = folder.heaps.get_mut(&dir) else {
            continue;
        };
        if !stays || (heap.is_new && head.get(&dir)?.is_some()) {
            folder.heaps.remove(&dir);
        } else if heap.is_new && clock::now().since(heap.counted.0) > heap.counted.1 * PART {
            let began = clock::now();
            heap.files = count(&folder.place, &dir);
            heap.counted = (clock::now(), clock::now().since(began));
        }
    }
    let needs_look = |path: &&RepoPath| {
        let heap = above(&folder.heaps, path);
        heap.is_none_or(|(_, heap)| !heap.is_new) || folder.bases.get(path).is_some()
    };
    Ok(Scope::Paths(
        paths.iter().filter(needs_look).cloned().collect(),
    ))
}

/// Returns how many files and links are below a directory.
fn count(place: &Place, dir: &RepoPath) -> usize {
    let mut found = 0;
    let mut open = vec![place.on_disk(dir)];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(_) => found += 1,
                Err(_) => {}
            }
        }
    }
    found
}

/// Takes the new files of a batch, with their sizes, and what goes in it. Returns those that are held.
pub(super) fn hold(
    folder: &mut Folder,
    head: &Lookup,
    is_unborn: bool,
    new: &[(RepoPath, u64)],
    mut renamed: Renamed,
    everything: bool,
) -> Result<BTreeSet<RepoPath>, RepoError> {
    if everything {
        folder.heaps.clear();
    }
    let place = &folder.place;
    let guards = place.settings.guards;
    let first = is_unborn || place.settings.hub.is_some() && !place.has_identity()?;
    if new.is_empty() || first {
        return Ok(BTreeSet::new());
    }
    let allowed = Allowed::load(&place.store)?;
    let mut hub = Hub::Unasked;
    let mut verdicts = Verdicts::default();
    let mut heaps = Heaps::new();
    let mut held = BTreeSet::new();
    let mut rest = Vec::new();
    let mut junk: BTreeMap<RepoPath, Vec<(&RepoPath, u64)>> = BTreeMap::new();
    let now = (clock::now(), Duration::ZERO);
    for (path, size) in new.iter().filter(|(path, _)| !allowed.lets_junk(path)) {
        if above(&folder.heaps, path).is_some() {
            held.insert(path.clone());
            continue;
        }
        let dir = if guards.junk {
            verdicts.junk_above(place, head, &mut hub, path)?
        } else {
            None
        };
        match dir {
            Some(dir) => junk.entry(dir).or_default().push((path, *size)),
            None => rest.push((path, *size)),
        }
    }
    let moved = renamed.among(place, junk.values().flatten().copied())?;
    for (dir, files) in junk {
        if files.iter().any(|(path, _)| moved.contains(path)) {
            rest.extend(files);
            continue;
        }
        let heap = Heap {
            files: files.len(),
            is_junk: true,
            is_new: true,
            counted: now,
        };
        heaps.insert(dir, heap);
        held.extend(files.into_iter().map(|(path, _)| path.clone()));
    }
    let bytes = |files: &[(&RepoPath, u64)]| files.iter().map(|(_, size)| *size).sum::<u64>();
    let too_much = |files: &[(&RepoPath, u64)]| {
        files.len() > guards.new_files || bytes(files) > guards.new_bytes
    };
    if too_much(&rest) {
        let moved = renamed.among(place, rest.iter().copied())?;
        rest.retain(|(path, _)| !moved.contains(path));
    }
    if too_much(&rest) {
        // What the hub has is no news: it only has to come together.
        let mut unknown = Vec::new();
        for (path, size) in rest {
            if !hub.knows(place, path)? {
                unknown.push((path, size));
            }
        }
        rest = unknown;
    }
    if too_much(&rest) {
        for (path, _) in rest {
            let (top, is_new) = topmost_new(head, path)?;
            let heap = heaps.entry(top).or_insert(Heap {
                files: 0,
                is_junk: false,
                is_new,
                counted: now,
            });
            heap.files += 1;
            held.insert(path.clone());
        }
    }
    folder.heaps.append(&mut heaps);
    let heaps = &folder.heaps;
    folder
        .held
        .retain(|path, _| above(heaps, path).is_none_or(|(_, heap)| !heap.is_new));
    Ok(held)
}

/// Returns the topmost directory above a path that the history does not have, or, if it has them
/// all, the nearest one; at the top the path itself. And whether the history has nothing of it.
fn topmost_new(head: &Lookup, path: &RepoPath) -> Result<(RepoPath, bool), RepoError> {
    let mut dirs: Vec<RepoPath> = path.ancestors().collect();
    dirs.reverse();
    for dir in &dirs {
        if head.get(dir)?.is_none_or(|entry| !entry.is_tree()) {
            return Ok((dir.clone(), true));
        }
    }
    Ok((dirs.pop().unwrap_or_else(|| path.clone()), false))
}

/// Which directories are junk, each asked once.
#[derive(Default)]
struct Verdicts {
    known: BTreeMap<RepoPath, bool>,
}

impl Verdicts {
    /// Returns the topmost directory above a path that is junk and new.
    fn junk_above(
        &mut self,
        place: &Place,
        head: &Lookup,
        hub: &mut Hub,
        path: &RepoPath,
    ) -> Result<Option<RepoPath>, RepoError> {
        let mut dirs: Vec<RepoPath> = path.ancestors().collect();
        dirs.reverse();
        for dir in dirs {
            let verdict = if let Some(known) = self.known.get(&dir) {
                *known
            } else {
                let verdict = is_junk(place, head, hub, &dir)?;
                self.known.insert(dir.clone(), verdict);
                verdict
            };
            if verdict {
                return Ok(Some(dir));
            }
        }
        Ok(None)
    }
}

fn is_junk(place: &Place, head: &Lookup, hub: &mut Hub, dir: &RepoPath) -> Result<bool, RepoError> {
    if head.get(dir)?.is_some_and(|entry| entry.is_tree()) {
        return Ok(false);
    }
    let disk = place.on_disk(dir);
    let there = |proof: &Proof| match proof {
        Proof::Inside(name) => disk.join(name).symlink_metadata().is_ok(),
        Proof::Beside(name) => disk.with_file_name(name).symlink_metadata().is_ok(),
    };
    let named = match sign(dir.file_name()) {
        Sign::Junk => true,
        Sign::If(proofs) => proofs.iter().any(there),
        Sign::None => false,
    };
    let tagged = || {
        let head = stable::first_bytes(&disk.join(TAG), tag_len());
        head.is_ok_and(|head| is_tag(&head))
    };
    Ok((named || tagged()) && !hub.knows(place, dir)?)
}

/// What the hub had when it was last asked, looked up only if something is about to be held.
enum Hub {
    Unasked,
    Tree(Option<Lookup>),
}

impl Hub {
    fn knows(&mut self, place: &Place, path: &RepoPath) -> Result<bool, RepoError> {
        if matches!(self, Self::Unasked) {
            let tip: Option<ObjectId> = match Remote::of(place)? {
                Some(remote) => remote.last_seen(place)?,
                None => None,
            };
            let tip = tip.filter(|tip| place.objects.contains(*tip));
            let tree = place.tree_of(tip)?;
            *self = Self::Tree(tree.map(|tree| Lookup::new(&place.objects, Some(tree))));
        }
        match self {
            Self::Tree(Some(tree)) => Ok(tree.get(path)?.is_some()),
            Self::Tree(None) | Self::Unasked => Ok(false),
        }
    }
}

/// Returns the heaps as a group for status, if there are any.
pub(super) fn group(heaps: &Heaps) -> Option<Held> {
    let files = heaps.values().map(|heap| heap.files).sum::<usize>();
    let (path, heap) = heaps.first_key_value()?;
    let why = if heaps.values().all(|heap| heap.is_junk) {
        "build output or a cache"
    } else {
        "very many at once"
    };
    let thousands = thousands(files);
    let message = if heaps.len() > 1 {
        let plural = why.replace("a cache", "caches");
        format!(
            "{thousands} new files in {} places are held back ({plural})",
            heaps.len()
        )
    } else if heap.is_junk {
        format!("`{path}/` ({thousands} files) looks like {why}")
    } else {
        format!("`{path}/` has {thousands} new files, {why}")
    };
    Some(Held {
        code: Code::Junk,
        paths: heaps.keys().take(NAMED).cloned().collect(),
        more: heaps.len().saturating_sub(NAMED),
        message,
        hint: "In the folder, run `autosync ignore PATH` to keep it out, or `autosync allow PATH` \
               to sync it."
            .to_owned(),
    })
}

/// Returns a number with commas: `12,345`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heap(files: usize, is_junk: bool) -> Heap {
        Heap {
            files,
            is_junk,
            is_new: true,
            counted: (Moment::default(), Duration::ZERO),
        }
    }

    fn path(text: &str) -> RepoPath {
        RepoPath::new(text).unwrap()
    }

    #[test]
    fn a_heap_is_one_line_however_many_files_it_has() {
        assert_eq!(group(&Heaps::new()), None);
        let mut heaps = Heaps::from([(path("a/target"), heap(12_345, true))]);
        let held = group(&heaps).unwrap();
        assert_eq!(
            held.message,
            "`a/target/` (12,345 files) looks like build output or a cache"
        );
        assert_eq!(held.paths, [path("a/target")]);
        heaps.insert(path("node_modules"), heap(1, true));
        assert_eq!(
            group(&heaps).unwrap().message,
            "12,346 new files in 2 places are held back (build output or caches)"
        );
        let many = Heaps::from([(path("photos"), heap(1_000_000, false))]);
        let held = group(&many).unwrap();
        assert_eq!(
            held.message,
            "`photos/` has 1,000,000 new files, very many at once"
        );
    }

    #[test]
    fn a_path_is_in_a_heap_or_beside_it() {
        let heaps = Heaps::from([(path("a/target"), heap(1, true))]);
        let inside = |text: &str| above(&heaps, &path(text)).is_some();
        assert!(inside("a/target") && inside("a/target/x/y"));
        assert!(!inside("a") && !inside("a/target2") && !inside("target/x"));
    }
}
