//! New files that look like secrets: held, listed, never in any blob, and let through by name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use autosync::control::What;
use autosync::engine::status::State;
use autosync::names::RepoPath;
use autosync::names::secret::secret;
use autosync::repo::stable;

use super::{held, names, never_in_any_blob};
use crate::support::Sandbox;
use crate::support::host::{Host, PATIENCE, Pair};

/// What no blob may hold.
const TOKEN: &str = "S3CRET-xyz";

/// A file of the table.
struct Case {
    path: String,
    content: Vec<u8>,
}

/// Lines as a private key has them, with the token in them.
fn key() -> String {
    let line = format!("{TOKEN}MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ");
    // The token has a dash, which no base64 has.
    let line = line.replace('-', "0");
    format!("{line}\n").repeat(20)
}

fn cases(kind: &str) -> Vec<Case> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/secrets.toml");
    let table: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
    let cases = table[kind].as_array().unwrap().iter().map(|case| {
        let path = case["path"].as_str().unwrap().to_owned();
        let content = if let Some(hex) = case.get("hex") {
            let hex = hex.as_str().unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (0..hex.len()).step_by(2).map(byte).collect()
        } else {
            let text = case["text"].as_str().unwrap();
            let long = key().lines().next().unwrap().to_owned();
            let text = text.replace("{key}", &key()).replace("{long}", &long);
            text.into_bytes()
        };
        Case { path, content }
    });
    cases.collect()
}

#[test]
fn of_the_files_in_the_table_no_secret_is_missed_and_at_most_one_other_is_held() {
    let judge = |case: &Case| secret(&RepoPath::new(&case.path).unwrap(), &case.content);
    let secrets = cases("secret");
    let missed: Vec<&String> = secrets
        .iter()
        .filter(|case| judge(case).is_none())
        .map(|case| &case.path)
        .collect();
    let benign = cases("benign");
    let wrongly: Vec<&String> = benign
        .iter()
        .filter(|case| judge(case).is_some())
        .map(|case| &case.path)
        .collect();
    assert!(secrets.len() >= 30 && benign.len() >= 30);
    assert_eq!(missed, Vec::<&String>::new());
    assert!(wrongly.len() <= 1, "{wrongly:?}");
}

#[test]
fn secrets_are_held_with_one_notification_and_everything_else_goes_on() {
    let pair = Pair::new();
    let [laptop, server] = pair.hosts();
    let heard = laptop.listen();
    laptop.write(".env", format!("PASSWORD={TOKEN}\n"));
    laptop.write("plain.txt", "1\n");
    server.sees("what is no secret", |root| root.join("plain.txt").exists());
    let status = laptop.barrier();
    assert_eq!(status.held.len(), 1, "{status:#?}");
    let group = &status.held[0];
    assert_eq!((group.code.as_str(), group.more), ("secret", 0));
    assert_eq!(group.paths, [".env"]);
    assert_eq!(
        group.message,
        "`.env` looks like an environment file with secrets"
    );
    assert!(group.hint.contains("autosync allow PATH"), "{}", group.hint);
    assert!(
        group.hint.contains("autosync ignore PATH"),
        "{}",
        group.hint
    );
    assert_eq!(status.state, State::Idle, "nothing has stopped");
    let page = laptop.run(["status"]);
    assert_eq!(page.code, Some(3));
    assert!(page.out.contains("autosync allow PATH"), "{}", page.out);

    // Saved again and again it stays so, and is told once.
    for number in 0..5 {
        laptop.write(".env", format!("PASSWORD={TOKEN}{number}\n"));
        laptop.barrier();
    }
    laptop.run(["sync"]).ok();
    assert_eq!(held(laptop, "secret"), names(&[".env"]));
    let told = std::iter::from_fn(|| heard.recv_timeout(PATIENCE / 600).ok());
    let told = told.filter(|event| matches!(event.what, What::Held { .. }));
    assert_eq!(told.count(), 1);
    let after = laptop.barrier();
    assert_eq!(after.counters.commits, status.counters.commits);
    never_in_any_blob(&laptop.sandbox, &[&laptop.folder, &pair.hub], TOKEN);

    // No approval lets it through.
    let ran = laptop.run(["approve"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("autosync allow PATH"), "{ran:?}");

    // A second one is a matter of its own.
    laptop.write("keys/id_rsa", "x\n");
    assert_eq!(held(laptop, "secret"), names(&[".env", "keys/id_rsa"]));
    let mut all = std::iter::from_fn(|| heard.recv_timeout(PATIENCE).ok());
    assert!(all.any(|event| matches!(event.what, What::Held { .. })));

    let said = laptop.run(["allow", "Sync/.env"]).ok();
    assert_eq!(said, "Allowed `.env`; it is synced now.\n");
    server.sees("what was let through", |root| root.join(".env").exists());
    assert_eq!(held(laptop, "secret"), names(&["keys/id_rsa"]));
    // From now on it is like every other file.
    laptop.write(".env", "PASSWORD=other\n");
    server.sees("its next version", |root| {
        fs::read(root.join(".env")).is_ok_and(|text| text == b"PASSWORD=other\n")
    });
    fs::remove_dir_all(laptop.folder.join("keys")).unwrap();
    assert_eq!(held(laptop, "secret"), names(&[]));
    pair.ends_well();
}

#[test]
fn what_was_let_through_stays_so_over_restarts_and_with_no_agent() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    laptop.synced();
    laptop.stop();
    laptop.write(".netrc", TOKEN);
    laptop.write("safe/all.kdbx", "x");
    let said = laptop.run(["allow", "Sync/.netrc"]).ok();
    assert_eq!(said, "Allowed `.netrc`; the next sync takes it.\n");
    laptop.start();
    laptop.synced();
    assert_eq!(laptop.git(["ls-files"]), ".netrc");
    assert_eq!(held(&laptop, "secret"), names(&["safe/all.kdbx"]));
    laptop.stop();
    laptop.start();
    assert_eq!(held(&laptop, "secret"), names(&["safe/all.kdbx"]));

    // As `status` shows it, and from anywhere.
    let said = laptop.run(["allow", "safe/all.kdbx"]).ok();
    assert_eq!(said, "Allowed `safe/all.kdbx`; it is synced now.\n");
    laptop.synced();
    assert_eq!(laptop.git(["ls-files"]), ".netrc\nsafe/all.kdbx");
    assert_eq!(held(&laptop, "secret"), names(&[]));

    let said = laptop.run(["allow", "Sync/no"]).fails(1);
    assert_eq!(
        said,
        "autosync: there is no `Sync/no`. Give the path as `autosync status` shows it.\n"
    );
    laptop.sandbox.write("home/elsewhere", "x");
    let said = laptop.run(["allow", "elsewhere"]).fails(10);
    assert!(said.contains("is in no folder of autosync"), "{said}");
}

