//! The black box: three agents in processes of their own, and exact calls on files in their folders.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::model::Value;
use crate::support::Sandbox;
use crate::support::host::Host;
use crate::support::trio::Trio;

/// Every save is committed and pushed at once, and nobody is asked about deletes.
const CONFIG: &str = "\
[[folder]]
path = \"~/Sync\"
[settle]
quiet = \"0s\"
[push]
quiet = \"0s\"
[guards]
mass_delete_files = 100000
mass_delete_top = 100000
";

/// Three clients.
pub(super) struct Clients {
    trio: Trio,
    asides: [PathBuf; 3],
    count: u32,
}

impl Clients {
    /// Starts three agents with a hub on a path.
    pub(super) fn start() -> Self {
        let hosts = ["laptop", "server", "desktop"]
            .map(|name| Host::of(Sandbox::in_memory(name), name).with_args([""; 0]));
        let asides = hosts.each_ref().map(|host| {
            let aside = host.sandbox.root().join("aside");
            fs::create_dir(&aside).unwrap();
            aside
        });
        let hub = hosts[0].sandbox.root().join("hub.git");
        let url = hub.to_str().unwrap().to_owned();
        let sandbox = &hosts[0].sandbox;
        sandbox.git(sandbox.root(), ["init", "-q", "--bare", &url]);
        Self {
            trio: Trio::start(hosts, CONFIG, &url, hub),
            asides,
            count: 0,
        }
    }

    fn path(&self, at: usize, name: &str) -> PathBuf {
        self.trio.hosts[at].folder.join(name)
    }

    /// Returns what a client's file holds.
    pub(super) fn read(&self, at: usize, name: &str) -> Value {
        value(&self.path(at, name))
    }

    /// Writes a new value to a client's file. Returns it, and what it replaced.
    pub(super) fn write(&mut self, at: usize, name: &str) -> (u32, Value) {
        self.count += 1;
        let (new, path) = (self.count, self.path(at, name));
        let aside = self.asides[at].join(new.to_string());
        fs::write(&aside, format!("value {new}\n")).unwrap();
        loop {
            // In one call each, so that nothing comes between what is seen and what is done.
            match renameat_with(CWD, &aside, CWD, &path, RenameFlags::EXCHANGE) {
                Ok(()) => return (new, value(&aside)),
                Err(Errno::NOENT) => {}
                Err(error) => panic!("{error}"),
            }
            match renameat_with(CWD, &aside, CWD, &path, RenameFlags::NOREPLACE) {
                Ok(()) => return (new, None),
                Err(Errno::EXIST) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Deletes a client's file. Returns what it was.
    pub(super) fn delete(&mut self, at: usize, name: &str) -> Value {
        self.count += 1;
        let aside = self.asides[at].join(self.count.to_string());
        match fs::rename(self.path(at, name), &aside) {
            Ok(()) => value(&aside),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until a client's agent has nothing to do.
    pub(super) fn rest(&self, at: usize) {
        self.trio.hosts[at].barrier();
    }

    /// Waits until all are quiet.
    pub(super) fn quiet(&self) {
        self.trio.quiet();
    }

    /// Returns what a client's file holds, and all that its conflict files do.
    pub(super) fn all(&self, at: usize, name: &str) -> (Value, BTreeSet<u32>) {
        let stem = name.strip_suffix(".txt").unwrap();
        let start = format!("{stem} (conflict ");
        let mut copies = BTreeSet::new();
        for entry in fs::read_dir(&self.trio.hosts[at].folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str().unwrap().starts_with(&start) {
                let copy = value(&entry.path()).unwrap();
                assert!(copies.insert(copy), "{copy} is there twice");
            }
        }
        (self.read(at, name), copies)
    }

    /// Ends well. Returns how many conflict copies there are.
    pub(super) fn end(self) -> usize {
        self.trio.ends_well();
        self.trio.hosts[0].copies().len()
    }
}

/// Returns what a file holds, which must be a value as it was written.
fn value(path: &Path) -> Value {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let number = text
        .strip_prefix("value ")
        .and_then(|it| it.strip_suffix('\n'));
    let number = number.and_then(|number| number.parse().ok());
    Some(number.unwrap_or_else(|| panic!("nobody wrote {text:?} to {}", path.display())))
}
