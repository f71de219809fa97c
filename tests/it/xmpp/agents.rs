//! Two hosts with agents whose only bell is an XMPP account.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use autosync::clock;
use autosync::control::What;
use autosync::engine::status::TransportStatus;
use autosync::process::{self, Patience};
use rustix::process::Signal;

use super::end::{agent, notice, on_each, on_one, push};
use super::proxy::Proxy;
use super::raw::Raw;
use super::server::{PASSWORD, Server};
use crate::desktop::server::Desk;
use crate::support::host::{Host, PATIENCE, below};

/// Two hosts with a hub beside the first.
struct Pair {
    laptop: Host,
    office: Host,
    hub: PathBuf,
}

/// The table of an account.
fn account(server: &Server, user: &str, more: &str) -> String {
    let (port, ca) = (server.port, server.ca());
    format!(
        "[xmpp]\njid = \"{user}@sync.test\"\nserver = \"127.0.0.1:{port}\"\nca_file = \"{}\"\n{more}\n",
        ca.display()
    )
}

/// The configuration of a host that hears of pushes over XMPP or, `poll` later, by a poll.
fn config(poll: &str, folder: &str, account: &str) -> String {
    format!(
        "[[folder]]\npath = \"~/Sync\"\npoll = \"{poll}\"\n{folder}\n[notice]\n\
         transports = [\"xmpp\"]\n{account}"
    )
}

