//! How fast the bell rings: prints two Markdown tables.
//!
//! `cargo bench --bench bell` measures 100 notices (`AUTOSYNC_BENCH_NOTICES`) one after the other over
//! each transport, against a real Prosody, a real ejabberd, a reflector of our own and a hub on a path;
//! and then 10 edits (`AUTOSYNC_BENCH_ROUNDS`), 3 seconds apart and one file each, from the write on one
//! host until the file is visible on the other, with each transport as the only bell. A server that is
//! not installed is left out. Everything is on this machine, both ends share its cores.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark stops at the first surprise"
)]
#![expect(clippy::print_stdout, reason = "the tables are its output")]

#[path = "../tests/it/xmpp/raw.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod raw;
#[path = "../tests/it/xmpp/server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod server;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use autosync::clock;
use autosync::config::{FanoutSettings, Password, Secret, Tls, XmppSettings};
use autosync::engine::event::Event;
use autosync::engine::notice::Notice;
use autosync::git::hub::Kind;
use autosync::names::ObjectId;
use autosync::transport::{
    FanoutTransport, Folder, Herald, HubTransport, Sink, Transport, XmppTransport,
};
use server::{Make, PASSWORD, Server};

const FOLDER: &str = "0123456789abcdef0123456789abcdef01234567";
const PROGRAM: &str = env!("CARGO_BIN_EXE_autosync");
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |text| text.trim().parse().unwrap())
    };
    let notices = number("AUTOSYNC_BENCH_NOTICES", 100);
    let rounds = number("AUTOSYNC_BENCH_ROUNDS", 10);
    let servers: Vec<Server> = Make::BOTH
        .into_iter()
        .filter(|make| make.is_missing().is_none())
        .map(Server::start)
        .collect();
    let reflector = Reflector::start();

    println!("| {notices} notices over | p50 ms | p95 ms |");
    println!("|---|---:|---:|");
    for server in &servers {
        let end = |host: &str| End::new(|sink, herald| xmpp(server, host, sink, herald));
        print(
            &format!("{:?}", server.make),
            &ring(&end("a"), &end("b"), notices),
        );
    }
    let end = |host: &str| End::new(|sink, herald| fanout(&reflector, host, sink, herald));
    print("fanout", &ring(&end("a"), &end("b"), notices));
    print("hub, from the move of its branch", &hub(notices));

    println!("\n| edit -> visible there, {rounds} edits 3 s apart, over | p50 ms | p95 ms |");
    println!("|---|---:|---:|");
    print("hub", &edits("transports = [\"hub\"]\n", rounds));
    for server in &servers {
        let text = format!(
            "transports = [\"xmpp\"]\n[xmpp]\njid = \"alice@{}\"\npassword = \"{PASSWORD}\"\n\
             server = \"127.0.0.1:{}\"\nca_file = \"{}\"\n",
            raw::DOMAIN,
            server.port,
            server.ca().display()
        );
        print(&format!("{:?}", server.make), &edits(&text, rounds));
    }
    let address = &reflector.address;
    let text = format!("transports = [\"fanout\"]\n[fanout]\nserver = \"tcp://{address}\"\n");
    print("fanout", &edits(&text, rounds));
}

fn print(what: &str, times: &[Duration]) {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times[index].as_secs_f64() * 1000.0
    };
    println!("| {what} | {:.1} | {:.1} |", at(50), at(95));
}

/// A transport and what it says.
struct End {
    transport: Box<dyn Transport>,
    events: Receiver<Event>,
}

impl End {
    /// Makes one with one folder, and returns once notices can come.
    fn new(make: impl FnOnce(Sink, Herald) -> Box<dyn Transport>) -> Self {
        let (told, events) = channel();
        let sink: Sink = Arc::new(move |_: &str, event| drop(told.send(event)));
        let herald: Herald = Arc::new(|_, _| {});
        let mut transport = make(sink, herald);
        transport.watch(&folder(Kind::Other));
        let end = Self { transport, events };
        end.wait_online();
        end
    }

    fn wait_online(&self) {
        loop {
            if let Event::Transport { online: true, .. } = self.next() {
                return;
            }
        }
    }

    fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits for the notice of this commit.
    fn hears(&self, commit: ObjectId) {
        loop {
            if let Event::Noticed(notice, _) = self.next()
                && notice.commit == Some(commit)
            {
                return;
            }
        }
    }
}

/// Measures notices from one end to another, one at a time.
fn ring(from: &End, to: &End, count: u64) -> Vec<Duration> {
    // What is announced while the others are still being looked for takes another way.
    std::thread::sleep(Duration::from_secs(4));
    let times = (1..=count + 1).map(|sequence| {
        let notice = Notice {
            folder: FOLDER.into(),
            branch: "main".into(),
            commit: Some(ObjectId::from_hex(format!("{sequence:040x}")).unwrap()),
            host: "a".into(),
            sequence,
        };
        let begun = clock::now();
        from.transport.announce(&notice);
        to.hears(notice.commit.unwrap());
        let took = clock::now().since(begun);
        std::thread::sleep(Duration::from_millis(20));
        took
    });
    // The first one is no usual one.
    times.skip(1).collect()
}

