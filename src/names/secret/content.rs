//! What the first bytes of a file say, with its name where they do not say enough.

use super::Secret;
use super::name::Name;

/// The first bytes of a database of `SQLite`.
const SQLITE: &[u8] = b"SQLite format 3\0";
/// The first bytes of a database of `KeePass` 2.
const KEEPASS: &[u8] = &[0x03, 0xd9, 0xa2, 0x9a];
/// So many characters of a key must follow its first line: texts about keys have fewer.
const KEY: usize = 40;

/// Databases in which browsers keep passwords and sessions.
const BROWSER: &[&str] = &[
    "login data",
    "login data for account",
    "cookies",
    "extension cookies",
    "safe browsing cookies",
    "web data",
    "cookies.sqlite",
];

/// Files that are secret with one of these words in them: a directory that they are in (empty for
/// any), a name, the words.
const WITH: &[(&str, &str, &[&str], Secret)] = &[
    (
        ".docker",
        "config.json",
        &["\"auth\":", "\"identitytoken\":"],
        Secret::Login,
    ),
    ("", ".dockercfg", &["\"auth\":"], Secret::Login),
    ("gh", "hosts.yml", &["oauth_token:"], Secret::Token),
    ("", "hub", &["oauth_token:"], Secret::Token),
    ("glab-cli", "config.yml", &["token:"], Secret::Token),
    ("doctl", "config.yaml", &["access-token:"], Secret::Cloud),
    ("hcloud", "cli.toml", &["token ="], Secret::Cloud),
    ("", ".s3cfg", &["secret_key"], Secret::Cloud),
    (
        "",
        ".boto",
        &["secret_access_key", "refresh_token"],
        Secret::Cloud,
    ),
    (".aws", "config", &["aws_secret_access_key"], Secret::Cloud),
    (
        "cache",
        "",
        &["\"accesstoken\"", "\"secretaccesskey\""],
        Secret::Cloud,
    ),
    (
        "",
        "rclone.conf",
        &["pass =", "token =", "secret_access_key ="],
        Secret::Cloud,
    ),
    (
        "",
        "logins.json",
        &["\"encryptedpassword\"", "\"nextid\""],
        Secret::Browser,
    ),
    (
        "",
        "logins-backup.json",
        &["\"encryptedpassword\"", "\"nextid\""],
        Secret::Browser,
    ),
    ("", "local state", &["\"encrypted_key\""], Secret::Browser),
    ("", ".terraformrc", &["token"], Secret::Token),
];

/// Configurations of programs that are secret if a line of them sets a password.
const MAY_HOLD_A_PASSWORD: &[&str] = &[
    ".my.cnf",
    ".pypirc",
    ".fetchmailrc",
    ".msmtprc",
    ".mbsyncrc",
    ".isyncrc",
    ".offlineimaprc",
    ".getmailrc",
    ".wgetrc",
    ".autosync",
];

/// What stands in the name of a variable whose value is a secret.
const SECRET_WORDS: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "api_key",
    "apikey",
    "private_key",
    "access_key",
    "credential",
];

/// Files whose only line is a token.
const TOKEN_FILES: &[&str] = &[
    "token",
    ".token",
    "api_token",
    "api-token",
    "access_token",
    "auth_token",
    "auth-token",
    "github_token",
    "gitlab_token",
    "api_key",
    "api-key",
    "apikey",
    ".api_key",
    "secret_key",
];

/// How the tokens of well-known services begin, and how long they are at least.
const TOKENS: &[(&str, usize)] = &[
    ("ghp_", 36),
    ("gho_", 36),
    ("ghs_", 36),
    ("github_pat_", 50),
    ("glpat-", 20),
    ("xoxb-", 30),
    ("xoxp-", 30),
    ("npm_", 36),
    ("pypi-", 50),
    ("sk-", 30),
    ("sk_live_", 24),
    ("hf_", 30),
    ("dop_v1_", 60),
    ("hvs.", 24),
    ("AGE-SECRET-KEY-1", 50),
];