fn configure(host: &Host, text: &str) {
    let path = host.sandbox.config(text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn inline() -> String {
    format!("password = \"{PASSWORD}\"")
}

impl Pair {
    /// Makes both ready; no agent runs.
    fn ready() -> Self {
        let none: [&str; 0] = [];
        let [laptop, office] = ["laptop", "office"].map(|name| Host::new(name).with_args(none));
        let hub = laptop.sandbox.root().join("hub.git");
        let url = hub.to_str().unwrap().to_owned();
        laptop
            .sandbox
            .git(laptop.sandbox.root(), ["init", "-q", "--bare", &url]);
        fs::create_dir(&laptop.folder).unwrap();
        laptop.write("first.txt", "first\n");
        for (host, args) in [
            (&laptop, ["init", "Sync", "--hub", &url].as_slice()),
            (&office, &["clone", &url, "Sync"]),
        ] {
            let ran = host.run(args);
            assert_eq!(ran.code, Some(0), "{ran:?}");
        }
        Self {
            laptop,
            office,
            hub,
        }
    }

    /// Starts both with this configuration; returns when both hear.
    fn start(text: &str) -> Self {
        Self::ready().started(text)
    }

    /// The same with these two.
    fn started(mut self, text: &str) -> Self {
        for host in [&mut self.laptop, &mut self.office] {
            configure(host, text);
            host.start();
            is(host, "online");
        }
        self.quiet();
        // Each has been heard by the other.
        for (host, other) in [(&self.laptop, "office"), (&self.office, "laptop")] {
            host.until("the other host is seen", |host| {
                bell(host).peers.iter().any(|peer| peer.host == other)
            });
        }
        self
    }

    /// Waits until both are at the hub's commit.
    fn quiet(&self) {
        let args = ["rev-parse", "--verify", "-q", "refs/heads/main"];
        for host in [&self.laptop, &self.office] {
            host.until("it has what the hub has", |host| {
                let tip = self.laptop.sandbox.git(&self.hub, args);
                host.folder_status().head == tip
            });
            host.barrier();
        }
    }
}

/// Returns how the transport of a host is.
fn bell(host: &Host) -> TransportStatus {
    let mut all = host.status().transports;
    all.retain(|one| one.name == "xmpp");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn is(host: &Host, state: &str) -> TransportStatus {
    host.until(state, |host| bell(host).state == state);
    bell(host)
}

/// Another connection of the account, and the address of a host's agent.
fn beside(server: &Server, user: &str, host: &str) -> (Raw, String) {
    let raw = server.raw(user, "beside");
    let to = agent(&raw, host);
    (raw, to)
}

#[test]
fn ten_pushes_ring_ten_times_with_a_poll_that_comes_in_an_hour() {
    on_each(
        "ten_pushes_ring_ten_times_with_a_poll_that_comes_in_an_hour",
        |make| {
            let server = Server::shared(make);
            let account = account(server, &server.account(), &inline());
            let windows = "[settle]\nquiet = \"0\"\n[push]\nquiet = \"0\"\n";
            let pair = Pair::start(&config("1h", "", &(account + windows)));
            let before = pair.office.counters();
            for nth in 0..10 {
                let begun = clock::now();
                let name = format!("{nth}.txt");
                pair.laptop.write(&name, "new\n");
                pair.office
                    .sees("it arrives", |folder| folder.join(&name).exists());
                // Each one would wait for five seconds if it had to.
                let took = clock::now().since(begun);
                assert!(took < Duration::from_secs(5), "{nth}: {took:?}");
            }
            pair.office.write("answer.txt", "back\n");
            pair.laptop
                .sees("the way back", |folder| folder.join("answer.txt").exists());
            let after = pair.office.counters();
            assert!(
                after.notices_received - before.notices_received >= 10,
                "{after:?}"
            );
            assert!(after.fetches - before.fetches >= 10, "{after:?}");
            let [sent] = &bell(&pair.laptop).folders[..] else {
                panic!()
            };
            assert!(sent.name == "Sync" && !sent.sent.is_empty() && !sent.received.is_empty());
            pair.quiet();
            for host in [&pair.laptop, &pair.office] {
                host.assert_quiet();
            }
        },
    );
}

#[test]
fn the_pusher_hears_that_the_other_host_has_it() {
    on_each("the_pusher_hears_that_the_other_host_has_it", |make| {
        let server = Server::shared(make);
        let account = account(server, &server.account(), &inline());
        let pair = Pair::start(&config("1h", "", &account));
        let heard = pair.laptop.listen();
        pair.laptop.write("notes.txt", "new\n");
        let deadline = clock::now() + PATIENCE;
        loop {
            let left = deadline.since(clock::now());
            let what = heard.recv_timeout(left).unwrap().what;
            if let What::Arrived { oid, hosts } = what {
                assert_eq!(hosts, ["office"]);
                assert_eq!(oid, pair.laptop.folder_status().head);
                break;
            }
        }
    });
}

#[test]
fn ten_thousand_useless_notices_cost_some_fetches_and_a_push_still_rings() {
    let name = "ten_thousand_useless_notices_cost_some_fetches_and_a_push_still_rings";
    on_each(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        let account = account(server, &user, &inline());
        let pair = Pair::start(&config("1h", "", &account));
        let (raw, to) = beside(server, &user, "office");
        let id = pair.office.folder_status().id;
        let before = pair.office.counters();
        let begun = clock::now();
        for sequence in 1..=10_000 {
            raw.send(&push(&to, &notice(&id, sequence)));
        }
        let all = before.notices_received + 10_000;
        pair.office.until("all of them came", |host| {
            host.folder_status().counters.notices_received >= all
        });
        let status = pair.office.folder_status();
        let took = clock::now().since(begun).as_secs();
        let fetches = status.counters.fetches - before.fetches;
        // One may be on its way whose outcome is not known yet.
        assert!(
            (1..=10 + took / 5 + 1).contains(&fetches),
            "{fetches} in {took} s"
        );
        pair.laptop.write("notes.txt", "new\n");
        pair.office
            .sees("a push rings", |folder| folder.join("notes.txt").exists());
    });
}

#[test]
fn what_a_stranger_forges_leads_to_no_fetch() {
    on_each("what_a_stranger_forges_leads_to_no_fetch", |make| {
        let server = Server::shared(make);
        let (user, stranger) = (server.account(), server.account());
        let account = account(server, &user, &inline());
        let pair = Pair::start(&config("1h", "", &account));
        let (own, to) = beside(server, &user, "office");
        let id = pair.office.folder_status().id;
        let before = pair.office.counters();
        let evil = server.raw(&stranger, "evil");
        for sequence in 1..=20 {
            evil.send(&push(&to, &notice(&id, sequence)));
        }
        evil.all();
        // After these comes one that is believed, and with it is known that they were not.
        own.send(&push(&to, &notice(&id, 99)));
        pair.office.until("the last one came", |host| {
            host.folder_status().counters.notices_received > before.notices_received
        });
        let after = pair.office.counters();
        assert_eq!(after.notices_received, before.notices_received + 1);
        assert_eq!(after.fetches, before.fetches + 1);
    });
}

#[test]
fn with_a_wrong_password_the_agent_says_so_and_goes_on_by_polls() {
    let name = "with_a_wrong_password_the_agent_says_so_and_goes_on_by_polls";
    on_each(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        let mut pair = Pair::ready();
        let wrong = account(server, &user, "password = \"wrong-horse\"");
        for host in [&mut pair.laptop, &mut pair.office] {
            configure(host, &config("1s", "", &wrong));
            host.start();
            let bell = is(host, "held");
            assert!(
                bell.message.contains("refused the name or the password"),
                "{bell:?}"
            );
            assert!(bell.hint.contains("Correct the password"), "{bell:?}");
            let said = host.run(["status"]);
            let words: Vec<&str> = said.out.split_whitespace().collect();
            assert!(words.join(" ").contains(&bell.message), "{said:?}");
        }
        pair.laptop.write("notes.txt", "new\n");
        pair.office.sees("a poll brings it", |folder| {
            folder.join("notes.txt").exists()
        });
        assert_eq!(bell(&pair.office).state, "held");

        // Corrected, it is taken without a restart.
        let right = config("1h", "", &account(server, &user, &inline()));
        for host in [&pair.laptop, &pair.office] {
            configure(host, &right);
            host.signal(Signal::HUP);
            is(host, "online");
        }
    });
}

#[test]
fn the_desktop_says_who_has_a_push_and_what_is_wrong_with_the_account() {
    let name = "the_desktop_says_who_has_a_push_and_what_is_wrong_with_the_account";
    on_one(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        let desk = Desk::new();
        let mut pair = Pair::ready();
        let address = &desk.bus.address;
        pair.laptop.sandbox.set("DBUS_SESSION_BUS_ADDRESS", address);
        let right = config("1h", "", &account(server, &user, &inline()));
        let pair = pair.started(&right);
        pair.laptop.write("notes.txt", "new\n");
        let shown = desk.shows(|shown| shown.title == "Sync: office has it");
        assert_ne!(shown.replaces, 0, "{shown:?}");
        assert_eq!(shown.body, "notes.txt");

        let wrong = account(server, &user, "password = \"wrong-horse\"");
        configure(&pair.laptop, &config("1h", "", &wrong));
        pair.laptop.signal(Signal::HUP);
        let problem = desk.shows(|shown| shown.title.contains("refused the name or the password"));
        assert_eq!((problem.replaces, problem.urgency), (0, 2), "{problem:?}");
        configure(&pair.laptop, &right);
        pair.laptop.signal(Signal::HUP);
        desk.closes(problem.id);
    });
}

