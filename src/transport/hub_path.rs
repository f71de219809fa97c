//! Watches the references of hubs that are directories of this machine.
//!
//! One thread for all of them. An event of the kernel only makes it look: the branch's tip is
//! read again, and reported if it is another one. A slow look without a cause finds what the
//! kernel did not tell; on network file systems, where it tells nothing about other machines, that
//! look is the watch.
//!
//! Absent: sorting out our own pushes. The engine knows what it pushed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::hub::Pace;
use super::mail::Mailbox;
use super::watch::{Known, Order, Watch};
use super::{Board, State};
use crate::clock;
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::timer::Moment;
use crate::git::hub::{self, Kind, Look};
use crate::git::{GitError, LOCAL, bare_command, run};
use crate::names::{ObjectId, escape};

/// Starts the thread.
pub(super) fn start(board: Arc<Board>, pace: Pace) -> io::Result<Watch> {
    let mut watcher = Watcher {
        board,
        pace,
        ears: Ears::open()?,
        hubs: BTreeMap::new(),
    };
    Watch::start("hub-watch", move |mailbox| watcher.run(mailbox))
}

/// One hub that is watched for one folder.
struct Hub {
    known: Known,
    path: PathBuf,
    /// The repository, while it is there.
    dir: Option<PathBuf>,
    /// What the kernel watches for it.
    watches: BTreeSet<i32>,
    next: Moment,
    wait: Duration,
}

struct Watcher {
    board: Arc<Board>,
    pace: Pace,
    ears: Ears,
    hubs: BTreeMap<String, Hub>,
}

