use super::*;

/// What was really said -> what it means.
const SAID: &[(&str, Code, Recovery)] = &[
    // OpenSSH.
    (
        "ssh: connect to host hub.test port 22: Connection refused\n\
         fatal: Could not read from remote repository.",
        Code::HubUnreachable,
        Recovery::Retry,
    ),
    (
        "ssh: Could not resolve hostname hub.test: Name or service not known",
        Code::HubUnreachable,
        Recovery::Retry,
    ),
    (
        "ssh: connect to host 10.0.0.1 port 22: No route to host",
        Code::HubUnreachable,
        Recovery::Retry,
    ),
    (
        "ssh: connect to host 10.0.0.1 port 22: Connection timed out",
        Code::HubUnreachable,
        Recovery::Retry,
    ),
    (
        "kex_exchange_identification: Connection closed by remote host",
        Code::HubUnreachable,
        Recovery::Retry,
    ),
    (
        "Timeout, server hub.test not responding.\nfatal: the remote end hung up unexpectedly",
        Code::HubUnreachable,
        Recovery::Retry,
    ),
    (
        "client_loop: send disconnect: Broken pipe",
        Code::HubUnreachable,
        Recovery::Retry,
    ),
    (
        "No ED25519 host key is known for [127.0.0.1]:22 and you have requested strict checking.\n\
         Host key verification failed.",
        Code::HostKey,
        Recovery::Hold,
    ),
    (
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nIT IS POSSIBLE THAT ...\n\
         Host key verification failed.",
        Code::HostKey,
        Recovery::Hold,
    ),
    (
        "me@hub.test: Permission denied (publickey,password).\n\
         fatal: Could not read from remote repository.",
        Code::Auth,
        Recovery::Hold,
    ),
    (
        "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures",
        Code::Auth,
        Recovery::Hold,
    ),
    // git and the far git.
    (
        "fatal: '/srv/x.git' does not appear to be a git repository\n\
         fatal: Could not read from remote repository.\n\nPlease make sure you have the correct \
         access rights\nand the repository exists.",
        Code::HubMissing,
        Recovery::Hold,
    ),
    (
        "fatal: detected dubious ownership in repository at '/srv/x.git'",
        Code::Ownership,
        Recovery::Hold,
    ),
    (
        "remote: error: insufficient permission for adding an object to repository database \
         ./objects\nremote: fatal: failed to write object",
        Code::Auth,
        Recovery::Hold,
    ),
    (
        "remote: fatal: write error: No space left on device\nerror: remote unpack failed: \
         unpack-objects abnormal exit",
        Code::DiskFull,
        Recovery::Retry,
    ),
    (
        "fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output",
        Code::DiskFull,
        Recovery::Hold,
    ),
    (
        "remote: error: unable to create temporary object directory: Read-only file system",
        Code::ReadOnly,
        Recovery::Retry,
    ),
    (
        "error: object 0123: hasDotgit: contains '.git'\nfatal: fsck error in packed object",
        Code::Damaged,
        Recovery::Hold,
    ),
    (
        "fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF",
        Code::HubUnreachable,
        Recovery::Retry,
    ),
    // Forges and web servers.
    (
        "ERROR: Repository not found.\nfatal: Could not read from remote repository.",
        Code::HubMissing,
        Recovery::Hold,
    ),
    (
        "fatal: unable to access 'https://h/x/': Could not resolve host: h",
        Code::HubUnreachable,
        Recovery::Retry,
    ),
    (
        "fatal: unable to access 'https://h/x/': The requested URL returned error: 503",
        Code::HubUnreachable,
        Recovery::Retry,
    ),
    (
        "fatal: unable to access 'https://h/x/': The requested URL returned error: 403",
        Code::Auth,
        Recovery::Hold,
    ),
    (
        "fatal: could not read Username for 'https://h': terminal prompts disabled",
        Code::Auth,
        Recovery::Hold,
    ),
    (
        "fatal: Authentication failed for 'https://h/x/'",
        Code::Auth,
        Recovery::Hold,
    ),
    (
        "fatal: repository 'https://h/x/' not found",
        Code::HubMissing,
        Recovery::Hold,
    ),
    ("fatal: something new", Code::Git, Recovery::Retry),
];

#[test]
fn every_text_has_its_meaning_and_one_sentence() {
    for (words, code, recovery) in SAID {
        let found = trouble("hub.test:x.git", words);
        assert_eq!((found.code, found.recovery), (*code, *recovery), "{words}");
        assert!(!found.message.contains('\n'), "{}", found.message);
        assert!(!found.message.ends_with('.'), "{}", found.message);
    }
}

#[test]
fn what_the_hub_says_cannot_steer_a_terminal_or_leak_a_password() {
    let found = trouble("h", "fatal: \u{1b}]0;x\u{7} at https://me:s3cret@h/x\nmore");
    assert_eq!(
        found.message,
        "talking to the hub h failed: fatal: \\u{1b}]0;x\\u{7} at https://h/x; more"
    );
}
