//! References: HEAD, branches and our own, read and moved by compare-and-swap.
//!
//! Our own references live below `refs/worktree/autosync/`, so that two work trees of one
//! repository never meet in them; they are never pushed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};

use super::objects::Objects;
use super::{Git, GitError, failed, reftable, unparsable};
use crate::names::ObjectId;
use crate::process::Running;

/// What HEAD is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// On a branch, given by its full name.
    Branch(String),
    /// On a commit.
    Detached(ObjectId),
}

/// The prefix of our own references.
pub const OURS: &str = "refs/worktree/autosync/";

/// Reads HEAD.
pub fn head(git: &Git) -> Result<Head, GitError> {
    let path = git.dir().join("HEAD");
    let raw = fs::read(&path).map_err(|error| GitError::io(&path, error))?;
    let text = String::from_utf8_lossy(raw.trim_ascii()).into_owned();
    if let Some(name) = text.strip_prefix("ref: ")
        && name != "refs/heads/.invalid"
    {
        return Ok(Head::Branch(name.trim().to_owned()));
    }
    if let Ok(id) = ObjectId::from_hex(&text) {
        return Ok(Head::Detached(id));
    }
    // With reftable the file says nothing.
    let done = git.ask("symbolic-ref", ["-q", "HEAD"], b"")?;
    match done.status.code() {
        Some(0) => Ok(Head::Branch(
            String::from_utf8_lossy(done.stdout.trim_ascii()).into_owned(),
        )),
        Some(1) => match read_by_program(git, "HEAD")? {
            Some(id) => Ok(Head::Detached(id)),
            None => Err(unparsable("symbolic-ref", &done.stdout)),
        },
        _ => Err(failed("symbolic-ref", &done)),
    }
}

/// Reads a reference by its full name; `None` if it does not exist.
pub fn read(git: &Git, objects: &Objects, name: &str) -> Result<Option<ObjectId>, GitError> {
    match objects.library() {
        Some(repo) => match repo.refname_to_id(name) {
            Ok(oid) => Ok(Some(ObjectId::from_bytes(oid.as_bytes())?)),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        },
        None => read_by_program(git, name),
    }
}

fn read_by_program(git: &Git, name: &str) -> Result<Option<ObjectId>, GitError> {
    let done = git.ask(
        "rev-parse",
        ["--verify", "--quiet", "--end-of-options", name],
        b"",
    )?;
    match done.status.code() {
        Some(0) => Ok(Some(ObjectId::from_hex(done.stdout)?)),
        Some(1) => Ok(None),
        _ => Err(failed("rev-parse", &done)),
    }
}

/// Sets one of our own references, or removes it. No lock of the user's is involved.
pub fn set(git: &Git, objects: &Objects, name: &str, to: Option<ObjectId>) -> Result<(), GitError> {
    let Some(repo) = objects.library() else {
        // The child has no number yet; it outlives us for a moment only.
        let _note = reftable::write_down(git, std::process::id())?;
        return match to {
            Some(id) => git
                .call("update-ref", [name, &id.to_string()], b"")
                .map(drop),
            None => git.call("update-ref", ["-d", name], b"").map(drop),
        };
    };
    match to {
        Some(id) => {
            let oid = git2::Oid::from_bytes(id.as_bytes())?;
            repo.reference(name, oid, true, "autosync").map(drop)?;
            Ok(())
        }
        None => match repo.find_reference(name) {
            Ok(mut reference) => Ok(reference.delete()?),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        },
    }
}

