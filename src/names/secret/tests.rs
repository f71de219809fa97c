use super::*;

fn of(path: &str, head: &str) -> Option<Secret> {
    secret(&RepoPath::new(path).unwrap(), head.as_bytes())
}

/// What the base64 of a key looks like, without being one.
fn base64(len: usize) -> String {
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj"
        .chars()
        .cycle()
        .take(len)
        .collect()
}

#[test]
fn a_name_says_it_by_itself_even_of_an_empty_file() {
    for (path, what) in [
        (".ssh/id_rsa", Secret::SshKey),
        ("home/.ssh/id_work", Secret::SshKey),
        ("keys/ID_ED25519", Secret::SshKey),
        (".env", Secret::Environment),
        ("app/.env.production.local", Secret::Environment),
        (".env~", Secret::Environment),
        (".env.bak", Secret::Environment),
        (".env.example.local", Secret::Environment),
        (".netrc", Secret::Login),
        ("vault.kdbx", Secret::Passwords),
        (".aws/credentials", Secret::Cloud),
        (".kube/config", Secret::Cloud),
        (".gnupg/private-keys-v1.d/0123.key", Secret::Gnupg),
        (".password-store/mail/me.gpg", Secret::Passwords),
        ("profile/key4.db", Secret::Browser),
    ] {
        assert_eq!(of(path, ""), Some(what), "{path}");
    }
    for path in [
        ".ssh/id_rsa.pub",
        ".ssh/config",
        ".ssh/known_hosts",
        ".env.example",
        ".env.sample",
        ".env.production.template",
        ".env.d.ts",
        ".env.gpg",
        ".environment",
        "env",
        ".envrc",
        "netrc.md",
        ".authinfo.gpg",
        ".kdbx",
        "notes.kdbx.md",
        "credentials",
        "id_rsa.pub.bak",
        ".bak",
        "~",
    ] {
        assert_eq!(of(path, ""), None, "{path}");
    }
}

#[test]
fn a_private_key_is_known_by_its_first_bytes_in_every_wrapping() {
    let key = base64(64);
    for (text, what) in [
        (
            format!("-----BEGIN PRIVATE KEY-----\n{key}\n"),
            Secret::PrivateKey,
        ),
        (
            format!("\u{feff}-----BEGIN RSA PRIVATE KEY-----\r\n{key}\r\n"),
            Secret::PrivateKey,
        ),
        (
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{key}\n"),
            Secret::SshKey,
        ),
        (
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n{key}\n"
            ),
            Secret::PrivateKey,
        ),
        (
            format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n{key}\n"),
            Secret::Gnupg,
        ),
        (
            format!(
                "-----BEGIN CERTIFICATE-----\n{key}\n-----END CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n{key}\n"
            ),
            Secret::PrivateKey,
        ),
        (
            format!("{{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\n{key}\\n\"}}"),
            Secret::PrivateKey,
        ),
        (
            format!("data:\n  tls.key: |\n    -----BEGIN PRIVATE KEY-----\n    {key}\n"),
            Secret::PrivateKey,
        ),
        (
            format!("KEY = \"-----BEGIN RSA PRIVATE KEY-----\\n\" +\n  \"{key}\\n\""),
            Secret::PrivateKey,
        ),
    ] {
        assert_eq!(of("notes.txt", &text), Some(what), "{text}");
    }
    for text in [
        format!("-----BEGIN CERTIFICATE-----\n{key}\n"),
        format!("-----BEGIN PUBLIC KEY-----\n{key}\n"),
        "It begins with -----BEGIN PRIVATE KEY----- and then comes base64.\n".to_owned(),
        "-----BEGIN PRIVATE KEY-----\nMIIE...\n-----END PRIVATE KEY-----\n".to_owned(),
        "-----BEGIN PRIVATE KEY-----\n<your key>\n".to_owned(),
        format!("if text.startswith('-----BEGIN RSA PRIVATE KEY-----'):\n    x = '{key}'\n"),
        format!("----- {key}"),
        "-----BEGIN ".to_owned(),
    ] {
        assert_eq!(of("notes.txt", &text), None, "{text}");
    }
}

#[test]
fn only_the_first_bytes_count_and_any_bytes_will_do() {
    let late = format!(
        "{}-----BEGIN PRIVATE KEY-----\n{}",
        "x\n".repeat(LOOK),
        base64(64)
    );
    assert_eq!(of("a", &late), None);
    let path = RepoPath::new("a").unwrap();
    for byte in 0..=u8::MAX {
        for len in [0, 1, 3, 16, LOOK + 1] {
            assert_eq!(secret(&path, &vec![byte; len]), None, "{byte} {len}");
        }
    }
}

#[test]
fn a_value_that_stands_for_another_is_no_secret() {
    assert_eq!(of(".npmrc", "//r/:_authToken=${NPM_TOKEN}\n"), None);
    assert_eq!(
        of(".npmrc", "//r/:_authToken=npm_abc\n"),
        Some(Secret::Token)
    );
    assert_eq!(of(".envrc", "use flake\nexport PATH=bin:$PATH\n"), None);
    assert_eq!(of(".envrc", "export API_TOKEN=$(pass show api)\n"), None);
    assert_eq!(
        of(".envrc", "export API_TOKEN=a8f5f167f44f\n"),
        Some(Secret::Environment)
    );
    assert_eq!(
        of(
            "c.toml",
            "[xmpp]\njid = \"a@b\"\npassword_command = [\"pass\"]\n"
        ),
        None
    );
    assert_eq!(
        of("c.toml", "[xmpp]\njid = \"a@b\"\n# password = \"x\"\n"),
        None
    );
    assert_eq!(
        of("c.toml", "[xmpp]\npassword = \"x\"\n"),
        Some(Secret::Own)
    );
    assert_eq!(of("c.toml", "[other]\npassword = \"x\"\n"), None);
}
