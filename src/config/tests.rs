use super::*;

fn env() -> Env {
    [("HOME", "/home/me"), ("AUTOSYNC_HOST", "laptop")]
        .into_iter()
        .collect()
}

fn parse(text: &str) -> Result<Settings, ConfigError> {
    Settings::parse(text, Path::new("/etc/a.toml"), &env())
}

/// The complaint about a text.
fn complaint(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(
        parse("").unwrap(),
        Settings {
            host: "laptop".into(),
            folders: Vec::new(),
            settle: SettleSettings::default(),
            push: PushSettings::default(),
            notice: NoticeSettings::default(),
            xmpp: None,
            fanout: None,
            desktop: DesktopSettings::default(),
            guards: GuardSettings::default(),
            control: ControlSettings::default(),
            log: LogSettings::default(),
        }
    );
}

#[test]
fn everything_that_is_written_is_meant() {
    let settings = parse(
        r#"
        host = "other"
        [[folder]]
        path = "~/Sync"
        name = "Docs"
        hub = "../hub.git"
        branch = "trunk"
        git_dir = "/srv/sync.git"
        only = ["/docs"]
        exclude = ["*.iso"]
        push = "manual"
        receive = "off"
        conflict = "copy"
        max_file = "2MB"
        poll = "5m"
        peers = ["her@example.org"]
        [settle]
        quiet = 0
        [push]
        quiet = "20s"
        [notice]
        transports = []
        [guards]
        mass_delete_files = 1_000
        mass_delete_percent = 0x10
        unattended = "apply-after 36h"
        [control]
        socket = "sock"
        [log]
        level = "debug"
        format = "json"
        "#,
    )
    .unwrap();
    assert_eq!(settings.host, "laptop", "the variable goes before the file");
    assert_eq!(
        settings.folders,
        [FolderSettings {
            name: "Docs".into(),
            path: "/home/me/Sync".into(),
            hub: Some("/etc/../hub.git".into()),
            branch: Some("trunk".into()),
            git_dir: Some("/srv/sync.git".into()),
            only: vec!["/docs".into()],
            exclude: vec!["*.iso".into()],
            push: Way::Manual,
            receive: Way::Off,
            conflict: ConflictRule::Copy,
            max_file: Some(2_000_000),
            poll: Some(Duration::from_secs(300)),
            peers: vec!["her@example.org".into()],
        }]
    );
    assert_eq!(settings.settle.quiet_max, Duration::ZERO);
    assert_eq!(settings.push.quiet_max, Duration::from_secs(20));
    assert_eq!(settings.notice.transports, [TransportKind::Poll]);
    assert_eq!(settings.guards.mass_delete.files, 1000);
    assert_eq!(settings.guards.mass_delete.percent, 16);
    let day_and_a_half = Some(Duration::from_secs(36 * 3600));
    assert_eq!(settings.guards.unattended, day_and_a_half);
    assert_eq!(settings.control.socket, Some("/etc/sock".into()));
    assert_eq!(
        settings.log,
        LogSettings {
            level: LogLevel::Debug,
            format: LogFormat::Json
        }
    );
}

#[test]
fn the_tables_of_notices_say_who_carries_them() {
    let settings = parse(
        r#"
        [xmpp]
        jid = "me@example.org"
        password_file = "~/pass"
        server = "[::1]:15222"
        tls = "direct"
        ca_file = "ca.pem"
        [fanout]
        server = "tcp://router:1986"
        key_file = "key"
        [desktop]
        notify = "problems"
        describe_command = ["ask"]
        "#,
    )
    .unwrap();
    let xmpp = settings.xmpp.unwrap();
    assert_eq!(xmpp.jid, "me@example.org");
    assert_eq!(xmpp.password, Password::File("/home/me/pass".into()));
    assert_eq!(xmpp.server, Some(("::1".into(), 15222)));
    assert_eq!(
        (xmpp.tls, xmpp.ca_file),
        (Tls::Direct, Some("/etc/ca.pem".into()))
    );
    let fanout = settings.fanout.unwrap();
    assert_eq!((fanout.host.as_str(), fanout.port), ("router", 1986));
    assert_eq!(fanout.key_file, Some("/etc/key".into()));
    assert_eq!(settings.desktop.notify, Notify::Problems);
    let all = TransportKind::ALL.iter().map(|(_, kind)| *kind);
    assert!(settings.notice.transports.into_iter().eq(all));
    let only = "[notice]\ntransports = [\"hub\"]\n[xmpp]\njid = \"me@example.org\"";
    let only = parse(only).unwrap().notice.transports;
    assert_eq!(only, [TransportKind::Hub, TransportKind::Poll]);
}

