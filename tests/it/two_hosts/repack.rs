//! What the idle folder does for its repository and its hub: it packs, and throws nothing away.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use autosync::engine::action::Job;
use autosync::engine::event::Event;
use autosync::repo::folder::Folder;

use crate::pair::{Host, Pair};
use crate::snapshot::settings;

/// As many loose objects in one of 256 directories as git and we take for very many in all.
const MANY: usize = 12;

/// How many objects are loose and how many packs there are.
fn counted(host: &Host, dir: &Path) -> (usize, usize) {
    let text = host.sandbox.git(dir, ["count-objects", "-v"]);
    let number = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().parse().unwrap()
    };
    (number("count: "), number("packs: "))
}

/// Gives the folder and its hub so many loose objects that a repack is worth it.
fn long_history(pair: &Pair) {
    let here = &pair.laptop;
    let mut stream = "commit refs/heads/main\ncommitter T <t@e> 1700000000 +0000\ndata 1\nx\n\
                      from refs/heads/main^0\n"
        .to_owned();
    let texts = (0..).map(|number: u32| format!("{number}\n"));
    // The directory that both look into.
    let counts = |text: &String| {
        let id = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes());
        id.unwrap().as_bytes()[0] == 0x17
    };
    for (number, text) in texts.filter(counts).take(MANY).enumerate() {
        let head = format!("M 100644 inline many/{number}\ndata {}\n", text.len());
        stream.extend([head, text, "\n".to_owned()]);
    }
    let file = here.sandbox.write("stream", stream);
    let import = format!(
        "set -e; git -c fastimport.unpackLimit=100000 fast-import --quiet <'{}'
         git reset -q --hard
         git --git-dir='{}' config transfer.unpackLimit 100000
         git push -q origin main",
        file.display(),
        pair.hub.display(),
    );
    let mut command = here.sandbox.command("sh");
    command.args(["-c", &import]).current_dir(&here.root);
    assert!(command.status().unwrap().success());
}

/// Makes loose objects a week old: older than the short choice, younger than git's default.
fn age(objects: &Path) {
    let week = Duration::from_secs(7 * 24 * 3600);
    let then = FileTimes::new().set_modified(SystemTime::now() - week);
    for dir in fs::read_dir(objects).unwrap() {
        for file in fs::read_dir(dir.unwrap().path()).unwrap() {
            let file = File::open(file.unwrap().path()).unwrap();
            file.set_times(then).unwrap();
        }
    }
}

fn maintain(host: &Host, hub: &Path) {
    let mut settings = settings(&host.root);
    settings.hub = Some(hub.to_str().unwrap().to_owned());
    let mut folder = Folder::open(settings).unwrap();
    let Event::Maintained(outcome) = folder.run(Job::Maintain, &mut |_| {}) else {
        panic!("a repack ends as one");
    };
    outcome.unwrap();
}

#[test]
fn an_idle_folder_and_the_hub_that_we_made_are_packed_and_nothing_is_thrown_away() {
    for expire in ["", "now", "3.days.ago", "never"] {
        let pair = Pair::new(&[("file", "x\n"), ("kept", "1\n")]);
        let here = &pair.laptop;
        // Few objects are not worth it.
        let before = counted(here, &here.root);
        maintain(here, &pair.hub);
        assert_eq!(counted(here, &here.root), before);
        long_history(&pair);
        pair.converge("a long history");
        assert!(counted(here, &here.root).0 > MANY);
        assert!(counted(here, &pair.hub).0 > MANY);

        // What only somebody remembers: staged, stashed and dropped, reset away.
        here.write("staged", "TOKEN-staged\n");
        here.git(&["add", "staged"]);
        let staged = here.git(&["rev-parse", ":staged"]);
        here.write("staged", "TOKEN-later\n");
        here.git(&["add", "staged"]);
        here.git(&["stash", "-q"]);
        let stash = here.git(&["rev-parse", "stash"]);
        here.git(&["stash", "drop", "-q"]);
        here.write("reset", "TOKEN-reset\n");
        here.git(&["add", "reset"]);
        here.git(&["commit", "-qm", "reset away"]);
        let reset = here.git(&["rev-parse", "HEAD"]);
        here.git(&["reset", "-q", "--hard", "HEAD^"]);
        let pending = here.git(&["commit-tree", "-m", "ours", "HEAD^{tree}"]);
        here.git(&["update-ref", "refs/worktree/autosync/staged", &pending]);
        age(&here.at(".git/objects"));
        if !expire.is_empty() {
            // The user's own choice is for the user's own gc.
            here.git(&["config", "gc.pruneExpire", expire]);
            here.git(&["config", "gc.reflogExpire", expire]);
            here.git(&["config", "gc.reflogExpireUnreachable", expire]);
        }

        let full = counted(here, &here.root).0;
        maintain(here, &pair.hub);
        let (loose, packs) = counted(here, &here.root);
        assert!(
            loose + MANY <= full && packs <= 2,
            "{expire}: {loose} loose, {packs} packs"
        );
        let (loose, packs) = counted(here, &pair.hub);
        assert_eq!((loose, packs), (0, 1), "{expire}: the hub");
        for id in [&staged, &stash, &reset, &pending] {
            let ran = here.try_git(&["cat-file", "-e", id]);
            assert_eq!(ran.code, Some(0), "{expire}: {id} is gone");
        }
        assert!(!here.at(".git/gc.log").exists() && !here.at(".git/gc.pid").exists());
        let again = counted(here, &here.root);
        maintain(here, &pair.hub);
        assert_eq!(counted(here, &here.root), again, "once");

        // And work goes on.
        here.git(&["update-ref", "-d", "refs/worktree/autosync/staged"]);
        here.write("kept", "TOKEN-kept\n");
        pair.converge("after it");
        pair.assert_settled("after it");
        assert_eq!(
            fs::read_to_string(pair.server.at("kept")).unwrap(),
            "TOKEN-kept\n"
        );
    }
}
