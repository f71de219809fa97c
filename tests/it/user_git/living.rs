//! The user's own git under a living agent.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::support::host::Host;

/// As many files as a checkout takes long enough for to be seen half done.
const FILES: usize = 3000;

/// The file at which the checkout stands still.
const MIDDLE: &str = "d15/f1515";

fn name(number: usize) -> String {
    format!("d{}/f{number:04}", number % 100)
}

/// Returns how many files of each version a commit has.
fn versions(dir: &Path, host: &Host, commit: &str) -> BTreeMap<String, usize> {
    let list = host.sandbox.git(dir, ["ls-tree", "-r", commit, "--", "."]);
    let mut found = BTreeMap::new();
    for line in list.lines().filter(|line| line.contains("\td")) {
        let blob = line.split_whitespace().nth(2).unwrap();
        *found.entry(blob.to_owned()).or_insert(0) += 1;
    }
    found
}

/// A git that stands still in the middle of what it writes into the tree.
struct Standing {
    git: Option<Child>,
    place: PathBuf,
}

impl Standing {
    fn begin(laptop: &Host, args: &[&str]) -> Self {
        let place = laptop.sandbox.root().to_owned();
        fs::write(place.join("stand"), "").unwrap();
        let mut git = laptop.sandbox.command("git");
        git.args(args).current_dir(&laptop.folder);
        let child = git.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let git = Some(child.unwrap());
        let reached = fs::read_to_string(place.join("reached")).unwrap();
        assert_eq!(reached, "here\n");
        Self { git, place }
    }

    /// Lets it end, which has to go well.
    fn end(mut self) {
        let out = self.go_on().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && said.is_empty(), "{said}");
    }

    fn go_on(&mut self) -> Option<Output> {
        let git = self.git.take()?;
        fs::remove_file(self.place.join("stand")).unwrap();
        fs::write(self.place.join("go"), "go\n").unwrap();
        Some(git.wait_with_output().unwrap())
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // A test that failed leaves nobody standing.
        self.go_on();
    }
}

#[test]
fn half_a_checkout_of_thousands_of_files_is_never_committed() {
    let mut laptop = Host::new("laptop");
    for number in 0..FILES {
        laptop.write(name(number), "one\n");
    }
    laptop.start();
    let first = laptop.synced().head;
    laptop.run(["pause"]).ok();
    for number in 0..FILES {
        laptop.write(name(number), "two\n");
    }
    laptop.run(["resume"]).ok();
    laptop.until("the second version", |host| {
        host.folder_status().head != first
    });
    laptop.synced();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");
    let count = |laptop: &Host| {
        let commits = laptop.sandbox.git(&hub, ["rev-list", "main"]);
        for commit in commits.lines() {
            let versions = versions(&hub, laptop, commit);
            let whole: Vec<usize> = versions.into_values().collect();
            assert_eq!(whole, [FILES], "{commit} is half a checkout");
        }
        commits.lines().count()
    };
    assert_eq!(count(&laptop), 2);

    // One file of them is written by a filter that waits for us.
    let place = laptop.sandbox.root();
    for fifo in ["reached", "go"] {
        mkfifoat(CWD, place.join(fifo), Mode::RWXU).unwrap();
    }
    let at = |name: &str| place.join(name).display().to_string();
    let script = format!(
        "cat; if [ -e '{}' ]; then echo here >'{}'; read word <'{}'; fi\n",
        at("stand"),
        at("reached"),
        at("go")
    );
    let script = laptop.sandbox.write("smudge.sh", script);
    let smudge = format!("sh {}", script.display());
    laptop.git(["config", "filter.waits.smudge", smudge.as_str()]);
    laptop.git(["config", "filter.waits.clean", "cat"]);
    let attributes = laptop.folder.join(".git/info/attributes");
    fs::create_dir_all(attributes.parent().unwrap()).unwrap();
    fs::write(attributes, format!("{MIDDLE} filter=waits\n")).unwrap();

    let ways: [&[&str]; 2] = [
        &["checkout", "-q", &first, "--", "."],
        &["restore", "-q", "--source=HEAD~1", "--", "."],
    ];
    for (way, commits) in ways.into_iter().zip([3, 4]) {
        let before = laptop.folder_status().head;
        let standing = Standing::begin(&laptop, way);
        let half = |text: &str| {
            let has = |number: &usize| laptop.read(name(*number)).as_deref() == Some(text);
            (0..FILES).filter(has).count()
        };
        let (old, new) = (half("two\n"), half("one\n"));
        assert!(old > 0 && new > 0, "{way:?}: {old} and {new}");
        laptop.until("the agent waits", |host| {
            host.folder_status().code == "git-busy"
        });
        // A person asks for a look right now, and there is none.
        let _ran = laptop.run(["sync"]);
        let status = laptop.folder_status();
        assert_eq!((status.head, &*status.code), (before.clone(), "git-busy"));
        assert_eq!(count(&laptop), commits - 1, "{way:?}");
        standing.end();
        laptop.until("the whole checkout", |host| {
            let status = host.folder_status();
            status.head != before && status.published
        });
        laptop.synced();
        assert_eq!(count(&laptop), commits, "{way:?}: one commit for all");
        assert_eq!(laptop.git(["status", "--porcelain"]), "");
    }
}

#[test]
fn a_commit_of_the_users_in_which_no_file_changed_reaches_the_hub_at_once() {
    let mut laptop = Host::new("laptop");
    laptop.write("a", "one\n");
    laptop.start();
    laptop.synced();
    let before = laptop.counters().commits;
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");
    for words in ["a milestone", "another"] {
        laptop.git(["commit", "-q", "--allow-empty", "-m", words]);
        let tip = laptop.git(["rev-parse", "HEAD"]);
        laptop.until("the hub has it", |host| {
            host.sandbox.git(&hub, ["rev-parse", "main"]) == tip
        });
    }
    laptop.synced();
    assert_eq!(
        laptop.counters().commits,
        before,
        "nothing was left to commit"
    );
}
