//! Where the password of the account comes from, each time that we log in.
//!
//! Invariants: it is only ever held in a [`Secret`]; no error says anything of what a source
//! contained; a program that is asked runs without a shell and not longer than half a minute.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Once;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::config::{Password, Secret};
use crate::process::{self, Running};

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a program that closed its output is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// More than this is no password.
const LIMIT: u64 = 64 * 1024;
/// What systemd calls it.
const CREDENTIAL: &str = "xmpp-password";

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPassword {
    /// No source is configured.
    #[error("there is no password for the XMPP account")]
    None,
    /// A file could not be read.
    #[error("the password in {path} cannot be read: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// The program could not be started or heard.
    #[error("the password_command {program} cannot be run: {why}")]
    Command {
        /// Its name, without arguments.
        program: String,
        /// Why.
        why: io::Error,
    },
    /// The program failed.
    #[error("the password_command {program} failed ({status})")]
    Failed {
        /// Its name, without arguments.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The program took too long.
    #[error("the password_command {program} did not answer within 30 seconds")]
    Slow {
        /// Its name, without arguments.
        program: String,
    },
    /// The first line is empty.
    #[error("the first line of {0} is empty, and should be the password")]
    Empty(String),
}

impl NoPassword {
    /// Returns what to do.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::None => {
                "Set password_command or password_file in the table [xmpp], or give the service \
                 the credential xmpp-password, then run `autosync sync`."
            }
            Self::File { .. } => "Make it readable for you, then run `autosync sync`.",
            Self::Command { .. } | Self::Failed { .. } | Self::Slow { .. } | Self::Empty(_) => {
                "Try it by hand as the user of the agent; when it works, run `autosync sync`."
            }
        }
    }
}

/// Reads the password.
pub(super) async fn read(source: &Password) -> Result<Secret, NoPassword> {
    match source {
        Password::Inline(secret) => Ok(secret.clone()),
        Password::File(path) => from_file(path),
        Password::Credential => {
            let dir = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
            from_credential(dir.as_deref())
        }
        Password::Command(command) => from_command(command, PATIENCE).await,
    }
}

fn from_credential(dir: Option<&Path>) -> Result<Secret, NoPassword> {
    let path = dir.ok_or(NoPassword::None)?.join(CREDENTIAL);
    match path.try_exists() {
        Ok(false) => Err(NoPassword::None),
        Ok(true) | Err(_) => from_file(&path),
    }
}

fn from_file(path: &Path) -> Result<Secret, NoPassword> {
    use std::io::Read;
    let failed = |why| NoPassword::File {
        path: path.to_owned(),
        why,
    };
    // A pipe could keep us waiting for ever.
    let found = std::fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(failed(io::Error::other("it is no file")));
    }
    if found.mode() & 0o077 != 0 {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let path = path.display();
            tracing::warn!("other users can read the password in {path}; run `chmod 600 {path}`");
        });
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(LIMIT).read_to_end(&mut text).map_err(failed)?;
    first_line(text, || path.display().to_string())
}

async fn from_command(command: &[String], patience: Duration) -> Result<Secret, NoPassword> {
    let (program, arguments) = command.split_first().ok_or(NoPassword::None)?;
    let answer = ask(program, arguments);
    let slow = |_| NoPassword::Slow {
        program: program.clone(),
    };
    let (status, text) = tokio::time::timeout(patience, answer)
        .await
        .map_err(slow)?
        .map_err(|why| NoPassword::Command {
            program: program.clone(),
            why,
        })?;
    if !status.success() {
        let program = program.clone();
        return Err(NoPassword::Failed { program, status });
    }
    first_line(text, || format!("what {program} writes"))
}

/// Runs the program. Who stops waiting for this kills it.
async fn ask(program: &str, arguments: &[String]) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut command = process::command(program);
    // What it complains about might hold what it was to find.
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut running = Running::start(&mut command)?;
    let out = running.child().stdout.take();
    let out = out.ok_or_else(|| io::Error::other("it has no output"))?;
    let out = OwnedFd::from(out);
    let out = pipe::Receiver::from_owned_fd(out)?;
    let mut text = Vec::new();
    out.take(LIMIT).read_to_end(&mut text).await?;
    loop {
        if let Some(status) = running.try_wait()? {
            return Ok((status, text));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn first_line(text: Vec<u8>, whose: impl Fn() -> String) -> Result<Secret, NoPassword> {
    let text = String::from_utf8(text).map_err(|_| NoPassword::Empty(whose()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(NoPassword::Empty(whose()));
    }
    Ok(Secret::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn command(given: &[&str]) -> Result<Secret, NoPassword> {
        run(from_command(&words(given), PATIENCE))
    }

    #[test]
    fn the_first_line_of_a_program_is_the_password() {
        let secret = command(&["printf", "%s\\nsecond\\n", "pa ss$(id)"]).unwrap();
        assert_eq!(secret.expose(), "pa ss$(id)");
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn a_program_that_fails_is_named_and_nothing_it_wrote_is_shown() {
        let script = "echo hunter2; echo hunter2 >&2; exit 3";
        let error = command(&["sh", "-c", script]).unwrap_err();
        assert!(matches!(error, NoPassword::Failed { .. }));
        let text = format!("{error} {error:?} {}", error.hint());
        assert!(text.contains("sh failed") && !text.contains("hunter2"));
        let error = command(&["/nowhere/to/be/found"]).unwrap_err();
        assert!(matches!(error, NoPassword::Command { .. }));
        let error = command(&["true"]).unwrap_err();
        assert!(matches!(error, NoPassword::Empty(_)));
    }

    #[test]
    fn a_program_that_does_not_answer_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 60", pid.display());
        let given = words(&["sh", "-c", &script]);
        let error = run(async {
            let slow = from_command(&given, Duration::from_secs(2));
            slow.await.unwrap_err()
        });
        assert!(matches!(error, NoPassword::Slow { .. }));
        let pid: u32 = std::fs::read_to_string(pid)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!(process::is_gone(pid));
    }

    #[test]
    fn a_file_and_a_credential_give_their_first_line() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(from_credential(None), Err(NoPassword::None)));
        let none = from_credential(Some(dir.path()));
        assert!(matches!(none, Err(NoPassword::None)));
        let path = dir.path().join(CREDENTIAL);
        std::fs::write(&path, "s3cret\r\nmore\n").unwrap();
        let secret = from_credential(Some(dir.path())).unwrap();
        assert_eq!(secret.expose(), "s3cret");
        assert_eq!(from_file(&path).unwrap().expose(), "s3cret");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(from_file(&path), Err(NoPassword::Empty(_))));
        let none = from_file(dir.path());
        assert!(matches!(none, Err(NoPassword::File { .. })));
    }
}
