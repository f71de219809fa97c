//! A repository that is damaged or gone: nothing is pushed from it, nothing in it is thrown away,
//! none is made in its place.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use autosync::engine::status::State;
use rustix::process::Signal;

use super::{AT_ONCE, Told, held, host, pair, well};
use crate::support::host::{Host, PATIENCE, Pair};

/// Returns the file of a loose object.
fn loose(host: &Host, id: &str) -> PathBuf {
    host.folder
        .join(".git/objects")
        .join(&id[..2])
        .join(&id[2..])
}

/// Turns a byte of a file around.
fn damage(file: &Path, at: usize) -> Vec<u8> {
    let before = fs::read(file).unwrap();
    let mut bytes = before.clone();
    bytes[at] ^= 0xff;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(file, bytes).unwrap();
    before
}

/// Returns how often a host said that its repository is damaged: from its start on, which no listener
/// hears.
fn said(host: &Host) -> usize {
    let log = host.log();
    let lines = log.lines();
    lines
        .filter(|line| line.contains(" WARN the repository is damaged"))
        .count()
}

#[test]
fn a_damaged_object_stops_the_push_and_comes_back_from_the_hub() {
    let mut pair = pair();
    pair.laptop.write("d/a", "1\n");
    pair.laptop.write("b", "1\n");
    pair.server.sees("it", |root| root.join("b").exists());
    pair.equal();
    let tip = pair.tip();
    let tree = pair.laptop.git(["rev-parse", "HEAD:d"]);
    // What the agent has read it knows, and does not read again.
    pair.laptop.stop();
    damage(&loose(&pair.laptop, &tree), 12);
    pair.laptop.write("d/a", "2\n");
    pair.laptop.start();
    let status = held(&pair.laptop, "damaged");
    assert!(
        status.message.contains("damaged") || status.message.contains("corrupt"),
        "{status:#?}"
    );
    assert!(status.hint.contains("git fetch --refetch"), "{status:#?}");
    pair.laptop.run(["sync"]).ok();
    pair.laptop.barrier();
    assert_eq!(said(&pair.laptop), 1, "{}", pair.laptop.log());
    assert_eq!(pair.tip(), tip, "nothing is pushed from it");
    assert!(
        loose(&pair.laptop, &tree).exists(),
        "nothing is thrown away"
    );
    assert_eq!(pair.laptop.read("d/a").as_deref(), Some("2\n"));

    // What the hint says.
    fs::remove_file(loose(&pair.laptop, &tree)).unwrap();
    pair.laptop.git(["fetch", "-q", "--refetch"]);
    pair.laptop.run(["sync"]).ok();
    well(&pair.laptop);
    pair.ends_well();
    assert_eq!(pair.server.read("d/a").as_deref(), Some("2\n"));
}

#[test]
fn a_pack_that_was_cut_off_stops_the_push_and_an_index_that_was_is_the_users() {
    let mut laptop = host();
    for n in 0..60 {
        laptop.write(format!("d/{n}"), format!("{n}\n"));
    }
    laptop.synced();
    laptop.stop();
    laptop.git(["repack", "-adq"]);
    let packs = fs::read_dir(laptop.folder.join(".git/objects/pack")).unwrap();
    let pack = packs
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "pack"))
        .unwrap();
    let whole = fs::read(&pack).unwrap();
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o644)).unwrap();
    File::options()
        .write(true)
        .open(&pack)
        .unwrap()
        .set_len(100)
        .unwrap();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");
    let tip = laptop.sandbox.git(&hub, ["rev-parse", "main"]);
    laptop.write("d/0", "edited\n");
    laptop.start();
    let status = held(&laptop, "damaged");
    assert!(!status.hint.is_empty(), "{status:#?}");
    laptop.barrier();
    assert_eq!(laptop.sandbox.git(&hub, ["rev-parse", "main"]), tip);
    assert_eq!(laptop.read("d/0").as_deref(), Some("edited\n"));
    assert_eq!(said(&laptop), 1, "{}", laptop.log());
    fs::write(&pack, whole).unwrap();
    // The object library remembers what it saw of a pack as long as anybody has it open.
    laptop.run(["sync"]).ok();
    well(&laptop);
    laptop.synced();
    assert_eq!(laptop.sandbox.git(&hub, ["show", "main:d/0"]), "edited");

    // The index.
    let told = Told::by(&laptop);
    let index = laptop.folder.join(".git/index");
    let before = fs::read(&index).unwrap();
    fs::write(&index, &before[..before.len() / 2]).unwrap();
    laptop.write("d/1", "edited\n");
    let status = held(&laptop, "damaged");
    assert!(status.hint.contains("index"), "{status:#?}");
    for _ in 0..2 {
        let tries = |host: &Host| host.log().matches("no snapshot").count();
        let before = tries(&laptop);
        laptop.run(["sync"]).ok();
        laptop.until("it is tried again", |host| tries(host) > before);
    }
    assert_eq!(told.codes(), ["damaged"]);
    let files = laptop
        .sandbox
        .git(&hub, ["ls-tree", "-r", "--name-only", "main"]);
    assert_eq!(files.lines().count(), 60, "no half of it is committed");
    // What the hint says.
    fs::remove_file(&index).unwrap();
    laptop.git(["reset", "-q"]);
    laptop.run(["sync"]).ok();
    well(&laptop);
    laptop.synced();
    assert_eq!(laptop.sandbox.git(&hub, ["show", "main:d/1"]), "edited");
    assert_eq!(
        laptop
            .git(["ls-tree", "-r", "--name-only", "HEAD"])
            .lines()
            .count(),
        60
    );
}

