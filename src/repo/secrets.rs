//! The guard on secrets: which file of a batch would be the first of its kind in the history.
//!
//! Invariants:
//! 1. A file is judged before its bytes become an object.
//! 2. What the history has at that path as a secret already is no question any more; nor is it
//!    under another name of the same batch.
//!
//! Absent: any cost for files that look like no secret, beyond a glance at bytes that were read.

use super::allowed::Allowed;
use super::{Place, RepoError, filter};
use crate::git::tree::Entry;
use crate::names::RepoPath;
use crate::names::secret::{Secret, secret};

/// Words in the names of filters that seal what they store, such as `git-crypt` and `ansible-vault`.
const SEALS: &[&str] = &["age", "sops", "gpg", "seal", "sealed", "vault"];
/// How such a word may end: `transcrypt`, `git-agecrypt`.
const CRYPT: &str = "crypt";

/// Returns what secret a file is that nobody let through. `head` is the beginning of its bytes,
/// `before` what the history has at its path.
pub(super) fn unasked(
    place: &Place,
    path: &RepoPath,
    head: &[u8],
    before: Option<Entry>,
) -> Result<Option<Secret>, RepoError> {
    if !place.settings.guards.secrets {
        return Ok(None);
    }
    let Some(found) = secret(path, head) else {
        return Ok(None);
    };
    if let Some(before) = before
        && was_one(place, path, before)
    {
        return Ok(None);
    }
    let allowed = Allowed::load(&place.store)?.lets_secret(path);
    Ok((!allowed).then_some(found))
}

/// Returns whether the history has a secret there.
pub(super) fn was_one(place: &Place, path: &RepoPath, before: Entry) -> bool {
    if !before.is_file() {
        return false;
    }
    // What cannot be read is none: then a person is asked.
    secret(path, b"").is_some()
        || place
            .objects
            .blob(before.id)
            .is_ok_and(|old| secret(path, &old).is_some())
}

/// Returns whether git stores a file only sealed, by a filter that the user set up for that.
pub(super) fn is_sealed(place: &Place, path: &RepoPath) -> Result<bool, RepoError> {
    let out = place.git.call(
        "check-attr",
        ["-z", "--stdin", "filter"],
        &filter::nul_separated(&[path]),
    )?;
    let value = out.split(|b| *b == 0).nth(2).unwrap_or_default();
    Ok(seals(&String::from_utf8_lossy(value)))
}

/// Returns whether the name of a filter says that it seals.
fn seals(filter: &str) -> bool {
    let filter = filter.to_lowercase();
    let mut words = filter.split(|c: char| !c.is_alphanumeric());
    words.any(|word| SEALS.contains(&word) || word.ends_with(CRYPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_seals_says_so_in_a_word_of_its_name() {
        for name in [
            "git-crypt",
            "git-crypt-work",
            "crypt",
            "transcrypt",
            "git-agecrypt",
            "age",
        ] {
            assert!(seals(name), "{name}");
        }
        for name in ["SOPS", "my_gpg", "ansible-vault", "sealed"] {
            assert!(seals(name), "{name}");
        }
        for name in [
            "image", "storage", "lfs", "package", "language", "cryptic", "default", "",
        ] {
            assert!(!seals(name), "{name}");
        }
    }
}
