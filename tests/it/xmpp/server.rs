//! A real Prosody and a real ejabberd on loopback, with a certificate authority of their own.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use autosync::clock;
use autosync::process::{self, Patience, Running};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::raw::{DOMAIN, Login, Raw};

/// The password of every account.
pub(crate) const PASSWORD: &str = "correct-horse-3141592653";

/// So many accounts beside alice and bob are there from the beginning: `u0`, `u1`...
const ACCOUNTS: usize = 120;

/// A server is ready within this time on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The user `nobody`.
const NOBODY: u32 = 65534;

/// A key of its own for a certificate.
const KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
];

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Prosody,
    Ejabberd,
}

impl Make {
    pub(crate) const BOTH: [Self; 2] = [Self::Prosody, Self::Ejabberd];

    /// Returns why it cannot be started here, if so.
    pub(crate) fn is_missing(self) -> Option<&'static str> {
        let place = |name: &str| {
            ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin"]
                .iter()
                .any(|dir| Path::new(dir).join(name).exists())
        };
        if !place("openssl") {
            return Some("there is no openssl");
        }
        if !place("setpriv") {
            return Some("there is no setpriv");
        }
        match self {
            Self::Prosody if !place("prosody") => Some("there is no Prosody"),
            Self::Ejabberd if !place("erl") || ebin().is_none() => Some("there is no ejabberd"),
            Self::Prosody | Self::Ejabberd => None,
        }
    }
}

/// Returns where the code of ejabberd is.
fn ebin() -> Option<PathBuf> {
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["/usr/lib", &format!("/usr/lib/{machine}")]
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("ejabberd-"))
        .map(|entry| entry.path().join("ebin"))
        .find(|ebin| ebin.join("ejabberd.app").exists())
}

/// A server of our own. It ends when it is dropped, or with this process.
pub(crate) struct Server {
    pub(crate) make: Make,
    /// Where connections begin in clear.
    pub(crate) port: u16,
    /// Where they are private from the first byte.
    pub(crate) direct_port: u16,
    dir: tempfile::TempDir,
    /// Whether it runs as `nobody`, else as who we are.
    as_nobody: bool,
    running: Option<Running>,
    accounts: AtomicUsize,
}

impl Server {
    /// Starts a server and returns once somebody can log in.
    pub(crate) fn start(make: Make) -> Self {
        Self::prepare(make, false).up()
    }

    /// The same as the user `nobody`, which only root can do.
    pub(crate) fn start_as_nobody(make: Make) -> Self {
        Self::prepare(make, true).up()
    }

