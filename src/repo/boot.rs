//! After a power cut: files that came back empty or old are not committed over what they were.
//!
//! Editors do not make durable what they write, so a cut can leave a file empty, or as it was some
//! versions ago, while the index says that it was clean before. Such a file is held until a person
//! approves it or it changes again.
//!
//! The file `autosync/boot` holds the boot in which the agent runs, nothing once it has stopped
//! cleanly, and the files that are held. A start that finds another boot in it looks at everything
//! with suspicion, once.

use std::collections::BTreeMap;
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

/// What a boot left to be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// Whether everything has to be looked at with suspicion.
    pub look: bool,
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
            let ran = head[0].as_slice();
            boot.look = head[1] == b"look" || (ran != b"-" && ran != process::boot_id().as_bytes());
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
        self.save(place, "-")
    }

    fn save(&self, place: &Place, ran: &str) -> Result<(), RepoError> {
        let look = if self.look { "look" } else { "-" };
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
    if !before.look && before.suspects.is_empty() {
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
        if was.is_some() && (known || (before.look && clean)) {
            wanted.insert(path.clone(), (entry.id, known));
        }
    }
    let mut found: BTreeMap<RepoPath, ObjectId> = BTreeMap::new();
    let empty = folder.place.objects.hash_blob(b"")?;
    for (path, (id, known)) in &wanted {
        if *known || *id == empty {
            found.insert(path.clone(), *id);
        }
    }
    if let Some(tip) = tip {
        for (path, id) in contact::versions_in_history(&folder.place, tip, wanted.keys())? {
            if wanted.get(&path).is_some_and(|(now, _)| *now == id) {
                found.insert(path, id);
            }
        }
    }
    for path in found.keys() {
        taken.edits.remove(path);
        let message = format!("`{path}` was found empty or older after a power cut");
        folder
            .held
            .insert(path.clone(), (Code::UncleanBoot, message));
    }
    let boot = &mut folder.boot;
    if everything {
        boot.look = false;
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

fn file(place: &Place) -> PathBuf {
    place.store.join("boot")
}
