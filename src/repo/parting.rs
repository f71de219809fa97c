//! What the disk had where the edits of a side commit were made.
//!
//! Mostly that is what the side commit's base has. But an apply that left a path as it was carried
//! out everything around it: where it could not put a file because something new stood there, the
//! directory of that name has gone. What is written there afterwards is new, not an edit of what
//! the base has at that name; taken for one it would follow the old file to wherever that moved,
//! and replace it.

use super::bases::Bases;
use super::{Place, RepoError};
use crate::git::tree::{self, Edits, Lookup};
use crate::names::{ObjectId, RepoPath};

/// Returns the tree from which edits at and around base-map paths part: the base's, without what
/// the disk had no more. `None` is the empty tree.
pub(super) fn parting(
    place: &Place,
    bases: &Bases,
    base: Option<ObjectId>,
    edits: &Edits,
) -> Result<Option<ObjectId>, RepoError> {
    let tree = Lookup::new(&place.objects, base);
    let mut gone = Edits::new();
    for path in edits.keys() {
        let Some(entry) = tree.get(path)? else {
            continue;
        };
        match (bases.get(path), entry.is_tree()) {
            // Around an entry: the disk could not have both.
            (None, false) => {
                gone.insert(path.clone(), None);
            }
            // A directory was to give way there, and did.
            (known, true) if known.is_none_or(|known| known.have.is_none()) => {
                for below in tree::differences(&place.objects, None, Some(entry.id))? {
                    let name: RepoPath = path.join(below.path.as_bytes())?;
                    // What the disk had of an entry may be older, or nothing.
                    if bases.get(&name).is_none_or(|known| known.have != below.new) {
                        gone.insert(name, None);
                    }
                }
            }
            (None, true) | (Some(_), _) => {}
        }
    }
    if gone.is_empty() {
        return Ok(base);
    }
    Ok(tree::build(&place.objects, base, &gone)?)
}
