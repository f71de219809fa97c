//! A session bus of a test's own, and a notification server on it that notes what it is asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use autosync::clock;
use autosync::process;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use zbus::zvariant::OwnedValue;

use crate::support::host::PATIENCE;

const NAME: &str = "org.freedesktop.Notifications";
const OBJECT: &str = "/org/freedesktop/Notifications";

/// A bus that anybody of this user may use, and that starts nothing by itself.
const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=PATH</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// What the server was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Show(Shown),
    Close(u32),
}

/// A notification as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) id: u32,
    pub(crate) replaces: u32,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) urgency: u8,
    /// The keys of what can be clicked.
    pub(crate) keys: Vec<String>,
}

enum Order {
    Click(u32, String),
    Dismiss(u32),
    Vanish,
    Appear,
}

/// A bus. It ends when it is dropped.
pub(crate) struct Bus {
    daemon: Child,
    pub(crate) address: String,
}

impl Bus {
    /// Starts a bus that listens at this path; it is ready when this returns.
    pub(crate) fn at(socket: &Path, place: &Path) -> Self {
        let file = place.join("bus.conf");
        std::fs::write(&file, CONFIG.replace("PATH", &socket.display().to_string())).unwrap();
        let mut command = process::command("dbus-daemon");
        command.arg(format!("--config-file={}", file.display()));
        command.args(["--nofork", "--nopidfile", "--nosyslog", "--print-address=1"]);
        let mut daemon = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        let address = address.trim().to_owned();
        assert!(!address.is_empty(), "the bus did not start");
        Self { daemon, address }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

/// A bus with a server.
pub(crate) struct Desk {
    orders: Option<mpsc::UnboundedSender<Order>>,
    done: Receiver<()>,
    asked: Receiver<Asked>,
    hangs: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    pub(crate) bus: Bus,
    _place: TempDir,
}

struct Server {
    told: Sender<Asked>,
    last: Arc<AtomicU32>,
    can: Vec<String>,
    hangs: watch::Receiver<bool>,
}

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Server {
    fn get_capabilities(&self) -> Vec<String> {
        self.can.clone()
    }

    #[expect(clippy::too_many_arguments, reason = "the interface is as it is")]
    async fn notify(
        &self,
        name: String,
        replaces: u32,
        icon: String,
        title: String,
        body: String,
        actions: Vec<String>,
        hints: HashMap<String, OwnedValue>,
        timeout: i32,
    ) -> u32 {
        assert_eq!((name.as_str(), timeout), ("autosync", -1), "{icon}");
        let id = match replaces {
            0 => self.last.fetch_add(1, Ordering::Relaxed) + 1,
            old => old,
        };
        let urgency = hints.get("urgency").unwrap();
        let shown = Shown {
            id,
            replaces,
            title,
            body,
            urgency: u8::try_from(urgency).unwrap(),
            keys: actions.into_iter().step_by(2).collect(),
        };
        // The test may be over.
        drop(self.told.send(Asked::Show(shown)));
        drop(self.hangs.clone().wait_for(|hangs| !hangs).await);
        id
    }

    fn close_notification(&self, id: u32) {
        drop(self.told.send(Asked::Close(id)));
    }
}

impl Desk {
    /// A server with buttons and plain text.
    pub(crate) fn new() -> Self {
        Self::that_can(&["body", "actions"])
    }

    /// A server with these capabilities.
    pub(crate) fn that_can(can: &[&str]) -> Self {
        let place = tempfile::Builder::new().prefix("as-").tempdir().unwrap();
        let bus = Bus::at(&place.path().join("bus"), place.path());
        Self::on(bus, place, can)
    }

    /// A server on a bus.
    pub(crate) fn on(bus: Bus, place: TempDir, can: &[&str]) -> Self {
        let (orders, theirs) = mpsc::unbounded_channel();
        let (done_tx, done) = channel();
        let (told, asked) = channel();
        let (hangs, hangs_rx) = watch::channel(false);
        let can: Vec<String> = can.iter().map(|word| (*word).to_owned()).collect();
        let address = bus.address.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve(&address, &can, &told, &hangs_rx, theirs, &done_tx));
        });
        let desk = Self {
            orders: Some(orders),
            done,
            asked,
            hangs,
            thread: Some(thread),
            bus,
            _place: place,
        };
        desk.done.recv_timeout(PATIENCE).unwrap();
        desk
    }

    fn order(&self, order: Order) {
        assert!(self.orders.as_ref().unwrap().send(order).is_ok());
        self.done.recv_timeout(PATIENCE).unwrap();
    }

    /// Clicks on a button of a notification, which stays.
    pub(crate) fn click(&self, id: u32, key: &str) {
        self.order(Order::Click(id, key.to_owned()));
    }

    /// Closes a notification as a person does.
    pub(crate) fn dismiss(&self, id: u32) {
        self.order(Order::Dismiss(id));
    }

    /// Ends the server; the bus stays.
    pub(crate) fn vanish(&self) {
        self.order(Order::Vanish);
    }

    /// Starts another server.
    pub(crate) fn appear(&self) {
        self.order(Order::Appear);
    }

    /// Lets the server answer no more, or again.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    /// Returns what the server is asked next.
    #[track_caller]
    pub(crate) fn next(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }

    /// Returns what it was asked so far and nobody looked at.
    pub(crate) fn so_far(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }

    /// Returns the next notification that is so.
    #[track_caller]
    pub(crate) fn shows(&self, so: impl Fn(&Shown) -> bool) -> Shown {
        let mut others = Vec::new();
        let deadline = clock::now() + PATIENCE;
        loop {
            match self.asked.recv_timeout(clock::until(deadline)) {
                Ok(Asked::Show(shown)) if so(&shown) => return shown,
                Ok(other) => others.push(other),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("only these: {others:#?}")
                }
            }
        }
    }

    /// Waits until the server is asked to take a notification away.
    #[track_caller]
    pub(crate) fn closes(&self, id: u32) {
        let mut others = Vec::new();
        let deadline = clock::now() + PATIENCE;
        loop {
            match self.asked.recv_timeout(clock::until(deadline)) {
                Ok(Asked::Close(it)) if it == id => return,
                Ok(other) => others.push(other),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("only these: {others:#?}")
                }
            }
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.orders = None;
        self.hangs.send_replace(false);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(
    address: &str,
    can: &[String],
    told: &Sender<Asked>,
    hangs: &watch::Receiver<bool>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    done: &Sender<()>,
) {
    let last = Arc::new(AtomicU32::new(0));
    let start = async || {
        let server = Server {
            told: told.clone(),
            last: Arc::clone(&last),
            can: can.to_vec(),
            hangs: hangs.clone(),
        };
        zbus::connection::Builder::address(address)
            .unwrap()
            .serve_at(OBJECT, server)
            .unwrap()
            .name(NAME)
            .unwrap()
            .build()
            .await
            .unwrap()
    };
    let mut bus = Some(start().await);
    done.send(()).unwrap();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Vanish => bus.take().unwrap().close().await.unwrap(),
            Order::Appear => bus = Some(start().await),
            Order::Click(id, key) => {
                let bus = bus.as_ref().unwrap();
                let to = None::<&str>;
                bus.emit_signal(to, OBJECT, NAME, "ActionInvoked", &(id, key))
                    .await
                    .unwrap();
            }
            Order::Dismiss(id) => {
                let bus = bus.as_ref().unwrap();
                let to = None::<&str>;
                bus.emit_signal(to, OBJECT, NAME, "NotificationClosed", &(id, 2_u32))
                    .await
                    .unwrap();
            }
        }
        done.send(()).unwrap();
    }
}