/// Returns what the first bytes of a file say.
pub(super) fn says(name: &Name, head: &[u8]) -> Option<Secret> {
    if head.starts_with(KEEPASS) {
        return Some(Secret::Passwords);
    }
    let base = name.base.as_str();
    if head.starts_with(SQLITE) && BROWSER.contains(&base) {
        return Some(Secret::Browser);
    }
    if let Some(secret) = binary(name, head) {
        return Some(secret);
    }
    if head.contains(&0) {
        // No text.
        return None;
    }
    let text = String::from_utf8_lossy(head);
    if let Some(secret) = armoured(&text) {
        return Some(secret);
    }
    if is_own(name, &text) {
        return Some(Secret::Own);
    }
    if text.starts_with("# Netscape HTTP Cookie File") || text.starts_with("# HTTP Cookie File") {
        return Some(Secret::Browser);
    }
    if is_token(name, &text, head.len()) {
        return Some(Secret::Token);
    }
    by_words(name, &text)
}

/// What words in a file say whose name asks for a look.
fn by_words(name: &Name, text: &str) -> Option<Secret> {
    let base = name.base.as_str();
    let structured = ["json", "csv", "yaml", "yml", "conf"];
    let may_be = WITH.iter().any(|rule| rule.1 == base)
        || structured.iter().any(|end| name.has_extension(end))
        || !base.trim_start_matches('.').contains('.')
        || base.contains("kubeconfig")
        || base.contains("credentials");
    let lower = if may_be {
        text.to_lowercase()
    } else {
        String::new()
    };
    let with = |rule: &&(&str, &str, &[&str], Secret)| {
        let (dir, file, words, _) = **rule;
        (dir.is_empty() || name.is_in(dir))
            && (file == base || file.is_empty() && name.is_below(".aws"))
            && words.iter().any(|word| lower.contains(word))
    };
    if let Some((.., secret)) = WITH.iter().find(with) {
        return Some(*secret);
    }
    if MAY_HOLD_A_PASSWORD.contains(&base) && lines(text).any(sets_a_password) {
        return Some(if base == ".autosync" {
            Secret::Own
        } else {
            Secret::Login
        });
    }
    if base == ".npmrc" && lines(text).any(is_npm_token) {
        return Some(Secret::Token);
    }
    let environment = base == ".envrc" || (name.has_extension("env") && base.len() > 4);
    if environment && lines(text).any(assigns_a_secret) {
        return Some(Secret::Environment);
    }
    if is_kubeconfig(name, &lower) || is_cloud_login(name, &lower, text) {
        return Some(Secret::Cloud);
    }
    None
}

/// Keys and key stores that are no text.
fn binary(name: &Name, head: &[u8]) -> Option<Secret> {
    // `keytool`: magic, version, count, then the first entry, of which 1 is a private key.
    let java =
        head.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) || head.starts_with(&[0xce, 0xce, 0xce, 0xce]);
    if java && head.get(12..16) == Some(&[0, 0, 0, 1]) {
        return Some(Secret::PrivateKey);
    }
    // The same in the form of PKCS #12, which says nothing of what is in it.
    let der = head.first() == Some(&0x30);
    if der && (name.has_extension("jks") || name.has_extension("keystore")) {
        return Some(Secret::PrivateKey);
    }
    // A secret key packet of OpenPGP, in the old and the new form of its header.
    let gpg = ["gpg", "pgp", "key"]
        .iter()
        .any(|end| name.has_extension(end));
    let packet = match head.first() {
        Some(0x94) => head.get(2),
        Some(0x95) => head.get(3),
        Some(0xc5) => head
            .iter()
            .skip(2)
            .take(4)
            .find(|byte| (3..=6).contains(*byte)),
        _ => None,
    };
    if gpg && packet.is_some_and(|version| (3..=6).contains(version)) {
        return Some(Secret::Gnupg);
    }
    // Bitcoin and its children keep their keys so, in Berkeley DB or SQLite.
    let berkeley = head.get(12..16) == Some(&[0x62, 0x31, 0x05, 0x00]);
    if name.base == "wallet.dat" && (berkeley || head.starts_with(SQLITE)) {
        return Some(Secret::PrivateKey);
    }
    None
}