#[test]
fn a_password_is_taken_from_a_file_of_ours_alone_and_never_shown() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let text = "[xmpp]\njid = \"me@example.org\"\npassword = \"s3same\"";
    fs::write(&file, text).unwrap();
    let env = [("HOME", "/home/me")].into_iter().collect();
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o640);
    let refused = Settings::load(&file, &env).unwrap_err().to_string();
    assert!(refused.contains("line 3: `xmpp.password` stands in a file that others can read"));
    assert!(!refused.contains("s3same"));
    mode(0o600);
    let settings = Settings::load(&file, &env).unwrap();
    assert!(!format!("{settings:?}").contains("s3same"));
    let Password::Inline(secret) = settings.xmpp.unwrap().password else {
        panic!("not inline");
    };
    assert_eq!(secret.expose(), "s3same");
}

#[test]
fn a_wrong_account_or_server_is_refused_in_one_sentence() {
    for (text, said) in [
        (
            "[xmpp]\njid = \"me\"",
            "must be an address such as me@example.org",
        ),
        (
            "[xmpp]\njid = \"me@a.b/res\"",
            "must be an address such as me@example.org",
        ),
        (
            "[xmpp]\njid = \"me@a.b\"\nserver = \"host\"",
            "must be a host and a port, such as xmpp.example.org:5222",
        ),
        (
            "[xmpp]\njid = \"me@a.b\"\npassword_file = \"a\"\npassword_command = [\"b\"]",
            "is one password too many",
        ),
        (
            "[fanout]\nserver = \"host:1986\"",
            "must be like tcp://host:1986",
        ),
        (
            "[notice]\ntransports = [\"xmpp\"]",
            "names \"xmpp\", which needs `[xmpp] jid`",
        ),
        ("[desktop]\nnotify = \"al\"", "must be one of \"steps\""),
    ] {
        let complaint = complaint(text);
        assert!(complaint.contains(said), "{complaint}");
    }
}

#[test]
fn a_wrong_key_is_answered_with_the_nearest_right_one() {
    for (text, said) in [
        (
            "[settle]\nqiuet = \"1s\"",
            "`/etc/a.toml` line 2: there is no key `settle.qiuet`; did you mean `settle.quiet`?",
        ),
        (
            "\nhosst = \"a\"",
            "`/etc/a.toml` line 2: there is no key `hosst`; did you mean `host`?",
        ),
        (
            "[setle]\nquiet = \"1s\"",
            "`/etc/a.toml` line 1: there is no key `setle`; did you mean `settle`?",
        ),
        (
            "[[folder]]\npath = \"/a\"\nexlude = []",
            "`/etc/a.toml` line 3: there is no key `folder.exlude`; did you mean `folder.exclude`?",
        ),
        (
            "max_file = \"1GiB\"",
            "`/etc/a.toml` line 1: there is no key `max_file`; did you mean `folder.max_file`?",
        ),
        (
            "[guards]\nwhatever = 1",
            "`/etc/a.toml` line 2: there is no key `guards.whatever`",
        ),
    ] {
        assert_eq!(complaint(text), said);
    }
}

