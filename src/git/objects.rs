//! git's objects: read and written in process by libgit2, or by the program where libgit2 cannot
//! open the repository (reftable, SHA-256).
//!
//! Invariants:
//! 1. What is written here is fsynced before it gets its name, so a power cut leaves no empty
//!    object behind.
//! 2. Neither the index nor the work tree nor a reference is touched.
//! 3. What is gathered is seen by nobody but the reader of these objects until
//!    [`Gathering::finish`] made it durable.
//!
//! Absent: packs of many new blobs; see `repo::snapshot`.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::rc::Rc;

use super::loose::Gathered;
use super::tree::{self, Line};
use super::{Git, GitError, failed, unparsable};
use crate::names::{ObjectId, RepoPath, escape};
use crate::process::Running;
use crate::sys;

/// What kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The content of a file, or the target of a symlink.
    Blob,
    /// A directory.
    Tree,
    /// A commit.
    Commit,
    /// An annotated tag.
    Tag,
}

impl Kind {
    /// Returns git's word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Tree => "tree",
            Self::Commit => "commit",
            Self::Tag => "tag",
        }
    }

    fn from_word(word: &[u8]) -> Option<Self> {
        [Self::Blob, Self::Tree, Self::Commit, Self::Tag]
            .into_iter()
            .find(|kind| kind.word().as_bytes() == word)
    }
}

/// A commit, as far as we read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its tree.
    pub tree: ObjectId,
    /// Its parents, first to last.
    pub parents: Vec<ObjectId>,
    /// The author's name.
    pub author: Vec<u8>,
    /// The committer's time, seconds since 1970.
    pub seconds: i64,
    /// The committer's offset from UTC in minutes.
    pub offset: i32,
    /// The message, whole.
    pub message: Vec<u8>,
}

impl Commit {
    /// Returns the values of a trailer of the last paragraph of the message, in their order.
    pub fn trailers(&self, key: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.message).into_owned();
        let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
        last.lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
            .map(str::to_owned)
            .collect()
    }
}

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
}

/// Access to the objects of one repository.
pub struct Objects {
    git: Git,
    width: usize,
    backend: Backend,
    /// Where loose objects are written by us.
    loose: Option<PathBuf>,
    gathered: RefCell<Option<Gathered>>,
}

/// Larger objects are written at once, in bytes.
const GATHERED: usize = 1 << 20;

/// While it lives, new objects are gathered in memory; dropping it forgets them.
pub struct Gathering(Rc<Objects>);

impl Gathering {
    /// Begins to gather.
    pub fn start(objects: &Rc<Objects>) -> Self {
        if objects.loose.is_some() {
            objects.gathered.replace(Some(Gathered::default()));
        }
        Self(Rc::clone(objects))
    }

    /// Writes what was gathered; all of it is durable when this returns. `meanwhile` makes something
    /// else durable, in the same wait for the disk, before the first of the objects has its name.
    pub fn finish(self, meanwhile: impl FnOnce() -> io::Result<()>) -> Result<(), GitError> {
        let gathered = self.0.gathered.take().unwrap_or_default();
        let dir = self.0.loose.as_deref().unwrap_or(self.0.git.dir());
        gathered
            .write(dir, meanwhile)
            .map_err(|error| GitError::io(dir, error))
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.0.gathered.take();
    }
}

enum Backend {
    Library(git2::Repository),
    Program(RefCell<Option<Batch>>),
}