/// Private keys that begin with a line that says so.
fn armoured(text: &str) -> Option<Secret> {
    if let Some(secret) = pem(text) {
        return Some(secret);
    }
    let starts = |words: &str| {
        lines(text)
            .next()
            .is_some_and(|line| line.starts_with(words))
    };
    if starts("PuTTY-User-Key-File-") || starts("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----") {
        return Some(Secret::SshKey);
    }
    let comment = lines(text)
        .next()
        .and_then(|line| line.strip_prefix("untrusted comment:"));
    if comment.is_some_and(|what| what.contains("secret key")) {
        return Some(Secret::PrivateKey);
    }
    if lines(text).any(|line| line.len() > 60 && line.starts_with("AGE-SECRET-KEY-1")) {
        return Some(Secret::PrivateKey);
    }
    let wireguard = |line: &str| {
        let value = line.strip_prefix("PrivateKey").map(str::trim_start);
        let value = value.and_then(|rest| rest.strip_prefix('=')).map(str::trim);
        value.is_some_and(|key| key.len() == 44 && key.ends_with('='))
    };
    if text.contains("[Interface]") && lines(text).any(wireguard) {
        return Some(Secret::PrivateKey);
    }
    let first = text.trim_start();
    let gnupg = [
        "(21:protected-private-key",
        "(11:private-key",
        "(20:shadowed-private-key",
    ];
    if gnupg.iter().any(|words| first.starts_with(words))
        || lines(text).any(|line| line.starts_with("Key: (protected-private-key"))
        || lines(text).any(|line| line.starts_with("Key: (private-key"))
    {
        return Some(Secret::Gnupg);
    }
    None
}

/// A private key in PEM, on lines of its own or, as in JSON and programs, within a string.
fn pem(text: &str) -> Option<Secret> {
    let mut rest = text;
    while let Some(at) = rest.find("-----BEGIN ") {
        rest = &rest[at + "-----BEGIN ".len()..];
        let end = rest.find("-----")?;
        let label = &rest[..end];
        let is_label = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ';
        if !label.chars().all(is_label) {
            continue;
        }
        rest = &rest[end + "-----".len()..];
        let key = label.ends_with("PRIVATE KEY") || label == "PGP PRIVATE KEY BLOCK";
        if key && key_follows(rest) {
            return Some(match label {
                "OPENSSH PRIVATE KEY" => Secret::SshKey,
                "PGP PRIVATE KEY BLOCK" => Secret::Gnupg,
                _ => Secret::PrivateKey,
            });
        }
    }
    None
}

/// Returns whether the base64 of a key comes next, perhaps after headers: in a text about keys
/// there are words or dots instead.
fn key_follows(text: &str) -> bool {
    // As a program or JSON writes the end of a line.
    let text = text.replace("\\n", "\n").replace("\\r", "\n");
    let mut rest = text.as_str();
    for _ in 0..8 {
        rest = rest.trim_start_matches(|c: char| {
            c.is_whitespace() || matches!(c, '\\' | '"' | '\'' | '`' | '+' | ',' | '|' | '#' | '*')
        });
        let line = rest.lines().next().unwrap_or_default();
        let key = line
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
            .count();
        if key >= KEY {
            return true;
        }
        // `Proc-Type: 4,ENCRYPTED`, `Comment: GPGTools`
        let header = line.split_once(": ").is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        if !header {
            return false;
        }
        rest = &rest[line.len()..];
    }
    false
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.trim_start_matches('\u{feff}').lines().map(str::trim)
}

