//! The words beside the code: the README is typed by a script, and what is named in it exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::network::skipped;
use crate::support::{PROGRAM, Sandbox, ended};

const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "packaging/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The texts between backticks, and the lines of code blocks.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut prose = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside || line.starts_with("    ") {
            found.push(line.trim().to_owned());
        } else {
            prose.push_str(line);
            prose.push(' ');
        }
    }
    found.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
    found
}

#[test]
fn a_reader_who_types_what_the_readme_shows_has_two_hosts_in_sync() {
    const TEST: &str = "a_reader_who_types_what_the_readme_shows_has_two_hosts_in_sync";
    if !Path::new("/usr/sbin/sshd").exists() {
        skipped(TEST, "there is no sshd");
        return;
    }
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("bash");
    command.arg(root().join("tests/readme")).arg(PROGRAM);
    command.env("TMPDIR", std::env::temp_dir());
    let ran = ended(command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("two computers are in sync"), "{}", ran.out);
    assert!(ran.out.contains("two homes are in sync"), "{}", ran.out);
}

#[test]
fn every_command_in_the_documents_exists_with_its_options() {
    let mut command = autosync::cli::command();
    command.build();
    let mut met = BTreeSet::new();
    for document in DOCUMENTS {
        for code in code(&read(document)) {
            // What cargo runs is the program.
            let code = code.replace("cargo run --release --", "autosync");
            let mut words = code.split_whitespace().peekable();
            while let Some(word) = words.next() {
                if word != "autosync" && !word.ends_with("/autosync") {
                    continue;
                }
                // A unit, a package or a directory of this name is not the program.
                let Some(name) = words
                    .next()
                    .filter(|word| word.starts_with(char::is_alphabetic))
                else {
                    continue;
                };
                let sub = command.find_subcommand(name);
                let sub = sub.unwrap_or_else(|| panic!("{document}: `{code}`"));
                for option in words.by_ref().filter_map(|word| word.strip_prefix("--")) {
                    let known = sub
                        .get_arguments()
                        .any(|arg| arg.get_long() == Some(option));
                    assert!(known, "{document}: `{code}` has no --{option}");
                }
                met.insert(name.to_owned());
            }
        }
    }
    for needed in [
        "run",
        "demo",
        "clone",
        "init",
        "once",
        "status",
        "approve",
        "conflicts",
        "log",
        "undo",
        "restore",
        "config",
    ] {
        assert!(
            met.contains(needed),
            "no document names `autosync {needed}`"
        );
    }
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut links = 0;
    for document in DOCUMENTS {
        let text = read(document);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            links += 1;
            if let Some(heading) = link.strip_prefix('#') {
                let there = |line: &str| {
                    line.starts_with('#')
                        && line
                            .trim_start_matches('#')
                            .trim()
                            .to_lowercase()
                            .replace(' ', "-")
                            == heading
                };
                assert!(text.lines().any(there), "{document}: {link}");
            } else if !link.starts_with("https://") {
                let base = root().join(document);
                assert!(
                    base.parent().unwrap().join(link).exists(),
                    "{document}: {link}"
                );
            }
        }
    }
    assert!(links > 5);
}

#[test]
fn every_room_is_on_the_map() {
    let text = read("ARCHITECTURE.md");
    assert!(text.lines().count() <= 200);
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.trim_end_matches(".rs");
        let named = [
            format!("`{stem}`"),
            format!("`{stem}.rs`"),
            format!("`{stem}/`"),
        ];
        assert!(
            stem == "lib" || named.iter().any(|name| text.contains(name)),
            "src/{name}"
        );
    }
    // What the text says lies below `src/` does.
    for code in code(&text) {
        let like_a_file =
            Path::new(&code).extension() == Some("rs".as_ref()) && !code.contains([' ', '*']);
        let anywhere = ["src", "src/agent", "src/repo", "."]
            .iter()
            .any(|dir| root().join(dir).join(&code).exists());
        assert!(!like_a_file || code == "mod.rs" || anywhere, "{code}");
    }
}
