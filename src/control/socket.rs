//! The door: a socket that only its own user reaches, and the server behind it.

use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::{Ask, routes};
use crate::paths::{self, PathsError};
use crate::process;

/// The longest name of a socket in bytes: 108 on Linux and 104 elsewhere, with a closing NUL.
const NAME_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// How long the door stays shut when the system gives no more descriptors.
const BREATH: Duration = Duration::from_millis(200);

/// A bound control socket. Its file goes when it is dropped.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's file: what is removed must be ours.
    file: Option<(u64, u64)>,
    user: u32,
}

/// Why the control socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The name does not fit into a socket's address.
    #[error("the control socket's path `{}` is longer than {NAME_MAX} bytes", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The directory is not ours or cannot be made.
    #[error(transparent)]
    Directory(#[from] PathsError),
    /// Others can look into the directory.
    #[error("the control socket's directory `{}` is open to other users", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
    },
    /// Something answers at this socket, or something else than a socket is in the way.
    #[error("the control socket `{}` is in use", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen at `{}`: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    /// Returns one sentence that says what to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::InUse { .. } | Self::Io { .. } => {
                "Set `control.socket` in the configuration to another path."
            }
            Self::Directory(error) => error.hint(),
            Self::Open { .. } => {
                "Close it with `chmod 700`, or set `control.socket` to another path."
            }
        }
    }
}

/// Binds the control socket. Must be called inside a tokio runtime.
///
/// A missing directory is made with mode 0700; a socket that nobody answers at is replaced. The
/// caller holds the agent's lock, so that no other agent is between those two steps.
pub fn bind(path: &Path) -> Result<Door, BindError> {
    bind_where(path, process::is_gone)
}

/// The same; `is_gone` says whether a process lives no more.
fn bind_where(path: &Path, is_gone: impl Fn(u32) -> bool) -> Result<Door, BindError> {
    let path = path.to_owned();
    if path.as_os_str().len() > NAME_MAX {
        return Err(BindError::TooLong { path });
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    if !dir.exists() {
        paths::private_dir(dir)?;
    }
    if !paths::is_private(dir)? {
        return Err(BindError::Open { dir: dir.into() });
    }
    let failed = |source| BindError::Io {
        path: path.clone(),
        source,
    };
    if let Ok(found) = fs::symlink_metadata(&path) {
        if !found.file_type().is_socket() || answers(&path, is_gone) {
            return Err(BindError::InUse { path });
        }
        fs::remove_file(&path).map_err(failed)?;
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    Ok(Door {
        listener,
        file: identity(&path),
        path,
        user: rustix::process::geteuid().as_raw(),
    })
}

/// Returns whether somebody answers at a socket.
///
/// Not one who was killed: until a child that he was just starting begins its own program, that has
/// his socket, and callers only wait there.
fn answers(path: &Path, is_gone: impl Fn(u32) -> bool) -> bool {
    let Ok(caller) = std::os::unix::net::UnixStream::connect(path) else {
        return false;
    };
    let listener = caller
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(caller)?.peer_cred());
    let pid = listener.ok().and_then(|peer| peer.pid());
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    !pid.is_some_and(is_gone)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

impl Door {
    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the caller is of our own user, by the kernel's word.
    fn admits(&self, caller: &UnixStream) -> bool {
        match caller.peer_cred() {
            Ok(peer) if peer.uid() == self.user => true,
            Ok(peer) => {
                tracing::warn!(uid = peer.uid(), "turned away a caller of another user");
                false
            }
            Err(error) => {
                tracing::debug!(%error, "a caller has no credentials");
                false
            }
        }
    }
}

impl Listener for Door {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok((caller, address)) if self.admits(&caller) => return (caller, address),
                Ok(_) => {}
                Err(error) => {
                    // A caller that hung up is its own affair; anything else is a want of
                    // descriptors or memory, and asking again at once would spin.
                    if error.kind() != io::ErrorKind::ConnectionAborted {
                        tracing::warn!(%error, "cannot take a call at the control socket");
                        tokio::time::sleep(BREATH).await;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if self.file.is_some()
            && identity(&self.path) == self.file
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

/// Answers calls until `stop` is ready, then finishes the calls that have begun.
///
/// Event streams end when the agent drops its sender of events. Errors if the server itself fails.
pub async fn serve(
    door: Door,
    asks: mpsc::Sender<Ask>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(door, routes::router(asks))
        .with_graceful_shutdown(stop)
        .await
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[tokio::test]
    async fn a_caller_of_another_user_is_turned_away() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("private/control");
        let mut door = bind(&socket).unwrap();
        let us = door.user;
        // As if the door were somebody else's.
        door.user = us + 1;
        let mut caller = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let turned_away = tokio::task::spawn_blocking(move || {
            let mut said = Vec::new();
            caller.read_to_end(&mut said).unwrap();
            said
        });
        tokio::select! {
            _ = door.accept() => panic!("let in"),
            said = turned_away => assert!(said.unwrap().is_empty()),
        }

        door.user = us;
        let caller = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        door.accept().await;
        drop(caller);
    }

    #[tokio::test]
    async fn a_socket_whose_listener_was_killed_is_replaced_though_a_copy_of_it_is_open() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("private/control");
        paths::private_dir(socket.parent().unwrap()).unwrap();
        let _copy = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let us = std::process::id();
        let lives = bind_where(&socket, |pid| {
            assert_eq!(pid, us);
            false
        });
        assert!(matches!(lives, Err(BindError::InUse { .. })), "{lives:?}");
        let door = bind_where(&socket, |pid| pid == us).unwrap();
        let _caller = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        door.listener.accept().await.unwrap();
    }
}