/// A new account of which the configuration knows a proxy before the server only.
fn account_behind_proxy(server: &Server) -> (Proxy, String) {
    let proxy = Proxy::to(server.port);
    let port = format!("127.0.0.1:{}", server.port);
    let way = account(server, &server.account(), &inline());
    let way = way.replace(&port, &format!("127.0.0.1:{}", proxy.port));
    (proxy, way)
}

#[test]
fn after_a_suspend_a_connection_that_is_dead_is_made_anew_at_once() {
    let name = "after_a_suspend_a_connection_that_is_dead_is_made_anew_at_once";
    on_one(name, |make| {
        let server = Server::shared(make);
        let (proxy, way) = account_behind_proxy(server);
        let mut pair = Pair::ready();
        let asleep = pair.laptop.sandbox.root().join("asleep");
        let named = asleep.to_str().unwrap();
        pair.laptop.sandbox.set("AUTOSYNC_TEST_ASLEEP", named);
        configure(&pair.laptop, &config("1h", "", &way));
        pair.laptop.start();
        is(&pair.laptop, "online");
        proxy.freeze();
        // Without a suspend this takes more than a minute to be noticed.
        fs::write(&asleep, "3600\n").unwrap();
        pair.laptop
            .until("it is doubted", |host| bell(host).state != "online");
        proxy.thaw();
        is(&pair.laptop, "online");
    });
}

