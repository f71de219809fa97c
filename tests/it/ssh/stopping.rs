//! An agent that is asked to end while the server has nothing more to say.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::server::{Server, family, kill, wait_for_end, words};
use crate::support::host::{Host, below};

/// A script of a server whose pushes stand still while there is a file `stall`.
pub(crate) const STALL: &str = r#"
here=${0%/*}
case $SSH_ORIGINAL_COMMAND in
git-receive-pack*)
    if [ -e "$here/stall" ]; then
        echo x >>"$here/stalled"
        # It ends with the connection.
        exec cat >/dev/null
    fi
    ;;
esac
exec sh -c "$SSH_ORIGINAL_COMMAND"
"#;

/// Stops every process of the server's connections, as a machine that hangs.
fn freeze(server: &Server) -> Vec<i32> {
    let connections = server.connections();
    let below = connections.iter().flat_map(|pid| family(*pid));
    let is_sshd = |pid: &i32| words(*pid).first().is_some_and(|it| it.starts_with("sshd"));
    let frozen: Vec<i32> = below.filter(is_sshd).chain(connections.clone()).collect();
    for pid in &frozen {
        kill(*pid, Signal::STOP);
    }
    frozen
}

#[test]
fn an_agent_ends_within_five_seconds_while_its_push_stands_still() {
    let test = "an_agent_ends_within_five_seconds_while_its_push_stands_still";
    for (signal, code, frozen) in [(Signal::TERM, 0, true), (Signal::INT, 130, false)] {
        let Some(server) = Server::forcing(test, STALL) else {
            return;
        };
        let hub = server.hub("hub.git");
        let mut laptop = Host::new("laptop").with_args([""; 0]);
        fs::create_dir(&laptop.folder).unwrap();
        laptop.git(["init", "-q"]);
        laptop.git(["config", "core.sshCommand", &server.command()]);
        let url = format!("ssh://hub.test{}", hub.display());
        let config = format!("[[folder]]\npath = \"~/Sync\"\nhub = \"{url}\"\n");
        laptop.sandbox.config(&config);
        laptop.start();
        laptop.write("a", "1\n");
        laptop.synced();

        fs::write(server.at("stall"), "").unwrap();
        laptop.write("a", "2\n");
        laptop.until("the push stands still", |_| server.at("stalled").exists());
        laptop.until("the commit is whole", |host| {
            host.git(["show", "main:a"]) == "2" && host.git(["status", "--porcelain"]).is_empty()
        });
        let held = if frozen { freeze(&server) } else { Vec::new() };
        let children: Vec<_> = below(laptop.pid())
            .into_iter()
            .filter_map(|pid| {
                let pid = Pid::from_raw(i32::try_from(pid).unwrap())?;
                // A short one may have ended meanwhile.
                pidfd_open(pid, PidfdFlags::empty()).ok()
            })
            .collect();
        assert!(!children.is_empty(), "a git at least");
        laptop.signal(signal);
        let note = format!("{signal:?}, frozen: {frozen}");
        assert!(laptop.ends_within(Duration::from_secs(5)), "{note}");
        assert_eq!(laptop.ended(Duration::ZERO), code, "{note}");
        for child in children {
            wait_for_end(&child, &note);
        }
        for lock in ["index.lock", "HEAD.lock", "refs/heads/main.lock"] {
            assert!(!laptop.folder.join(".git").join(lock).exists(), "{lock}");
        }
        let own = laptop.git(["show", "main:a"]);
        assert_eq!(own, "2", "what was committed stays so: {note}");

        // The next one finds that the hub does not have it.
        for pid in held {
            kill(pid, Signal::KILL);
        }
        fs::remove_file(server.at("stall")).unwrap();
        laptop.start();
        laptop.until("the push", |host| {
            host.sandbox.git(&hub, ["show", "main:a"]) == "2"
        });
        laptop.synced();
        laptop.stop();
    }
}
