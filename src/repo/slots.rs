//! Where an apply keeps what it writes and what it moves out of the way (A2).
//!
//! An [`Area`] is a directory of ours on the same mount as the work tree: `stage/N/` holds the
//! numbered slots of one apply, `displaced/N/` those of finished ones, `aside/` what git ignores
//! and had to make room. Where the git directory is on another disk, the area is a hidden directory
//! in the work tree that git does not look at.
//!
//! Invariants:
//! 1. Every directory here is 0700, so that nobody but us reaches a file by its slot.
//! 2. A stage without a journal was never used and may be removed whole.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{Mode, OFlags, openat, symlinkat};
use rustix::io::Errno;

use super::bases::Why;
use super::disk::{self, Identity, Kind};
use super::filter::nul_separated;
use super::journal::{Op, Step};
use super::stable::IN_MEMORY;
use super::{Place, RepoError, verify};
use crate::engine::event::Code;
use crate::git::tree::{EXECUTABLE, Entry, Lookup};
use crate::git::{self, Git, GitError, LOCAL};
use crate::names::{LONGEST_RULES, ObjectId, RepoPath};
use crate::process::Running;

/// The hidden directory in a work tree whose git directory is on another disk.
pub const IN_TREE: &str = ".autosync-stage";

/// Filtered contents are read in portions of about this size, in bytes.
const PORTION: u64 = 32 << 20;

/// The longest target of a link, in bytes (`PATH_MAX`, less its NUL).
const LONGEST_TARGET: u64 = 4095;

/// A directory of ours on the mount of the work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area(PathBuf);

impl Area {
    /// Returns the area to use for a folder; makes it if it is not there.
    pub fn of(place: &Place) -> Result<Self, RepoError> {
        let mount = |path: &Path| disk::mount_of(path).map_err(|e| RepoError::io(path, e));
        if mount(&place.store)? == mount(place.root())? {
            return Ok(Self(place.store.clone()));
        }
        let dir = place.root().join(IN_TREE);
        exclude(place)?;
        make_directory(&dir)?;
        if dir.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            Ok(Self(dir))
        } else {
            Err(RepoError::io(&dir, io::ErrorKind::NotADirectory.into()))
        }
    }

    /// Returns the areas that a folder has or had.
    pub fn all(place: &Place) -> Vec<Self> {
        let in_tree = place.root().join(IN_TREE);
        let mut found = vec![Self(place.store.clone())];
        if in_tree.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            found.push(Self(in_tree));
        }
        found
    }

    /// Returns the directory of stages.
    pub fn stages(&self) -> PathBuf {
        self.0.join("stage")
    }

    /// Returns the directory of finished stages.
    pub fn displaced(&self) -> PathBuf {
        self.0.join("displaced")
    }

    /// Returns the directory of what git ignores and had to make room.
    pub fn aside(&self) -> PathBuf {
        self.0.join("aside")
    }

    /// Makes a new stage. Returns its directory.
    pub fn new_stage(&self) -> Result<PathBuf, RepoError> {
        let (stages, displaced) = (self.stages(), self.displaced());
        make_directory(&stages)?;
        make_directory(&displaced)?;
        let next = numbers(&stages)?
            .into_iter()
            .chain(numbers(&displaced)?)
            .max()
            .unwrap_or(0)
            + 1;
        let stage = stages.join(next.to_string());
        make_directory(&stage)?;
        Ok(stage)
    }

    /// Removes stages that no journal speaks of.
    pub fn drop_rubbish(&self) -> Result<(), RepoError> {
        let stages = self.stages();
        for number in numbers(&stages)? {
            let stage = stages.join(number.to_string());
            fs::remove_dir_all(&stage).map_err(|error| RepoError::io(&stage, error))?;
        }
        Ok(())
    }
}

/// Returns the numbers that are names in a directory; none if it is not there.
pub fn numbers(dir: &Path) -> Result<BTreeSet<u64>, RepoError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(RepoError::io(dir, error)),
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry
            .map_err(|error| RepoError::io(dir, error))?
            .file_name();
        found.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(found)
}

