//! A disk that folds names as those of macOS do: two names that differ only in case, or in how
//! their accents are written, lead to one file, which lists as it was first made.
//!
//! It is a file system in user space, held in memory, which this process serves by the kernel's own
//! protocol (`fuse(4)`): no kernel that tests meet has one of its own (ext4, tmpfs and XFS fold only
//! where the kernel was built for it). It has what APFS has: links, modes, exchanging renames. The
//! kernel is told to ask for every name anew, so it believes what this disk says and nothing else.
//!
//! As on every such disk of Linux, a rename between two spellings of one name does nothing: the
//! kernel sees one file. Programs go by a third name.
//!
//! Absent: extended attributes, times of access, and everything that needs a second disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use autosync::process::{self, Patience};
use unicode_normalization::UnicodeNormalization;

use super::inside::{ROOT_INSIDE, inside, is_inside};
use crate::network::skipped;

/// The largest write that the kernel may ask for at once.
const MOST: u32 = 128 * 1024;

/// The number of the root.
const ROOT: u64 = 1;

/// What the protocol calls its requests.
mod ask {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const READLINK: u32 = 5;
    pub(super) const SYMLINK: u32 = 6;
    pub(super) const MKNOD: u32 = 8;
    pub(super) const MKDIR: u32 = 9;
    pub(super) const UNLINK: u32 = 10;
    pub(super) const RMDIR: u32 = 11;
    pub(super) const RENAME: u32 = 12;
    pub(super) const LINK: u32 = 13;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const INIT: u32 = 26;
    pub(super) const OPENDIR: u32 = 27;
    pub(super) const READDIR: u32 = 28;
    pub(super) const RELEASEDIR: u32 = 29;
    pub(super) const CREATE: u32 = 35;
    pub(super) const BATCH_FORGET: u32 = 42;
    pub(super) const RENAME2: u32 = 45;
}

/// The refusals that this disk knows, as the kernel numbers them.
mod refuse {
    pub(super) const ABSENT: i32 = 2;
    pub(super) const EXISTS: i32 = 17;
    pub(super) const NO_DIRECTORY: i32 = 20;
    pub(super) const INVALID: i32 = 22;
    pub(super) const UNKNOWN: i32 = 38;
    pub(super) const NOT_EMPTY: i32 = 39;
}

/// What a request gets: bytes, or the number of a refusal.
type Answer = Result<Vec<u8>, i32>;

#[derive(Debug)]
enum Content {
    File(Vec<u8>),
    Link(Vec<u8>),
    /// By what names fold to: the name as it was made, and what it leads to.
    Directory(BTreeMap<String, (Vec<u8>, u64)>),
}

#[derive(Debug)]
struct Node {
    content: Content,
    mode: u32,
    links: u32,
    modified: Duration,
    changed: Duration,
}

/// The disk.
#[derive(Debug)]
struct Disk {
    /// By number, from 1. What is gone stays: a program may have it open.
    nodes: Vec<Node>,
    /// Moved on with every change, so that no two are of the same moment.
    now: Duration,
}

/// Mounts a folding disk on a directory for as long as this process lives, in its own namespace.
pub(crate) fn mount(at: &Path) {
    let kernel = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .unwrap();
    rustix::io::fcntl_setfd(&kernel, rustix::io::FdFlags::empty()).unwrap();
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions",
        kernel.as_raw_fd()
    );
    let mut command = process::command("mount");
    command
        .args(["-i", "-t", "fuse", "-o", &options, "folding"])
        .arg(at);
    let done = process::run(&mut command, b"", Patience::Total(Duration::from_secs(30))).unwrap();
    assert!(done.status.success(), "{done:?}");
    rustix::io::fcntl_setfd(&kernel, rustix::io::FdFlags::CLOEXEC).unwrap();
    std::thread::spawn(move || Disk::new().serve(kernel));
}

/// Returns true in a process that may mount such a disk; see [`inside`].
pub(crate) fn inside_with_disk(test: &str) -> bool {
    if !is_inside() {
        let mut may = process::command("unshare");
        may.args(ROOT_INSIDE)
            .args(["sh", "-c", "exec 3<>/dev/fuse"]);
        let done = process::run(&mut may, b"", Patience::Total(Duration::from_secs(30)));
        if !done.is_ok_and(|done| done.status.success()) {
            let name = test.rsplit("::").next().unwrap();
            skipped(name, "no file systems in user space here");
            return false;
        }
    }
    inside(ROOT_INSIDE, test)
}