#[test]
fn an_ignored_secret_is_held_no_more_and_leaves_no_computer() {
    let pair = Pair::new();
    let [laptop, server] = pair.hosts();
    laptop.write("app/.env", TOKEN);
    laptop.write(".netrc", TOKEN);
    assert_eq!(held(laptop, "secret"), names(&[".netrc", "app/.env"]));
    let said = laptop.run(["ignore", "Sync/app/.env"]).ok();
    assert_eq!(said, "Ignored `app/.env` by a line in `.gitignore`.\n");
    let said = laptop.run(["ignore", "--here", "Sync/.netrc"]).ok();
    assert_eq!(said, "Ignored `.netrc` by a line in `.git/info/exclude`.\n");
    server.sees("the rule", |root| root.join(".gitignore").exists());
    assert_eq!(held(laptop, "secret"), names(&[]));
    assert_eq!(laptop.read(".gitignore").unwrap(), "/app/.env\n");
    server.write("app/.env", TOKEN);
    assert_eq!(held(server, "secret"), names(&[]));

    // What the history has is not ignored by a rule.
    let ran = laptop.run(["ignore", "Sync/.gitignore"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("git -C") && ran.err.contains("rm --cached"),
        "{ran:?}"
    );

    // A rule that goes, also one that comes in, exposes them, and then they are held again.
    server.write(".gitignore", "");
    laptop.sees("the rule is gone", |root| {
        fs::read(root.join(".gitignore")).is_ok_and(|text| text.is_empty())
    });
    for host in pair.hosts() {
        host.until("it is held", |host| {
            held(host, "secret") == names(&["app/.env"])
        });
    }
    never_in_any_blob(&laptop.sandbox, &[&laptop.folder, &pair.hub], TOKEN);
    never_in_any_blob(&server.sandbox, &[&server.folder], TOKEN);
    assert_eq!(pair.tip(), laptop.git(["rev-parse", "HEAD"]));
}

#[test]
fn a_file_that_becomes_a_secret_by_its_name_or_by_a_later_content_is_held() {
    let pair = Pair::new();
    let [laptop, server] = pair.hosts();
    laptop.write("settings.txt", "a=1\n");
    laptop.write("notes.txt", "1\n2\n3\n");
    laptop.write(
        "fresh.txt",
        format!("-----BEGIN PRIVATE KEY-----\n{}", key()),
    );
    server.sees("the files", |root| root.join("notes.txt").exists());
    assert_eq!(held(laptop, "secret"), names(&["fresh.txt"]));

    // By a rename: the old name goes, the new one waits.
    fs::rename(
        laptop.folder.join("settings.txt"),
        laptop.folder.join(".env"),
    )
    .unwrap();
    server.sees("the old name goes", |root| {
        !root.join("settings.txt").exists()
    });
    assert_eq!(held(laptop, "secret"), names(&[".env", "fresh.txt"]));

    // By its content: the others keep the version before.
    let before = laptop.barrier().head;
    let with_key = format!("1\n2\n3\n-----BEGIN RSA PRIVATE KEY-----\n{}", key());
    laptop.write("notes.txt", &with_key);
    assert_eq!(
        held(laptop, "secret"),
        names(&[".env", "fresh.txt", "notes.txt"])
    );
    assert_eq!(laptop.barrier().head, before);
    // What comes in there is not lost, and takes nothing away.
    server.write("notes.txt", "0\n1\n2\n3\n");
    server.synced();
    laptop.until("it came in", |host| host.folder_status().head == pair.tip());
    assert_eq!(laptop.read("notes.txt").unwrap(), with_key);
    assert!(held(laptop, "secret").contains("notes.txt"));
    never_in_any_blob(&laptop.sandbox, &[&laptop.folder, &pair.hub], &key()[..40]);

    // Without the key it is an edit like every other.
    laptop.write("notes.txt", "1\n2\n3\n4\n");
    server.sees("both edits", |root| {
        fs::read(root.join("notes.txt")).is_ok_and(|text| text == b"0\n1\n2\n3\n4\n")
    });
    assert_eq!(held(laptop, "secret"), names(&[".env", "fresh.txt"]));

    // One that was let through may get another name.
    laptop.run(["allow", "Sync/fresh.txt"]).ok();
    server.sees("it", |root| root.join("fresh.txt").exists());
    fs::rename(
        laptop.folder.join("fresh.txt"),
        laptop.folder.join("id_rsa"),
    )
    .unwrap();
    server.sees("its new name", |root| root.join("id_rsa").exists());
    assert_eq!(held(laptop, "secret"), names(&[".env"]));
    laptop.run(["allow", "Sync/.env"]).ok();
    pair.ends_well();
}

#[test]
fn a_secret_that_was_let_through_may_move_in_whatever_form_it_is_stored() {
    let pair = Pair::new();
    let [laptop, server] = pair.hosts();
    let mut large = format!("-----BEGIN PRIVATE KEY-----\n{}", key()).into_bytes();
    large.resize(usize::try_from(stable::IN_MEMORY).unwrap() + 1, b'x');
    laptop.write(".gitattributes", "*.local text eol=crlf\n.env text=auto\n");
    laptop.write(".env", "A=1\nB=2\n");
    laptop.write("large", large);
    server.sees("the rules", |root| root.join(".gitattributes").exists());
    assert_eq!(held(laptop, "secret"), names(&[".env", "large"]));
    for name in [".env", "large"] {
        laptop.run(["allow", &format!("Sync/{name}")]).ok();
    }
    server.sees("them", |root| {
        root.join(".env").exists() && root.join("large").exists()
    });
    for (from, to) in [(".env", ".env.local"), ("large", "id_rsa")] {
        fs::rename(laptop.folder.join(from), laptop.folder.join(to)).unwrap();
        server.sees("its old name goes", |root| !root.join(from).exists());
        laptop.synced();
        assert_eq!(held(laptop, "secret"), names(&[]), "{to}");
        server.sees("its new name", |root| root.join(to).exists());
    }
    assert_eq!(laptop.git(["show", "HEAD:.env.local"]), "A=1\nB=2");
}

#[test]
fn a_secret_that_waits_here_and_comes_in_from_elsewhere_is_neither_lost_nor_sent() {
    let pair = Pair::new();
    let [laptop, server] = pair.hosts();
    laptop.write(".env", format!("A={TOKEN}\n"));
    assert_eq!(held(laptop, "secret"), names(&[".env"]));
    server.write(".env", "A=server\n");
    assert_eq!(held(server, "secret"), names(&[".env"]));
    server.run(["allow", "Sync/.env"]).ok();
    server.synced();
    laptop.until("it came in", |host| host.folder_status().head == pair.tip());
    laptop.barrier();
    assert_eq!(laptop.read(".env").unwrap(), format!("A={TOKEN}\n"));
    assert_eq!(server.read(".env").unwrap(), "A=server\n");
    assert_eq!(held(laptop, "secret"), names(&[".env"]));
    never_in_any_blob(&laptop.sandbox, &[&laptop.folder, &pair.hub], TOKEN);

    // Let through, it meets the other as every edit would.
    laptop.run(["allow", "Sync/.env"]).ok();
    server.sees("both versions", |root| {
        fs::read_dir(root).unwrap().flatten().any(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().contains("conflict")
                && fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(TOKEN))
        })
    });
    pair.ends_well();
}