#[test]
fn an_account_that_comes_and_goes_is_no_storm_and_no_problem() {
    let name = "an_account_that_comes_and_goes_is_no_storm_and_no_problem";
    on_one(name, |make| {
        // From the third on it looks as if somebody else used the name.
        const TIMES: usize = 3;
        let server = Server::shared(make);
        let (proxy, way) = account_behind_proxy(server);
        let mut pair = Pair::ready();
        configure(&pair.laptop, &config("1h", "", &way));
        pair.laptop.start();
        is(&pair.laptop, "online");
        let heard = pair.laptop.listen();
        let before = proxy.accepted();
        for nth in 0..TIMES {
            proxy.cut();
            let bell = is(&pair.laptop, "retry");
            assert!(!bell.message.is_empty(), "{bell:?}");
            // What is done meanwhile does not wait for it.
            pair.laptop.write("a", format!("{nth}\n"));
            pair.laptop.synced();
            // A person asks, or the time comes.
            pair.laptop.run(["sync"]).ok();
            is(&pair.laptop, "online");
        }
        let tries = proxy.accepted() - before;
        assert!(tries < 3 * TIMES, "{tries} tries");
        // What was told until now comes before the pause that is told, too.
        pair.laptop.run(["pause"]).ok();
        loop {
            let what = heard.recv_timeout(PATIENCE).unwrap().what;
            assert!(!matches!(what, What::Problem { .. }), "{what:?}");
            if matches!(what, What::State { code, .. } if code == "paused") {
                break;
            }
        }
        assert_eq!(pair.laptop.folder_status().code, "paused");
        pair.laptop.run(["resume"]).ok();
        pair.laptop
            .until("well", |host| host.folder_status().code == "ok");
    });
}

#[test]
fn a_reload_changes_the_account() {
    on_each("a_reload_changes_the_account", |make| {
        let server = Server::shared(make);
        let (first, second) = (server.account(), server.account());
        let pair = Pair::start(&config("1h", "", &account(server, &first, &inline())));
        let text = config("1h", "", &account(server, &second, &inline()));
        let (raw, second_raw) = (server.raw(&first, "look"), server.raw(&second, "look"));
        agent(&raw, "office");
        for host in [&pair.laptop, &pair.office] {
            configure(host, &text);
            host.signal(Signal::HUP);
        }
        for host in ["laptop", "office"] {
            agent(&second_raw, host);
        }
        for (host, other) in [(&pair.laptop, "office"), (&pair.office, "laptop")] {
            host.until("the other host is seen on the new account", |host| {
                bell(host).peers.iter().any(|peer| peer.host == other)
            });
        }
        let fresh = server.raw(&first, "fresh");
        fresh.send("<presence/>");
        let there = fresh.all();
        let ours = there.iter().any(|it| it.contains("urn:autosync"));
        assert!(!ours, "{there:#?}");
        pair.laptop.write("notes.txt", "new\n");
        pair.office
            .sees("a push rings", |folder| folder.join("notes.txt").exists());
    });
}

