//! Notices over `SparkleShare`'s line protocol: the server, the client, hosts of both kinds.

mod agents;
mod announce;
mod client;
mod keys;
mod limits;
mod line;
mod sparkleshare;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ExitStatus, Stdio};
use std::thread::JoinHandle;

use autosync::transport::reflector::{Reflector, Settings};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use crate::support::{PROGRAM, Sandbox};

/// The program as a server; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts it on a port of this machine that is free.
    pub(crate) fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        Self::start_on(sandbox, "127.0.0.1:0", args)
    }

    /// Starts it on an address.
    pub(crate) fn start_on(sandbox: &Sandbox, listen: &str, args: &[&str]) -> Self {
        let mut command = sandbox.command(PROGRAM);
        command.args(["reflect", "--listen", listen]).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("Listening on ").unwrap();
        let address = address.strip_suffix('.').unwrap().parse().unwrap();
        Self { address, child }
    }

    /// Its address as the configuration has it.
    pub(crate) fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Sends it a signal and waits for its end. Returns how it ended.
    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A server inside the test, with limits of its own.
pub(crate) struct Inside {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    pub(crate) fn start(settings: Settings) -> Self {
        let (told, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let any = SocketAddr::from(([127, 0, 0, 1], 0));
                let reflector = Reflector::bind(any, settings).await.unwrap();
                told.send(reflector.address().unwrap()).unwrap();
                reflector.serve(async { drop(stopped.await) }).await;
            });
        });
        Self {
            address: address.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().unwrap().join());
    }
}