/// Writes a configuration with these folders.
fn folders(host: &Host, names: &[&str]) {
    let entry = |name: &&str| format!("[[folder]]\npath = \"~/{name}\"\n");
    let entries: Vec<String> = names.iter().map(entry).collect();
    host.sandbox
        .config(&(AT_ONCE.to_owned() + &entries.concat()));
}

#[test]
fn folders_that_are_away_at_the_start_stop_no_other_and_begin_when_they_are_back() {
    let mut laptop = Host::new("laptop").with_args::<&str>([]);
    let home = laptop.sandbox.home();
    let [sync, usb, work] = ["Sync", "usb", "work"].map(|name| home.join(name));
    folders(&laptop, &["Sync", "usb", "work"]);
    for dir in [&sync, &usb, &work] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("a"), "1\n").unwrap();
        laptop.run(["init", dir.to_str().unwrap()]).ok();
    }
    // The one's disk is not mounted, the other's repository is not there.
    let (disk, git) = (home.join("disk"), home.join("git"));
    fs::rename(&usb, &disk).unwrap();
    fs::create_dir(&usb).unwrap();
    fs::rename(work.join(".git"), &git).unwrap();
    laptop.start();
    let stands = |host: &Host| -> Vec<(String, String)> {
        let all = host.status().folders.into_iter();
        all.map(|it| (it.name, it.code)).collect()
    };
    let list = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        let owned = |(name, code): &(&str, &str)| ((*name).to_owned(), (*code).to_owned());
        all.iter().map(owned).collect()
    };
    let away = list(&[
        ("Sync", "ok"),
        ("usb", "root-missing"),
        ("work", "no-repository"),
    ]);
    assert_eq!(stands(&laptop), away);
    for status in &laptop.status().folders[1..] {
        assert_eq!(status.state, State::Held);
        assert!(!status.message.is_empty(), "{status:#?}");
        assert!(status.hint.contains("put it back"), "{status:#?}");
        assert!(status.hint.contains("by itself"), "{status:#?}");
    }
    let on_hub = |name: &str| {
        let hub = laptop.sandbox.paths().hubs().join(format!("{name}.git"));
        let mut command = laptop.sandbox.command("git");
        let out = command.args(["show", "main:a"]).current_dir(hub).output();
        String::from_utf8(out.unwrap().stdout).unwrap()
    };
    laptop.write("a", "2\n");
    laptop.until("the rest goes on", |_| on_hub("Sync") == "2\n");
    assert_eq!(laptop.run(["status"]).code, Some(3));
    let refused = laptop.run(["approve", "usb"]).fails(1);
    assert!(refused.contains("mount it"), "{refused}");
    for _ in 0..2 {
        laptop.run(["sync"]).ok();
    }
    let times = |words: &str| laptop.log().matches(words).count();
    assert_eq!(times("/usb` is not there"), 1, "{}", laptop.log());
    assert_eq!(times("/work` is not there"), 1, "{}", laptop.log());
    assert_eq!(fs::read_dir(&usb).unwrap().count(), 0, "nothing is made");
    assert!(!work.join(".git").exists(), "nothing is made");

    // Both come back, and nobody has to say so.
    fs::remove_dir(&usb).unwrap();
    fs::write(disk.join("a"), "on the disk\n").unwrap();
    fs::rename(&disk, &usb).unwrap();
    fs::write(work.join("a"), "at work\n").unwrap();
    fs::rename(&git, work.join(".git")).unwrap();
    laptop.until("they are synced", |_| {
        (on_hub("usb"), on_hub("work")) == ("on the disk\n".into(), "at work\n".into())
    });
    let well = list(&[("Sync", "ok"), ("usb", "ok"), ("work", "ok")]);
    laptop.until("all are well", |host| stands(host) == well);

    // A configuration that is read again keeps what runs, and waits for what does not.
    laptop.run(["stop"]).ok();
    assert_eq!(laptop.ended(PATIENCE), 0);
    folders(&laptop, &["usb"]);
    fs::rename(&usb, &disk).unwrap();
    laptop.start();
    let waits = list(&[("usb", "root-missing")]);
    assert_eq!(stands(&laptop), waits, "alone it is waited for as well");
    folders(&laptop, &["usb", "Sync"]);
    laptop.signal(Signal::HUP);
    let both = list(&[("usb", "root-missing"), ("Sync", "ok")]);
    laptop.until("the other is there", |host| stands(host) == both);
    fs::rename(&disk, &usb).unwrap();
    let both = list(&[("usb", "ok"), ("Sync", "ok")]);
    laptop.until("it is back", |host| stands(host) == both);
    laptop.run(["stop"]).ok();
    assert_eq!(laptop.ended(PATIENCE), 0);

    // What never was there is a mistake in the configuration.
    folders(&laptop, &["nowhere"]);
    let said = laptop.run(["run"]).fails(10);
    assert!(said.contains("nowhere` does not exist"), "{said}");
}

