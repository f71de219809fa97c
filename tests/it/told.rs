//! What an agent tells of itself while it works: how far a long job is, and how the disk is written.

use autosync::control::What;
use autosync::engine::status::{Progress, State};

use crate::support::Sandbox;
use crate::support::host::{Host, Pair};
use crate::support::inside::{ROOT_INSIDE, inside};

/// As many files as make a job worth telling about.
const FILES: u64 = 2_500;

/// A host whose agent cares for `~/Sync` with a hub on a path that is empty so far.
fn with_hub(hub: &std::path::Path) -> Host {
    let host = Host::new("server");
    let text = format!(
        "[[folder]]\npath = \"~/Sync\"\nhub = \"{}\"\n",
        hub.display()
    );
    host.sandbox.config(&text);
    std::fs::create_dir(&host.folder).unwrap();
    host.sandbox.git(&host.folder, ["init", "-q"]);
    host.with_args(Vec::<&str>::new())
}

#[test]
fn a_first_contact_with_many_files_shows_how_far_it_is() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");
    let mut server = with_hub(&hub);
    server.start();
    assert_eq!(server.synced().id, "", "there is no hub to know it by yet");

    let (here, there) = (laptop.listen(), server.listen());
    laptop.run(["pause"]).ok();
    for number in 0..FILES {
        laptop.write(format!("d{}/f{number}", number % 50), number.to_string());
    }
    laptop.run(["resume"]).ok();
    server.sees("the last file", |root| {
        root.join(format!("d{}/f{}", (FILES - 1) % 50, FILES - 1))
            .exists()
    });
    laptop.synced();
    assert_ne!(server.synced().id, "");

    for (host, events, jobs) in [
        (&laptop, here, &["snapshot"][..]),
        (&server, there, &["stage", "apply"]),
    ] {
        // Whoever asks between two jobs is shown none.
        assert_eq!(host.barrier().progress, None);
        let mut told: Vec<Progress> = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let What::Progress { at } = event.what
                && at.unit == "files"
            {
                told.push(at);
            }
        }
        for job in jobs {
            let steps: Vec<(u64, u64)> = told
                .iter()
                .filter(|at| at.what == *job)
                .map(|at| (at.done, at.total))
                .collect();
            assert_eq!(steps.first(), Some(&(0, FILES)), "{job}: {told:?}");
            assert_eq!(steps.last(), Some(&(FILES, FILES)), "{job}: {told:?}");
            assert!(steps.is_sorted(), "{job}: {steps:?}");
        }
    }
}

#[test]
fn a_disk_that_cannot_exchange_files_is_said_and_written_all_the_same() {
    let sandbox = Sandbox::named("server").with("AUTOSYNC_NO_EXCHANGE", "1");
    let pair = Pair::of([Host::new("laptop"), Host::of(sandbox, "server")]);
    pair.laptop.write("note", "one");
    pair.quiet();
    pair.laptop.write("note", "two");
    pair.ends_well();
    assert_eq!(pair.server.read("note").as_deref(), Some("two"));

    assert_eq!(pair.laptop.folder_status().code, "ok");
    let status = pair.server.folder_status();
    assert_eq!(status.code, "basic", "{status:#?}");
    let text = pair.server.run(["status"]).ok();
    assert!(text.contains("this disk writes the basic way"), "{text}");
}

#[test]
fn without_watches_the_sysctl_is_told_and_nothing_is_missed() {
    let test = "told::without_watches_the_sysctl_is_told_and_nothing_is_missed";
    if !inside(ROOT_INSIDE, test) {
        return;
    }
    let allow = |watches: &str| {
        std::fs::write("/proc/sys/user/max_inotify_watches", watches).unwrap();
    };
    let mut laptop = Host::new("laptop");
    for number in 0..40 {
        laptop.write(format!("d{number}/old"), "1\n");
    }
    allow("30");
    laptop.start();
    let status = laptop.synced();
    assert_eq!(status.code, "watches", "{status:#?}");
    assert_eq!(status.state, State::Idle, "it goes on all the same");
    assert!(status.message.contains("no more watches"), "{status:#?}");
    let line = "sudo sysctl fs.inotify.max_user_watches=";
    assert!(status.hint.contains(line), "{status:#?}");
    let page = laptop.run(["status"]).ok();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(line), "{page}");

    for number in 0..40 {
        laptop.write(format!("d{number}/old"), "2 and more\n");
    }
    let status = laptop.synced();
    assert_eq!(laptop.git(["status", "--porcelain"]), "", "{status:#?}");
    assert_eq!(laptop.git(["show", "main:d39/old"]), "2 and more");
    assert_eq!(status.code, "watches", "work does not hide it");

    allow("1000");
    laptop.until("every directory is watched", |host| {
        host.folder_status().code == "ok"
    });
    assert!(laptop.log().contains("every directory is watched"));
}
