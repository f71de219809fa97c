//! The reflector: a small server of `SparkleShare`'s line protocol, for a router or whatever is
//! always on.
//!
//! Who announces a message on a channel rings everybody who subscribed to it, itself too. Clients
//! of ours say `hello`; they get the latest message of a channel when they subscribe, so that a host
//! that comes back learns the newest commit at once. Everybody else is taken for a `SparkleShare`
//! of before 2.0, which loses a line that comes less than a second after another, takes any line for
//! the answer to its ping, and believes that it was asleep if it is spoken to too often: it gets one
//! line at a time, the newest of each channel, and nothing that it did not ask for.
//!
//! Invariants:
//! 1. A client costs a bounded amount of memory, whatever it sends or does not read.
//! 2. What is written is whole lines.
//! 3. Without a key only this machine is listened to. With one, who does not have it hears nothing
//!    and is heard by nobody, unless `SparkleShare` hosts were asked for.
//!
//! Absent: contents, accounts, TLS, anything on disk, the protocol's verb `info`.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::fanout::line::BUSY;
use super::fanout::seal::Key;

mod client;
mod limit;
mod outbox;
mod room;

use room::Room;

/// What a client may take of the server, and how patient the server is.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// So many clients in all.
    pub clients: usize,
    /// So many of one address.
    pub per_address: usize,
    /// So many channels of one client.
    pub subscriptions: usize,
    /// So many lines at once...
    pub burst: u32,
    /// ...and then one in this time.
    pub line_every: Duration,
    /// So many channels have their latest message kept.
    pub remembered: usize,
    /// A client that says nothing for this long is gone.
    pub idle: Duration,
    /// A client that takes nothing for this long is cut.
    pub stuck: Duration,
    /// With a key: a client that has not shown its own by then is cut.
    pub login: Duration,
    /// So much time is between two lines to a `SparkleShare` host.
    pub gap: Duration,
    /// A line that went to a `SparkleShare` host this long before its ping may have been taken for
    /// the answer, and is said again.
    pub swallowed: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 2048,
            per_address: 64,
            subscriptions: 256,
            burst: 600,
            line_every: Duration::from_millis(20),
            remembered: 4096,
            idle: Duration::from_secs(900),
            stuck: Duration::from_secs(20),
            login: Duration::from_secs(20),
            gap: Duration::from_millis(1200),
            swallowed: Duration::from_secs(2),
        }
    }
}

/// What a reflector is told.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The key that it shares with our hosts.
    pub key: Option<Key>,
    /// Whether `SparkleShare` hosts are served although there is a key.
    pub legacy: bool,
    /// Its limits.
    pub limits: Limits,
}

/// Why there is no reflector.
#[derive(Debug, thiserror::Error)]
pub enum ReflectError {
    /// It would listen to others without a key.
    #[error("without a key only this machine is listened to, and {0} is more than that")]
    NoKey(SocketAddr),
    /// The address cannot be had.
    #[error("{address} cannot be listened on: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl ReflectError {
    /// Returns what to do, a sentence; empty if there is nothing to say.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoKey(_) => {
                "Give a key with `--key-file`, the same as your hosts have, or listen on 127.0.0.1."
            }
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "Something listens there already; choose another port."
            }
            Self::Bind { .. } => "",
        }
    }
}

/// The server.
#[derive(Debug)]
pub struct Reflector {
    listener: TcpListener,
    room: Arc<Room>,
}

impl Reflector {
    /// Listens on an address. Must be called inside a tokio runtime.
    pub async fn bind(address: SocketAddr, settings: Settings) -> Result<Self, ReflectError> {
        if settings.key.is_none() && !address.ip().is_loopback() {
            return Err(ReflectError::NoKey(address));
        }
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| ReflectError::Bind { address, source })?;
        Ok(Self {
            listener,
            room: Arc::new(Room::new(settings)),
        })
    }

    /// Returns where it listens, with the port that it got.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is ready; every connection ends then.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let mut clients: JoinSet<IpAddr> = JoinSet::new();
        let mut addresses: BTreeMap<IpAddr, usize> = BTreeMap::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                Some(ended) = clients.join_next() => match ended {
                    Ok(address) => {
                        let count = addresses.entry(address).or_default();
                        *count = count.saturating_sub(1);
                        if *count == 0 {
                            addresses.remove(&address);
                        }
                    }
                    Err(error) => tracing::error!(%error, "a client's task ended early"),
                },
                came = self.listener.accept() => match came {
                    Ok((stream, peer)) => {
                        let address = peer.ip().to_canonical();
                        let limits = &self.room.settings.limits;
                        let here = addresses.get(&address).copied().unwrap_or_default();
                        if clients.len() >= limits.clients || here >= limits.per_address {
                            tracing::debug!(%address, here, all = clients.len(), "no room");
                            turn_away(&stream);
                            continue;
                        }
                        *addresses.entry(address).or_default() += 1;
                        let room = Arc::clone(&self.room);
                        clients.spawn(async move {
                            if let Err(error) = client::attend(stream, room).await {
                                tracing::debug!(%peer, %error, "a client is gone");
                            }
                            address
                        });
                    }
                    Err(error) => {
                        // Too many open files, or a connection that was gone before it was taken.
                        tracing::warn!(%error, "a client could not be let in");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }
}

/// Says that there is no room. Nothing waits for it.
fn turn_away(stream: &TcpStream) {
    if let Err(error) = stream.try_write(BUSY.as_bytes()) {
        tracing::debug!(%error, "it was not told");
    }
}

/// Lets this process have as many open files as it may. A client is one.
pub fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}
