//! Clocks that are off by years, files that go at the wrong moment, and power cuts.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use autosync::repo::records;

use super::pair;
use crate::support::host::Host;

const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 86_400);

#[test]
fn no_clock_decides_which_version_stands() {
    for laptop_is_late in [false, true] {
        let pair = pair();
        pair.laptop.write("a", "1\n");
        pair.equal();
        pair.server.run(["pause"]).ok();
        let now = SystemTime::now();
        let times = [now + TEN_YEARS, now - TEN_YEARS];
        let [laptop, server] = if laptop_is_late { [0, 1] } else { [1, 0] }.map(|n| times[n]);
        let write = |host: &Host, text: &str, time| {
            host.write("new", text);
            let file = File::options()
                .write(true)
                .open(host.folder.join("new"))
                .unwrap();
            file.set_times(FileTimes::new().set_modified(time)).unwrap();
        };
        write(&pair.laptop, "laptop\n", laptop);
        // A commit of a clock that is off, by the user's own git.
        pair.laptop.synced();
        let date = if laptop_is_late {
            "2036-01-01T00:00:00Z"
        } else {
            "2006-01-01T00:00:00Z"
        };
        let mut git = pair.laptop.sandbox.command("git");
        git.args(["commit", "-q", "--allow-empty", "-m", "off"]);
        git.current_dir(&pair.laptop.folder);
        git.env("GIT_COMMITTER_DATE", date)
            .env("GIT_AUTHOR_DATE", date);
        assert!(git.status().unwrap().success());
        pair.laptop.run(["sync"]).ok();
        pair.laptop.synced();
        write(&pair.server, "server\n", server);
        pair.server.run(["resume"]).ok();
        let tree = pair.ends_well();
        assert_eq!(tree.len(), 3, "{tree:?}");
        assert_eq!(
            pair.server.read("new").as_deref(),
            Some("laptop\n"),
            "the hub's stands"
        );
        let [copy] = &pair.server.copies()[..] else {
            panic!("{tree:?}");
        };
        assert_eq!(pair.laptop.read(copy).as_deref(), Some("server\n"));
        // Another version of the same size and time.
        let file = pair.laptop.folder.join("a");
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "2\n").unwrap();
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_times(FileTimes::new().set_modified(time))
            .unwrap();
        pair.ends_well();
        assert_eq!(pair.server.read("a").as_deref(), Some("2\n"));
    }
}

#[test]
fn a_file_that_vanishes_while_it_is_taken_is_not_committed() {
    let pair = crate::pair::Pair::new(&[("stays", "1\n")]);
    let here = &pair.laptop;
    here.write("goes", "1\n");
    let stopped = here.once_until("S2.candidates");
    fs::remove_file(here.root.join("goes")).unwrap();
    let _ran = stopped.go_on();
    let _done = here.once().ok();
    assert_eq!(here.git(&["ls-tree", "--name-only", "HEAD"]), "stays");
    assert_eq!(here.git(&["status", "--porcelain"]), "");
}

#[test]
fn what_a_power_cut_emptied_is_held_and_told_until_it_is_mended() {
    let mut host = super::host();
    host.write("emptied", "1\n");
    host.write("other", "1\n");
    host.synced();
    host.kill();
    // The next boot is another one.
    let marker = host.folder.join(".git/autosync/boot");
    let boot = vec![vec![b"another-boot".to_vec(), b"-".to_vec()]];
    records::write(&marker, "autosync boot 1", &boot).unwrap();
    host.write("emptied", "");
    host.write("other", "2\n");
    host.start();
    host.until("the rest goes on", |host| {
        host.git(["show", "HEAD:other"]) == "2"
    });
    host.run(["sync"]).ok();
    let status = host.synced();
    let [held] = &status.held[..] else {
        panic!("{status:#?}")
    };
    assert_eq!(
        (held.code.as_str(), &held.paths[..]),
        ("unclean-boot", &["emptied".to_owned()][..])
    );
    assert_eq!(host.run(["status"]).code, Some(3));
    let told = host.log().matches(&held.message).count();
    assert_eq!(told, 1, "{}", host.log());
    assert_eq!(host.git(["show", "HEAD:emptied"]), "1");
    host.write("emptied", "1\n");
    host.run(["sync"]).ok();
    host.until("nothing is held", |host| {
        host.folder_status().held.is_empty()
    });
    host.synced();
}