/// Moves one of our references that others move too, if it is still `from`; `None` is that it must
/// not exist. Returns whether it moved: else somebody else was first.
pub fn swap(
    git: &Git,
    objects: &Objects,
    name: &str,
    from: Option<ObjectId>,
    to: ObjectId,
) -> Result<bool, GitError> {
    let Some(repo) = objects.library() else {
        let _note = reftable::write_down(git, std::process::id())?;
        let zero = "0".repeat(to.to_string().len());
        let from_hex = from.map_or(zero, |id| id.to_string());
        let done = git.ask("update-ref", [name, &to.to_string(), &from_hex], b"")?;
        if done.status.success() {
            return Ok(true);
        }
        if read_by_program(git, name)? == from {
            return Err(failed("update-ref", &done));
        }
        return Ok(false);
    };
    let oid = git2::Oid::from_bytes(to.as_bytes())?;
    let moved = match from {
        Some(from) => {
            let from = git2::Oid::from_bytes(from.as_bytes())?;
            repo.reference_matching(name, oid, true, from, "autosync")
        }
        None => repo.reference(name, oid, false, "autosync"),
    };
    let theirs = |code| {
        matches!(
            code,
            git2::ErrorCode::Modified
                | git2::ErrorCode::Exists
                | git2::ErrorCode::NotFound
                | git2::ErrorCode::Locked
        )
    };
    match moved {
        Ok(_) => Ok(true),
        Err(error) if theirs(error.code()) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns every reference below a prefix with what it names.
pub fn list(git: &Git, prefix: &str) -> Result<Vec<(String, ObjectId)>, GitError> {
    let out = git.call(
        "for-each-ref",
        ["--format=%(objectname) %(refname)", prefix],
        b"",
    )?;
    let mut found = Vec::new();
    for line in out.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let text = String::from_utf8_lossy(line);
        let (id, name) = text
            .split_once(' ')
            .ok_or_else(|| unparsable("for-each-ref", line))?;
        found.push((name.to_owned(), ObjectId::from_hex(id)?));
    }
    Ok(found)
}

/// A running `git update-ref --stdin`: moves references together, or not at all.
///
/// If this process dies, git sees the end of its input and lets go of its locks.
#[derive(Debug)]
pub struct RefTransaction {
    running: Running,
    /// None once it was told that there is no more.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Answers that were not read yet.
    expected: Vec<&'static str>,
    /// That it may hold the lock of a reftable; the last to be dropped.
    _note: Option<reftable::Note>,
}

impl RefTransaction {
    /// Starts a transaction, without waiting for the program to be there. `reason` goes into the
    /// reflog.
    pub fn start(git: &Git, reason: &str) -> Result<Self, GitError> {
        let mut command = git.command("update-ref");
        command.args(["-m", reason, "--stdin"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut running = Running::start(&mut command).map_err(GitError::Spawn)?;
        let child = running.child();
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unparsable("update-ref", b"no pipes"));
        };
        let note = reftable::write_down(git, running.child().id())?;
        let mut this = Self {
            running,
            input: Some(input),
            output: BufReader::new(output),
            expected: Vec::new(),
            _note: note,
        };
        this.say("start", Some("start: ok"))?;
        Ok(this)
    }

    /// Returns the process id of the program.
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// Plans to move `name` from `old` (zeros: it must not exist) to `new`.
    pub fn update(&mut self, name: &str, new: ObjectId, old: ObjectId) -> Result<(), GitError> {
        self.say(&format!("update {name} {new} {old}"), None)
    }

    /// Locks every reference and checks its old value.
    pub fn prepare(&mut self) -> Result<(), GitError> {
        self.say("prepare", Some("prepare: ok"))?;
        self.hear()
    }

    /// Moves the references; only after [`Self::prepare`].
    pub fn commit(mut self) -> Result<(), GitError> {
        self.say("commit", Some("commit: ok"))?;
        self.hear()?;
        self.finish()
    }

    /// Lets go of everything.
    pub fn abort(mut self) -> Result<(), GitError> {
        self.say("abort", Some("abort: ok"))?;
        self.hear()?;
        self.finish()
    }

    fn say(&mut self, command: &str, answer: Option<&'static str>) -> Result<(), GitError> {
        self.tell(command, answer)
            .map_err(|error| self.ended(error))
    }

    /// Reads every answer that is due.
    fn hear(&mut self) -> Result<(), GitError> {
        self.listen().map_err(|error| self.ended(error))
    }

    /// Ends the program after an error. Returns that error, or that the program was killed.
    fn ended(&mut self, error: GitError) -> GitError {
        self.input = None;
        match self.running.wait() {
            Ok(status) if status.code().is_none() => GitError::Failed {
                command: "update-ref".to_owned(),
                code: -1,
                stderr: "it was killed".to_owned(),
            },
            Ok(_) => error,
            Err(error) => GitError::Spawn(error),
        }
    }

    fn tell(&mut self, command: &str, answer: Option<&'static str>) -> Result<(), GitError> {
        self.expected.extend(answer);
        let Some(input) = &mut self.input else {
            return Err(unparsable("update-ref", b"it was over"));
        };
        writeln!(input, "{command}")
            .and_then(|()| input.flush())
            .map_err(|error| GitError::io(Path::new("update-ref"), error))
    }

    fn listen(&mut self) -> Result<(), GitError> {
        for answer in std::mem::take(&mut self.expected) {
            let mut line = Vec::new();
            self.output
                .read_until(b'\n', &mut line)
                .map_err(|error| GitError::io(Path::new("update-ref"), error))?;
            if line.trim_ascii() != answer.as_bytes() {
                return Err(unparsable("update-ref", line.trim_ascii()));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), GitError> {
        self.input = None;
        self.running.wait().map(drop).map_err(GitError::Spawn)
    }
}

impl Drop for RefTransaction {
    /// Lets the program end by itself: killed, it would leave the locks that it holds.
    fn drop(&mut self) {
        if self.input.take().is_some()
            && let Err(error) = self.running.wait()
        {
            tracing::debug!(%error, "update-ref could not be waited for");
        }
    }
}