/// Returns what a directory lists, in order.
pub(crate) fn listed(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".git")
        .collect();
    names.sort();
    names
}

/// Renames as people do it on such a disk: by a third name.
pub(crate) fn respell(root: &Path, from: &str, to: &str) {
    let middle: PathBuf = root.join("on the way");
    std::fs::rename(root.join(from), &middle).unwrap();
    std::fs::rename(middle, root.join(to)).unwrap();
}

/// Returns what a name is told by: neither case nor the writing of accents.
fn fold(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let lower: String = name.nfd().flat_map(char::to_lowercase).collect();
    lower.nfd().collect()
}

/// Reads numbers and names out of a request.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn small(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    fn large(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }

    fn offset(&mut self) -> usize {
        usize::try_from(self.large()).unwrap()
    }

    fn name(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap();
        let name = self.bytes(end);
        self.bytes(1);
        name
    }
}

/// Writes numbers into an answer.
#[derive(Default)]
struct Reply(Vec<u8>);

impl Reply {
    fn small(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn length(self, length: usize) -> Self {
        self.small(u32::try_from(length).unwrap())
    }

    fn large(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }
}

impl Disk {
    fn new() -> Self {
        let mut disk = Self {
            nodes: Vec::new(),
            now: Duration::from_secs(u64::try_from(autosync::clock::wall_seconds()).unwrap()),
        };
        disk.make(Content::Directory(BTreeMap::new()), 0o755);
        disk
    }

    fn serve(mut self, mut kernel: File) {
        let mut request = vec![0; MOST as usize + 4096];
        loop {
            let length = match kernel.read(&mut request) {
                Ok(length) => length,
                // The request was taken back.
                Err(error) if matches!(error.raw_os_error(), Some(2 | 4 | 11)) => continue,
                // Unmounted.
                Err(_) => return,
            };
            let mut fields = Fields(&request[..length]);
            fields.small();
            let (what, unique, node) = (fields.small(), fields.large(), fields.large());
            fields.bytes(16);
            if matches!(what, ask::FORGET | ask::BATCH_FORGET) {
                continue;
            }
            let (error, answer) = match self.answer(what, node, fields) {
                Ok(answer) => (0, answer),
                Err(error) => (error, Vec::new()),
            };
            let head = Reply::default()
                .length(16 + answer.len())
                .small((-error).cast_unsigned())
                .large(unique);
            // Who asked may be gone by now.
            drop(kernel.write(&[head.0, answer].concat()));
        }
    }

    fn answer(&mut self, what: u32, node: u64, mut fields: Fields<'_>) -> Answer {
        match what {
            ask::INIT => Ok(Self::agree()),
            ask::LOOKUP => {
                let found = self.find(node, fields.name())?;
                Ok(self.entry(found))
            }
            ask::GETATTR => Ok(self.attributes(node)),
            ask::SETATTR => {
                self.set(node, fields);
                Ok(self.attributes(node))
            }
            ask::READLINK => match &self.node(node).content {
                Content::Link(target) => Ok(target.clone()),
                Content::File(_) | Content::Directory(_) => Err(refuse::INVALID),
            },
            ask::SYMLINK => {
                let (name, target) = (fields.name(), fields.name());
                self.add(node, name, Content::Link(target.to_owned()), 0o777)
            }
            ask::MKNOD => {
                let mode = fields.small();
                fields.bytes(12);
                self.add(node, fields.name(), Content::File(Vec::new()), mode)
            }
            ask::MKDIR => {
                let mode = fields.small();
                fields.bytes(4);
                let empty = Content::Directory(BTreeMap::new());
                self.add(node, fields.name(), empty, mode)
            }
            ask::CREATE => {
                fields.bytes(4);
                let mode = fields.small();
                fields.bytes(8);
                let name = fields.name();
                let made = self.add(node, name, Content::File(Vec::new()), mode)?;
                Ok([made, vec![0; 16]].concat())
            }
            ask::UNLINK | ask::RMDIR => self.remove(node, fields.name(), what == ask::RMDIR),
            ask::RENAME | ask::RENAME2 => {
                let to = fields.large();
                let exchange = what == ask::RENAME2 && fields.large() & 2 != 0;
                let (old, new) = (fields.name(), fields.name());
                self.rename((node, old), (to, new), exchange)
            }
            ask::LINK => {
                let old = fields.large();
                self.enter(node, fields.name(), old)?;
                self.touch(old, false);
                Ok(self.entry(old))
            }
            ask::OPEN | ask::OPENDIR => Ok(vec![0; 16]),
            ask::READ => {
                fields.bytes(8);
                let (at, size) = (fields.offset(), fields.small());
                let Content::File(bytes) = &self.node(node).content else {
                    return Err(refuse::INVALID);
                };
                let at = at.min(bytes.len());
                let end = bytes.len().min(at + size as usize);
                Ok(bytes[at..end].to_owned())
            }
            ask::WRITE => {
                fields.bytes(8);
                let (at, size) = (fields.offset(), fields.small());
                fields.bytes(20);
                let new = fields.bytes(size as usize);
                let Content::File(bytes) = &mut self.node_mut(node).content else {
                    return Err(refuse::INVALID);
                };
                let end = at + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[at..end].copy_from_slice(new);
                self.touch(node, true);
                Ok(Reply::default().small(size).small(0).0)
            }
            ask::READDIR => {
                fields.bytes(8);
                let (from, size) = (fields.offset(), fields.small());
                self.list(node, from, size as usize)
            }
            ask::STATFS => {
                let half = 1 << 20;
                let mut answer = Reply::default();
                for number in [2 * half, half, half, 2 * half, half] {
                    answer = answer.large(number);
                }
                for number in [4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0] {
                    answer = answer.small(number);
                }
                Ok(answer.0)
            }
            ask::RELEASE | ask::RELEASEDIR => Ok(Vec::new()),
            _ => Err(refuse::UNKNOWN),
        }
    }