    /// Returns the server of this make that all tests of this process share; they take accounts of
    /// their own, and neither stop nor slow it.
    pub(crate) fn shared(make: Make) -> &'static Self {
        static PROSODY: OnceLock<Server> = OnceLock::new();
        static EJABBERD: OnceLock<Server> = OnceLock::new();
        let server = match make {
            Make::Prosody => &PROSODY,
            Make::Ejabberd => &EJABBERD,
        };
        server.get_or_init(|| {
            // The kernel ends it with the thread that started it, so that one stays.
            let (made, ready) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                made.send(Self::start(make)).unwrap();
                loop {
                    std::thread::park();
                }
            });
            ready.recv().unwrap()
        })
    }

    fn prepare(make: Make, as_nobody: bool) -> Self {
        let mut builder = tempfile::Builder::new();
        builder.prefix("as");
        // Where the tests have their files, others may not go.
        let dir = if as_nobody {
            builder.tempdir_in("/tmp")
        } else {
            builder.tempdir()
        };
        let server = Self {
            make,
            port: free_port(),
            direct_port: free_port(),
            dir: dir.unwrap(),
            as_nobody,
            running: None,
            accounts: AtomicUsize::new(0),
        };
        certificates(server.dir.path());
        match make {
            Make::Prosody => server.configure_prosody(),
            Make::Ejabberd => server.configure_ejabberd(),
        }
        if as_nobody {
            give_away(server.dir.path());
        }
        server
    }

    fn up(mut self) -> Self {
        self.listen();
        self
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The certificate that clients must trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.at("ca.pem")
    }

    /// Returns an account that nobody else has, the part before the `@`.
    pub(crate) fn account(&self) -> String {
        let number = self.accounts.fetch_add(1, Ordering::Relaxed);
        assert!(number < ACCOUNTS, "there are more tests than accounts");
        format!("u{number}")
    }

    /// Logs in, or says why not.
    pub(crate) fn try_raw(&self, user: &str, resource: &str, direct: bool) -> std::io::Result<Raw> {
        Raw::open(&Login {
            port: if direct { self.direct_port } else { self.port },
            direct,
            ca: &self.ca(),
            user,
            password: PASSWORD,
            resource,
        })
    }

    /// Logs in.
    #[track_caller]
    pub(crate) fn raw(&self, user: &str, resource: &str) -> Raw {
        self.try_raw(user, resource, false).unwrap()
    }

    /// Starts the server again; it has what it had.
    pub(crate) fn listen(&mut self) {
        assert!(self.running.is_none(), "the server runs already");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.at("out"))
            .unwrap();
        let mut command = process::command("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if self.as_nobody {
            command.args(["--reuid", &NOBODY.to_string()]);
            command.args(["--regid", &NOBODY.to_string(), "--clear-groups"]);
        }
        command.arg("--");
        match self.make {
            Make::Prosody => self.prosody(&mut command),
            Make::Ejabberd => self.ejabberd(&mut command),
        }
        command
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log));
        let running = Running::start(&mut command).unwrap();
        let ended = pidfd(running.pid());
        self.running = Some(running);
        let deadline = clock::now() + PATIENCE;
        // The port may be open long before, and with Prosody open for a moment and then no more.
        for (user, direct) in [("alice", false), ("bob", true)] {
            while let Err(error) = self.try_raw(user, "ready", direct) {
                assert!(
                    clock::now() < deadline && !ends_within(&ended, Duration::from_millis(10)),
                    "{:?} cannot be used: {error}\n{}",
                    self.make,
                    self.log()
                );
            }
        }
    }

    /// Returns what the server has said.
    pub(crate) fn log(&self) -> String {
        let names = ["out", "prosody.log", "logs/e.log", "logs/error.log"];
        let read = |name: &str| fs::read(self.at(name)).unwrap_or_default();
        let texts = names.map(|name| String::from_utf8_lossy(&read(name)).into_owned());
        texts.concat()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.running.as_ref().unwrap().pid()
    }

    /// Kills the server as a power cut does.
    pub(crate) fn kill(&mut self) {
        let running = self.running.take().unwrap();
        let ended = pidfd(running.pid());
        drop(running);
        assert!(ends_within(&ended, PATIENCE), "the server lives on");
    }

    /// Ends the server as a service manager does.
    pub(crate) fn stop(&mut self) {
        let running = self.running.take().unwrap();
        let pid = Pid::from_raw(running.pid()).unwrap();
        let ended = pidfd(running.pid());
        kill_process(pid, Signal::TERM).unwrap();
        assert!(ends_within(&ended, PATIENCE), "the server lives on");
        drop(running);
    }

    /// Makes two accounts see each other.
    pub(crate) fn befriend(&self, one: &str, other: &str) {
        let (first, second) = (self.raw(one, "friend"), self.raw(other, "friend"));
        for raw in [&first, &second] {
            raw.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><presence/>");
            raw.all();
        }
        for (from, to) in [(&first, &second), (&second, &first)] {
            let is = |kind: &'static str, from: &str| {
                let from = from.to_owned();
                move |stanza: &str| {
                    stanza.starts_with("<presence")
                        && stanza.contains(kind)
                        && stanza.contains(&from)
                }
            };
            from.send(&format!("<presence type='subscribe' to='{}'/>", to.bare()));
            to.until("request", is("subscribe", from.bare()));
            to.send(&format!(
                "<presence type='subscribed' to='{}'/>",
                from.bare()
            ));
            from.until("consent", is("subscribed", to.bare()));
        }
    }

    fn configure_prosody(&self) {
        let dir = self.dir.path().display();
        let root = if rustix::process::geteuid().is_root() && !self.as_nobody {
            "run_as_root=true\n"
        } else {
            ""
        };
        fs::write(
            self.at("prosody.cfg.lua"),
            format!(
                r#"pidfile="{dir}/prosody.pid"; data_path="{dir}/data"; daemonize=false
{root}interfaces={{"127.0.0.1"}}; local_interfaces={{"127.0.0.1"}}; use_ipv6=false
c2s_ports={{{}}}; c2s_direct_tls_ports={{{}}}; s2s_ports={{}}; http_ports={{}}; https_ports={{}}
modules_enabled={{"disco","roster","saslauth","tls","pep","carbons","smacks","ping","presence","message","iq","offline","private","blocklist"}}
modules_disabled={{"s2s","http"}}
allow_registration=false; c2s_require_encryption=true
authentication="internal_hashed"; storage="internal"; smacks_hibernation_time=60
log={{{{levels={{min="info"}},to="file",filename="{dir}/prosody.log"}}}}
ssl={{key="{dir}/server.key"; certificate="{dir}/server.crt"}}
VirtualHost "{DOMAIN}"
"#,
                self.port, self.direct_port
            ),
        )
        .unwrap();
        // A password in clear is what Prosody takes for an account that it has not hashed yet.
        let accounts = self
            .at("data")
            .join(DOMAIN.replace('.', "%2e"))
            .join("accounts");
        fs::create_dir_all(&accounts).unwrap();
        for name in names() {
            let text = format!("return {{\n\t[\"password\"] = \"{PASSWORD}\";\n}};\n");
            fs::write(accounts.join(format!("{name}.dat")), text).unwrap();
        }
    }

    fn prosody(&self, command: &mut Command) {
        command
            .arg("prosody")
            .arg("--config")
            .arg(self.at("prosody.cfg.lua"))
            .arg("-F");
    }

    fn configure_ejabberd(&self) {
        for name in ["logs", "spool"] {
            fs::create_dir(self.at(name)).unwrap();
        }
        let dir = self.dir.path().display();
        fs::write(
            self.at("ejabberd.yml"),
            format!(
                r#"hosts: ["{DOMAIN}"]
loglevel: info
certfiles: ["{dir}/server.pem"]
auth_method: internal
auth_password_format: scram
auth_scram_hash: sha256
listen:
  - {{port: {}, ip: "127.0.0.1", module: ejabberd_c2s, starttls_required: true}}
  - {{port: {}, ip: "127.0.0.1", module: ejabberd_c2s, tls: true}}
modules:
  mod_roster: {{}}
  mod_disco: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_stream_mgmt: {{}}
  mod_pubsub: {{plugins: ["flat", "pep"]}}
"#,
                self.port, self.direct_port
            ),
        )
        .unwrap();
    }

    fn ejabberd(&self, command: &mut Command) {
        let names: Vec<String> = names().map(|name| format!("<<\"{name}\">>")).collect();
        let accounts = format!(
            "F=fun F(U)->case catch ejabberd_auth:try_register(U,<<\"{DOMAIN}\">>,\
             <<\"{PASSWORD}\">>) of ok->ok;{{error,exists}}->ok;_->timer:sleep(20),F(U) end end, \
             lists:foreach(F,[{}]).",
            names.join(",")
        );
        command
            .env("EJABBERD_CONFIG_PATH", self.at("ejabberd.yml"))
            .env("EJABBERD_LOG_PATH", self.at("logs/e.log"))
            .env("SPOOL_DIR", self.at("spool"))
            .args(["erl", "-noinput", "-pa"])
            .arg(ebin().unwrap())
            .args(["-mnesia", "dir"])
            .arg(format!("\"{}\"", self.at("spool").display()))
            .args(["-s", "ejabberd", "-eval", &accounts]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it writes at its end would come after the directory is gone.
        if self.running.is_some() {
            self.kill();
        }
    }
}

