//! Three hosts with living agents on one hub.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use autosync::clock;
use autosync::engine::status::{Counters, FolderStatus};

use super::host::{Host, PATIENCE, Stands, Tree};

/// Three hosts, and the hub where this process finds it.
pub(crate) struct Trio {
    pub(crate) hosts: [Host; 3],
    pub(crate) hub: PathBuf,
}

impl Trio {
    /// Starts all three with this configuration: the first makes the folder, the others clone it.
    /// `url` is the hub's address for them, `hub` its path here; the repository is there and empty.
    pub(crate) fn start(mut hosts: [Host; 3], config: &str, url: &str, hub: PathBuf) -> Self {
        for (number, host) in hosts.iter_mut().enumerate() {
            let ran = if number == 0 {
                host.write("first.txt", "first\n");
                host.run(["init", "Sync", "--hub", url])
            } else {
                host.run(["clone", url, "Sync"])
            };
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let file = host.sandbox.config(config);
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
            host.start();
            // The next one clones what this one pushed.
            host.synced();
        }
        let trio = Self { hosts, hub };
        trio.quiet();
        trio
    }

    /// Returns the hub's tip.
    pub(crate) fn tip(&self) -> String {
        let sandbox = &self.hosts[0].sandbox;
        sandbox.git(
            &self.hub,
            ["rev-parse", "--verify", "-q", "refs/heads/main"],
        )
    }

    /// Waits until all are at the hub's commit and nothing is left to do.
    #[track_caller]
    pub(crate) fn quiet(&self) {
        let deadline = clock::now() + PATIENCE;
        loop {
            let statuses = self.hosts.each_ref().map(|host| {
                host.synced();
                host.barrier()
            });
            let tip = self.tip();
            let at_tip = |status: &FolderStatus| status.head == tip && status.published;
            if statuses.iter().all(at_tip) {
                return;
            }
            assert!(clock::now() < deadline, "{tip}: {statuses:#?}");
        }
    }

    /// Waits for quiet and asserts that all folders are the same. Returns what stands in them.
    #[track_caller]
    pub(crate) fn equal(&self) -> Tree {
        self.quiet();
        let tree = self.hosts[0].tree();
        for host in &self.hosts[1..] {
            let other = host.tree();
            let names = tree.keys().chain(other.keys());
            let differ: Vec<&OsString> = names
                .filter(|name| tree.get(*name) != other.get(*name))
                .collect();
            assert!(differ.is_empty(), "not the same: {differ:?}");
        }
        tree
    }

    /// Asserts what must hold when everything is over: equal, quiet, undamaged, no markers, nothing
    /// to do for the user's git.
    #[track_caller]
    pub(crate) fn ends_well(&self) -> Tree {
        let tree = self.equal();
        for (name, stands) in &tree {
            if let Stands::File { content, .. } = stands {
                let mut lines = content.split(|byte| *byte == b'\n');
                let marker = lines.any(|line| line.starts_with(b"<<<<<<<"));
                assert!(!marker, "conflict markers in `{}`", name.display());
            }
        }
        let tip = self.tip();
        for host in &self.hosts {
            // A poll may come at any time, and does nothing.
            let counted = || Counters {
                fetches: 0,
                ..host.counters()
            };
            let before = counted();
            for _ in 0..3 {
                assert_eq!(counted(), before, "{}", host.log());
            }
            assert_eq!(host.git(["status", "--porcelain"]), "", "git's view");
            host.git(["fsck", "--full", "--no-dangling", "--no-progress"]);
        }
        let sandbox = &self.hosts[0].sandbox;
        sandbox.git(&self.hub, ["fsck", "--full", "--no-progress"]);
        assert_eq!(self.tip(), tip, "something was pushed in the quiet");
        tree
    }
}
