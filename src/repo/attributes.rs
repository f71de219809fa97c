//! The attributes that take part in a merge: the hub's, translated.
//!
//! `autosync-conflict` becomes what git knows: `copy`, `hub` and `local` become `-merge`, so that
//! every path that both sides changed comes back as a conflict for us to decide; `union` becomes
//! `merge=union`. Merge drivers other than git's own are dropped, because a driver is a program
//! that one host has and another has not. Files with a `filter` are kept whole, unless a policy says
//! otherwise.
//!
//! Invariants:
//! 1. Only the hub's tree is read, never the work tree.
//! 2. No name of the result leaves the directory that it is written to.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, Policy, RepoError};
use crate::git::tree::{Difference, Entry};
use crate::names::{LONGEST_RULES, ObjectId, RepoPath, danger};

/// The attribute that says what to do with a path that both sides changed.
pub(super) const POLICY: &str = "autosync-conflict";

/// Larger files are not merged as text, in bytes.
const TEXT_LIMIT: u64 = 5 * 1024 * 1024;

/// Attributes that say how a file gets to a disk; a merge has no disk.
const UNUSED: &[&[u8]] = &[
    b"filter",
    b"diff",
    b"text",
    b"eol",
    b"crlf",
    b"ident",
    b"whitespace",
    b"working-tree-encoding",
    b"conflict-marker-size",
];

/// What the helper repository needs.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// The `.gitattributes` files, translated.
    pub(super) files: BTreeMap<RepoPath, Vec<u8>>,
    /// What overrides them: paths that must not be merged as text.
    pub(super) overriding: Vec<u8>,
}

impl Attributes {
    /// Collects what the hub's tree says about these paths.
    pub(super) fn of<'a>(
        place: &Place,
        hub: ObjectId,
        paths: impl Iterator<Item = &'a RepoPath>,
    ) -> Result<Self, RepoError> {
        let mut dirs: BTreeSet<RepoPath> = BTreeSet::new();
        for path in paths {
            for dir in path.ancestors() {
                if !dirs.insert(dir) {
                    break;
                }
            }
        }
        let top = RepoPath::new(".gitattributes")?;
        let mut found = Self::default();
        let default: &[u8] = match place.settings.conflict {
            Policy::Merge => b"",
            Policy::Copy | Policy::Hub | Policy::Local => b"* -merge\n",
            Policy::Union => b"* merge=union\n",
        };
        found.files.insert(top.clone(), default.to_vec());
        let names = dirs.iter().map(|dir| dir.join(".gitattributes"));
        for name in std::iter::once(Ok(top)).chain(names) {
            let name = name?;
            let entry = place.objects.entry(hub, &name)?;
            let Some(entry) = entry.filter(|entry| entry.is_file() && harmless(&name)) else {
                continue;
            };
            if place.objects.size(entry.id)? > LONGEST_RULES {
                continue;
            }
            let lines = translate(&place.objects.blob(entry.id)?);
            found.files.entry(name).or_default().extend(lines);
        }
        Ok(found)
    }

    /// Keeps one path from being merged as text.
    pub(super) fn keep_whole(&mut self, path: &RepoPath) {
        self.overriding.extend(exact_pattern(path));
        self.overriding.extend_from_slice(b" -merge\n");
    }
}

/// Returns whether the helper's work tree may hold a file of this name: no repository may seem to
/// be in it, and the disk must take it.
fn harmless(name: &RepoPath) -> bool {
    danger(name, crate::git::tree::FILE).is_none()
        && name.components().all(|part| part.len() <= 255)
        && name.as_bytes().len() < 2048
}

/// Returns the paths that both sides changed and that are no text: not UTF-8, or too large.
pub(super) fn whole_only(
    place: &Place,
    hub: &[Difference],
    local: &[Difference],
) -> Result<Vec<RepoPath>, RepoError> {
    let locals: BTreeMap<&RepoPath, &Difference> =
        local.iter().map(|change| (&change.path, change)).collect();
    let mut found = Vec::new();
    for change in hub {
        let Some(other) = locals.get(&change.path) else {
            continue;
        };
        let versions = [change.old, change.new, other.new];
        let files = versions.into_iter().flatten().filter(Entry::is_file);
        for version in files {
            if change.new != other.new && !is_text(place, version.id)? {
                found.push(change.path.clone());
                break;
            }
        }
    }
    Ok(found)
}

