//! Many new blobs in one pack: one file and one fsync instead of one each.

use std::io::{BufWriter, Write};
use std::process::{ChildStdin, Stdio};

use super::{Place, RepoError};
use crate::git::{GitError, failed};
use crate::process::{Finished, Running};

/// From this many new blobs on, they go into a pack.
pub const WORTH_A_PACK: usize = 50;

/// A `git fast-import` that takes blobs. They are objects once [`Pack::finish`] returns.
#[derive(Debug)]
pub struct Pack {
    running: Running,
    input: BufWriter<ChildStdin>,
}

impl Pack {
    /// Starts a pack.
    pub fn start(place: &Place) -> Result<Self, RepoError> {
        let mut command = place.git.command("-c");
        command.args([
            "fastimport.unpackLimit=0",
            "fast-import",
            "--quiet",
            "--done",
        ]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut running = Running::start(&mut command).map_err(GitError::Spawn)?;
        match running.child().stdin.take() {
            Some(input) => Ok(Self {
                running,
                input: BufWriter::with_capacity(1 << 16, input),
            }),
            None => Err(GitError::Stalled("fast-import".to_owned()).into()),
        }
    }

    /// Adds a blob.
    pub fn add(&mut self, content: &[u8]) -> Result<(), RepoError> {
        let input = &mut self.input;
        write!(input, "blob\ndata {}\n", content.len())
            .and_then(|()| input.write_all(content))
            .and_then(|()| input.write_all(b"\n"))
            .map_err(|error| GitError::io("fast-import".as_ref(), error).into())
    }

    /// Finishes the pack; its objects are durable when this returns.
    pub fn finish(self) -> Result<(), RepoError> {
        let Self {
            mut running,
            mut input,
        } = self;
        let said = input.write_all(b"done\n").and_then(|()| input.flush());
        drop(input);
        let status = running.wait().map_err(GitError::Spawn)?;
        if status.success() && said.is_ok() {
            return Ok(());
        }
        let done = Finished {
            status,
            stdout: Vec::new(),
            stderr: Vec::new(),
            stalled: false,
        };
        Err(failed("fast-import", &done).into())
    }
}
