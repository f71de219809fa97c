//! What was seen of a folder at two moments and cannot have been there at one.
//!
//! Each file is read so that what is read is what was there (`stable`), but a file that gives way to a
//! directory while others are looked at may be seen beside what is in that directory. A tree
//! has room for one of them; the other would be noted as what the disk has, in a commit without it, and
//! the next apply would take it away.

use std::collections::BTreeSet;

use super::take::Taken;
use crate::git::tree::{Entry, GITLINK};
use crate::names::RepoPath;

impl Taken {
    /// Leaves out files that were seen beside files below their own names, and those. They are
    /// busy: the next look sees what became of them.
    pub(super) fn leave_out_torn(&mut self) {
        let edits = self.edits.iter().map(|(path, entry)| (path, *entry));
        let sides = self.sides.iter().map(|(path, side)| (path, side.0));
        let released = self.released.iter().map(|(path, entry)| (path, *entry));
        let mut present: Vec<(&RepoPath, Entry)> = edits
            .chain(sides)
            .chain(released)
            .filter_map(|(path, entry)| Some((path, entry?)))
            .collect();
        present.sort_by_key(|(path, _)| *path);
        let mut torn: BTreeSet<RepoPath> = BTreeSet::new();
        // The files whose names the next one may begin with: others may lie between a name and what
        // is below it.
        let mut before: Vec<&RepoPath> = Vec::new();
        for (path, entry) in present {
            before.retain(|it| path.as_bytes().starts_with(it.as_bytes()));
            if let Some(above) = before.iter().find(|above| path.is_within(above)) {
                torn.extend([(*above).clone(), path.clone()]);
            }
            // What is in the directory of a submodule is another matter.
            if entry.mode != GITLINK {
                before.push(path);
            }
        }
        for path in &torn {
            self.edits.remove(path);
            self.sides.remove(path);
            self.released.remove(path);
            self.busy(path, "it moved while the folder was looked at");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::tree::FILE;
    use crate::names::ObjectId;

    fn path(text: &str) -> RepoPath {
        RepoPath::new(text).unwrap()
    }

    fn entry(mode: u32) -> Entry {
        let id = ObjectId::from_hex("1".repeat(40)).unwrap();
        Entry { mode, id }
    }

    #[test]
    fn a_file_and_what_is_below_its_name_were_not_there_together() {
        let base = entry(FILE).id;
        let mut taken = Taken::default();
        for name in ["a", "b.c", "d/e/f", "d/x"] {
            taken.edits.insert(path(name), Some(entry(FILE)));
        }
        taken.edits.insert(path("g"), None);
        taken.edits.insert(path("g/h"), Some(entry(FILE)));
        taken.edits.insert(path("module"), Some(entry(GITLINK)));
        taken.edits.insert(path("module/x"), Some(entry(FILE)));
        for (name, now) in [("b", Some(entry(FILE))), ("b/x", Some(entry(FILE)))] {
            taken.sides.insert(path(name), (now, base));
        }
        taken.sides.insert(path("d/e"), (Some(entry(FILE)), base));
        taken.sides.insert(path("a/gone"), (None, base));
        taken.released.insert(path("r"), Some(entry(FILE)));
        taken.edits.insert(path("r/s"), Some(entry(FILE)));
        taken.leave_out_torn();
        let edits: Vec<String> = taken.edits.keys().map(ToString::to_string).collect();
        assert_eq!(edits, ["a", "b.c", "d/x", "g", "g/h", "module", "module/x"]);
        let sides: Vec<String> = taken.sides.keys().map(ToString::to_string).collect();
        assert_eq!(sides, ["a/gone"]);
        let busy: Vec<String> = taken.busy.iter().map(|it| it.path.to_string()).collect();
        assert_eq!(busy, ["b", "b/x", "d/e", "d/e/f", "r", "r/s"]);
        assert!(taken.released.is_empty());
    }
}