/// Makes a directory for us alone; that it is there is no error.
pub fn make_directory(dir: &Path) -> Result<(), RepoError> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(RepoError::io(dir, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes git ignore the area in the tree, for this repository on this host alone.
fn exclude(place: &Place) -> Result<(), RepoError> {
    let path = place.git.common_dir().join("info/exclude");
    let line = format!("/{IN_TREE}/");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(RepoError::io(&path, error)),
    };
    if text
        .split(|b| *b == b'\n')
        .any(|have| have == line.as_bytes())
    {
        return Ok(());
    }
    let add = || -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut file = File::options().append(true).create(true).open(&path)?;
        if !text.is_empty() && !text.ends_with(b"\n") {
            file.write_all(b"\n")?;
        }
        file.write_all(format!("{line}\n").as_bytes())
    };
    add().map_err(|error| RepoError::io(&path, error))
}

/// Returns the name of a slot.
pub fn slot(number: usize) -> OsString {
    number.to_string().into()
}

/// The rules of a commit, attributes and ignores, laid out as files for git to read: it reads
/// them from a work tree, never from a commit.
#[derive(Debug)]
pub struct Rules {
    git: Git,
    index: PathBuf,
}

impl Rules {
    /// Lays out the rules that concern these paths in a directory inside the stage.
    pub fn lay_out(
        place: &Place,
        stage: &Path,
        tree: &Lookup,
        paths: &[&RepoPath],
    ) -> Result<Self, RepoError> {
        let dir = stage.join("rules");
        make_directory(&dir)?;
        let above: BTreeSet<RepoPath> = paths.iter().flat_map(|path| path.ancestors()).collect();
        for name in [".gitattributes", ".gitignore"] {
            let mut files = vec![RepoPath::new(name)?];
            for dir in &above {
                files.push(dir.join(name)?);
            }
            for file in files {
                let Some(entry) = tree.get(&file)?.filter(Entry::is_file) else {
                    continue;
                };
                if place.objects.size(entry.id)? > LONGEST_RULES {
                    continue;
                }
                let to = file.under(&dir);
                let content = place.objects.blob(entry.id)?;
                let write = || -> io::Result<()> {
                    if let Some(parent) = to.parent() {
                        fs::create_dir_all(parent)?;
                    }
                    fs::write(&to, &content)
                };
                write().map_err(|error| RepoError::io(&to, error))?;
            }
        }
        Ok(Self {
            git: place.git.with_tree(&dir),
            index: dir.join("no-index"),
        })
    }

    /// Returns which of these paths the rules ignore.
    pub fn ignored(&self, paths: &[&RepoPath]) -> Result<BTreeSet<RepoPath>, RepoError> {
        let mut command = self.git.command("-c");
        command
            .env("GIT_INDEX_FILE", &self.index)
            .args(["core.excludesFile=/dev/null", "check-ignore"]);
        super::filter::ask_ignored(command, paths)
    }

    /// Returns which of these paths have an attribute that converts content.
    pub fn converted(&self, paths: &[&RepoPath]) -> Result<BTreeSet<RepoPath>, RepoError> {
        let mut command = self.git.command("check-attr");
        command
            .env("GIT_INDEX_FILE", &self.index)
            .args(["-z", "--stdin"])
            .args(super::filter::ATTRIBUTES);
        let out = git::run(&mut command, &nul_separated(paths), LOCAL, "check-attr")?.stdout;
        let mut parts = out.split(|b| *b == 0);
        let mut found = BTreeSet::new();
        while let (Some(path), Some(_), Some(value)) = (parts.next(), parts.next(), parts.next()) {
            if value != b"unspecified" && value != b"unset" {
                found.insert(RepoPath::new(path)?);
            }
        }
        Ok(found)
    }
}

/// How new contents are converted for the disk.
#[derive(Debug, Default)]
pub struct Conversion {
    /// The paths whose content is converted.
    pub paths: BTreeSet<RepoPath>,
    /// The new rules, if they are not those on the disk.
    pub rules: Option<Rules>,
}