#[test]
fn a_wrong_value_names_file_line_and_key() {
    for (text, said) in [
        (
            "[settle]\nquiet = \"150\"",
            "`settle.quiet` is \"150\": the unit is missing, as in \"150ms\", \"20s\" or \"1m30s\"",
        ),
        (
            "[settle]\nquiet = 150",
            "`settle.quiet` must be a text with a number and its unit, as in \"150ms\"",
        ),
        (
            "[[folder]]\npath = 1",
            "`folder.path` must be a text in quotes",
        ),
        (
            "[push]\nquiet_max = \"1ms\"",
            "`push.quiet_max` must not be shorter than `push.quiet`",
        ),
        (
            "[guards]\nmass_delete_percent = 101",
            "`guards.mass_delete_percent` must be a whole number from 0 to 100",
        ),
        (
            "[guards]\nunattended = \"never\"",
            "`guards.unattended` must be \"hold\" or \"apply-after\" with a time, as in \
             \"apply-after 24h\"",
        ),
        (
            "[guards]\nunattended = \"apply-after 0\"",
            "`guards.unattended` must leave at least 1s",
        ),
        (
            "[guards]\nmass_delete_files = -1",
            "`guards.mass_delete_files` must be a whole number from 0",
        ),
        (
            "[log]\nlevel = \"inof\"",
            "`log.level` must be one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"; \
             did you mean \"info\"?",
        ),
        (
            "[notice]\ntransports = [\"smoke\"]",
            "`notice.transports` must be one of \"hub\", \"xmpp\", \"fanout\", \"poll\"",
        ),
        (
            "\nfolder = 1",
            "`folder` must stand in double brackets, as [[folder]]",
        ),
        ("\nsettle = 1", "`settle` must be a table, as [settle]"),
        ("\n[[folder]]", "`folder.path` is missing"),
    ] {
        assert_eq!(complaint(text), format!("`/etc/a.toml` line 2: {said}"));
    }
    assert_eq!(
        complaint("[[folder]]\npath = \"$NOPE/x\""),
        "`/etc/a.toml` line 2: `folder.path` uses $NOPE, which is not set"
    );
    assert!(complaint("[settle\n").starts_with("`/etc/a.toml` line 1 is not TOML: "));
}

#[test]
fn what_makes_no_sense_in_a_folder_is_refused() {
    let folder = |rest: &str| complaint(&format!("[[folder]]\npath = \"/a\"\n{rest}"));
    for (rest, said) in [
        (
            "name = \"a/b\"",
            "`folder.name` must be one line of plain text without a slash",
        ),
        (
            "hub = \"/a/hub.git\"",
            "`folder.hub` lies in the folder itself",
        ),
        ("branch = \"-x\"", "`folder.branch` is no name of a branch"),
        (
            "git_dir = \"/a/repo\"",
            "`folder.git_dir` lies in the folder itself and would be committed",
        ),
        ("max_file = 0", "`folder.max_file` must be more than 0"),
        ("poll = \"10ms\"", "`folder.poll` must be at least 1s"),
    ] {
        assert_eq!(folder(rest), format!("`/etc/a.toml` line 3: {said}"));
    }
    assert!(folder("exclude = [\"{a\"]").contains("`folder.exclude` has a pattern that is none"));
    assert!(parse("[[folder]]\npath = \"/a\"\ngit_dir = \"/a/.git\"").is_ok());
}

