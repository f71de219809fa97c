//! What the name of a file says by itself.

use super::Secret;
use crate::names::RepoPath;

/// Suffixes of the copies that programs and people leave.
const COPIES: &[&str] = &["~", ".bak", ".backup", ".old", ".orig", ".save", ".copy"];

/// What `.env.WORD` is about the variables, not a set of them, and what is sealed.
const SAMPLES: &[&str] = &[
    "example", "examples", "sample", "samples", "template", "tmpl", "tpl", "dist", "default",
    "defaults", "schema", "vault", "md", "rst", "adoc", "html", "ts", "js", "py", "rb", "rs", "go",
    "php", "gpg", "asc", "age", "enc", "sops",
];

/// Files whose name is enough, wherever they are.
const ANYWHERE: &[(&str, Secret)] = &[
    ("id_rsa", Secret::SshKey),
    ("id_dsa", Secret::SshKey),
    ("id_ecdsa", Secret::SshKey),
    ("id_ed25519", Secret::SshKey),
    ("id_ecdsa_sk", Secret::SshKey),
    ("id_ed25519_sk", Secret::SshKey),
    ("id_xmss", Secret::SshKey),
    (".netrc", Secret::Login),
    ("_netrc", Secret::Login),
    (".authinfo", Secret::Login),
    (".git-credentials", Secret::Login),
    (".pgpass", Secret::Login),
    ("pgpass.conf", Secret::Login),
    (".mylogin.cnf", Secret::Login),
    (".smbcredentials", Secret::Login),
    (".htpasswd", Secret::Login),
    (".vault-token", Secret::Token),
    ("credentials.tfrc.json", Secret::Token),
    ("secring.gpg", Secret::Gnupg),
    ("application_default_credentials.json", Secret::Cloud),
    ("key3.db", Secret::Browser),
    ("key4.db", Secret::Browser),
    ("signons.sqlite", Secret::Browser),
];

/// Files whose name is enough in a directory of that name.
const IN: &[(&str, &str, Secret)] = &[
    (".ssh", "identity", Secret::SshKey),
    (".aws", "credentials", Secret::Cloud),
    ("gcloud", "credentials.db", Secret::Cloud),
    ("gcloud", "access_tokens.db", Secret::Cloud),
    (".azure", "accesstokens.json", Secret::Cloud),
    (".azure", "msal_token_cache.json", Secret::Cloud),
    (".azure", "msal_token_cache.bin", Secret::Cloud),
    (".azure", "service_principal_entries.json", Secret::Cloud),
    (".azure", "service_principal_entries.bin", Secret::Cloud),
    (".kube", "config", Secret::Cloud),
    (".cargo", "credentials", Secret::Token),
    (".cargo", "credentials.toml", Secret::Token),
    (".gem", "credentials", Secret::Token),
    ("autosync", "fanout.key", Secret::Own),
];

/// Ends of names that are enough.
const ENDS: &[(&str, Secret)] = &[
    (".kdbx", Secret::Passwords),
    (".psafe3", Secret::Passwords),
    (".kwl", Secret::Passwords),
    (".keychain", Secret::Passwords),
    (".keychain-db", Secret::Passwords),
    (".p12", Secret::PrivateKey),
    (".pfx", Secret::PrivateKey),
];

/// A path as the rules read it: without regard to case, and without the suffix of a copy.
pub(super) struct Name {
    /// The directories above, first to last.
    pub(super) above: Vec<String>,
    /// The last component.
    pub(super) base: String,
}

impl Name {
    pub(super) fn of(path: &RepoPath) -> Self {
        let lower = |part: &[u8]| String::from_utf8_lossy(part).to_lowercase();
        let mut above: Vec<String> = path.components().map(lower).collect();
        let mut base = above.pop().unwrap_or_default();
        while let Some(short) = COPIES.iter().find_map(|copy| base.strip_suffix(copy))
            && !short.is_empty()
        {
            base.truncate(short.len());
        }
        Self { above, base }
    }

    /// Returns whether the file lies directly in a directory of that name.
    pub(super) fn is_in(&self, dir: &str) -> bool {
        self.above.last().is_some_and(|last| last == dir)
    }

    /// Returns whether a directory of that name is somewhere above.
    pub(super) fn is_below(&self, dir: &str) -> bool {
        self.above.iter().any(|above| above == dir)
    }

    /// Returns whether the name ends in `.EXTENSION`.
    pub(super) fn has_extension(&self, extension: &str) -> bool {
        self.base
            .rsplit_once('.')
            .is_some_and(|(_, end)| end == extension)
    }

    /// Returns what it says by itself.
    pub(super) fn says(&self) -> Option<Secret> {
        let base = self.base.as_str();
        let anywhere = ANYWHERE.iter().find(|(name, _)| *name == base);
        if let Some((_, secret)) = anywhere {
            return Some(*secret);
        }
        let here = |rule: &&(&str, &str, Secret)| rule.1 == base && self.is_in(rule.0);
        if let Some((_, _, secret)) = IN.iter().find(here) {
            return Some(*secret);
        }
        let ends = |rule: &&(&str, Secret)| base.len() > rule.0.len() && base.ends_with(rule.0);
        if let Some((_, secret)) = ENDS.iter().find(ends) {
            return Some(*secret);
        }
        if self.is_in(".ssh") && base.starts_with("id_") && !self.has_extension("pub") {
            return Some(Secret::SshKey);
        }
        if self.is_in("private-keys-v1.d") && self.has_extension("key") {
            return Some(Secret::Gnupg);
        }
        let sealed = [".gpg", ".age"].iter().any(|end| base.ends_with(end));
        if sealed && (self.is_below(".password-store") || self.is_below("password-store")) {
            return Some(Secret::Passwords);
        }
        if self.is_in("keyrings") && base.ends_with(".keyring") {
            return Some(Secret::Passwords);
        }
        if self.above.iter().any(|dir| {
            [".agilekeychain", ".opvault"]
                .iter()
                .any(|end| dir.ends_with(end))
        }) {
            return Some(Secret::Passwords);
        }
        is_environment(base).then_some(Secret::Environment)
    }
}

/// `.env`, `.env.local`, `.env-production`; not `.env.example`, and nothing that only begins so.
fn is_environment(base: &str) -> bool {
    let Some(rest) = base.strip_prefix(".env") else {
        return false;
    };
    if rest.is_empty() {
        return true;
    }
    let separated = rest.starts_with(['.', '-', '_']);
    // Only the end counts: `.env.example.local` is somebody's own again.
    let end = rest.rsplit(['.', '-', '_']).next();
    separated && !end.is_some_and(|part| SAMPLES.contains(&part))
}
