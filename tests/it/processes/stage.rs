//! Where the scenarios play: an sshd, a Prosody, and three agents in processes of their own.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::network::skipped;
use crate::ssh::server::Server as Sshd;
use crate::support::Sandbox;
use crate::support::host::Host;
use crate::support::trio::Trio;
use crate::xmpp::server::{Make, PASSWORD, Server as Prosody};

/// What a scenario wants other than usual.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// What carries notices, beside the poll.
    pub(super) transports: &'static str,
    /// How often the hub is asked.
    pub(super) poll: &'static str,
    /// More tables of the configuration.
    pub(super) more: &'static str,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            transports: "\"hub\", \"xmpp\"",
            poll: "60s",
            more: "[settle]\nquiet = \"0s\"\n[push]\nquiet = \"0s\"\n",
        }
    }
}

/// Keeps a server for the whole run of the tests: the kernel ends it with the thread that started it,
/// so that one stays.
fn kept<T: Send + 'static>(start: impl FnOnce() -> T + Send + 'static) -> T {
    let (made, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        made.send(start()).ok();
        loop {
            std::thread::park();
        }
    });
    ready.recv().unwrap()
}

/// Returns the sshd that scenarios share which neither stop nor slow it.
pub(super) fn sshd(test: &'static str) -> Option<&'static Sshd> {
    static SSHD: OnceLock<Option<Sshd>> = OnceLock::new();
    let sshd = SSHD
        .get_or_init(|| kept(move || Sshd::start(test)))
        .as_ref();
    if sshd.is_none() {
        skipped(test, "there is no sshd that can be started");
    }
    sshd
}

/// Returns whether there is no Prosody, which is said then.
pub(super) fn no_prosody(test: &str) -> bool {
    let missing = Make::Prosody.is_missing();
    if let Some(why) = missing {
        skipped(test, why);
    }
    missing.is_some()
}

/// Returns the Prosody that scenarios share.
pub(super) fn prosody() -> &'static Prosody {
    Prosody::shared(Make::Prosody)
}

/// Makes a hub of its own on an sshd. Returns its path here.
pub(super) fn hub(sshd: &Sshd) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    sshd.hub(&format!("hub{number}.git"))
}

/// Returns the table of an account.
pub(super) fn account(prosody: &Prosody, user: &str) -> String {
    format!(
        "[xmpp]\njid = \"{user}@sync.test\"\nserver = \"127.0.0.1:{}\"\nca_file = \"{}\"\n\
         password = \"{PASSWORD}\"\n",
        prosody.port,
        prosody.ca().display()
    )
}

/// Starts three agents: the hub is on an sshd, the account on a Prosody. Returns once each has heard
/// of the others.
pub(super) fn trio(sshd: &Sshd, prosody: &Prosody, user: &str, wish: Wish) -> Trio {
    let hosts = ["laptop", "server", "desktop"].map(|name| {
        let sandbox = Sandbox::in_memory(name);
        let ssh = sshd.command();
        let home = sandbox.home();
        sandbox.git(&home, ["config", "--global", "core.sshCommand", &ssh]);
        Host::of(sandbox, name).with_args([""; 0])
    });
    let Wish {
        transports,
        poll,
        more,
    } = wish;
    let config = format!(
        "[[folder]]\npath = \"~/Sync\"\npoll = \"{poll}\"\n[notice]\n\
         transports = [{transports}]\n{}{more}",
        account(prosody, user)
    );
    let hub = hub(sshd);
    let url = format!("ssh://hub.test{}", hub.display());
    let trio = Trio::start(hosts, &config, &url, hub);
    for host in &trio.hosts {
        host.until("each hears the two others over the account", |host| {
            let all = host.status().transports;
            all.iter()
                .any(|one| one.name == "xmpp" && one.peers.len() == 2)
        });
    }
    trio
}

/// The usual stage: shared servers, and an account of its own.
pub(super) fn usual(test: &'static str, wish: Wish) -> Option<Trio> {
    if no_prosody(test) {
        return None;
    }
    let sshd = sshd(test)?;
    let user = prosody().account();
    Some(trio(sshd, prosody(), &user, wish))
}