    /// The first answer: which form of the protocol is spoken (7.31), and how much fits in a write.
    fn agree() -> Vec<u8> {
        let large_writes = 1 << 5;
        let mut answer = Reply::default().small(7).small(31).small(MOST);
        answer = answer.small(large_writes).small(0).small(MOST).small(1);
        answer.0.resize(64, 0);
        answer.0
    }

    fn node(&self, number: u64) -> &Node {
        &self.nodes[usize::try_from(number).unwrap() - 1]
    }

    fn node_mut(&mut self, number: u64) -> &mut Node {
        &mut self.nodes[usize::try_from(number).unwrap() - 1]
    }

    fn make(&mut self, content: Content, mode: u32) -> u64 {
        let links = u32::from(matches!(content, Content::Directory(_)));
        self.nodes.push(Node {
            content,
            mode: mode & 0o7777,
            links,
            modified: self.now,
            changed: self.now,
        });
        self.nodes.len() as u64
    }

    /// Notes that something changed, in its content or about it.
    fn touch(&mut self, number: u64, content: bool) {
        let wall = Duration::from_secs(u64::try_from(autosync::clock::wall_seconds()).unwrap());
        self.now = wall.max(self.now + Duration::from_micros(1));
        let now = self.now;
        let node = self.node_mut(number);
        node.changed = now;
        if content {
            node.modified = now;
        }
    }

    fn entries(&self, dir: u64) -> Result<&BTreeMap<String, (Vec<u8>, u64)>, i32> {
        match &self.node(dir).content {
            Content::Directory(entries) => Ok(entries),
            Content::File(_) | Content::Link(_) => Err(refuse::NO_DIRECTORY),
        }
    }

    fn entries_mut(&mut self, dir: u64) -> Result<&mut BTreeMap<String, (Vec<u8>, u64)>, i32> {
        match &mut self.node_mut(dir).content {
            Content::Directory(entries) => Ok(entries),
            Content::File(_) | Content::Link(_) => Err(refuse::NO_DIRECTORY),
        }
    }

    fn find(&self, dir: u64, name: &[u8]) -> Result<u64, i32> {
        let found = self.entries(dir)?.get(&fold(name));
        found.map(|(_, number)| *number).ok_or(refuse::ABSENT)
    }

    fn enter(&mut self, dir: u64, name: &[u8], number: u64) -> Result<(), i32> {
        if self.find(dir, name).is_ok() {
            return Err(refuse::EXISTS);
        }
        let entry = (name.to_owned(), number);
        self.entries_mut(dir)?.insert(fold(name), entry);
        self.node_mut(number).links += 1;
        self.touch(dir, true);
        Ok(())
    }

    fn add(&mut self, dir: u64, name: &[u8], content: Content, mode: u32) -> Answer {
        if self.find(dir, name).is_ok() {
            return Err(refuse::EXISTS);
        }
        let number = self.make(content, mode);
        self.enter(dir, name, number)?;
        Ok(self.entry(number))
    }

