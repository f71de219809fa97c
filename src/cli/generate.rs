//! `autosync generate`: the manual and the completions, from the same source as the help.

use clap::{Args, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::out::Out;
use crate::error::Exit;

/// Print what packages ship
#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// Print the manual, autosync(1)
    Man,
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Variables of the environment, for the manual.
const VARIABLES: &[(&str, &str)] = &[
    (
        "AUTOSYNC_CONFIG",
        "The configuration file, if --config is not given.",
    ),
    (
        "AUTOSYNC_HOST",
        "The name of this host; goes before the key host of the configuration.",
    ),
    (
        "AUTOSYNC_LOG",
        "How much is logged: a level, or a filter such as autosync::watch=trace,warn.",
    ),
    ("NO_COLOR", "If set, the log has no colours."),
];

/// Files, for the manual.
const FILES: &[(&str, &str)] = &[
    (
        "$XDG_CONFIG_HOME/autosync/config.toml",
        "The configuration.",
    ),
    (
        "$XDG_DATA_HOME/autosync/hubs/",
        "Hubs that were made on this computer.",
    ),
    (
        "$XDG_STATE_HOME/autosync/",
        "The lock of the agent, which tells where its socket is.",
    ),
];

pub(super) fn run(args: &GenerateArgs) -> anyhow::Result<Exit> {
    let mut out = Out::new();
    match args.what {
        What::Man => out.raw(&manual()?)?,
        What::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut super::command(), "autosync", &mut text);
            out.raw(&text)?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Returns the manual: one page with every subcommand on it.
fn manual() -> std::io::Result<Vec<u8>> {
    let mut command = super::command();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone())
        .section("1")
        .manual("User Commands");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([
        bold("autosync"),
        roman(" [--config "),
        italic("FILE"),
        roman("] [-v] "),
        italic("COMMAND"),
        roman(" ..."),
    ]);
    roff.to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;

    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for subcommand in shown(&command) {
        describe(&mut roff, "autosync", subcommand);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (exit, words) in Exit::ALL {
        entry(
            &mut roff,
            vec![bold(exit.code().to_string())],
            &format!("{words}."),
        );
    }
    for (title, entries) in [("ENVIRONMENT", VARIABLES), ("FILES", FILES)] {
        roff.control("SH", [title]);
        for (name, words) in entries {
            entry(&mut roff, vec![bold(*name)], words);
        }
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn shown(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    let of_clap = |command: &&clap::Command| command.get_name() != "help";
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .filter(of_clap)
}

/// Writes a subcommand with its arguments, then those below it.
fn describe(roff: &mut Roff, above: &str, command: &clap::Command) {
    let name = format!("{above} {}", command.get_name());
    let deeper: Vec<&clap::Command> = shown(command).collect();
    if deeper.is_empty() {
        let mut usage = vec![bold(name.clone())];
        for arg in own_args(command) {
            usage.push(roman(" "));
            usage.extend(usage_of(arg));
        }
        roff.control("TP", []);
        roff.text(usage);
        let about = command.get_long_about().or(command.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        for (at, paragraph) in about.split("\n\n").enumerate() {
            if at > 0 {
                roff.control("IP", []);
            }
            let stop = if paragraph.ends_with('.') { "" } else { "." };
            roff.text([roman(format!("{}{stop}", paragraph.replace('\n', " ")))]);
        }
        roff.control("RS", []);
        for arg in own_args(command) {
            let help = arg.get_help();
            let help = help.map(ToString::to_string).unwrap_or_default();
            entry(roff, names_of(arg), &format!("{help}."));
        }
        roff.control("RE", []);
    }
    for subcommand in deeper {
        describe(roff, &name, subcommand);
    }
}

fn entry(roff: &mut Roff, name: Vec<Inline>, words: &str) {
    roff.control("TP", []);
    roff.text(name);
    roff.text([roman(words)]);
}

/// Returns the arguments of a subcommand that are not those of all.
fn own_args(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    let common = |arg: &&clap::Arg| {
        arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str())
    };
    command.get_arguments().filter(move |arg| !common(arg))
}

fn value_of(arg: &clap::Arg) -> Option<Inline> {
    let names = arg.get_value_names()?;
    let takes = arg.get_action().takes_values();
    takes.then(|| italic(names.join(" ")))
}

fn names_of(arg: &clap::Arg) -> Vec<Inline> {
    let mut parts = Vec::new();
    if let Some(long) = arg.get_long() {
        parts.push(bold(format!("--{long}")));
    }
    if let Some(value) = value_of(arg) {
        if !parts.is_empty() {
            parts.push(roman(" "));
        }
        parts.push(value);
    }
    parts
}

fn usage_of(arg: &clap::Arg) -> Vec<Inline> {
    let mut parts = names_of(arg);
    let many = arg
        .get_num_args()
        .is_some_and(|range| range.max_values() > 1);
    if many {
        parts.push(roman("..."));
    }
    if !arg.is_required_set() {
        parts.insert(0, roman("["));
        parts.push(roman("]"));
    }
    parts
}