/// Returns whether a blob is text that may be merged by lines.
pub(super) fn is_text(place: &Place, blob: ObjectId) -> Result<bool, RepoError> {
    if place.objects.size(blob)? > TEXT_LIMIT {
        return Ok(false);
    }
    let content = place.objects.blob(blob)?;
    Ok(!content.contains(&0) && std::str::from_utf8(&content).is_ok())
}

/// Returns the pattern of gitattributes(5) that matches exactly this path.
fn exact_pattern(path: &RepoPath) -> Vec<u8> {
    let mut pattern = b"\"/".to_vec();
    for byte in path.as_bytes() {
        let glob = matches!(byte, b'*' | b'?' | b'[' | b'\\');
        if glob {
            // Once for the pattern, and once more for the quotes around it.
            pattern.extend_from_slice(b"\\\\");
        }
        match byte {
            b'"' | b'\\' => pattern.extend([b'\\', *byte]),
            0x20..=0x7e => pattern.push(*byte),
            _ => pattern.extend(format!("\\{byte:03o}").bytes()),
        }
    }
    pattern.push(b'"');
    pattern
}

fn translate(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    for line in content.split(|b| *b == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let (pattern, states) = line.split_at(end_of_pattern(line));
        out.extend_from_slice(pattern);
        if states.split(u8::is_ascii_whitespace).any(is_filtered) {
            out.extend_from_slice(b" -merge");
        }
        for state in states
            .split(u8::is_ascii_whitespace)
            .filter(|state| !state.is_empty())
        {
            if let Some(state) = translate_state(state) {
                out.push(b' ');
                out.extend(state);
            }
        }
        out.push(b'\n');
    }
    out
}

fn end_of_pattern(line: &[u8]) -> usize {
    let plain = |line: &[u8]| line.iter().position(u8::is_ascii_whitespace);
    if line[0] != b'"' {
        return plain(line).unwrap_or(line.len());
    }
    let mut escaped = false;
    for (at, byte) in line.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    plain(line).unwrap_or(line.len())
}

/// Returns whether what git stores is not what the user sees: a pointer, or ciphertext. Lines of
/// such files must not be mixed.
fn is_filtered(state: &[u8]) -> bool {
    state.starts_with(b"filter=")
}

fn translate_state(state: &[u8]) -> Option<Vec<u8>> {
    let bare = state
        .strip_prefix(b"-")
        .or_else(|| state.strip_prefix(b"!"))
        .unwrap_or(state);
    let name = bare.split(|b| *b == b'=').next().unwrap_or_default();
    let value = bare.get(name.len() + 1..);
    if name == POLICY.as_bytes() {
        let merge: &[u8] = match value {
            Some(b"copy" | b"hub" | b"local") => b" -merge",
            Some(b"union") => b" merge=union",
            Some(b"merge") => b" merge",
            Some(_) => return None,
            None => b" !merge",
        };
        return Some([state, merge].concat());
    }
    let own_driver = matches!(value, None | Some(b"union" | b"text" | b"binary"));
    if UNUSED.contains(&name) || name == b"merge" && !own_driver {
        return None;
    }
    Some(state.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_become_what_git_knows_and_drivers_are_dropped() {
        let text = b"# words\n*.a autosync-conflict=copy text\n\"a b\" autosync-conflict=union eol=lf\n\
            *.c merge=mine diff=x\n*.d -merge\n[attr]own merge=mine binary\n*.e autosync-conflict=what\n";
        let expected = "*.a autosync-conflict=copy -merge\n\"a b\" autosync-conflict=union merge=union\n\
            *.c\n*.d -merge\n[attr]own binary\n*.e\n";
        assert_eq!(String::from_utf8(translate(text)).unwrap(), expected);
        let filtered = b"*.a autosync-conflict=merge filter=x\n";
        let expected = b"*.a -merge autosync-conflict=merge merge\n";
        assert_eq!(translate(filtered), expected);
    }

    #[test]
    fn a_pattern_for_one_path_is_quoted_twice() {
        let pattern = |bytes: &[u8]| exact_pattern(&RepoPath::new(bytes).unwrap());
        assert_eq!(pattern(b"a b"), b"\"/a b\"");
        assert_eq!(pattern(b"a*\\\"\n"), b"\"/a\\\\*\\\\\\\\\\\"\\012\"");
    }
}
