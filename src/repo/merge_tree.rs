//! `git merge-tree`, run where nothing of the user's can change its answer.
//!
//! git reads attributes from the work tree and `info/attributes`, and merge drivers from the
//! configuration. So it runs in a bare helper repository, `autosync/merge.git`, that borrows the
//! folder's objects, with a work tree, `autosync/merge.tree`, that holds nothing but the hub's
//! `.gitattributes` files, translated.
//!
//! Invariants:
//! 1. No configuration, attribute, hook or driver of the user's or the system's takes part.
//! 2. Nothing of the folder is written but objects.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Command;

use super::attributes::Attributes;
use super::{Place, RepoError};
use crate::git::tree::Entry;
use crate::git::{Git, GitError, LOCAL, failed, run, run_any, unparsable};
use crate::names::{ObjectId, RepoPath};

/// How the helper is configured: the same on every host, so that all of them see the same renames.
const SETTINGS: &str = "\
[merge]
\tdirectoryRenames = false
\trenames = true
\trenameLimit = 7000
\tconflictStyle = merge
";

/// The versions of one path that a merge could not make one of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stages {
    /// The common ancestor's (stage 1).
    pub(super) base: Option<Entry>,
    /// The hub's (stage 2); its blob may hold conflict markers.
    pub(super) hub: Option<Entry>,
    /// The local side's (stage 3); its blob may hold conflict markers.
    pub(super) local: Option<Entry>,
    /// Names that git gave to versions that could not stand at the path.
    pub(super) labels: Vec<RepoPath>,
}

/// One file that both sides renamed, to different names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TwoNames {
    /// The name that it had.
    pub(super) source: RepoPath,
    /// The hub's name for it.
    pub(super) hub: RepoPath,
    /// The local side's name for it.
    pub(super) local: RepoPath,
}

/// What `git merge-tree` said.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The merged tree; what it has at conflicted paths must not be used.
    pub(super) tree: Option<ObjectId>,
    /// The conflicted paths.
    pub(super) conflicts: BTreeMap<RepoPath, Stages>,
    /// Files that got two names.
    pub(super) two_names: Vec<TwoNames>,
    /// Paths that one message names together.
    pub(super) together: Vec<Vec<RepoPath>>,
}

impl Report {
    /// Returns whether git invented this name for a version that could not stand at its path.
    pub(super) fn is_label(&self, path: &RepoPath) -> bool {
        let mut all = self.conflicts.values();
        all.any(|stages| stages.labels.contains(path))
    }
}

/// The helper repository of a folder.
#[derive(Debug)]
pub(super) struct Helper {
    git: Git,
    objects: std::path::PathBuf,
}

impl Helper {
    /// Makes the helper ready for merges with these attributes.
    pub(super) fn prepare(place: &Place, attributes: &Attributes) -> Result<Self, RepoError> {
        let dir = place.store.join("merge.git");
        let tree = place.store.join("merge.tree");
        for part in ["refs", "objects", "info"] {
            make_dir(&dir.join(part))?;
        }
        // The refs of the helper never exist, so the form in which they are stored says nothing.
        let format = match place.objects.width() {
            32 => "\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = sha256\n",
            _ => "\trepositoryFormatVersion = 0\n",
        };
        let none = "[core]\n\tbare = false\n\tattributesFile = /dev/null\n";
        write(
            &dir.join("config"),
            format!("{none}{format}{SETTINGS}").as_bytes(),
        )?;
        write(&dir.join("HEAD"), b"ref: refs/heads/none\n")?;
        write(&dir.join("info/attributes"), &attributes.overriding)?;
        copy_shallow(
            &place.git.common_dir().join("shallow"),
            &dir.join("shallow"),
        )?;
        match fs::remove_dir_all(&tree) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RepoError::io(&tree, error));
            }
            Ok(()) | Err(_) => make_dir(&tree)?,
        }
        for (at, content) in &attributes.files {
            let at = at.under(&tree);
            if let Some(parent) = at.parent() {
                make_dir(parent)?;
            }
            write(&at, content)?;
        }
        Ok(Self {
            git: place.git.elsewhere(&dir, &tree),
            objects: place.git.common_dir().join("objects"),
        })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.git.command(name);
        command
            .env("GIT_OBJECT_DIRECTORY", &self.objects)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env_remove("GIT_CONFIG_SYSTEM");
        command
    }

    /// Merges two commits.
    pub(super) fn merge(&self, hub: ObjectId, local: ObjectId) -> Result<Report, RepoError> {
        let mut command = self.command("merge-tree");
        command.args(["--write-tree", "-z", "--allow-unrelated-histories"]);
        command.args([hub.to_string(), local.to_string()]);
        let done = run_any(&mut command, b"", LOCAL, "merge-tree")?;
        match done.status.code() {
            Some(0 | 1) => Ok(parse(&done.stdout, &[hub, local])?),
            _ => Err(failed("merge-tree", &done).into()),
        }
    }

    /// Returns the value of `autosync-conflict` of each of these paths that has one.
    pub(super) fn policies(
        &self,
        paths: &[RepoPath],
    ) -> Result<BTreeMap<RepoPath, Vec<u8>>, RepoError> {
        let mut found = BTreeMap::new();
        if paths.is_empty() {
            return Ok(found);
        }
        let mut input = Vec::new();
        for path in paths {
            input.extend_from_slice(path.as_bytes());
            input.push(0);
        }
        let mut command = self.command("check-attr");
        command.args(["-z", "--stdin", super::attributes::POLICY]);
        let out = run(&mut command, &input, LOCAL, "check-attr")?.stdout;
        let mut parts = out.split(|b| *b == 0);
        while let (Some(path), Some(_), Some(value)) = (parts.next(), parts.next(), parts.next()) {
            found.insert(RepoPath::new(path)?, value.to_vec());
        }
        Ok(found)
    }
}