/// Measures how long after a push the hub itself has told of it.
fn hub(count: u64) -> Vec<Duration> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub.git");
    autosync::git::hub::create(&path, "main", false).unwrap();
    let ids = commits(&path, count + 1);
    let (told, events) = channel();
    let sink: Sink = Arc::new(move |_: &str, event| drop(told.send(event)));
    let pace = autosync::transport::hub::Pace::default();
    let mut transport = HubTransport::new(sink, place.path().to_owned(), pace);
    transport.watch(&folder(Kind::Path(path.clone())));
    let end = End {
        transport: Box::new(transport),
        events,
    };
    end.wait_online();
    let repo = git2::Repository::open_bare(&path).unwrap();
    let times = ids.into_iter().map(|id| {
        let target = git2::Oid::from_str(&id).unwrap();
        let begun = clock::now();
        repo.reference("refs/heads/main", target, true, "").unwrap();
        end.hears(ObjectId::from_hex(&id).unwrap());
        let took = clock::now().since(begun);
        std::thread::sleep(Duration::from_millis(20));
        took
    });
    times.skip(1).collect()
}

fn commits(hub: &Path, count: u64) -> Vec<String> {
    let repo = git2::Repository::open_bare(hub).unwrap();
    let tree = repo.treebuilder(None).unwrap().write().unwrap();
    let tree = repo.find_tree(tree).unwrap();
    let who = git2::Signature::now("a", "a@example.org").unwrap();
    let make = |number: u64| {
        let text = number.to_string();
        let id = repo.commit(None, &who, &who, &text, &tree, &[]).unwrap();
        id.to_string()
    };
    (0..count).map(make).collect()
}

fn folder(hub: Kind) -> Folder {
    Folder {
        key: "Sync".into(),
        id: FOLDER.into(),
        name: "Sync".into(),
        root: "/nowhere".into(),
        url: String::new(),
        peers: Vec::new(),
        branch: "main".into(),
        hub,
        ssh_command: None,
    }
}

fn xmpp(server: &Server, host: &str, sink: Sink, herald: Herald) -> Box<dyn Transport> {
    let settings = XmppSettings {
        jid: format!("bob@{}", raw::DOMAIN),
        password: Password::Inline(Secret::new(PASSWORD.to_owned())),
        server: Some(("127.0.0.1".to_owned(), server.port)),
        tls: Tls::StartTls,
        ca_file: Some(server.ca()),
        resource: None,
        legacy: false,
        also_notify: Vec::new(),
        peers: Vec::new(),
    };
    Box::new(XmppTransport::new(sink, herald, settings, host.to_owned()))
}

fn fanout(server: &Reflector, host: &str, sink: Sink, herald: Herald) -> Box<dyn Transport> {
    let (name, port) = server.address.rsplit_once(':').unwrap();
    let settings = FanoutSettings {
        host: name.to_owned(),
        port: port.parse().unwrap(),
        key_file: None,
    };
    let pace = autosync::transport::fanout::Pace::default();
    Box::new(FanoutTransport::new(sink, herald, &settings, host, pace))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is no part of the agent"
)]
fn program() -> Command {
    let mut command = Command::new(PROGRAM);
    command.stdin(Stdio::null());
    command
}

/// `autosync reflect`.
struct Reflector {
    child: Child,
    address: String,
}

impl Reflector {
    fn start() -> Self {
        let mut command = program();
        command.args(["reflect", "--listen", "127.0.0.1:0"]);
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
        Self {
            child,
            address: address.to_owned(),
        }
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A home with an agent.
struct Host {
    home: PathBuf,
    name: &'static str,
    agent: Option<Child>,
}

impl Host {
    fn new(place: &Path, name: &'static str) -> Self {
        let home = place.join(name);
        fs::create_dir_all(home.join(".config/autosync")).unwrap();
        fs::create_dir(home.join("run")).unwrap();
        let git = "[user]\nname = Bench\nemail = bench@example.org\n[init]\ndefaultBranch = main\n";
        fs::write(home.join(".gitconfig"), git).unwrap();
        Self {
            home,
            name,
            agent: None,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", self.home.join("run"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("AUTOSYNC_HOST", self.name)
            .current_dir(&self.home);
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let done = self.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{args:?}: {said}");
        String::from_utf8(done.stdout).unwrap()
    }

    fn start(&mut self, notice: &str) {
        let text = format!("[[folder]]\npath = \"~/Sync\"\npoll = \"1h\"\n[notice]\n{notice}");
        let path = self.home.join(".config/autosync/config.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = self.command(&["run"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.agent = Some(command.spawn().unwrap());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            drop(agent.kill());
            drop(agent.wait());
        }
    }
}

/// Measures edits between two agents with this table of transports.
fn edits(notice: &str, rounds: u64) -> Vec<Duration> {
    let place = tempfile::tempdir().unwrap();
    let [mut first, mut second] = ["laptop", "office"].map(|name| Host::new(place.path(), name));
    let hub = place.path().join("hub.git");
    autosync::git::hub::create(&hub, "main", false).unwrap();
    let hub = hub.to_str().unwrap();
    fs::create_dir(first.home.join("Sync")).unwrap();
    fs::write(first.home.join("Sync/first.txt"), "first\n").unwrap();
    first.run(&["init", "Sync", "--hub", hub]);
    second.run(&["clone", hub, "Sync"]);
    for host in [&mut first, &mut second] {
        host.start(notice);
    }
    let there = |name: &str| second.home.join("Sync").join(name);
    // Presences, first contact and the greeting after a login are over then.
    std::thread::sleep(Duration::from_secs(6));
    let times = (0..=rounds).map(|round| {
        let name = format!("{round}.txt");
        let begun = clock::now();
        fs::write(first.home.join("Sync").join(&name), "new\n").unwrap();
        while !there(&name).exists() {
            assert!(clock::now().since(begun) < PATIENCE, "it does not arrive");
            std::thread::sleep(Duration::from_micros(500));
        }
        let took = clock::now().since(begun);
        std::thread::sleep(Duration::from_secs(3));
        took
    });
    times.skip(1).collect()
}