#[test]
fn the_password_is_nowhere_to_be_seen_wherever_it_comes_from() {
    let name = "the_password_is_nowhere_to_be_seen_wherever_it_comes_from";
    on_one(name, |make| {
        let server = Server::shared(make);
        for source in [
            "password",
            "password_file",
            "password_command",
            "credential",
            "wrong",
        ] {
            let user = server.account();
            let mut pair = Pair::ready();
            let secret = pair
                .laptop
                .sandbox
                .write("secrets/xmpp-password", format!("{PASSWORD}\n"));
            let dir = secret.parent().unwrap().to_str().unwrap().to_owned();
            let more = match source {
                "password" => inline(),
                "password_file" => format!("password_file = \"{}\"", secret.display()),
                "password_command" => {
                    format!("password_command = [\"cat\", \"{}\"]", secret.display())
                }
                "credential" => {
                    pair.laptop.sandbox.set("CREDENTIALS_DIRECTORY", &dir);
                    String::new()
                }
                _ => format!("password = \"{PASSWORD}x\""),
            };
            let host = &mut pair.laptop;
            host.sandbox.set("AUTOSYNC_LOG", "trace");
            configure(host, &config("1h", "", &account(server, &user, &more)));
            host.start();
            is(host, if source == "wrong" { "held" } else { "online" });
            host.write("notes.txt", "new\n");
            host.synced();
            let mut seen = host.log();
            assert!(seen.contains("TRACE"), "the log tells everything");
            for args in [
                &["status"][..],
                &["status", "--json"],
                &["doctor"],
                &["log"],
            ] {
                let ran = host.run(args);
                seen += &(ran.out + &ran.err);
            }
            write!(seen, "{:?}", host.status()).unwrap();
            for pid in [vec![host.pid()], below(host.pid())].concat() {
                for name in ["cmdline", "environ"] {
                    let file = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                    seen += &String::from_utf8_lossy(&file);
                }
            }
            let mut git = process::command("git");
            git.args(["log", "--all", "-p", "--format=fuller"])
                .current_dir(&host.folder);
            let done = process::run(&mut git, b"", Patience::Total(PATIENCE)).unwrap();
            seen += &String::from_utf8_lossy(&done.stdout);
            let at = seen.find(PASSWORD);
            let around = at.map(|at| &seen[at.saturating_sub(200)..at]);
            assert_eq!(around, None, "{source}");
        }
    });
}

#[test]
fn a_friend_with_an_account_of_her_own_rings_for_the_shared_folder_only() {
    let name = "a_friend_with_an_account_of_her_own_rings_for_the_shared_folder_only";
    on_each(name, |make| {
        let server = Server::shared(make);
        let (mine, hers) = (server.account(), server.account());
        server.befriend(&mine, &hers);
        let mut pair = Pair::ready();
        for (host, user, friend) in [
            (&mut pair.laptop, &mine, &hers),
            (&mut pair.office, &hers, &mine),
        ] {
            let peers = format!("peers = [\"{friend}@sync.test\"]");
            let account = account(server, user, &format!("{}\n{peers}", inline()));
            configure(host, &config("1h", &peers, &account));
            host.start();
            is(host, "online");
        }
        pair.quiet();
        for host in [&pair.laptop, &pair.office] {
            host.until("the friend's host is seen", |host| {
                bell(host).peers.len() == 1
            });
        }
        pair.laptop.write("notes.txt", "new\n");
        pair.office
            .sees("a push rings", |folder| folder.join("notes.txt").exists());
        // The same folder, but it names nobody any more.
        let peers = format!("peers = [\"{mine}@sync.test\"]");
        let text = account(server, &hers, &format!("{}\n{peers}", inline()));
        configure(&pair.office, &config("1h", "", &text));
        pair.office.signal(Signal::HUP);
        is(&pair.office, "online");
        let (own, to) = beside(server, &hers, "office");
        pair.office
            .until("it has nobody there", |host| !bell(host).peers.is_empty());
        let before = pair.office.counters();
        let friend = server.raw(&mine, "friend");
        let id = pair.office.folder_status().id;
        friend.send(&push(&to, &notice(&id, 7)));
        friend.all();
        own.send(&push(&to, &notice(&id, 8)));
        pair.office.until("the last one came", |host| {
            host.folder_status().counters.notices_received > before.notices_received
        });
        assert_eq!(
            pair.office.counters().notices_received,
            before.notices_received + 1
        );
    });
}

#[test]
fn a_person_is_told_in_a_chat_what_was_pushed() {
    on_each("a_person_is_told_in_a_chat_what_was_pushed", |make| {
        let server = Server::shared(make);
        let (user, friend) = (server.account(), server.account());
        let person = server.raw(&friend, "phone");
        person.send("<presence/>");
        person.all();
        let more = format!("{}\nalso_notify = [\"{friend}@sync.test\"]", inline());
        let mut pair = Pair::ready();
        configure(
            &pair.laptop,
            &config("1h", "", &account(server, &user, &more)),
        );
        pair.laptop.start();
        is(&pair.laptop, "online");
        pair.laptop.write("notes.txt", "new\n");
        let heard = person.until("text", |it| it.contains("notes.txt"));
        let said = super::raw::body(&heard).unwrap();
        assert!(
            said.starts_with("laptop pushed ") && said.ends_with("(Sync)"),
            "{said}"
        );
    });
}