#[test]
fn folders_that_nest_or_are_equal_are_refused() {
    let two = |a: &str, b: &str| format!("[[folder]]\npath = \"{a}\"\n[[folder]]\npath = \"{b}\"");
    assert!(parse(&two("/a", "/ab")).is_ok());
    for (a, b, how) in [
        ("/a", "/a/", "is"),
        ("/a", "/a/b", "lies in"),
        ("/a/b", "/a", "holds"),
    ] {
        let said = complaint(&two(a, b));
        assert!(said.contains("line 4: `folder.path`"), "{said}");
        assert!(
            said.contains(&format!("which {how} another folder")),
            "{said}"
        );
    }
    let place = tempfile::tempdir().unwrap();
    let (real, link) = (place.path().join("real"), place.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let text = two(real.to_str().unwrap(), link.join("new").to_str().unwrap());
    assert!(complaint(&text).contains("which lies in another folder"));
}

#[test]
fn folders_are_told_apart_by_as_much_of_their_paths_as_it_takes() {
    let names = |text: &str| -> Vec<String> {
        let folders = parse(text).unwrap().folders;
        folders.into_iter().map(|folder| folder.name).collect()
    };
    let folder = |path: &str| format!("[[folder]]\npath = \"{path}\"\n");
    assert_eq!(
        names(&(folder("/a/Sync") + &folder("/b/Docs"))),
        ["Sync", "Docs"]
    );
    assert_eq!(
        names(&(folder("/a/x/Sync") + &folder("/b/x/Sync") + &folder("/b/y/Sync"))),
        ["a/x/Sync", "b/x/Sync", "y/Sync"]
    );
    let said = complaint(
        "[[folder]]\npath = \"/a\"\nname = \"x\"\n[[folder]]\npath = \"/b\"\nname = \"x\"",
    );
    assert!(
        said.ends_with("`folder.name` is \"x\" like another folder's"),
        "{said}"
    );
}

#[test]
fn the_host_has_a_name_that_can_stand_anywhere() {
    assert_eq!(clean_host("laptop.example.org"), "laptop");
    assert_eq!(clean_host("my laptop\n"), "mylaptop");
    assert_eq!(clean_host("-\u{e4}-"), "host");
    assert!(check_host(&clean_host(&"x".repeat(99))).is_ok());
    for bad in ["", "a b", "-a", ".a", "a/b", "\u{e4}", &"a".repeat(64)] {
        assert!(check_host(bad).is_err(), "{bad:?}");
    }
    let nobody = Env::default();
    assert!(check_host(&Settings::defaults(&nobody).unwrap().host).is_ok());
    let bad = [("AUTOSYNC_HOST", "a b")].into_iter().collect();
    let said = Settings::defaults(&bad).unwrap_err().to_string();
    assert!(
        said.starts_with("the variable AUTOSYNC_HOST must be"),
        "{said}"
    );
}

#[test]
fn the_host_is_found_in_a_broken_file() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a.toml");
    fs::write(&file, "host = \"box\"\nnonsense = 1\n[settle\n").unwrap();
    assert_eq!(host(Some(&file), &Env::default()), "box");
    assert_eq!(host(Some(&file), &env()), "laptop");
    assert_eq!(host(None, &Env::default()), system_host());
}

#[test]
fn the_file_is_the_one_asked_for_then_the_variable_then_the_usual_place() {
    let place = tempfile::tempdir().unwrap();
    let home = place.path().to_str().unwrap();
    let with = |vars: &[(&str, &str)]| -> Env {
        let home = [("HOME", home)];
        home.iter().chain(vars).copied().collect()
    };
    let plain = with(&[]);
    let paths = Paths::new(&plain).unwrap();
    assert_eq!(find(None, &plain, &paths), None);
    fs::create_dir_all(&paths.config).unwrap();
    fs::write(paths.config_file(), "").unwrap();
    assert_eq!(find(None, &plain, &paths), Some(paths.config_file()));
    let variable = with(&[("AUTOSYNC_CONFIG", "/v.toml")]);
    assert_eq!(find(None, &variable, &paths), Some("/v.toml".into()));
    let asked = Some(Path::new("/o.toml"));
    assert_eq!(find(asked, &variable, &paths), Some("/o.toml".into()));
}

#[test]
fn keys_are_known_without_a_file() {
    let keys = keys();
    for key in ["host", "folder.path", "settle.quiet", "log.format"] {
        assert!(keys.iter().any(|known| known == key), "{key}");
    }
}

#[test]
fn folders_of_the_command_line_take_the_place_of_the_configured_ones() {
    let settings = parse("[settle]\nquiet = 0\n[[folder]]\npath = \"/a\"\npush = \"off\"").unwrap();
    let of = |dirs: &[&str]| {
        let dirs: Vec<PathBuf> = dirs.iter().map(PathBuf::from).collect();
        settings.clone().with_dirs(&dirs)
    };
    let chosen = of(&["/a", "/x/b", "/y/b"]).unwrap();
    assert_eq!(chosen.settle, settings.settle);
    assert_eq!(chosen.folders[0], FolderSettings::new("/a".into()));
    assert_eq!(chosen.folders[2].name, "y/b");
    let here = of(&["sub"]).unwrap();
    assert_eq!(
        here.folders[0].path,
        std::env::current_dir().unwrap().join("sub")
    );
    let said = of(&["/a", "/a/b"]).unwrap_err().to_string();
    assert_eq!(
        said,
        "cannot care for `/a/b`, which lies in another folder, `/a`"
    );
}