fn make_dir(path: &Path) -> Result<(), RepoError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| RepoError::io(path, error))
}

fn write(path: &Path, content: &[u8]) -> Result<(), RepoError> {
    fs::write(path, content).map_err(|error| RepoError::io(path, error))
}

fn copy_shallow(from: &Path, to: &Path) -> Result<(), RepoError> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(error) if gone(&error) => match fs::remove_file(to) {
            Err(error) if !gone(&error) => Err(RepoError::io(to, error)),
            Ok(()) | Err(_) => Ok(()),
        },
        Err(error) => Err(RepoError::io(from, error)),
    }
}

/// Reads what `merge-tree -z` wrote: the tree, the stages up to an empty record, the messages.
fn parse(out: &[u8], labels: &[ObjectId; 2]) -> Result<Report, GitError> {
    let labels = labels.map(|id| id.to_string());
    let mut records = out.split(|b| *b == 0);
    let tree = records.next().unwrap_or_default();
    let mut report = Report {
        tree: Some(ObjectId::from_hex(tree)?),
        ..Report::default()
    };
    for record in records.by_ref() {
        if record.is_empty() {
            break;
        }
        let (entry, stage, raw) = stage(record).ok_or_else(|| unparsable("merge-tree", record))?;
        let plain = without_label(raw, &labels);
        let stages = report.conflicts.entry(RepoPath::new(plain)?).or_default();
        if plain != raw && !stages.labels.iter().any(|label| label.as_bytes() == raw) {
            stages.labels.push(RepoPath::new(raw)?);
        }
        match stage {
            b'1' => stages.base = Some(entry),
            b'2' => stages.hub = Some(entry),
            _ => stages.local = Some(entry),
        }
    }
    while let Some(record) = records.next() {
        let bad = || unparsable("merge-tree", record);
        // Advice on submodules follows as plain text.
        let number = std::str::from_utf8(record).ok();
        let Some(count) = number.and_then(|text| text.parse::<usize>().ok()) else {
            break;
        };
        let mut paths = Vec::new();
        for _ in 0..count {
            let raw = records.next().ok_or_else(bad)?;
            paths.push(RepoPath::new(without_label(raw, &labels))?);
        }
        let kind = records.next().ok_or_else(bad)?;
        // The message itself is for people.
        records.next().ok_or_else(bad)?;
        if let (b"CONFLICT (rename/rename)", [source, hub, local]) = (kind, paths.as_slice()) {
            report.two_names.push(TwoNames {
                source: source.clone(),
                hub: hub.clone(),
                local: local.clone(),
            });
        }
        if paths.len() > 1 {
            report.together.push(paths);
        }
    }
    Ok(report)
}

/// Reads `MODE ID STAGE TAB PATH`.
fn stage(record: &[u8]) -> Option<(Entry, u8, &[u8])> {
    let tab = record.iter().position(|b| *b == b'\t')?;
    let mut words = record[..tab].split(|b| *b == b' ');
    let mode = u32::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 8).ok()?;
    let id = ObjectId::from_hex(words.next()?).ok()?;
    let stage = *words.next()?.first()?;
    Some((Entry { mode, id }, stage, &record[tab + 1..]))
}

/// Returns the path without the `~ID` or `~ID_1` that git appends where two things want one name.
fn without_label<'a>(raw: &'a [u8], labels: &[String; 2]) -> &'a [u8] {
    let Some(at) = raw.iter().rposition(|b| *b == b'~') else {
        return raw;
    };
    let tail = &raw[at + 1..];
    let labelled = labels.iter().any(|label| {
        tail.strip_prefix(label.as_bytes()).is_some_and(|rest| {
            rest.strip_prefix(b"_").map_or(rest.is_empty(), |digits| {
                !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
            })
        })
    });
    if labelled { &raw[..at] } else { raw }
}
