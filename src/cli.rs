//! The command line: what was typed, what is done about it, and what is said.
//!
//! A file per subcommand. Each has its arguments as a struct, whose doc comments are the help and
//! the manual, and a function that does it with a [`Scene`].
//!
//! Absent: any decision about a folder. A command asks the agent or does what the agent would do.

mod allow;
mod approve;
mod conflicts;
mod generate;
mod ignore;
mod log;
mod out;
mod pause;
mod recall;
mod redo;
mod restore;
mod resume;
mod scene;
mod settings;
mod spot;
mod status;
mod stop;
mod sync;
mod undo;

pub mod announce;
pub mod clone;
pub mod demo;
pub mod init;
pub mod once;
pub mod reflect;
pub mod run;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use scene::Scene;

use crate::error::{Complaint, Exit};
use crate::paths::Env;

/// Keep folders identical on all your computers, with git as the memory
///
/// An agent in the background commits what you change, pushes it to a hub when you pause, and
/// brings what your other computers pushed. Each folder is an ordinary git work tree and each hub
/// an ordinary bare repository: stop the agent and nothing is missing.
#[derive(Debug, Parser)]
#[command(name = "autosync", version)]
#[command(after_long_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 done in part, 10 no repository, \
11 another agent is running, 12 the hub refused the login, 130 interrupted.

The configuration is `--config FILE`, else $AUTOSYNC_CONFIG, else \
$XDG_CONFIG_HOME/autosync/config.toml (~/.config/autosync/config.toml). \
`autosync config example` prints one with every key.";

/// What every subcommand takes.
#[derive(Debug, Args)]
struct Global {
    /// Read the configuration from this file
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Log more to standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Init(init::InitArgs),
    Clone(clone::CloneArgs),
    Once(once::OnceArgs),
    Status(status::StatusArgs),
    Sync(sync::SyncArgs),
    Pause(pause::PauseArgs),
    Resume(resume::ResumeArgs),
    Stop(stop::StopArgs),
    Approve(approve::ApproveArgs),
    Allow(allow::AllowArgs),
    Ignore(ignore::IgnoreArgs),
    Conflicts(conflicts::ConflictsArgs),
    Log(log::LogArgs),
    Undo(undo::UndoArgs),
    Redo(redo::RedoArgs),
    Restore(restore::RestoreArgs),
    Announce(announce::AnnounceArgs),
    Reflect(reflect::ReflectArgs),
    Config(settings::ConfigArgs),
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

impl Command {
    fn run(self, env: Env, global: Global) -> anyhow::Result<Exit> {
        if let Self::Generate(args) = self {
            // Packages are built where nobody lives.
            return generate::run(&args);
        }
        if let Self::Reflect(args) = self {
            // A service may have no home either.
            return reflect::run(&args, &env, global.verbose);
        }
        let scene = &Scene::new(env, global.config, global.verbose)?;
        match self {
            Self::Run(args) => run::run(&args, scene),
            Self::Init(args) => init::run(&args, scene),
            Self::Clone(args) => clone::run(&args, scene),
            Self::Once(args) => once::run(&args, scene),
            Self::Status(args) => status::run(&args, scene),
            Self::Sync(args) => sync::run(&args, scene),
            Self::Pause(args) => pause::run(&args, scene),
            Self::Resume(args) => resume::run(&args, scene),
            Self::Stop(args) => stop::run(&args, scene),
            Self::Approve(args) => approve::run(&args, scene),
            Self::Allow(args) => allow::run(&args, scene),
            Self::Ignore(args) => ignore::run(&args, scene),
            Self::Conflicts(args) => conflicts::run(&args, scene),
            Self::Log(args) => log::run(&args, scene),
            Self::Undo(args) => undo::run(&args, scene),
            Self::Redo(args) => redo::run(&args, scene),
            Self::Restore(args) => restore::run(&args, scene),
            Self::Announce(args) => announce::run(&args, scene),
            Self::Reflect(args) => reflect::run(&args, &scene.env, 0),
            Self::Config(args) => settings::run(&args, scene),
            Self::Demo(args) => demo::run(&args, scene),
            Self::Generate(args) => generate::run(&args),
        }
    }
}

/// Does what the command line says, and returns how it ended. What went wrong has been said on
/// standard error.
pub fn run(args: impl IntoIterator<Item = OsString>, env: Env) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version are answers, not failures, and clap knows which is which.
            let asked = !error.use_stderr();
            return match error.print() {
                Ok(()) if asked => Exit::Done,
                Ok(()) | Err(_) => Exit::Usage,
            };
        }
    };
    let outcome = cli.command.run(env, cli.global);
    outcome.unwrap_or_else(|error| complain(&error))
}

/// Says what went wrong. Returns how the program ends.
fn complain(error: &anyhow::Error) -> Exit {
    let broken_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    let mut causes = error.chain();
    if causes.any(|cause| cause.downcast_ref().is_some_and(broken_pipe)) {
        // The reader has seen enough, as in `autosync status | head -1`.
        return Exit::Done;
    }
    let complaint = error.downcast_ref::<Complaint>();
    out::complain(&complaint.map_or_else(|| format!("{error:#}"), ToString::to_string));
    complaint.map_or(Exit::Failed, |complaint| complaint.exit)
}

/// Returns the whole command line as clap knows it, for the manual and the completions.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        command().debug_assert();
        let alone = |augment: fn(clap::Command) -> clap::Command, args: &[&str]| {
            let command = augment(clap::Command::new("alone"));
            command.clone().debug_assert();
            let args = ["alone"].iter().chain(args);
            command.try_get_matches_from(args).is_ok()
        };
        assert!(alone(run::RunArgs::augment_args, &[]));
        assert!(alone(run::RunArgs::augment_args, &["a", "b"]));
        assert!(alone(init::InitArgs::augment_args, &["a", "--hub", "u"]));
        assert!(!alone(init::InitArgs::augment_args, &[]));
        assert!(alone(clone::CloneArgs::augment_args, &["u", "a"]));
        assert!(!alone(clone::CloneArgs::augment_args, &["u"]));
        assert!(alone(once::OnceArgs::augment_args, &["a", "--remote", "u"]));
        assert!(alone(demo::DemoArgs::augment_args, &["--json", "--keep"]));
    }
}