impl Watcher {
    fn run(&mut self, mailbox: &Mailbox<Order>) {
        while let Some(orders) = mailbox.take() {
            for order in orders {
                self.obey(order);
            }
            self.look_where_due();
            if let Err(error) = self.wait(mailbox) {
                tracing::error!(%error, "the hubs are no longer watched");
                return;
            }
            let mut touched = BTreeSet::new();
            let lost = self.ears.listen(&mut touched);
            let now = clock::now();
            for hub in self.hubs.values_mut() {
                if lost || !touched.is_disjoint(&hub.watches) {
                    hub.next = now;
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Watch(folder) => {
                let Kind::Path(path) = folder.hub.clone() else {
                    return;
                };
                let hub = Hub {
                    path,
                    dir: None,
                    watches: BTreeSet::new(),
                    next: clock::now(),
                    wait: self.pace.away,
                    known: Known::new(*folder),
                };
                self.hubs.insert(hub.known.folder.key.clone(), hub);
            }
            Order::Retry => {
                for hub in self.hubs.values_mut() {
                    hub.next = clock::now();
                }
            }
            Order::Unwatch(key) => {
                self.hubs.remove(&key);
                let used: BTreeSet<i32> = self
                    .hubs
                    .values()
                    .flat_map(|hub| hub.watches.iter().copied())
                    .collect();
                self.ears.keep_only(&used);
            }
        }
    }

    fn look_where_due(&mut self) {
        let now = clock::now();
        for hub in self.hubs.values_mut().filter(|hub| hub.next <= now) {
            look_at(hub, &self.board, &mut self.ears, self.pace);
        }
    }

    /// Waits for an order, an event, or until the next look is due.
    fn wait(&self, mailbox: &Mailbox<Order>) -> Result<(), Errno> {
        let next = self.hubs.values().map(|hub| hub.next).min();
        let mut fds = vec![PollFd::new(mailbox.bell(), PollFlags::IN)];
        self.ears.join(&mut fds);
        match poll(&mut fds, super::mail::timeout(next).as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Looks at one hub: arms its watches, reads the tip, reports what changed, sets the next look.
fn look_at(hub: &mut Hub, board: &Board, ears: &mut Ears, pace: Pace) {
    let now = clock::now();
    let dir = hub::locate(&hub.path);
    // Watches first: what changes after this is an event, what changed before is seen now.
    let heard = match &dir {
        Some(dir) => ears.watch(dir, &hub.known.folder.branch, &mut hub.watches),
        None => Ok(false),
    };
    let look = match &dir {
        Some(dir) => tip(dir, &hub.path, &hub.known.folder.branch),
        None => Ok(Look::Missing),
    };
    let tip = match (look, heard) {
        (Ok(Look::Tip(tip)), Ok(heard)) => {
            hub.wait = pace.away;
            let sure = heard && !dir.as_deref().is_some_and(is_remote);
            hub.next = now + if sure { pace.heartbeat } else { pace.doubtful };
            tip
        }
        (Ok(Look::Missing | Look::Unclear), _) => {
            let message = format!("there is no hub at {}", shown(&hub.path));
            let hint = "If it is on a disk that is not plugged in, plug it in.";
            let trouble = Trouble::new(Code::HubMissing, Recovery::Retry, message, hint);
            return away(hub, board, pace, trouble);
        }
        (Err(error), _) => return away(hub, board, pace, error.trouble()),
        (_, Err(error)) => {
            let message = format!("the hub at {} cannot be watched: {error}", shown(&hub.path));
            let hint = "If there are no watches left, raise fs.inotify.max_user_watches.";
            let trouble = Trouble::new(Code::Watches, Recovery::Retry, message, hint);
            return away(hub, board, pace, trouble);
        }
    };
    hub.dir = dir;
    hub.known.tip(board, tip);
}

fn away(hub: &mut Hub, board: &Board, pace: Pace, trouble: Trouble) {
    hub.dir = None;
    hub.next = clock::now() + hub.wait;
    hub.wait = (hub.wait * 2).min(pace.away_max);
    hub.known.away(board, State::Retry(trouble));
}

/// Reads the tip from plain files, or through git where they do not tell.
fn tip(dir: &Path, path: &Path, branch: &str) -> Result<Look, GitError> {
    match hub::look_in(dir, branch)? {
        Look::Unclear => {
            let mut command = bare_command();
            let name = format!("refs/heads/{branch}");
            command
                .args(["ls-remote", "--refs", "--"])
                .arg(path)
                .arg(&name);
            let done = run(&mut command, b"", LOCAL, "ls-remote")?;
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            let line = text.lines().find_map(|line| {
                let (id, found) = line.split_once('\t')?;
                (found == name).then(|| ObjectId::from_hex(id))
            });
            Ok(Look::Tip(line.transpose()?))
        }
        look @ (Look::Tip(_) | Look::Missing) => Ok(look),
    }
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// Returns whether other machines may write here without this kernel's knowledge.
#[cfg(target_os = "linux")]
fn is_remote(dir: &Path) -> bool {
    /// The numbers of statfs(2): NFS, SMB, CIFS, SMB2, 9P, FUSE, Ceph, AFS, Coda, GFS2, OCFS2,
    /// Lustre, `VirtualBox`.
    const REMOTE: [u32; 13] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x0102_1997,
        0x6573_5546,
        0x00c3_6400,
        0x5346_414f,
        0x7375_7245,
        0x0116_1970,
        0x7461_636f,
        0x0bd0_0bd0,
        0x786f_4256,
    ];
    match rustix::fs::statfs(dir) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the number has 32 bits"
        )]
        Ok(found) => REMOTE.contains(&(found.f_type as u32)),
        Err(_) => true,
    }
}

/// Returns whether other machines may write here without this kernel's knowledge: not known here.
#[cfg(not(target_os = "linux"))]
fn is_remote(_dir: &Path) -> bool {
    true
}

#[cfg(target_os = "linux")]
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The kernel's file events.
#[cfg(target_os = "linux")]
struct Ears {
    queue: OwnedFd,
    /// What is watched, and the names in it that matter; no names: every one.
    names: BTreeMap<i32, BTreeSet<Vec<u8>>>,
}

#[cfg(target_os = "linux")]
impl Ears {
    fn open() -> io::Result<Self> {
        use rustix::fs::inotify::{CreateFlags, init};
        Ok(Self {
            queue: init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            names: BTreeMap::new(),
        })
    }

    fn join<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.push(PollFd::new(&self.queue, PollFlags::IN));
    }

    /// Watches everything in which git shows that a branch moved; again is harmless.
    ///
    /// Returns true. Errors if the kernel gives no watch for the repository itself.
    fn watch(&mut self, dir: &Path, branch: &str, watches: &mut BTreeSet<i32>) -> io::Result<bool> {
        watches.clear();
        self.add(dir, &[b"packed-refs", b"refs", b"reftable"], watches)?;
        let mut level = dir.join("refs");
        for name in std::iter::once("heads").chain(branch.split('/')) {
            match self.add(&level, &[name.as_bytes()], watches) {
                Ok(()) => level.push(name),
                // That it is made is seen in the directory above.
                Err(error) if is_absence(&error) => break,
                Err(error) => return Err(error),
            }
        }
        if dir.join("reftable").is_dir() {
            self.add(&dir.join("reftable"), &[b"tables.list"], watches)?;
        }
        Ok(true)
    }

    fn add(&mut self, dir: &Path, names: &[&[u8]], into: &mut BTreeSet<i32>) -> io::Result<()> {
        use rustix::fs::inotify::{WatchFlags, add_watch};
        let mask = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let watch = add_watch(&self.queue, dir, mask)?;
        into.insert(watch);
        let known = self.names.entry(watch).or_default();
        known.extend(names.iter().map(|name| name.to_vec()));
        Ok(())
    }

    /// Gives back the watches that nobody uses.
    fn keep_only(&mut self, used: &BTreeSet<i32>) {
        self.names.retain(|watch, _| {
            if used.contains(watch) {
                return true;
            }
            if let Err(error) = rustix::fs::inotify::remove_watch(&self.queue, *watch) {
                tracing::trace!(%error, "a watch had ended already");
            }
            false
        });
    }

    /// Takes what the kernel has to say, as the watches in which something of interest happened.
    ///
    /// Returns true if the kernel's queue ran over and anything may have happened.
    fn listen(&mut self, touched: &mut BTreeSet<i32>) -> bool {
        use rustix::fs::inotify::{ReadFlags, Reader};
        let mut lost = false;
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return lost,
                Err(error) => {
                    tracing::warn!(%error, "file events of hubs cannot be read");
                    return true;
                }
            };
            let flags = event.events();
            lost |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
            let watch = event.wd();
            let matters = match (event.file_name(), self.names.get(&watch)) {
                (Some(name), Some(names)) => names.contains(name.to_bytes()),
                (None, _) => true,
                (Some(_), None) => false,
            };
            if matters {
                touched.insert(watch);
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.names.remove(&watch);
            } else if flags.contains(ReadFlags::MOVE_SELF) {
                // The directory lives on elsewhere; what is at its path now is another one.
                self.names.remove(&watch);
                if let Err(error) = rustix::fs::inotify::remove_watch(&self.queue, watch) {
                    tracing::trace!(%error, "a watch had ended already");
                }
            }
        }
    }
}

/// No file events on this system: hubs are looked at from time to time.
#[cfg(not(target_os = "linux"))]
struct Ears;

#[cfg(not(target_os = "linux"))]
impl Ears {
    fn open() -> io::Result<Self> {
        Ok(Self)
    }

    fn join<'a>(&'a self, _: &mut Vec<PollFd<'a>>) {}

    fn watch(&mut self, _: &Path, _: &str, _: &mut BTreeSet<i32>) -> io::Result<bool> {
        Ok(false)
    }

    fn keep_only(&mut self, _: &BTreeSet<i32>) {}

    fn listen(&mut self, _: &mut BTreeSet<i32>) -> bool {
        false
    }
}