/// Writes the new content of every path that gets one into its slot (A2).
///
/// A path whose filter fails is not written but held. Nothing is durable yet.
pub fn fill(
    place: &Place,
    stage: &Path,
    ops: &mut [Op],
    conversion: &Conversion,
) -> Result<(), RepoError> {
    let dir = disk::open_directory(stage)?;
    let failed = |error| RepoError::io(stage, error);
    let mut filtered = Vec::new();
    let mut count = place.meter.start("stage", ops.len());
    for (number, op) in ops.iter_mut().enumerate() {
        count.add(1);
        let (Step::Replace | Step::Create, Some(new)) = (op.step, op.new) else {
            continue;
        };
        let name = slot(number);
        match Kind::of_mode(new.mode) {
            Some(Kind::Symlink) => {
                if !link(place, new.id, (stage, &dir), &name)? {
                    op.leave(Why::NotRepresentable);
                    continue;
                }
            }
            Some(Kind::File) if conversion.paths.contains(&op.path) => {
                filtered.push(number);
                continue;
            }
            Some(Kind::File) => {
                let file = create(&dir, number, new.mode == EXECUTABLE).map_err(failed)?;
                if place.objects.size(new.id)? > IN_MEMORY {
                    stream(place, new.id, file)?;
                } else {
                    let content = place.objects.blob(new.id)?;
                    File::from(file).write_all(&content).map_err(failed)?;
                }
            }
            Some(Kind::Directory | Kind::Special) | None => {
                // Without anything in the slot the disk would pass for having it.
                op.leave(Why::NotRepresentable);
                continue;
            }
        }
        op.staged = identity(&dir, number).map_err(failed)?;
        op.new_bytes = Some(new.id);
    }
    fill_filtered(place, &dir, ops, &filtered, conversion)
}

/// Makes a link. Returns whether this disk can have one with such a target: it may be empty, too
/// long, or hold a NUL, and some disks have no links.
fn link(
    place: &Place,
    id: ObjectId,
    (stage, dir): (&Path, &OwnedFd),
    name: &OsStr,
) -> Result<bool, RepoError> {
    if place.objects.size(id)? > LONGEST_TARGET {
        return Ok(false);
    }
    let target = OsString::from_vec(place.objects.blob(id)?);
    match symlinkat(&target, dir, name) {
        Ok(()) => Ok(true),
        Err(
            Errno::NOENT
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::ILSEQ
            | Errno::PERM
            | Errno::OPNOTSUPP,
        ) => Ok(false),
        Err(error) => Err(RepoError::io(stage, error.into())),
    }
}

fn create(dir: impl AsFd, number: usize, executable: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = if executable { 0o777 } else { 0o666 };
    Ok(openat(dir, slot(number), flags, Mode::from_raw_mode(mode))?)
}

fn identity(dir: impl AsFd, number: usize) -> io::Result<Option<Identity>> {
    Ok(disk::look(dir, &slot(number))?.map(|seen| seen.which))
}