#[test]
fn at_first_contact_and_with_once_and_at_the_start_secrets_are_held_too() {
    let sandbox = Sandbox::new();
    let folder = sandbox.home().join("Sync");
    let hub = sandbox.root().join("hub.git");
    for case in cases("secret") {
        let path = folder.join(&case.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, case.content).unwrap();
    }
    fs::write(folder.join(".env"), format!("A={TOKEN}\n")).unwrap();
    fs::write(folder.join("plain.txt"), "x\n").unwrap();
    // The name of a link is no secret, and what it leads to is not in it.
    symlink("/etc/passwd", folder.join(".netrc")).unwrap();
    let args = ["init", "Sync", "--hub", hub.to_str().unwrap()];
    assert_eq!(sandbox.run(args).code, Some(3), "partly done");
    let ran = sandbox.run(["once", "Sync"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.out
            .contains("files are held back (they look like secrets)"),
        "{ran:?}"
    );
    let tracked = |git_dir: &Path| sandbox.git(git_dir, ["ls-tree", "-r", "--name-only", "main"]);
    assert_eq!(tracked(&hub), ".netrc\nplain.txt");
    for text in [TOKEN, &key()[..40], "hunter2"] {
        never_in_any_blob(&sandbox, &[&folder, &hub], text);
    }

    // The start of an agent looks at everything, too.
    let mut laptop = Host::of(sandbox, "laptop");
    laptop.start();
    laptop.synced();
    assert!(held(&laptop, "secret").contains(".env"));
    assert_eq!(laptop.git(["ls-files"]), ".netrc\nplain.txt");
    never_in_any_blob(&laptop.sandbox, &[&folder, &hub], TOKEN);
}

#[test]
fn a_hub_that_has_files_gets_no_secret_of_a_folder_that_joins_it() {
    let server = Sandbox::named("server");
    let hub = server.root().join("hub.git");
    let there = hub.to_str().unwrap();
    server.write("home/Sync/plan", "1\n");
    assert_eq!(server.run(["init", "Sync", "--hub", there]).code, Some(0));
    let laptop = Sandbox::named("laptop");
    laptop.write("home/Sync/.ssh/id_work", TOKEN);
    laptop.write("home/Sync/mine", "1\n");
    let ran = laptop.run(["init", "Sync", "--hub", there]);
    assert!(matches!(ran.code, Some(0 | 3)), "{ran:?}");
    let tree = laptop.git(&hub, ["ls-tree", "-r", "--name-only", "main"]);
    assert_eq!(tree, "mine\nplan");
    let folder = laptop.home().join("Sync");
    never_in_any_blob(&laptop, &[&folder, &hub], TOKEN);
    assert_eq!(
        fs::read_to_string(folder.join(".ssh/id_work")).unwrap(),
        TOKEN
    );
}

#[test]
fn what_a_person_staged_or_seals_by_a_filter_has_been_decided() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    laptop.synced();
    // A filter as git-crypt has one: what is stored is not what stands in the file.
    laptop.git(["config", "filter.my-crypt.clean", "tr a-zA-Z n-za-mN-ZA-M"]);
    laptop.git(["config", "filter.my-crypt.smudge", "tr a-zA-Z n-za-mN-ZA-M"]);
    laptop.git(["config", "filter.image.clean", "cat"]);
    laptop.write(
        ".gitattributes",
        "sealed/** filter=my-crypt\nopen/** filter=image\n*.txt text\n",
    );
    laptop.synced();
    laptop.barrier();
    laptop.write("sealed/.env", format!("A={TOKEN}\n"));
    laptop.write("open/.env", format!("A={TOKEN}\n"));
    laptop.write("key.txt", format!("-----BEGIN PRIVATE KEY-----\n{}", key()));
    laptop.run(["sync"]).ok();
    assert_eq!(held(&laptop, "secret"), names(&["key.txt", "open/.env"]));
    let sealed = laptop.git(["ls-files", "sealed"]);
    assert_eq!(sealed, "sealed/.env");
    never_in_any_blob(&laptop.sandbox, &[&laptop.folder], TOKEN);
    never_in_any_blob(&laptop.sandbox, &[&laptop.folder], &key()[..40]);

    laptop.git(["add", "open/.env"]);
    laptop.run(["sync"]).ok();
    assert_eq!(held(&laptop, "secret"), names(&["key.txt"]));
    assert_eq!(
        laptop.git(["ls-tree", "--name-only", "HEAD", "open/"]),
        "open/.env"
    );
}

#[test]
fn who_wants_no_guard_on_secrets_has_none() {
    let mut laptop = Host::new("laptop");
    laptop.sandbox.config("[guards]\nsecrets = false\n");
    laptop.start();
    laptop.write(".env", "A=1\n");
    laptop.barrier();
    laptop.synced();
    assert_eq!(laptop.git(["ls-files"]), ".env");
}
