//! Which names are dangerous on any system, and which this one cannot hold.
//!
//! A name is dangerous if some file system takes it for git's own directory, or for a file that
//! git obeys: HFS+ ignores invisible characters and case, NTFS ignores case, dots and spaces at
//! the end, what follows a `:`, knows short names such as `GIT~1`, and takes `\` for `/`. All of
//! these rules hold on every host at once, because a tree goes to all of them. They are those of
//! git's fsck (`is_hfs_dotgit`, `is_ntfs_dotgit`, `gitmodulesSymlink`), and stricter where a `\`
//! climbs out of a directory.
//!
//! Absent: names that some system merely cannot hold (`CON`, `a:b`, twins that differ in case).
//! They are carried, and skipped where they do not fit: see [`representable`].

use super::RepoPath;

/// The kind of a mode that is a symbolic link.
const LINK: u32 = 0o120_000;

/// The longest name of one component, in bytes.
const LONGEST_NAME: usize = 255;

/// The longest path that the system calls take, in bytes.
const LONGEST_PATH: usize = 4095;

/// Returns why a path must never be written to any disk, in words; `None` if it is harmless.
///
/// `mode` is git's mode of what stands at the path.
pub fn danger(path: &RepoPath, mode: u32) -> Option<&'static str> {
    let mut last: &[u8] = b"";
    for name in path.components() {
        // On Windows a backslash separates, so each piece counts as a name there.
        let git_dir = visible(name).eq_ignore_ascii_case(b".git")
            || name.split(|b| *b == b'\\').any(is_git_dir_of_ntfs);
        if git_dir {
            return Some("some systems take it for git's own directory");
        }
        if name.contains(&b'\\') && climbs(name) {
            return Some("on Windows it leads out of its directory");
        }
        last = name;
    }
    let is_modules_file = || {
        visible(last).eq_ignore_ascii_case(b".gitmodules")
            || last.split(|b| *b == b'\\').any(is_modules_file_of_ntfs)
    };
    if mode & 0o170_000 == LINK && is_modules_file() {
        return Some("git must not follow a link of this name");
    }
    None
}

/// Returns whether this system can hold a path, as far as its names tell.
pub fn representable(path: impl AsRef<[u8]>) -> bool {
    let path = path.as_ref();
    let fits = path.len() <= LONGEST_PATH
        && path
            .split(|b| *b == b'/')
            .all(|name| name.len() <= LONGEST_NAME);
    fits && accepted_here(path)
}

#[cfg(not(target_os = "macos"))]
fn accepted_here(_path: &[u8]) -> bool {
    true
}

/// APFS takes only UTF-8.
#[cfg(target_os = "macos")]
fn accepted_here(path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok()
}

fn climbs(name: &[u8]) -> bool {
    name.split(|b| *b == b'\\')
        .any(|piece| piece == b".." || piece == b".")
        || name.starts_with(b"\\")
}

fn is_git_dir_of_ntfs(name: &[u8]) -> bool {
    before_ntfs_tail(name, b".git") || before_ntfs_tail(name, b"git~1")
}

fn is_modules_file_of_ntfs(name: &[u8]) -> bool {
    if before_ntfs_tail(name, b".gitmodules") {
        return true;
    }
    // The first four files that shorten to `gitmod` get `~1` to `~4`; later ones get a hash, of
    // which NTFS lets the number eat the tail: `gi7eba~1`, `gi7eb~10`, down to `g~123456`.
    let short = name.get(..8).unwrap_or_default();
    let Some(tilde) = short.iter().position(|b| *b == b'~') else {
        return false;
    };
    let (stem, number) = (&short[..tilde], &short[tilde + 1..]);
    let counted = matches!(number, [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
    let first_four = stem.eq_ignore_ascii_case(b"gitmod") && matches!(number, [b'1'..=b'4']);
    let hashed = b"gi7eba"
        .get(..stem.len())
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(stem));
    counted && (first_four || hashed) && ntfs_tail(&name[8..])
}

/// Returns whether NTFS takes the name for `wanted`.
fn before_ntfs_tail(name: &[u8], wanted: &[u8]) -> bool {
    name.get(..wanted.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(wanted))
        && ntfs_tail(&name[wanted.len()..])
}

/// Returns whether NTFS drops this end of a name: dots and spaces, or a stream behind a colon.
fn ntfs_tail(tail: &[u8]) -> bool {
    tail.iter()
        .find(|b| !matches!(b, b'.' | b' '))
        .is_none_or(|b| *b == b':')
}

/// Returns the name without the characters that HFS+ ignores, as far as it is UTF-8: git takes it
/// for ended where it is not.
fn visible(name: &[u8]) -> Vec<u8> {
    let mut seen = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        let kept = chunk.valid().chars().filter(|c| {
            !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
        });
        seen.extend(kept.collect::<String>().bytes());
        if !chunk.invalid().is_empty() {
            break;
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: u32 = 0o100_644;

    fn path(bytes: &[u8]) -> RepoPath {
        RepoPath::new(bytes).unwrap()
    }

    #[test]
    fn names_that_some_system_takes_for_gits_own_directory_are_dangerous() {
        let bad: &[&[u8]] = &[
            b".git",
            b".GIT/config",
            b"a/.gIt/hooks/x",
            b"git~1",
            b"GIT~1/x",
            b".git ",
            b".git. . ",
            b".git::$INDEX_ALLOCATION",
            b".git:x/y",
            b"a\\.git\\config",
            b".git\\config",
            "\u{feff}.g\u{200c}it".as_bytes(),
            b"..\\x",
            b"a\\..\\..\\x",
            b"\\x",
        ];
        for name in bad {
            assert!(danger(&path(name), PLAIN).is_some(), "{name:?}");
        }
    }

    #[test]
    fn names_that_merely_look_odd_are_carried() {
        let good: &[&[u8]] = &[
            b".gitignore",
            b".git-not",
            b"git~2",
            b".gitx",
            b"git~10",
            b"x.git",
            b"CON",
            b"a:b",
            b"-rf",
            b"\xff\n\x1b",
            b"dev-disk-by\\x2duuid.device",
            b"...",
            b"gitmod~1",
            b".gitmodules",
        ];
        for name in good {
            assert_eq!(danger(&path(name), PLAIN), None, "{name:?}");
        }
    }

    #[test]
    fn a_link_that_git_would_obey_is_dangerous() {
        let names: &[&[u8]] = &[
            b".gitmodules",
            b"sub/.GITMODULES .",
            b"gitmod~1",
            b"GITMOD~4.",
            b"gi7eba~1",
            b"gi7eb~12",
            b"g~123456",
        ];
        for name in names {
            assert!(danger(&path(name), LINK).is_some(), "{name:?}");
        }
        let others: &[&[u8]] = &[b".gitignore", b"gitmod~5", b"gi7eba~0", b"gi7eba~x", b"gi7"];
        for name in others {
            assert_eq!(danger(&path(name), LINK), None, "{name:?}");
        }
    }

    #[test]
    fn a_name_longer_than_the_disk_takes_is_not_representable() {
        assert!(representable("a".repeat(255)));
        assert!(!representable("a".repeat(256)));
        assert!(!representable("a/".repeat(2100)));
    }
}
