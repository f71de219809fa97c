//! The README, typed: a reader who types only what it shows has two hosts in sync.

use std::path::Path;

use crate::network::skipped;
use crate::support::{PROGRAM, Sandbox, ended};

#[test]
fn a_reader_who_types_what_the_readme_shows_has_two_hosts_in_sync() {
    const TEST: &str = "a_reader_who_types_what_the_readme_shows_has_two_hosts_in_sync";
    if !Path::new("/usr/sbin/sshd").exists() {
        skipped(TEST, "there is no sshd");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readme");
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("bash");
    command.arg(script).arg(PROGRAM);
    command.env("TMPDIR", std::env::temp_dir());
    let ran = ended(command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("two computers are in sync"), "{}", ran.out);
    assert!(ran.out.contains("two homes are in sync"), "{}", ran.out);
}
