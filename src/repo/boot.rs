//! After a power cut: files that came back empty or old are not committed over what they were.
//!
//! Editors do not make durable what they write, so a cut can leave a file empty, or as it was some
//! versions ago, while the index says that it was clean before. Such a file is held until a person
//! approves it or it changes again.
//!
//! The file `autosync/boot` holds the boot in which the agent runs or, with a `-` before it, in which
//! it stopped cleanly, and the files that are held. A start that finds another boot in it looks at
//! everything with suspicion, once. How a boot ended in which the agent had stopped nobody knows:
//! then only what has lost its content is suspect. What was there in an older version cannot be: the
//! version that is committed was made durable before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use super::folder::Folder;
use super::records::{self, damaged};
use super::take::Taken;
use super::{Place, RepoError, contact};
use crate::engine::event::Code;
use crate::git::tree::Lookup;
use crate::names::{ObjectId, RepoPath};
use crate::process;

/// The kind and version of the file.
const KIND: &str = "autosync boot 1";

/// What is suspect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Nothing.
    #[default]
    No,
    /// What has lost its content: the boot ended somehow, with no agent.
    Emptied,
    /// That, and what is as it was some versions ago: the boot ended under the agent.
    Older,
}

impl Look {
    /// All of them with their words in the file.
    const WORDS: [(Self, &'static str); 3] = [
        (Self::No, "-"),
        (Self::Emptied, "emptied"),
        (Self::Older, "look"),
    ];

    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(look, _)| *look == self);
        found.map_or("-", |(_, word)| word)
    }

    /// Returns what a file left: what the last run had not looked at yet, and how that run ended.
    fn of(ran: &[u8], word: &[u8], boot: &str) -> Self {
        let open = Self::WORDS.iter().find(|(_, it)| it.as_bytes() == word);
        let open = open.map_or(Self::Older, |(look, _)| *look);
        let ended = match ran.strip_prefix(b"-") {
            // An older version did not say in which boot.
            Some(stopped) if stopped.is_empty() || stopped == boot.as_bytes() => Self::No,
            Some(_) => Self::Emptied,
            None if ran == boot.as_bytes() => Self::No,
            None => Self::Older,
        };
        open.max(ended)
    }
}

/// What a boot left to be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// What of everything has to be looked at with suspicion.
    pub look: Look,
    /// The files that are held, with what they hold.
    pub suspects: BTreeMap<RepoPath, ObjectId>,
}

impl Boot {
    /// Begins a run of the agent. Returns what earlier ones left.
    pub fn begin(place: &Place) -> Result<Self, RepoError> {
        let path = file(place);
        let mut boot = Self::default();
        let mut all = records::read(&path, KIND, 2)?
            .unwrap_or_default()
            .into_iter();
        if let Some(head) = all.next() {
            boot.look = Look::of(&head[0], &head[1], &process::boot_id());
        }
        for fields in all {
            let id = records::id(&path, &fields[0])?;
            let id = id.ok_or_else(|| damaged(&path, "a file has no content"))?;
            boot.suspects.insert(RepoPath::new(&fields[1])?, id);
        }
        boot.save(place, &process::boot_id())?;
        Ok(boot)
    }

    /// Ends a run cleanly.
    pub fn end(&self, place: &Place) -> Result<(), RepoError> {
        self.save(place, &format!("-{}", process::boot_id()))
    }

    fn save(&self, place: &Place, ran: &str) -> Result<(), RepoError> {
        let look = self.look.word();
        let mut all = vec![vec![ran.as_bytes().to_vec(), look.as_bytes().to_vec()]];
        for (path, id) in &self.suspects {
            all.push(vec![id.to_string().into_bytes(), path.as_bytes().to_vec()]);
        }
        records::write(&file(place), KIND, &all)
    }
}