/// Lets git write a large blob straight into a file.
fn stream(place: &Place, id: ObjectId, file: OwnedFd) -> Result<(), RepoError> {
    let mut command = place.git.command("-c");
    // Beyond it git streams what it else reads into memory.
    let large = format!("core.bigFileThreshold={IN_MEMORY}");
    command
        .args([&large, "cat-file", "blob", &id.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::from(file))
        .stderr(Stdio::null());
    let mut running = Running::start(&mut command).map_err(GitError::Spawn)?;
    let status = running.wait().map_err(GitError::Spawn)?;
    if status.success() {
        Ok(())
    } else {
        Err(GitError::Object(id).into())
    }
}

fn fill_filtered(
    place: &Place,
    dir: &OwnedFd,
    ops: &mut [Op],
    numbers: &[usize],
    conversion: &Conversion,
) -> Result<(), RepoError> {
    let failed = |error| RepoError::io(&place.store, error);
    let mut rest = numbers;
    while !rest.is_empty() {
        let mut portion = Vec::new();
        let mut size = 0;
        for number in rest {
            if let Some(new) = ops[*number].new {
                let own = place.objects.size(new.id)?;
                if own > IN_MEMORY && portion.is_empty() {
                    break;
                }
                size += own;
                if size > PORTION && !portion.is_empty() {
                    break;
                }
                portion.push((*number, new.id, ops[*number].path.clone()));
            }
        }
        if let (true, Some((number, others))) = (portion.is_empty(), rest.split_first()) {
            fill_large(place, dir, *number, &mut ops[*number], conversion)?;
            rest = others;
            continue;
        }
        let contents = smudge(place, &portion, conversion)?;
        for (content, (number, _, _)) in contents.iter().zip(&portion) {
            let executable = ops[*number].new.is_some_and(|new| new.mode == EXECUTABLE);
            let file = create(dir, *number, executable).map_err(failed)?;
            File::from(file).write_all(content).map_err(failed)?;
            ops[*number].staged = identity(dir, *number).map_err(failed)?;
            ops[*number].new_bytes = Some(place.objects.hash_blob(content)?);
        }
        if let Some((number, _, path)) = portion.get(contents.len()) {
            tracing::warn!(%path, "its filter failed, so it is not written");
            ops[*number].leave(Why::Held(Code::Filter));
            rest = &rest[contents.len() + 1..];
        } else {
            rest = &rest[contents.len()..];
        }
    }
    Ok(())
}

/// Lets git convert a large content straight into its slot.
fn fill_large(
    place: &Place,
    dir: &OwnedFd,
    number: usize,
    op: &mut Op,
    conversion: &Conversion,
) -> Result<(), RepoError> {
    let failed = |error| RepoError::io(&place.store, error);
    let Some(new) = op.new else {
        return Ok(());
    };
    let file = create(dir, number, new.mode == EXECUTABLE).map_err(failed)?;
    let git = conversion
        .rules
        .as_ref()
        .map_or(&place.git, |rules| &rules.git);
    let mut path = OsString::from("--path=");
    path.push(super::filter::argument(&op.path));
    let mut command = git.command("cat-file");
    command
        .arg("--filters")
        .arg(path)
        .arg(new.id.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::from(file))
        .stderr(Stdio::null());
    if let Some(rules) = &conversion.rules {
        command.env("GIT_INDEX_FILE", &rules.index);
    }
    let mut running = Running::start(&mut command).map_err(GitError::Spawn)?;
    if !running.wait().map_err(GitError::Spawn)?.success() {
        tracing::warn!(path = %op.path, "its filter failed, so it is not written");
        op.leave(Why::Held(Code::Filter));
        return Ok(());
    }
    op.staged = identity(dir, number).map_err(failed)?;
    let written = disk::open_file(dir, &slot(number)).map_err(failed)?;
    op.new_bytes = Some(verify::hash_with_git(place, written).map_err(failed)?);
    Ok(())
}

/// Returns contents as they belong on the disk, up to the first whose filter fails.
///
/// The size that git announces is that of the stored form, so each content is ended by the answer
/// to a question that nobody can foresee.
fn smudge(
    place: &Place,
    wanted: &[(usize, ObjectId, RepoPath)],
    conversion: &Conversion,
) -> Result<Vec<Vec<u8>>, RepoError> {
    let mark = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let mut input = Vec::new();
    for (_, id, path) in wanted {
        input.extend_from_slice(format!("{id} ").as_bytes());
        input.extend_from_slice(path.as_bytes());
        input.extend_from_slice(format!("\0{mark} x\0").as_bytes());
    }
    let git = conversion
        .rules
        .as_ref()
        .map_or(&place.git, |rules| &rules.git);
    let mut command = git.command("cat-file");
    command.args(["--batch", "--filters", "-z"]);
    if let Some(rules) = &conversion.rules {
        command.env("GIT_INDEX_FILE", &rules.index);
    }
    let done = git::run_any(&mut command, &input, LOCAL, "cat-file")?;
    let end = format!("\n{mark} missing\n");
    let end = end.as_bytes();
    let mut found = Vec::new();
    let mut rest = done.stdout.as_slice();
    while let Some(at) = rest.windows(end.len()).position(|window| window == end) {
        let one = &rest[..at];
        let body = one
            .iter()
            .position(|b| *b == b'\n')
            .map_or(&[][..], |line| &one[line + 1..]);
        found.push(body.to_vec());
        rest = &rest[at + end.len()..];
    }
    if found.is_empty() && done.status.success() && !wanted.is_empty() {
        return Err(git::unparsable("cat-file", &done.stdout).into());
    }
    Ok(found)
}