/// A `git cat-file --batch` that is kept running.
struct Batch {
    running: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Objects {
    /// Opens the objects of a repository.
    pub fn open(git: &Git) -> Result<Self, GitError> {
        sys::fsync_objects();
        let backend = match git2::Repository::open(git.dir()) {
            Ok(repo) => Backend::Library(repo),
            Err(error) => {
                tracing::debug!(%error, "objects go through the git program");
                Backend::Program(RefCell::new(None))
            }
        };
        let width = match &backend {
            Backend::Program(_) if git.object_format()? == "sha256" => 32,
            Backend::Library(_) | Backend::Program(_) => 20,
        };
        let loose = match &backend {
            // Where a group shares them, libgit2 knows the rights that they need.
            Backend::Library(repo) => match repo.config()?.get_string("core.sharedRepository") {
                Ok(_) => None,
                Err(_) => Some(repo.commondir().join("objects")),
            },
            Backend::Program(_) => None,
        };
        Ok(Self {
            git: git.clone(),
            width,
            backend,
            loose,
            gathered: RefCell::new(None),
        })
    }

    /// Returns the length of an id in bytes.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns libgit2's view of the repository, if it has one.
    pub fn library(&self) -> Option<&git2::Repository> {
        match &self.backend {
            Backend::Library(repo) => Some(repo),
            Backend::Program(_) => None,
        }
    }

    /// Reads an object whole.
    pub fn read(&self, id: ObjectId) -> Result<(Kind, Vec<u8>), GitError> {
        if let Some(found) = self.of_gathered(id, Clone::clone) {
            return Ok(found);
        }
        match &self.backend {
            Backend::Library(repo) => {
                let odb = repo.odb()?;
                let oid = git2::Oid::from_bytes(id.as_bytes())?;
                let object = match odb.read(oid) {
                    Ok(object) => object,
                    Err(error) if error.code() == git2::ErrorCode::NotFound => {
                        // Another process may have packed it since we looked.
                        odb.refresh()?;
                        odb.read(oid).map_err(|_| GitError::Object(id))?
                    }
                    Err(error) => return Err(error.into()),
                };
                let kind = match object.kind() {
                    git2::ObjectType::Commit => Kind::Commit,
                    git2::ObjectType::Tree => Kind::Tree,
                    git2::ObjectType::Tag => Kind::Tag,
                    git2::ObjectType::Blob | git2::ObjectType::Any => Kind::Blob,
                };
                Ok((kind, object.data().to_vec()))
            }
            Backend::Program(batch) => self.read_by_program(&mut batch.borrow_mut(), id),
        }
    }

    fn of_gathered<T>(&self, id: ObjectId, of: impl FnOnce(&(Kind, Vec<u8>)) -> T) -> Option<T> {
        self.gathered.borrow().as_ref()?.get(id).map(of)
    }

    fn read_by_program(
        &self,
        slot: &mut Option<Batch>,
        id: ObjectId,
    ) -> Result<(Kind, Vec<u8>), GitError> {
        let batch = match slot {
            Some(batch) => batch,
            None => slot.insert(self.start_batch()?),
        };
        let broken = |error| GitError::io(self.git.dir(), error);
        writeln!(batch.input, "{id}")
            .and_then(|()| batch.input.flush())
            .map_err(broken)?;
        let mut head = Vec::new();
        batch.output.read_until(b'\n', &mut head).map_err(broken)?;
        let mut words = head.trim_ascii().split(|b| *b == b' ');
        let (_, kind, size) = (words.next(), words.next(), words.next());
        let kind = kind.and_then(Kind::from_word).ok_or(GitError::Object(id))?;
        let size = size.and_then(|s| std::str::from_utf8(s).ok()?.parse::<usize>().ok());
        let size = size.ok_or_else(|| unparsable("cat-file", &head))?;
        let mut content = vec![0; size + 1];
        batch.output.read_exact(&mut content).map_err(broken)?;
        content.truncate(size);
        Ok((kind, content))
    }

    fn start_batch(&self) -> Result<Batch, GitError> {
        let mut command = self.git.command("cat-file");
        command
            .arg("--batch")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut running = Running::start(&mut command).map_err(GitError::Spawn)?;
        let child = running.child();
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Batch {
                running,
                input,
                output: BufReader::new(output),
            }),
            _ => Err(unparsable("cat-file", b"no pipes")),
        }
    }

    /// Returns whether an object is here.
    pub fn contains(&self, id: ObjectId) -> bool {
        if self.of_gathered(id, |_| ()).is_some() {
            return true;
        }
        match &self.backend {
            Backend::Library(repo) => match (repo.odb(), git2::Oid::from_bytes(id.as_bytes())) {
                (Ok(odb), Ok(oid)) => odb.exists(oid),
                _ => false,
            },
            Backend::Program(_) => self.read(id).is_ok(),
        }
    }

    /// Writes an object; it is durable when this returns, or when a [`Gathering`] is finished.
    pub fn write(&self, kind: Kind, content: &[u8]) -> Result<ObjectId, GitError> {
        match &self.backend {
            Backend::Library(repo) => {
                let git_kind = match kind {
                    Kind::Blob => git2::ObjectType::Blob,
                    Kind::Tree => git2::ObjectType::Tree,
                    Kind::Commit => git2::ObjectType::Commit,
                    Kind::Tag => git2::ObjectType::Tag,
                };
                let odb = repo.odb()?;
                let oid = git2::Oid::hash_object(git_kind, content)?;
                let id = ObjectId::from_bytes(oid.as_bytes())?;
                let Some(dir) = self.loose.as_deref().filter(|_| !odb.exists(oid)) else {
                    // What is there already libgit2 marks as used lately.
                    odb.write(git_kind, content)?;
                    return Ok(id);
                };
                if let Some(gathered) = &mut *self.gathered.borrow_mut()
                    && content.len() <= GATHERED
                {
                    gathered.add(id, kind, content);
                    return Ok(id);
                }
                let mut alone = Gathered::default();
                alone.add(id, kind, content);
                alone
                    .write(dir, || Ok(()))
                    .map_err(|error| GitError::io(dir, error))?;
                Ok(id)
            }
            Backend::Program(_) => {
                let args = ["-t", kind.word(), "-w", "--stdin", "--literally"];
                let out = if content.is_empty() {
                    // No input means no pipe; /dev/null reads as the empty object.
                    self.git
                        .call("hash-object", ["-t", kind.word(), "-w", "/dev/null"], b"")?
                } else {
                    self.git.call("hash-object", args, content)?
                };
                Ok(ObjectId::from_hex(out)?)
            }
        }
    }

    /// Returns the id that a blob of this content has, without writing it.
    pub fn hash_blob(&self, content: &[u8]) -> Result<ObjectId, GitError> {
        if self.width == 20 {
            let oid = git2::Oid::hash_object(git2::ObjectType::Blob, content)?;
            return Ok(ObjectId::from_bytes(oid.as_bytes())?);
        }
        if content.is_empty() {
            let out = self
                .git
                .call("hash-object", ["-t", "blob", "/dev/null"], b"")?;
            return Ok(ObjectId::from_hex(out)?);
        }
        Ok(ObjectId::from_hex(self.git.call(
            "hash-object",
            ["--stdin", "--no-filters"],
            content,
        )?)?)
    }

    /// Writes a large file as a blob, in pieces, its bytes as they are.
    ///
    /// Returns `None` if the file did not have `size` bytes. `path` is where it is, for a
    /// repository that only the program can write to.
    pub fn write_blob_from(
        &self,
        file: &mut impl Read,
        size: u64,
        path: &Path,
    ) -> Result<Option<ObjectId>, GitError> {
        let Backend::Library(repo) = &self.backend else {
            let mut command = self.git.command("hash-object");
            command.args(["-w", "--no-filters", "--"]).arg(path);
            let out = super::run(&mut command, b"", super::LOCAL, "hash-object")?.stdout;
            return Ok(Some(ObjectId::from_hex(out)?));
        };
        let odb = repo.odb()?;
        let length = usize::try_from(size).map_err(|_| unparsable("size", b"too large"))?;
        let mut writer = odb.writer(length, git2::ObjectType::Blob)?;
        let copied = io::copy(&mut file.take(size), &mut writer);
        match copied {
            Ok(copied) if copied == size => {}
            Ok(_) => return Ok(None),
            Err(error) => return Err(GitError::io(path, error)),
        }
        let oid = writer.finalize()?;
        Ok(Some(ObjectId::from_bytes(oid.as_bytes())?))
    }

    /// Returns the content of a blob.
    pub fn blob(&self, id: ObjectId) -> Result<Vec<u8>, GitError> {
        match self.read(id)? {
            (Kind::Blob, content) => Ok(content),
            _ => Err(GitError::Object(id)),
        }
    }

    /// Returns the size of an object's content in bytes without reading all of it.
    pub fn size(&self, id: ObjectId) -> Result<u64, GitError> {
        if let Some(size) = self.of_gathered(id, |(_, content)| content.len()) {
            return Ok(size as u64);
        }
        match &self.backend {
            Backend::Library(repo) => {
                let oid = git2::Oid::from_bytes(id.as_bytes())?;
                let (size, _) = repo
                    .odb()?
                    .read_header(oid)
                    .map_err(|_| GitError::Object(id))?;
                Ok(size as u64)
            }
            Backend::Program(_) => {
                let out = self.git.call("cat-file", ["-s", &id.to_string()], b"")?;
                let text = std::str::from_utf8(out.trim_ascii()).unwrap_or_default();
                text.parse().map_err(|_| unparsable("cat-file", &out))
            }
        }
    }

    /// Returns the lines of a tree.
    pub fn tree(&self, id: ObjectId) -> Result<Vec<Line>, GitError> {
        match self.read(id)? {
            (Kind::Tree, raw) => tree::parse(&raw, self.width),
            _ => Err(GitError::Object(id)),
        }
    }

    /// Writes a tree.
    pub fn write_tree(&self, lines: Vec<Line>) -> Result<ObjectId, GitError> {
        self.write(Kind::Tree, &tree::serialise(lines))
    }

    /// Returns what stands at a path of a tree, `None` if nothing does.
    pub fn entry(&self, tree: ObjectId, path: &RepoPath) -> Result<Option<tree::Entry>, GitError> {
        let mut at = tree::Entry {
            mode: tree::DIRECTORY,
            id: tree,
        };
        for name in path.components() {
            if !at.is_tree() {
                return Ok(None);
            }
            match self.tree(at.id)?.into_iter().find(|line| line.name == name) {
                Some(line) => at = line.entry,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Reads a commit.
    pub fn commit(&self, id: ObjectId) -> Result<Commit, GitError> {
        match self.read(id)? {
            (Kind::Commit, raw) => parse_commit(&raw).ok_or(GitError::Object(id)),
            _ => Err(GitError::Object(id)),
        }
    }

    /// Writes a commit with one identity and one time for author and committer.
    ///
    /// `seconds` is the wall clock; nothing but the commit's own date is made of it.
    pub fn write_commit(
        &self,
        tree: ObjectId,
        parents: &[ObjectId],
        who: &Identity,
        (seconds, offset): (i64, i32),
        message: &str,
    ) -> Result<ObjectId, GitError> {
        let clean = |text: &str| text.replace(['<', '>', '\n', '\0'], "");
        let sign = if offset < 0 { '-' } else { '+' };
        let zone = format!("{sign}{:02}{:02}", offset.abs() / 60, offset.abs() % 60);
        let by = format!(
            "{} <{}> {seconds} {zone}",
            clean(&who.name),
            clean(&who.email)
        );
        let parents: Vec<String> = parents.iter().map(|id| format!("parent {id}\n")).collect();
        let parents = parents.concat();
        let message = message.replace('\0', "");
        let raw = format!("tree {tree}\n{parents}author {by}\ncommitter {by}\n\n{message}");
        self.write(Kind::Commit, raw.as_bytes())
    }

    /// Returns the best common ancestor of two commits, `None` if they share none.
    pub fn merge_base(&self, a: ObjectId, b: ObjectId) -> Result<Option<ObjectId>, GitError> {
        if a == b {
            return Ok(Some(a));
        }
        match &self.backend {
            Backend::Library(repo) => {
                let (a, b) = (
                    git2::Oid::from_bytes(a.as_bytes())?,
                    git2::Oid::from_bytes(b.as_bytes())?,
                );
                match repo.merge_base(a, b) {
                    Ok(oid) => Ok(Some(ObjectId::from_bytes(oid.as_bytes())?)),
                    Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
            Backend::Program(_) => {
                let done = self
                    .git
                    .ask("merge-base", [a.to_string(), b.to_string()], b"")?;
                match done.status.code() {
                    Some(0) => {
                        let first = done
                            .stdout
                            .split(|b| *b == b'\n')
                            .next()
                            .unwrap_or_default();
                        Ok(Some(ObjectId::from_hex(first)?))
                    }
                    Some(1) => Ok(None),
                    _ => Err(failed("merge-base", &done)),
                }
            }
        }
    }

    /// Returns all best common ancestors of two commits: none if they share no history, several
    /// after merges that crossed.
    pub fn merge_bases(&self, a: ObjectId, b: ObjectId) -> Result<Vec<ObjectId>, GitError> {
        if a == b {
            return Ok(vec![a]);
        }
        match &self.backend {
            Backend::Library(repo) => {
                let (a, b) = (
                    git2::Oid::from_bytes(a.as_bytes())?,
                    git2::Oid::from_bytes(b.as_bytes())?,
                );
                let found = match repo.merge_bases(a, b) {
                    Ok(found) => found,
                    Err(error) if error.code() == git2::ErrorCode::NotFound => {
                        return Ok(Vec::new());
                    }
                    Err(error) => return Err(error.into()),
                };
                let ids = found.iter().map(|oid| ObjectId::from_bytes(oid.as_bytes()));
                Ok(ids.collect::<Result<_, _>>()?)
            }
            Backend::Program(_) => {
                let args = ["--all".to_owned(), a.to_string(), b.to_string()];
                let done = self.git.ask("merge-base", args, b"")?;
                match done.status.code() {
                    Some(0) => {
                        let lines = done.stdout.split(|b| *b == b'\n');
                        let ids = lines.filter(|line| !line.is_empty());
                        Ok(ids.map(ObjectId::from_hex).collect::<Result<_, _>>()?)
                    }
                    Some(1) => Ok(Vec::new()),
                    _ => Err(failed("merge-base", &done)),
                }
            }
        }
    }

    /// Returns whether `newer` contains `older` in its history; a commit contains itself.
    pub fn descends(&self, newer: ObjectId, older: ObjectId) -> Result<bool, GitError> {
        Ok(newer == older || self.merge_base(newer, older)? == Some(older))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.running.kill();
    }
}

/// Reads a commit object; `None` if it is none.
pub fn parse_commit(raw: &[u8]) -> Option<Commit> {
    let (mut tree, mut parents, mut author) = (None, Vec::new(), Vec::new());
    let (mut seconds, mut offset) = (0, 0);
    let mut rest = raw;
    loop {
        let end = rest.iter().position(|b| *b == b'\n')?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.is_empty() {
            break;
        }
        if let Some(id) = line.strip_prefix(b"tree ") {
            tree = ObjectId::from_hex(id).ok();
        } else if let Some(id) = line.strip_prefix(b"parent ") {
            parents.push(ObjectId::from_hex(id).ok()?);
        } else if let Some(by) = line.strip_prefix(b"author ") {
            let name = by.iter().position(|b| *b == b'<').unwrap_or(by.len());
            author = by[..name].trim_ascii().to_vec();
        } else if let Some(by) = line.strip_prefix(b"committer ") {
            let text = String::from_utf8_lossy(by).into_owned();
            let mut words = text.rsplit(' ');
            let zone: i32 = words.next()?.parse().unwrap_or(0);
            offset = zone / 100 * 60 + zone % 100;
            seconds = words.next()?.parse().unwrap_or(0);
        }
    }
    Some(Commit {
        tree: tree?,
        parents,
        author,
        seconds,
        offset,
        message: rest.to_vec(),
    })
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Objects({})",
            escape(self.git.dir().as_os_str().as_encoded_bytes())
        )
    }
}