/// Takes out of a batch what a power cut may have done to it, and holds it, but for what is `granted`.
pub fn hold(
    folder: &mut Folder,
    head: &Lookup,
    tip: Option<ObjectId>,
    everything: bool,
    granted: &BTreeMap<RepoPath, ObjectId>,
    taken: &mut Taken,
) -> Result<(), RepoError> {
    let before = folder.boot.clone();
    if before.look == Look::No && before.suspects.is_empty() {
        return Ok(());
    }
    let mut wanted = BTreeMap::new();
    for (path, entry) in &taken.edits {
        let Some(entry) = entry else { continue };
        if granted.get(path) == Some(&entry.id) {
            continue;
        }
        let was = head
            .get(path)?
            .filter(|was| !was.is_tree() && was.id != entry.id);
        let clean = !folder.view.staged.contains_key(path);
        let known = before.suspects.get(path) == Some(&entry.id);
        if was.is_some() && (known || (before.look != Look::No && clean)) {
            wanted.insert(path.clone(), (entry.id, known));
        }
    }
    let mut found: BTreeMap<RepoPath, ObjectId> = BTreeMap::new();
    let empty = folder.place.objects.hash_blob(b"")?;
    for (path, (id, known)) in &wanted {
        if *known || *id == empty || is_hollow(&folder.place, path) {
            found.insert(path.clone(), *id);
        }
    }
    if let (Some(tip), Look::Older) = (tip, before.look) {
        for (path, id) in contact::versions_in_history(&folder.place, tip, wanted.keys())? {
            if wanted.get(&path).is_some_and(|(now, _)| *now == id) {
                found.insert(path, id);
            }
        }
    }
    for path in found.keys() {
        taken.edits.remove(path);
        let message = match before.look {
            Look::Emptied => {
                format!("`{path}` was found without its content, as after a power cut")
            }
            Look::Older | Look::No => {
                format!("`{path}` was found empty or older, as after a power cut")
            }
        };
        folder
            .held
            .insert(path.clone(), (Code::UncleanBoot, message));
    }
    let boot = &mut folder.boot;
    if everything {
        boot.look = Look::No;
        boot.suspects.clear();
    }
    boot.suspects
        .retain(|path, _| !taken.edits.contains_key(path));
    boot.suspects.extend(found);
    if *boot != before {
        boot.save(&folder.place, &process::boot_id())?;
    }
    Ok(())
}

/// Returns whether a file has bytes and all of them are zero: a disk that had its length and not its
/// content gives that back.
fn is_hollow(place: &Place, path: &RepoPath) -> bool {
    let on_disk = place.on_disk(path);
    let is_file = on_disk.symlink_metadata().is_ok_and(|meta| meta.is_file());
    // What cannot be read now is not what was taken, and is taken again.
    is_file && File::open(on_disk).is_ok_and(|file| are_zeros(file).unwrap_or(false))
}

fn are_zeros(mut from: impl Read) -> io::Result<bool> {
    let mut piece = [0; 4096];
    let mut any = false;
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(any),
            count if piece[..count].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => any = true,
        }
    }
}

fn file(place: &Place) -> PathBuf {
    place.store.join("boot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_suspect_is_what_the_end_of_the_last_run_leaves_open() {
        let of = |ran: &str, word: &str| Look::of(ran.as_bytes(), word.as_bytes(), "now");
        assert_eq!(of("now", "-"), Look::No, "killed, and started again");
        assert_eq!(of("-now", "-"), Look::No, "stopped, and started again");
        assert_eq!(of("-", "-"), Look::No, "as older versions said it");
        assert_eq!(of("-before", "-"), Look::Emptied, "nobody was there");
        assert_eq!(of("before", "-"), Look::Older, "cut off");
        assert_eq!(of("now", "look"), Look::Older, "not looked at yet");
        assert_eq!(of("-now", "emptied"), Look::Emptied, "not looked at yet");
        assert_eq!(of("-before", "look"), Look::Older);
        for (look, word) in Look::WORDS {
            assert_eq!(look.word(), word);
        }
    }

    #[test]
    fn only_zeros_are_no_content() {
        let so = |bytes: &[u8]| are_zeros(bytes).unwrap();
        assert!(so(&[0; 3]) && so(&[0; 10_000]));
        let mut last = vec![0; 10_000];
        last.push(1);
        assert!(!so(&last) && !so(b"a") && !so(b""));
    }
}
