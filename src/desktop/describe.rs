//! Asking a person for a commit message, and opening what they want to see.
//!
//! Both are programs of the user's own. Absent: a look at what they say on standard error.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Deed, Shared};
use crate::names::ObjectId;
use crate::process::{self, Patience};

/// Nobody thinks longer about a message; the program is ended then.
const PATIENCE: Duration = Duration::from_secs(600);
/// A message is cut here, in bytes.
const LONGEST: usize = 1_000;

/// Asks for the message of a commit, on a thread of its own; the answer goes to the sink.
pub(super) fn ask(
    shared: &Arc<Shared>,
    folder: String,
    name: &str,
    commit: ObjectId,
    summary: &str,
) {
    let command = command(shared.describe_command.as_deref(), name, summary);
    let theirs = Arc::clone(shared);
    let answer = move || {
        let message = command.and_then(|(program, args)| answer(&program, &args));
        (theirs.sink)(&folder, Deed::Describe { commit, message });
    };
    if let Err(error) = thread::Builder::new()
        .name("describe".to_owned())
        .spawn(answer)
    {
        tracing::warn!(%error, "nobody can be asked for a message");
        // The push must not wait for it.
        shared.let_go();
    }
}

/// Returns the program that asks, with its arguments; `None` if there is none.
fn command(
    configured: Option<&[String]>,
    name: &str,
    summary: &str,
) -> Option<(OsString, Vec<String>)> {
    if let Some([program, args @ ..]) = configured {
        return Some((program.into(), args.to_vec()));
    }
    let known = known(name, summary);
    let found = known.into_iter().find(|(program, _)| is_there(program));
    if found.is_none() {
        tracing::info!(
            "to describe a commit, install zenity, kdialog or yad, or set `describe_command`"
        );
    }
    found.map(|(program, args)| (program.into(), args))
}

/// Returns the programs that we know, with their arguments. All of them read markup in the text.
fn known(name: &str, summary: &str) -> [(&'static str, Vec<String>); 3] {
    let text = format!("What is this commit about?\n{summary}");
    let plain = super::card::without_markup(&text);
    let title = format!("{name}: describe");
    [
        (
            "zenity",
            vec![
                "--entry".to_owned(),
                format!("--title={title}"),
                format!("--text={plain}"),
            ],
        ),
        (
            "kdialog",
            vec![
                "--title".to_owned(),
                title.clone(),
                "--inputbox".to_owned(),
                // Its label guesses whether a text is markup, so it gets no choice.
                format!("<qt>{}</qt>", plain.replace('\n', "<br>")),
            ],
        ),
        (
            "yad",
            vec![
                "--entry".to_owned(),
                format!("--title={title}"),
                format!("--text={plain}"),
            ],
        ),
    ]
}

/// Returns whether a program is in the search path.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs the program; its first line is the answer. Cancelled or empty is none.
fn answer(program: &OsString, args: &[String]) -> Option<String> {
    let mut command = process::command(program);
    command.args(args);
    match process::run(&mut command, b"", Patience::Total(PATIENCE)) {
        Ok(done) if done.status.success() => message(&done.stdout),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, program = %program.display(), "nobody can be asked for a message");
            None
        }
    }
}

/// Returns the first line as a message; `None` if it is empty.
fn message(stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stdout);
    let line = text.lines().next()?.trim();
    let mut line: String = line.chars().filter(|c| !c.is_control()).collect();
    while line.len() > LONGEST {
        line.pop();
    }
    (!line.is_empty()).then_some(line)
}

/// Opens a directory in the user's file manager. It outlives us.
pub(super) fn open(place: &Path) {
    if !is_directory(place) {
        tracing::info!(place = %place.display(), "it is no directory any more, so it is not opened");
        return;
    }
    let mut command = process::command("xdg-open");
    command.arg(place);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = process::launch(&mut command) {
        tracing::warn!(%error, "`xdg-open` cannot be started");
    }
}

/// Returns whether a directory stands here, and no link to one. Since the card was shown a file
/// may have come in its place, and to open that is to run what a peer chose.
fn is_directory(place: &Path) -> bool {
    std::fs::symlink_metadata(place).is_ok_and(|found| found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_message_and_nothing_is_none() {
        assert_eq!(message(b" one \ntwo\n").as_deref(), Some("one"));
        assert_eq!(message(b"a\x1b[31mb").as_deref(), Some("a[31mb"));
        for empty in [&b""[..], b"\n", b"  \nsecond"] {
            assert_eq!(message(empty), None, "{empty:?}");
        }
        let long = message(&vec![b'x'; 5_000]).unwrap();
        assert_eq!(long.len(), LONGEST);
    }

    #[test]
    fn the_command_of_the_configuration_comes_first() {
        let configured = ["ask".to_owned(), "--nicely".to_owned()];
        let (program, args) = command(Some(&configured), "notes", "a").unwrap();
        assert_eq!((program, args), ("ask".into(), vec!["--nicely".to_owned()]));
    }

    #[test]
    fn no_program_reads_markup_in_a_name() {
        for (program, args) in known("Sync", "add <b>x</b>&<img src='y'>") {
            let asks = |arg: &&String| arg.contains("add ");
            let text = args.iter().find(asks).unwrap();
            let name = "add &lt;b&gt;x&lt;/b&gt;&amp;&lt;img src=&apos;y&apos;&gt;";
            assert!(text.contains(name), "{program}: {text}");
            // Else its label may take what is escaped as it is.
            assert_eq!(program == "kdialog", text.starts_with("<qt>"), "{text}");
        }
    }

    #[test]
    fn only_a_directory_that_is_no_link_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("n");
        assert!(!is_directory(&place));
        std::fs::write(&place, "[Desktop Entry]").unwrap();
        assert!(!is_directory(&place));
        std::fs::remove_file(&place).unwrap();
        std::os::unix::fs::symlink(dir.path(), &place).unwrap();
        assert!(!is_directory(&place));
        assert!(is_directory(dir.path()));
    }
}
