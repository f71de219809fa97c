//! How fast the reflector is with a thousand subscribers: prints a Markdown table.
//!
//! `cargo bench --bench reflect` starts the program as a server, connects a thousand subscribers to
//! it over loopback and lets four others announce a hundred messages a second for ten seconds
//! (`AUTOSYNC_BENCH_SECONDS`). A delivery is from before the announcement is written until its line
//! is read by one subscriber; both ends are in this process, so on a machine with two cores they
//! share one, and what they cost is in the figures. A message that a newer one of its channel overtook
//! on the way is counted as such, and is no delivery.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark stops at the first surprise"
)]
#![expect(clippy::print_stdout, reason = "the table is its output")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use autosync::clock;
use autosync::engine::timer::Moment;
use autosync::transport::fanout::line::{Lines, Told, told};
use autosync::transport::fanout::seal::{Key, Seal, Side, nonce};
use autosync::transport::reflector::raise_open_files;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;

const SUBSCRIBERS: usize = 1000;
const ANNOUNCERS: usize = 4;
/// Announcements in a second, of all announcers.
const RATE: u64 = 100;
const KEY: &str = "0123456789abcdef0123456789abcdef";

fn main() {
    raise_open_files();
    let seconds: u64 =
        std::env::var("AUTOSYNC_BENCH_SECONDS").map_or(10, |text| text.parse().unwrap());
    println!("{SUBSCRIBERS} subscribers, {RATE} announcements a second, {seconds} s each\n");
    println!(
        "| subscribers of a channel | key | delivered | overtaken | p50 ms | p99 ms | max ms | RSS MB | its CPU |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (listeners, key) in [
        (4, false),
        (4, true),
        (50, false),
        (SUBSCRIBERS, false),
        (SUBSCRIBERS, true),
    ] {
        measure(listeners, key, seconds);
    }
}

/// The program as a server.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(key: Option<&Path>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a benchmark starts the program")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_autosync"));
        command.args(["reflect", "--listen", "127.0.0.1:0"]);
        if let Some(key) = key {
            command.arg("--key-file").arg(key);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line
            .trim()
            .trim_end_matches('.')
            .rsplit(' ')
            .next()
            .unwrap();
        let address = address.parse().unwrap();
        Self { child, address }
    }

    /// Its resident memory in megabytes.
    fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        let kilobytes: u32 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        f64::from(kilobytes) / 1024.0
    }

    /// The processor time that it has used.
    fn time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A client of ours.
struct Client {
    stream: TcpStream,
    lines: Lines,
    seal: Option<Seal>,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects from an address of its own hundreds, and is greeted.
    async fn open(server: SocketAddr, number: usize, key: bool) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        let host = u8::try_from(2 + number / 50).unwrap();
        socket
            .bind((Ipv4Addr::new(127, 0, 0, host), 0).into())
            .unwrap();
        let stream = socket.connect(server).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self {
            stream,
            lines: Lines::default(),
            seal: None,
            buffer: vec![0; 8192],
        };
        let mine = nonce().unwrap();
        let hello = if key {
            format!("hello autosync/1 {mine}")
        } else {
            "hello autosync/1".to_owned()
        };
        client.say(&hello).await;
        let mut answer = None;
        while answer.is_none() {
            client
                .hear(|line| {
                    if let Some(rest) = line.strip_prefix("hello!autosync/1") {
                        answer = Some(rest.trim().to_owned());
                    }
                })
                .await;
        }
        if key {
            let answer = answer.unwrap();
            let theirs = answer.split(' ').next().unwrap();
            let key = Key::new(KEY.as_bytes());
            client.seal = Some(Seal::new(&key, &mine, theirs, Side::Client));
        }
        client
    }

    async fn say(&mut self, line: &str) {
        let line = match &mut self.seal {
            Some(seal) => seal.close(line),
            None => line.to_owned(),
        };
        self.stream
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    /// Waits for a piece and takes the lines in it.
    async fn hear(&mut self, mut each: impl FnMut(&str)) {
        let count = self.stream.read(&mut self.buffer).await.unwrap();
        assert!(count > 0, "the server ended the connection");
        let seal = &mut self.seal;
        let fed = self.lines.feed(&self.buffer[..count], |line| {
            let line = match seal {
                Some(seal) => seal.open(line).unwrap(),
                None => line,
            };
            each(std::str::from_utf8(line).unwrap());
        });
        fed.unwrap();
    }

    /// Waits until everything that was said before was dealt with.
    async fn sync(&mut self) {
        self.say("ping").await;
        let mut done = false;
        while !done {
            self.hear(|line| done = told(line.as_bytes()) == Told::Pong)
                .await;
        }
    }
}

/// When each announcement was written.
type Times = Rc<std::cell::RefCell<Vec<Moment>>>;

/// Announces one message after another, and returns how long each delivery took.
fn measure(listeners: usize, key: bool, seconds: u64) {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("key");
    fs::write(&file, KEY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start(key.then_some(file.as_path()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let channels = SUBSCRIBERS / listeners;
    let before = std::cell::Cell::new(Duration::ZERO);
    let (mut took, expected) = LocalSet::new().block_on(&runtime, async {
        let times: Times = Rc::default();
        let mut subscribers = Vec::new();
        for number in 0..SUBSCRIBERS {
            let mut client = Client::open(server.address, number, key).await;
            client
                .say(&format!("subscribe c{}", number % channels))
                .await;
            client.sync().await;
            subscribers.push(client);
        }
        let mut announcers = Vec::new();
        for number in 0..ANNOUNCERS {
            announcers.push(Client::open(server.address, SUBSCRIBERS + number, key).await);
        }
        before.set(server.time());
        let tasks: Vec<_> = subscribers
            .into_iter()
            .map(|client| tokio::task::spawn_local(listen(client, Rc::clone(&times))))
            .collect();
        let total = RATE * seconds;
        let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
        for number in 0..usize::try_from(total).unwrap() {
            tick.tick().await;
            let line = format!("announce c{} {number}", number % channels);
            times.borrow_mut().push(clock::now());
            announcers[number % ANNOUNCERS].say(&line).await;
        }
        for channel in 0..channels {
            announcers[0].say(&format!("announce c{channel} end")).await;
        }
        let mut took = Vec::new();
        for task in tasks {
            took.extend(task.await.unwrap());
        }
        (took, usize::try_from(total).unwrap() * listeners)
    });
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 1000].as_secs_f64() * 1000.0;
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let cpu = server.time().saturating_sub(before.get()).as_secs_f64() / seconds as f64 * 100.0;
    println!(
        "| {listeners} | {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.1} | {cpu:.0} % |",
        if key { "yes" } else { "no" },
        took.len(),
        expected - took.len(),
        at(500),
        at(990),
        at(1000),
        server.memory(),
    );
}

/// Listens until the end is announced. Returns how long each delivery took.
async fn listen(mut client: Client, times: Times) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut over = false;
    while !over {
        client
            .hear(|line| {
                let now = clock::now();
                match line.split_once('!').unwrap().1 {
                    "end" => over = true,
                    number => {
                        let number: usize = number.parse().unwrap();
                        took.push(now.since(times.borrow()[number]));
                    }
                }
            })
            .await;
    }
    took
}
