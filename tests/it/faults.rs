//! Faults that a person meets: each is made to happen under a living agent.
//!
//! `tests/FAULTS.md` has a row for each, with the test that goes through it. A test says three things:
//! the code that `status --json` has, what the person is told and that it is told once, and what must
//! hold meanwhile: nothing becomes a deletion, nothing is forced, and it goes on by itself when the
//! fault is over.

use std::fs;

use crate::traps::exists;

/// How many faults the table has.
const FAULTS: usize = 53;

#[test]
fn the_table_has_every_fault_and_names_tests_that_exist() {
    let place = env!("CARGO_MANIFEST_DIR");
    let table = fs::read_to_string(format!("{place}/tests/FAULTS.md")).unwrap();
    let mut named = Vec::new();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows.skip(2).collect();
    assert_eq!(rows.len(), FAULTS);
    for (number, line) in rows.into_iter().enumerate() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [at, fault, tests, _] = cells[..] else {
            panic!("{line}");
        };
        assert_eq!(at, (number + 1).to_string(), "{fault}");
        for test in tests.split(", ").filter(|test| test.starts_with('`')) {
            let test = test.trim_matches('`');
            assert!(exists(test), "{test} of the row `{fault}` is no test");
            named.push(test.to_owned());
        }
    }
    for (module, text) in sources(place) {
        for part in text.split("#[test]\nfn ").skip(1) {
            let name = part.split('(').next().unwrap();
            if !name.starts_with("the_table") && !name.contains(' ') {
                let name = format!("{module}::{name}");
                assert!(named.contains(&name), "{name} is in no row");
            }
        }
    }
}

/// Returns the modules of this group and their text.
fn sources(place: &str) -> Vec<(String, String)> {
    let text = |file: &str| fs::read_to_string(format!("{place}/tests/it/{file}")).unwrap();
    let mut all = vec![("faults".to_owned(), text("faults.rs"))];
    for entry in fs::read_dir(format!("{place}/tests/it/faults"))
        .into_iter()
        .flatten()
    {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        all.push((format!("faults::{module}"), text(&format!("faults/{name}"))));
    }
    all
}
