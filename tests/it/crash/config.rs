//! kill -9 while the repository's configuration is written.

use std::fs;

use super::{KILLED, Pair};
use crate::support::Sandbox;

#[test]
fn a_kill_while_the_configuration_is_written_leaves_nobody_locked_out() {
    let pair = Pair::of(
        Sandbox::named("laptop"),
        Sandbox::named("server"),
        &[("a", "1\n")],
    );
    let here = &pair.laptop;
    let lock = here.at(".git/config.lock");
    for step in ["C1.written", "C2.locked"] {
        here.git(&["config", "--unset", "autosync.id"]);
        here.write(step, "1\n");
        let before = fs::read_to_string(here.at(".git/config")).unwrap();
        assert_eq!(
            here.once_with(&format!("{step}:kill")).code,
            KILLED,
            "{step}"
        );
        assert_eq!(lock.exists(), step == "C2.locked", "{step}");
        let after = fs::read_to_string(here.at(".git/config")).unwrap();
        assert_eq!(after, before, "{step}");
        // What the git leaves that writes the copy, if it is killed as well.
        fs::write(here.at(".git/autosync/config.new.lock"), "").unwrap();
        here.write("after", step);
        let ran = here.once();
        assert_eq!(ran.code, Some(0), "{step}: {ran:?}");
        assert!(!lock.exists(), "{step}");
        for left in ["config.new", "config.new.lock"] {
            assert!(!here.at(".git/autosync").join(left).exists(), "{step}");
        }
        here.git(&["config", "autosync.id"]);
        here.git(&["config", "user.note", step]);
    }
}

#[test]
fn a_lock_of_the_configuration_that_is_not_ours_stays() {
    let pair = Pair::of(
        Sandbox::named("laptop"),
        Sandbox::named("server"),
        &[("a", "1\n")],
    );
    let here = &pair.laptop;
    here.git(&["config", "--unset", "autosync.id"]);
    here.write("b", "1\n");
    let lock = here.at(".git/config.lock");
    fs::write(&lock, "the user's").unwrap();
    let ran = here.once();
    assert!(ran.err.contains("could not lock config file"), "{ran:?}");
    assert_eq!(pair.laptop.sandbox.git(&pair.hub, ["show", "main:b"]), "1");
    assert_eq!(fs::read_to_string(&lock).unwrap(), "the user's");
    fs::remove_file(&lock).unwrap();
    here.write("c", "1\n");
    let ran = here.once();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    here.git(&["config", "autosync.id"]);
}