#[test]
fn a_repository_that_is_gone_is_waited_for_and_none_is_made() {
    let mut laptop = host();
    laptop.write("a", "1\n");
    laptop.synced();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");
    let tip = laptop.sandbox.git(&hub, ["rev-parse", "main"]);
    let told = Told::by(&laptop);
    let (here, away) = (
        laptop.folder.join(".git"),
        laptop.sandbox.root().join("away"),
    );
    fs::rename(&here, &away).unwrap();
    laptop.write("a", "2\n");
    let status = held(&laptop, "no-repository");
    assert!(status.hint.contains("put it back"), "{status:#?}");
    told.only(&laptop, "no-repository");
    assert!(!here.exists(), "none is made");
    assert_eq!(laptop.sandbox.git(&hub, ["rev-parse", "main"]), tip);
    fs::rename(&away, &here).unwrap();
    well(&laptop);
    laptop.synced();
    assert_eq!(laptop.sandbox.git(&hub, ["show", "main:a"]), "2");

    // A start without it makes none either.
    laptop.stop();
    fs::rename(&here, &away).unwrap();
    let said = laptop
        .run(["run", laptop.folder.to_str().unwrap()])
        .fails(10);
    assert!(said.contains("put it back"), "{said}");
    assert!(!here.exists(), "none is made");
    fs::rename(&away, &here).unwrap();
    laptop.start();
    laptop.write("a", "3\n");
    laptop.synced();
    assert_eq!(laptop.sandbox.git(&hub, ["show", "main:a"]), "3");
}

#[test]
fn a_shallow_and_a_partial_clone_are_well_and_nobody_is_told() {
    let pair = Pair::configured(AT_ONCE);
    for name in ["a", "b"] {
        pair.laptop.write(name, "1\n");
        pair.equal();
    }
    for key in ["uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"] {
        pair.laptop.sandbox.git(&pair.hub, ["config", key, "true"]);
    }
    for kind in ["--depth=1", "--filter=blob:none"] {
        let mut third = Host::new("third");
        third.sandbox.config(AT_ONCE);
        let url = format!("file://{}", pair.hub.display());
        let clone = ["clone", "-q", kind, &url, third.folder.to_str().unwrap()];
        third.sandbox.git(&third.sandbox.home(), clone);
        third.start();
        let told = Told::by(&third);
        third.write("a", kind);
        pair.laptop.sees("an edit of the third", |root| {
            fs::read(root.join("a")).is_ok_and(|text| text == kind.as_bytes())
        });
        pair.laptop.write("b", kind);
        third.sees("an edit for the third", |root| {
            fs::read(root.join("b")).is_ok_and(|text| text == kind.as_bytes())
        });
        third.run(["sync"]).ok();
        let status = third.synced();
        assert_eq!((status.code.as_str(), status.state), ("ok", State::Idle));
        assert!(
            status.held.is_empty() && status.deferred.is_empty(),
            "{status:#?}"
        );
        told.catch_up(&third);
        assert_eq!(told.codes(), [""; 0], "{}", third.log());
        assert_eq!(third.folder_status().head, pair.tip());
    }
}
