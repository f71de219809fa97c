//! A host without autosync commits conflict markers and pushes them: a person with plain git, or an
//! older program that commits what a pull left.

use std::fs;
use std::path::PathBuf;

use autosync::control::What;
use autosync::engine::status::MarkedStatus;

use crate::support::ended;
use crate::support::host::{Host, PATIENCE, Pair};

const LINES: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n";

const GUIDE: &str =
    "How it looks:\n<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> other\n\nThe\nend\nis\nnear.\n";

/// A clone of the hub that no agent cares for.
struct Old<'a> {
    pair: &'a Pair,
    dir: PathBuf,
}

impl<'a> Old<'a> {
    fn clones(pair: &'a Pair) -> Self {
        let dir = pair.laptop.sandbox.root().join("old");
        let old = Self { pair, dir };
        let place = old.dir.parent().unwrap().to_owned();
        let (hub, dir) = (old.pair.hub.to_str().unwrap(), old.dir.to_str().unwrap());
        old.pair
            .laptop
            .sandbox
            .git(&place, ["clone", "-q", hub, dir]);
        old.git(&["config", "user.name", "Old Host"]);
        old
    }

    fn git(&self, args: &[&str]) -> String {
        self.pair.laptop.sandbox.git(&self.dir, args)
    }

    fn commits(&self, name: &str, text: &str) -> String {
        fs::write(self.dir.join(name), text).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "old"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn pushes(&self) -> String {
        self.git(&["push", "-q", "origin", "HEAD:main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Pulls into a conflict, and commits and pushes what that leaves.
    fn commits_what_a_pull_leaves(&self) -> String {
        let mut pull = self.pair.laptop.sandbox.command("git");
        pull.args(["pull", "-q", "--no-rebase", "--no-edit"]);
        let ran = ended(pull.current_dir(&self.dir).output().unwrap());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        self.git(&["commit", "-q", "-a", "-m", "merged"]);
        self.pushes()
    }
}

/// Waits until a host lists these files, and nothing is going on.
#[track_caller]
fn lists(host: &Host, paths: &[&str]) -> Vec<MarkedStatus> {
    host.until("the files with markers are listed", |host| {
        let marked = host.folder_status().marked;
        marked
            .iter()
            .map(|file| file.path.as_str())
            .eq(paths.iter().copied())
    });
    let marked = host.barrier().marked;
    let listed: Vec<&str> = marked.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(listed, paths);
    marked
}

/// A pair with a file of nine lines, and an old host.
macro_rules! with_lines {
    ($pair:ident, $old:ident) => {
        let $pair = Pair::new();
        $pair.laptop.write("notes", LINES);
        $pair.equal();
        let $old = Old::clones(&$pair);
    };
}

#[test]
fn markers_that_plain_git_committed_are_a_conflict_until_they_are_gone() {
    let mut pair = Pair::new();
    pair.laptop.write("notes", LINES);
    pair.equal();
    let heard = pair.server.listen();
    let (ours, theirs, merge);
    {
        let old = Old::clones(&pair);
        pair.laptop.write("notes", LINES.replace("two", "laptop"));
        pair.equal();
        ours = pair.tip();
        theirs = old.commits("notes", &LINES.replace("two", "old"));
        merge = old.commits_what_a_pull_leaves();
    }
    for host in pair.hosts() {
        let listed = lists(host, &["notes"]);
        assert_eq!(
            (listed[0].commit.as_str(), listed[0].author.as_str()),
            (merge.as_str(), "Old Host")
        );
        assert_eq!(listed[0].before, [theirs.as_str(), ours.as_str()]);
        assert!(host.read("notes").unwrap().contains("<<<<<<< "));
        assert!(host.folder_status().conflicts.is_empty());
        let told = host.run(["conflicts"]).ok();
        for (commit, text) in [(&theirs, "old"), (&ours, "laptop")] {
            let version = format!("{}:notes", &commit[..7]);
            assert!(told.contains(&format!("git show {version}")), "{told}");
            let text = LINES.replace("two", text);
            assert_eq!(host.git(["show", &version]), text.trim_end());
        }
        assert!(told.contains("markers in it, by Old Host"), "{told}");
        let page = host.run(["status"]).ok();
        assert!(page.contains("1 file came with conflict markers"), "{page}");
        assert_eq!(host.log().matches("came with conflict markers").count(), 1);
    }
    let conflict = std::iter::from_fn(|| heard.recv_timeout(PATIENCE).ok()).find_map(|heard| {
        if let What::Conflict { copies, marked } = heard.what {
            Some((copies.len(), marked))
        } else {
            None
        }
    });
    let conflict = conflict.unwrap();
    assert_eq!(conflict, (0, pair.server.folder_status().marked));

    pair.laptop.kill();
    pair.laptop.start();
    lists(&pair.laptop, &["notes"]);
    pair.server.write("notes", LINES.replace("two", "both"));
    for host in pair.hosts() {
        lists(host, &[]);
        assert_eq!(host.log().matches("came with conflict markers").count(), 1);
    }
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 1, "{tree:?}");
    assert_eq!(
        pair.laptop.run(["conflicts"]).ok(),
        "There are no conflicts.\n"
    );
}

#[test]
fn an_edit_here_is_not_merged_into_a_text_with_markers() {
    with_lines!(pair, old);
    pair.laptop.run(["pause"]).ok();
    pair.server.write("notes", LINES.replace("two", "server"));
    pair.server.synced();
    old.commits("notes", &LINES.replace("two", "old"));
    let marked = {
        old.commits_what_a_pull_leaves();
        fs::read_to_string(old.dir.join("notes")).unwrap()
    };
    lists(&pair.server, &["notes"]);
    // The last line is far away from all of that.
    let mine = LINES.replace("nine", "laptop");
    pair.laptop.write("notes", &mine);
    pair.laptop.run(["resume"]).ok();
    let tree = pair.equal();
    assert_eq!(tree.len(), 2, "{tree:?}");
    for host in pair.hosts() {
        lists(host, &["notes"]);
        assert_eq!(host.read("notes"), Some(marked.clone()));
        let [copy] = &host.copies()[..] else {
            panic!("{:?}", host.copies());
        };
        assert_eq!(host.read(copy), Some(mine.clone()));
        assert_eq!(host.folder_status().conflicts.len(), 1);
    }
}

#[test]
fn two_edits_of_a_listed_file_are_not_merged_while_the_markers_are_in_it() {
    with_lines!(pair, old);
    let marked = format!("{GUIDE}{LINES}");
    old.commits("notes", &marked);
    old.pushes();
    for host in pair.hosts() {
        lists(host, &["notes"]);
    }
    pair.laptop.run(["pause"]).ok();
    let theirs = marked.replace("How", "Server:");
    pair.server.write("notes", &theirs);
    pair.server.synced();
    let mine = marked.replace("nine", "laptop");
    pair.laptop.write("notes", &mine);
    pair.laptop.run(["resume"]).ok();
    let tree = pair.equal();
    assert_eq!(tree.len(), 2, "{tree:?}");
    for host in pair.hosts() {
        assert_eq!(host.read("notes"), Some(theirs.clone()));
        assert_eq!(host.read(&host.copies()[0]), Some(mine.clone()));
        // A person went on with it.
        lists(host, &[]);
    }
}

#[test]
fn where_the_markers_belong_any_save_settles_it() {
    let mut pair = Pair::new();
    pair.laptop.write("a", "a\n");
    pair.equal();
    {
        let old = Old::clones(&pair);
        old.commits("guide", GUIDE);
        old.pushes();
        // Plain git again, and the markers are as they were: still the same conflict.
        for host in pair.hosts() {
            lists(host, &["guide"]);
        }
        let first = old.git(&["rev-parse", "HEAD"]);
        old.commits("guide", &GUIDE.replace("near", "far"));
        old.pushes();
        for host in pair.hosts() {
            host.sees("the change", |root| {
                fs::read_to_string(root.join("guide")).is_ok_and(|text| text.contains("far"))
            });
            let listed = lists(host, &["guide"]);
            assert_eq!((&listed[0].commit, listed[0].before.len()), (&first, 0));
            assert_eq!(host.log().matches("came with conflict markers").count(), 1);
        }
    }
    pair.server
        .write("guide", format!("{GUIDE}\nAs it should be.\n"));
    pair.equal();
    for host in pair.hosts() {
        lists(host, &[]);
    }
    pair.laptop.kill();
    pair.laptop.start();
    lists(&pair.laptop, &[]);
    let old = Old {
        pair: &pair,
        dir: pair.laptop.sandbox.root().join("old"),
    };
    old.git(&["pull", "-q"]);
    old.commits("guide", &format!("{GUIDE}\nAs I like it.\n"));
    let tip = old.pushes();
    for host in pair.hosts() {
        host.until("the change", |host| host.folder_status().head == tip);
        lists(host, &[]);
    }
}

#[test]
fn markers_that_a_host_of_ours_committed_are_text_like_any_other() {
    with_lines!(pair, old);
    let guide = format!("{GUIDE}{LINES}");
    pair.laptop.write("guide", &guide);
    pair.equal();
    // A host without autosync changes what has had them before.
    old.git(&["pull", "-q"]);
    old.commits("guide", &guide.replace("seven", "old"));
    old.pushes();
    pair.server.sees("the change", |root| {
        fs::read_to_string(root.join("guide")).is_ok_and(|text| text.contains("old"))
    });
    pair.laptop.run(["pause"]).ok();
    pair.server.write(
        "guide",
        guide.replace("seven", "old").replace("How", "Server:"),
    );
    pair.server.synced();
    pair.laptop.write(
        "guide",
        guide.replace("seven", "old").replace("nine", "laptop"),
    );
    pair.laptop.run(["resume"]).ok();
    let tree = pair.equal();
    assert_eq!(tree.len(), 2, "{tree:?}");
    for host in pair.hosts() {
        lists(host, &[]);
        let text = host.read("guide").unwrap();
        assert!(
            text.contains("laptop") && text.contains("Server:"),
            "{text}"
        );
    }
}

#[test]
fn what_is_there_at_first_contact_is_the_folder() {
    let laptop = Host::new("laptop");
    laptop.write("guide", GUIDE);
    for args in [
        &["init", "-q"][..],
        &["add", "-A"],
        &["commit", "-q", "-m", "by hand"],
    ] {
        laptop.git(args);
    }
    let pair = Pair::of([laptop, Host::new("server")]);
    let tree = pair.equal();
    assert_eq!(tree.len(), 1, "{tree:?}");
    for host in pair.hosts() {
        lists(host, &[]);
    }
    // Only what comes from then on is looked at.
    let old = Old::clones(&pair);
    old.commits("guide", &format!("{GUIDE}\nMore.\n"));
    old.commits("notes", GUIDE);
    old.pushes();
    for host in pair.hosts() {
        lists(host, &["notes"]);
    }
}

#[test]
fn without_an_agent_they_are_told_as_well_once() {
    let mut pair = Pair::new();
    pair.laptop.write("notes", LINES);
    pair.equal();
    pair.server.stop();
    let commit = {
        let old = Old::clones(&pair);
        let before = old.git(&["rev-parse", "HEAD"]);
        old.commits("notes", GUIDE);
        old.pushes();
        before
    };
    let said = pair.server.run(["once", "Sync"]).ok();
    let told = "`notes` came with conflict markers in it, which Old Host committed. ";
    assert!(said.contains(told), "{said}");
    let before = format!("`git show {}:notes`", &commit[..7]);
    assert!(said.contains(&before), "{said}");
    let said = pair.server.run(["once", "Sync"]).ok();
    assert!(!said.contains("markers"), "{said}");
    pair.server.start();
    lists(&pair.server, &["notes"]);
}
