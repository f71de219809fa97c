//! The same edits with a hub behind ssh, on an sshd of its own on loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::hosts::{Agent, Lab, command};
use super::table::{Row, print};
use super::{pause, repeat, visible};

/// An sshd, which a client reaches as `hub.test`.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    sshd: Child,
}

impl Server {
    /// Starts a server. With `plain`, it finds no inotifywait.
    pub(crate) fn start(plain: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("as").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        // The kernel gives a port that is free now, and will not give it again soon.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        for name in ["host_key", "key"] {
            let mut keygen = command("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &at(name)]);
            assert!(keygen.status().unwrap().success());
        }
        fs::copy(at("key.pub"), at("authorized_keys")).unwrap();
        let force = if plain {
            // A PATH with everything but that program.
            fs::create_dir(at("bin")).unwrap();
            for dir in ["/usr/local/bin", "/usr/bin", "/bin"] {
                for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    let link = dir_of(&at("bin")).join(&name);
                    if name != "inotifywait" && link.symlink_metadata().is_err() {
                        std::os::unix::fs::symlink(entry.path(), link).unwrap();
                    }
                }
            }
            let script = format!("PATH='{}'; eval \"$SSH_ORIGINAL_COMMAND\"\n", at("bin"));
            fs::write(at("force.sh"), script).unwrap();
            format!("ForceCommand sh '{}'\n", at("force.sh"))
        } else {
            String::new()
        };
        let user = command("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap();
        fs::write(
            at("sshd_config"),
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\n\
                 PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
                 PermitRootLogin yes\nMaxStartups 100\n{force}",
                at("host_key"),
                at("authorized_keys")
            ),
        )
        .unwrap();
        fs::write(
            at("ssh_config"),
            format!(
                "Host hub.test\nHostName 127.0.0.1\nPort {port}\nUser {}\nIdentityFile {}\n\
                 IdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {}\n\
                 GlobalKnownHostsFile /dev/null\nUpdateHostKeys no\n",
                user.trim(),
                at("key"),
                at("known_hosts")
            ),
        )
        .unwrap();
        let key = fs::read_to_string(at("host_key.pub")).unwrap();
        fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {key}")).unwrap();
        fs::create_dir_all("/run/sshd").ok();
        let mut sshd = command("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(sshd.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("Server listening") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "sshd ended");
        }
        std::thread::spawn(move || log.lines().count());
        Self { dir, sshd }
    }

    /// Returns the address of a repository on the server.
    pub(crate) fn url(hub: &Path) -> String {
        format!("ssh://hub.test{}", hub.display())
    }

    /// Returns what git needs to reach it.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let config = self.dir.path().join("ssh_config");
        vec![("core.sshCommand", format!("ssh -F {}", config.display()))]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.sshd.kill().is_ok() {
            drop(self.sshd.wait());
        }
    }
}

fn dir_of(path: &str) -> PathBuf {
    PathBuf::from(path)
}

/// Measures edits over ssh, with and without inotifywait on the server.
pub(crate) fn measure(size: usize, rounds: usize) {
    for (plain, what) in [
        (
            false,
            "edit -> visible there, over ssh with inotifywait, defaults",
        ),
        (
            true,
            "edit -> visible there, over ssh with plain sh, defaults",
        ),
    ] {
        let lab = Lab::new(size);
        let server = Server::start(plain);
        let (url, settings) = (Server::url(lab.hub()), server.settings());
        let [laptop, there] = ["laptop", "server"].map(|name| {
            lab.host(name, "0")
                .with_hub(&url, &settings)
                .with_windows(None)
        });
        let (first, second) = (Agent::start(&laptop), Agent::start(&there));
        first.wait_synced();
        second.wait_synced();
        // The connections come up.
        visible(&laptop.tree, &there.tree, "first", 0);
        pause(Duration::from_secs(3));
        let times = repeat(rounds, |round| {
            let took = visible(&laptop.tree, &there.tree, "far", round);
            pause(Duration::from_secs(3).saturating_sub(took));
            took
        });
        print(&Row::new(size, what, &times, None));
        first.stop();
        second.stop();
    }
}