    fn leave(&mut self, dir: u64, name: &[u8]) -> Result<u64, i32> {
        let gone = self.entries_mut(dir)?.remove(&fold(name));
        let (_, number) = gone.ok_or(refuse::ABSENT)?;
        self.node_mut(number).links -= 1;
        self.touch(dir, true);
        self.touch(number, false);
        Ok(number)
    }

    fn remove(&mut self, dir: u64, name: &[u8], is_directory: bool) -> Answer {
        let found = self.find(dir, name)?;
        if is_directory && !self.entries(found)?.is_empty() {
            return Err(refuse::NOT_EMPTY);
        }
        self.leave(dir, name)?;
        Ok(Vec::new())
    }

    fn rename(&mut self, old: (u64, &[u8]), new: (u64, &[u8]), exchange: bool) -> Answer {
        let there = self.find(new.0, new.1).ok();
        if there == Some(self.find(old.0, old.1)?) {
            return Ok(Vec::new());
        }
        if let Some(there) = there
            && !exchange
            && self.entries(there).is_ok_and(|entries| !entries.is_empty())
        {
            return Err(refuse::NOT_EMPTY);
        }
        let other = match there {
            // Each keeps the spelling that the directory has.
            Some(_) if exchange => Some(self.leave(new.0, new.1)?),
            Some(_) => {
                self.leave(new.0, new.1)?;
                None
            }
            None => None,
        };
        let moved = self.leave(old.0, old.1)?;
        self.enter(new.0, new.1, moved)?;
        if let Some(other) = other {
            self.enter(old.0, old.1, other)?;
        }
        Ok(Vec::new())
    }

    fn set(&mut self, number: u64, mut fields: Fields<'_>) {
        let which = fields.small();
        fields.bytes(12);
        let size = usize::try_from(fields.large()).unwrap();
        fields.bytes(16);
        let modified = fields.large();
        fields.bytes(12);
        let part = fields.small();
        fields.bytes(4);
        let mode = fields.small();
        let has = |bit: u32| which & bit != 0;
        if has(1) {
            self.node_mut(number).mode = mode & 0o7777;
        }
        if has(8)
            && let Content::File(bytes) = &mut self.node_mut(number).content
        {
            bytes.resize(size, 0);
        }
        self.touch(number, has(8) || has(256));
        if has(32) && !has(256) {
            self.node_mut(number).modified = Duration::new(modified, part);
        }
    }

    fn list(&self, dir: u64, from: usize, size: usize) -> Answer {
        let dots = [(b".".to_vec(), dir), (b"..".to_vec(), ROOT)];
        let entries = self.entries(dir)?.values().cloned();
        let mut answer = Reply::default();
        for (at, (name, number)) in dots.into_iter().chain(entries).enumerate().skip(from) {
            let mut entry = Reply::default()
                .large(number)
                .large(at as u64 + 1)
                .length(name.len())
                .small(self.kind(number) >> 12);
            entry.0.extend(name);
            entry.0.resize(entry.0.len().next_multiple_of(8), 0);
            if answer.0.len() + entry.0.len() > size {
                break;
            }
            answer.0.extend(entry.0);
        }
        Ok(answer.0)
    }

    fn kind(&self, number: u64) -> u32 {
        match self.node(number).content {
            Content::File(_) => 0o100_000,
            Content::Link(_) => 0o120_000,
            Content::Directory(_) => 0o040_000,
        }
    }

    /// What the protocol says of a file, without how long that is so: it never is.
    fn about(&self, number: u64, answer: Reply) -> Vec<u8> {
        let node = self.node(number);
        let size = match &node.content {
            Content::File(bytes) | Content::Link(bytes) => bytes.len() as u64,
            Content::Directory(_) => 0,
        };
        let mut answer = answer.large(number).large(size).large(size.div_ceil(512));
        for time in [node.modified, node.modified, node.changed] {
            answer = answer.large(time.as_secs());
        }
        for time in [node.modified, node.modified, node.changed] {
            answer = answer.small(time.subsec_nanos());
        }
        let mode = self.kind(number) | node.mode;
        for number in [mode, node.links, 0, 0, 0, 4096, 0] {
            answer = answer.small(number);
        }
        answer.0
    }

    fn entry(&self, number: u64) -> Vec<u8> {
        let forever = Reply::default().large(number).large(0);
        self.about(number, forever.large(0).large(0).large(0))
    }

    fn attributes(&self, number: u64) -> Vec<u8> {
        self.about(number, Reply::default().large(0).large(0))
    }
}
