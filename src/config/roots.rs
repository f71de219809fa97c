//! The roots of folders, which must not nest, and the names of folders, which must differ.

use std::path::{Path, PathBuf};

use super::{FolderSettings, place};
use crate::names::escape;

/// The roots of the folders so far, as written and with every link followed.
#[derive(Default)]
pub(super) struct Roots(Vec<(PathBuf, PathBuf)>);

impl Roots {
    /// Adds a root. Errors with a part of a sentence if it nests with one before.
    pub(super) fn add(&mut self, path: &Path) -> Result<(), String> {
        let root = place::real(path);
        for (other, other_root) in &self.0 {
            let how = if root == *other_root {
                "is"
            } else if root.starts_with(other_root) {
                "lies in"
            } else if other_root.starts_with(&root) {
                "holds"
            } else {
                continue;
            };
            return Err(format!(
                "`{}`, which {how} another folder, `{}`",
                path.display(),
                other.display()
            ));
        }
        self.0.push((path.to_owned(), root));
        Ok(())
    }
}

/// Gives more of their paths to folders whose names are equal and not configured.
pub(super) fn tell_apart(folders: &mut [FolderSettings], named: &[bool]) {
    let same = |folders: &[FolderSettings], at: usize| {
        let equal = |other: &&FolderSettings| other.name == folders[at].name;
        folders.iter().filter(equal).count() > 1
    };
    for length in 2..64 {
        let clashing: Vec<usize> = (0..folders.len())
            .filter(|at| !named[*at] && same(folders, *at))
            .collect();
        for at in clashing {
            folders[at].name = tail(&folders[at].path, length);
        }
    }
}

/// Returns the last components of a path as text for a person.
pub(super) fn tail(path: &Path, length: usize) -> String {
    use std::os::unix::ffi::OsStrExt;
    let parts: Vec<String> = path
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .map(|part| escape(part.as_os_str().as_bytes()))
        .collect();
    let tail = parts[parts.len().saturating_sub(length)..].join("/");
    if tail.is_empty() { "/".into() } else { tail }
}