/// Returns whether a value is one, and not what stands for one.
fn is_value(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']);
    let stands_for = [
        "$", "<", "{", "%", "your", "change", "xxx", "example", "todo", "...", "***",
    ];
    value.len() >= 6
        && !stands_for
            .iter()
            .any(|start| value.to_lowercase().starts_with(start))
}

/// `password = hunter2`, `password hunter2`, `pass: "hunter2"`.
fn sets_a_password(line: &str) -> bool {
    let at = line.find(|c: char| c == '=' || c == ':' || c.is_whitespace());
    let Some((key, value)) = at.map(|at| line.split_at(at)) else {
        return false;
    };
    let key = key.trim_matches('"').to_lowercase();
    let keys = ["password", "pass", "passwd", "remotepass", "auth_password"];
    let value = value.trim_start_matches(|c: char| c == '=' || c == ':' || c.is_whitespace());
    let value = value.trim_matches(['"', '\'']);
    keys.contains(&key.as_str()) && !value.is_empty() && !value.starts_with(['$', '<'])
}

/// `//registry.npmjs.org/:_authToken=npm_...`; not one that is taken from the environment.
fn is_npm_token(line: &str) -> bool {
    ["_authToken", "_password", "_auth"].iter().any(|key| {
        let value = line.split_once(key).map(|(_, rest)| rest.trim_start());
        let value = value.and_then(|rest| rest.strip_prefix('='));
        value.is_some_and(|value| !value.trim().is_empty() && !value.trim().starts_with('$'))
    })
}

/// `export API_TOKEN=...`
fn assigns_a_secret(line: &str) -> bool {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let Some((name, value)) = line.split_once('=') else {
        return false;
    };
    let name = name.trim().to_lowercase();
    !name.starts_with('#') && SECRET_WORDS.iter().any(|word| name.contains(word)) && is_value(value)
}

fn is_kubeconfig(name: &Name, lower: &str) -> bool {
    let named = name.base.contains("kubeconfig");
    let shaped = lower.contains("kind: config")
        && (lower.contains("current-context:") || lower.contains("clusters:"));
    let user = ["client-key-data:", "token:", "password:"]
        .iter()
        .any(|word| lower.contains(word));
    // The keys of the users may stand behind what is looked at.
    shaped && (named || user)
}

fn is_cloud_login(name: &Name, lower: &str, text: &str) -> bool {
    let json = name.has_extension("json");
    if json && lower.contains("\"refresh_token\"") && lower.contains("\"client_secret\"") {
        return true;
    }
    // What AWS hands out when a key is made.
    let csv = name.has_extension("csv") && lower.contains("secret access key");
    if csv && lines(text).nth(1).is_some_and(|line| line.contains(',')) {
        return true;
    }
    let key = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or_default();
        let value = value.trim();
        name.trim().eq_ignore_ascii_case("aws_secret_access_key")
            && value.len() == 40
            && !value.ends_with("EXAMPLEKEY")
    };
    name.base.contains("credentials") && lines(text).any(key)
}

/// The agent's own configuration with the password in it.
fn is_own(name: &Name, text: &str) -> bool {
    let mut table = "";
    name.has_extension("toml")
        && lines(text).any(|line| {
            if line.starts_with('[') {
                table = line;
            }
            let value = line.strip_prefix("password").map(str::trim_start);
            let value = value.and_then(|rest| rest.strip_prefix('='));
            table == "[xmpp]" && value.is_some_and(|value| !value.trim().is_empty())
        })
}

/// A file that is a token and nothing else.
fn is_token(name: &Name, text: &str, len: usize) -> bool {
    let token = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+/=~:".contains(c);
    if len >= super::LOOK || !token.chars().all(plain) {
        return false;
    }
    let known = TOKENS
        .iter()
        .any(|(start, least)| token.len() >= *least && token.starts_with(start));
    let named = TOKEN_FILES.contains(&name.base.as_str()) || name.has_extension("token");
    known || named && token.len() >= 16
}