fn names() -> impl Iterator<Item = String> {
    let more = (0..ACCOUNTS).map(|number| format!("u{number}"));
    ["alice", "bob"].map(str::to_owned).into_iter().chain(more)
}

/// The kernel gives a port that is free now, and will not give it again soon.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Makes an authority and a certificate of the domain.
pub(crate) fn certificates(dir: &Path) {
    let openssl = |args: &[&str]| {
        let mut command = process::command("openssl");
        command.args(args).current_dir(dir);
        let done = process::run(&mut command, b"", Patience::Total(PATIENCE)).unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "openssl {args:?}: {said}");
    };
    let authority = [
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "3650",
        "-subj",
        "/CN=test CA",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ];
    openssl(&[&["req", "-x509"], &KEY[..], &authority].concat());
    let request = ["-keyout", "server.key", "-out", "server.csr", "-subj"];
    let subject = format!("/CN={DOMAIN}");
    openssl(&[&["req"], &KEY[..], &request, &[&subject]].concat());
    fs::write(
        dir.join("ext"),
        format!(
            "subjectAltName=DNS:{DOMAIN},DNS:localhost\nbasicConstraints=CA:FALSE\n\
             extendedKeyUsage=serverAuth\n"
        ),
    )
    .unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "3650",
        "-extfile",
        "ext",
        "-out",
        "server.crt",
    ]);
    let mut pem = fs::File::create(dir.join("server.pem")).unwrap();
    for name in ["server.key", "server.crt"] {
        pem.write_all(&fs::read(dir.join(name)).unwrap()).unwrap();
    }
}

/// Gives everything below to `nobody`.
fn give_away(dir: &Path) {
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn pidfd(pid: i32) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
}

/// Returns whether a process ends within this time.
fn ends_within(process: &OwnedFd, time: Duration) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let time = Timespec::try_from(time).unwrap();
    poll(&mut fds, Some(&time)).unwrap() > 0
}
