//! The one place that starts other programs.
//!
//! A child runs in its own process group, never on our terminal and never longer than its
//! [`Patience`]; everything it says is captured up to a limit. [`is_ours`] tells the children of
//! this process from other people's, so that the agent never waits for itself.
//!
//! Absent: shells. A command is a program and an argument vector.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, test_kill_process};

use crate::clock;
use crate::engine::timer::Moment;

/// The process groups of children that are alive, by the id of their leader.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// How much of a child's standard error is kept, in bytes; the rest is read and dropped.
const STDERR_LIMIT: usize = 64 * 1024;

/// How long to wait for a child.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// At most this long in all.
    Total(Duration),
    /// As long as it says or takes something at least this often.
    Silence(Duration),
}

/// What a child left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to standard output.
    pub stdout: Vec<u8>,
    /// The first 64 KiB of what it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether it was killed because our patience ended.
    pub stalled: bool,
}

/// Creates a command for `program`, in its own process group, with closed standard input.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.process_group(0).stdin(Stdio::null());
    command
}

/// A child that is removed from the list of ours, and killed with its group, when dropped alive.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: i32,
    reaped: bool,
}

impl Running {
    /// Starts the command.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        // Whoever asks meanwhile waits: a child that already runs must not be taken for a stranger.
        let mut groups = groups();
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        groups.insert(pid);
        drop(groups);
        Ok(Self {
            child,
            pid,
            reaped: false,
        })
    }

    /// Returns the child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Returns the child's process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the end of the child.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }

    /// Returns how the child ended, `None` as long as it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.reaped |= status.is_some();
        Ok(status)
    }

    /// Kills the whole process group of the child.
    pub fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.pid)
            && !self.reaped
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(pid = self.pid, %error, "child group was gone before the kill");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            if let Err(error) = self.child.wait() {
                tracing::debug!(pid = self.pid, %error, "child could not be reaped");
            }
        }
        groups().remove(&self.pid);
    }
}

fn groups() -> std::sync::MutexGuard<'static, BTreeSet<i32>> {
    GROUPS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns whether there is no process of that id.
pub fn is_gone(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Returns whether a process belongs to a child that this process started.
pub fn is_ours(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else {
        return false;
    };
    match rustix::process::getpgid(Some(pid)) {
        Ok(group) => groups().contains(&group.as_raw_nonzero().get()),
        Err(_) => false,
    }
}

/// Kills every child of this process with its group; for the end of the process.
pub fn kill_all() {
    for group in groups().iter() {
        if let Some(pid) = Pid::from_raw(*group)
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(group, %error, "child group was gone before the kill");
        }
    }
}

/// Starts a program of the user's that outlives us, and forgets it.
pub fn launch(command: &mut Command) -> io::Result<()> {
    let mut child = command.spawn()?;
    std::thread::Builder::new()
        .name("launched".to_owned())
        .spawn(move || {
            if let Err(error) = child.wait() {
                tracing::debug!(%error, "a program that was launched could not be reaped");
            }
        })?;
    Ok(())
}

/// Runs a command to its end, feeding it `input`.
///
/// Returns what it left, also if it failed or was killed for its slowness. Errors only if it could
/// not be started or its pipes broke.
pub fn run(command: &mut Command, input: &[u8], patience: Patience) -> io::Result<Finished> {
    run_watched(command, input, patience, &mut |_| {})
}

