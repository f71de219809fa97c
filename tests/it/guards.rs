//! The guards: secrets, junk, mass deletes. What is held stays here, and everything else goes on.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::Sandbox;
use crate::support::host::Host;

mod junk;
mod mass_delete;
mod secrets;

/// Returns every blob that a repository has, whether anything refers to it or not, as text.
fn blobs(sandbox: &Sandbox, git_dir: &Path) -> Vec<String> {
    let list = [
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objecttype) %(objectname)",
    ];
    let list = sandbox.git(git_dir, list);
    let ids = list.lines().filter_map(|line| line.strip_prefix("blob "));
    ids.map(|id| sandbox.git(git_dir, ["cat-file", "blob", id]))
        .collect()
}

/// Asserts that no blob of a folder or its hub has a text in it.
#[track_caller]
pub(crate) fn never_in_any_blob(sandbox: &Sandbox, repositories: &[&Path], text: &str) {
    for repository in repositories {
        for blob in blobs(sandbox, repository) {
            assert!(
                !blob.contains(text),
                "`{text}` is in a blob of {}:\n{blob}",
                repository.display()
            );
        }
    }
}

/// Returns what a guard holds on a host, by its code.
#[track_caller]
fn held(host: &Host, code: &str) -> BTreeSet<String> {
    let held = host.barrier().held;
    let paths = held.into_iter().filter(|held| held.code == code);
    paths.flat_map(|held| held.paths).collect()
}

/// Returns a set of names.
fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