/// Runs a command as [`run`] does and shows every piece of its standard error to `watch` as it
/// comes, beyond the limit of what is kept.
pub fn run_watched(
    command: &mut Command,
    input: &[u8],
    patience: Patience,
    watch: &mut dyn FnMut(&[u8]),
) -> io::Result<Finished> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    });
    let mut running = Running::start(command)?;
    let mut stdin = running.child().stdin.take();
    let mut stdout = running.child().stdout.take();
    let mut stderr = running.child().stderr.take();
    for fd in [
        stdin.as_ref().map(AsFd::as_fd),
        stdout.as_ref().map(AsFd::as_fd),
        stderr.as_ref().map(AsFd::as_fd),
    ]
    .into_iter()
    .flatten()
    {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    let ended = match Pid::from_raw(running.pid()) {
        Some(pid) => pidfd_open(pid, PidfdFlags::empty()).ok(),
        None => None,
    };

    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut written = 0;
    let mut heard = clock::now();
    let mut stalled = false;
    let mut gone = false;
    while stdout.is_some() || stderr.is_some() {
        if !gone {
            let limit = match patience {
                Patience::Total(limit) | Patience::Silence(limit) => limit,
            };
            let left = limit.saturating_sub(clock::now().since(heard));
            if left.is_zero() {
                stalled = true;
                running.kill();
            }
            gone = wait_for(
                stdin.as_ref().map(AsFd::as_fd),
                [
                    stdout.as_ref().map(AsFd::as_fd),
                    stderr.as_ref().map(AsFd::as_fd),
                ],
                ended.as_ref().map(AsFd::as_fd),
                if stalled {
                    Duration::from_millis(100)
                } else {
                    left
                },
            )?;
        }
        let mut moved = false;
        if let Some(pipe) = stdin.as_mut() {
            match pipe.write(&input[written..]) {
                Ok(count) => {
                    written += count;
                    moved = count > 0;
                    if written == input.len() {
                        stdin = None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The child closed its input: what it thinks of it, its exit status says.
                Err(_) => stdin = None,
            }
        }
        moved |= drain(&mut stdout, &mut |piece| out.extend_from_slice(piece))?;
        moved |= drain(&mut stderr, &mut |piece| {
            let room = STDERR_LIMIT.saturating_sub(err.len()).min(piece.len());
            err.extend_from_slice(&piece[..room]);
            watch(piece);
        })?;
        if moved {
            if matches!(patience, Patience::Silence(_)) {
                heard = clock::now();
            }
        } else if gone {
            // A grandchild (a shared ssh connection) may hold our pipes open for ever.
            break;
        }
    }
    drop(stdin);
    let status = running.wait()?;
    Ok(Finished {
        status,
        stdout: out,
        stderr: err,
        stalled,
    })
}

/// Waits until a pipe is ready; returns whether the child has ended.
fn wait_for(
    stdin: Option<std::os::fd::BorrowedFd<'_>>,
    outputs: [Option<std::os::fd::BorrowedFd<'_>>; 2],
    ended: Option<std::os::fd::BorrowedFd<'_>>,
    left: Duration,
) -> io::Result<bool> {
    let mut fds = Vec::with_capacity(4);
    if let Some(fd) = &ended {
        fds.push(PollFd::from_borrowed_fd(*fd, PollFlags::IN));
    }
    if let Some(fd) = &stdin {
        fds.push(PollFd::from_borrowed_fd(*fd, PollFlags::OUT));
    }
    for fd in outputs.iter().flatten() {
        fds.push(PollFd::from_borrowed_fd(*fd, PollFlags::IN));
    }
    let timeout = rustix::event::Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    Ok(ended.is_some()
        && fds
            .first()
            .is_some_and(|fd| fd.revents().contains(PollFlags::IN)))
}

/// Reads what a pipe has now; returns whether anything came. A pipe at its end becomes `None`.
fn drain<R: Read>(pipe: &mut Option<R>, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
    let Some(reader) = pipe.as_mut() else {
        return Ok(false);
    };
    let mut buffer = [0; 8 * 1024];
    let mut moved = false;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => {
                *pipe = None;
                return Ok(true);
            }
            Ok(count) => {
                moved = true;
                take(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns when the process with this id started, in clock ticks since boot (proc(5), field 22).
pub fn start_time(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// Returns whether the process with this id that started then (see [`start_time`]) lives in this
/// boot. One that has ended and is not waited for does not.
pub fn lives(pid: i32, start: u64, boot: &str) -> bool {
    let state = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text.rsplit_once(')')?.1.trim_start().chars().next()
    };
    boot == boot_id()
        && start_time(pid) == Some(start)
        && state().is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Returns the kernel's id of this boot, empty where there is none.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Returns whether a process has this file open, as far as we may look.
pub fn is_open(path: &std::path::Path) -> bool {
    let list = |dir: std::path::PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten();
    list("/proc".into()).any(|process| {
        list(process.path().join("fd"))
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|open| open == path))
    })
}

/// Returns the moment at which the process with this id started; `None` if there is none.
pub fn started(pid: i32) -> Option<Moment> {
    // proc(5) counts in USER_HZ, which is 100 wherever this program runs.
    Some(Moment(Duration::from_millis(start_time(pid)? * 10)))
}

/// Returns the moment after which a wait that starts now is over.
pub fn deadline(wait: Duration) -> Moment {
    clock::now() + wait
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Patience = Patience::Total(Duration::from_secs(20));

    #[test]
    fn a_megabyte_goes_in_and_comes_out() {
        let input = vec![b'x'; 1 << 20];
        let done = run(&mut command("cat"), &input, LONG).unwrap();
        assert!(done.status.success());
        assert_eq!(done.stdout, input);
    }

    #[test]
    fn a_silent_child_is_killed_and_said_to_have_stalled() {
        let patience = Patience::Silence(Duration::from_millis(50));
        let done = run(command("sleep").arg("60"), b"", patience).unwrap();
        assert!(done.stalled);
        assert!(!done.status.success());
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipes_does_not_hold_us() {
        let script = "sleep 60 & echo $!";
        let done = run(command("sh").args(["-c", script]), b"", LONG).unwrap();
        assert!(done.status.success() && !done.stalled);
        let pid: i32 = String::from_utf8(done.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!(start_time(pid).is_some());
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn our_children_are_known_while_they_live() {
        let mut running = Running::start(command("sleep").arg("60")).unwrap();
        let pid = running.pid();
        assert!(is_ours(pid));
        running.kill();
        running.wait().unwrap();
        drop(running);
        assert!(!is_ours(pid));
    }
}
