//! The program from outside: help, usage, exit codes, the manual, and an agent that is asked.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "any question but the expected one is a failure of the test"
)]

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use autosync::control::{self, Ask, FolderConflicts, Refusal, Until};
use autosync::engine::status::{
    AgentStatus, Counters, FolderStatus, HeldStatus, Last, Pending, State, Status,
};
use autosync::lock::Lock;
use autosync::paths;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::support::{PROGRAM, Ran, Sandbox, ended};

mod beginning;
mod one_shot;
mod scripts;

fn status(state: State) -> Status {
    let folder = FolderStatus {
        name: "Sync".into(),
        path: "/home/me/Sync".into(),
        id: String::new(),
        branch: "main".into(),
        state,
        code: "ok".into(),
        message: String::new(),
        hint: String::new(),
        since: String::new(),
        hub: None,
        head: String::new(),
        published: false,
        pending: Pending::default(),
        held: Vec::new(),
        deferred: Vec::new(),
        aside: Vec::new(),
        conflicts: Vec::new(),
        marked: Vec::new(),
        last: Last::default(),
        progress: None,
        counters: Counters::default(),
    };
    Status {
        version: 1,
        host: "laptop".into(),
        agent: AgentStatus {
            pid: std::process::id(),
            version: "0.1.0".into(),
            since: "2026-11-20T09:00:00Z".into(),
        },
        folders: vec![folder],
        transports: Vec::new(),
    }
}

/// Runs the program beside an agent that answers with `answer`. Returns what the program said and
/// what the agent was asked.
async fn beside(sandbox: &Sandbox, args: &[&str], answer: fn(Ask)) -> (Ran, Vec<String>) {
    let mut command = sandbox.command(PROGRAM);
    command.args(args);
    run_beside(sandbox, command, answer).await
}

/// The same for a program that was made ready in another way.
async fn run_beside(
    sandbox: &Sandbox,
    mut command: Command,
    answer: fn(Ask),
) -> (Ran, Vec<String>) {
    let places = sandbox.paths();
    paths::private_dir(&places.state).unwrap();
    let lock = Lock::acquire(&places.agent_lock("laptop")).unwrap();
    let socket = places.control_socket("laptop");
    let door = control::bind(&socket).unwrap();
    lock.note(socket.to_str().unwrap()).unwrap();

    let (sender, mut asks) = mpsc::channel(8);
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let stopped = async move { stopped.await.unwrap_or(()) };
        control::serve(door, sender, stopped).await.unwrap();
    });
    let mut child = JoinSet::new();
    child.spawn_blocking(move || command.output().unwrap());
    let mut seen = Vec::new();
    let output = loop {
        tokio::select! {
            ask = asks.recv() => {
                let ask = ask.unwrap();
                seen.push(format!("{ask:?}").split(" reply: ").next().unwrap().to_owned());
                answer(ask);
            }
            output = child.join_next() => break output.unwrap().unwrap(),
        }
    };
    stop.send(()).unwrap();
    server.join_next().await.unwrap().unwrap();
    (ended(output), seen)
}

#[test]
fn help_is_an_answer_and_wrong_usage_is_not() {
    let sandbox = Sandbox::new();
    let help = sandbox.run(["--help"]).ok();
    for word in ["status", "conflicts", "Exit codes", "--config"] {
        assert!(help.contains(word), "{help}");
    }
    assert!(!help.contains("generate"), "{help}");
    let version = sandbox.run(["--version"]).ok();
    assert_eq!(
        version,
        concat!("autosync ", env!("CARGO_PKG_VERSION"), "\n")
    );

    let said = sandbox.run(["statsu"]).fails(2);
    assert!(said.contains("'status'"), "{said}");
    let said = sandbox.run(["status", "--timeout", "1s"]).fails(2);
    assert!(said.contains("--wait"), "{said}");
    let said = sandbox.run(["pause", "--for", "20"]).fails(2);
    assert!(said.contains("the unit is missing"), "{said}");
    sandbox.run::<&str>([]).fails(2);
}

#[test]
fn every_subcommand_and_flag_has_words() {
    fn check(command: &clap::Command, seen: &mut usize) {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name}");
        for arg in command.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{name} {}", arg.get_id());
            assert!(!help.ends_with('.'), "{name} {}: {help}", arg.get_id());
            *seen += 1;
        }
        for command in command.get_subcommands() {
            check(command, seen);
        }
    }
    let mut seen = 0;
    check(&autosync::cli::command(), &mut seen);
    assert!(seen > 10);
}

#[test]
fn without_an_agent_every_question_ends_with_1_and_says_what_to_do() {
    let sandbox = Sandbox::new();
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["status", "--wait", "idle"],
        &["sync"],
        &["pause", "--for", "2h"],
        &["resume"],
        &["stop"],
        &["approve", "Sync"],
        &["conflicts"],
    ] {
        assert_eq!(
            sandbox.run(args).fails(1),
            "autosync: no agent is running for this user. Start it with `autosync run`.\n",
            "{args:?}"
        );
    }
}

#[test]
fn a_bad_configuration_is_one_sentence_with_file_line_and_key() {
    let sandbox = Sandbox::new();
    let file = sandbox.config("[settle]\nquite = \"1s\"\n");
    let hint = "Run `autosync config example` to see every key.\n";
    assert_eq!(
        sandbox.run(["config", "check"]).fails(2),
        format!(
            "autosync: `{}` line 2: there is no key `settle.quite`; did you mean `settle.quiet`? \
             {hint}",
            file.display()
        )
    );
    sandbox.write(
        "home/other.toml",
        "[[folder]]\npath = \"~/a\"\nmax_file = \"1\"\n",
    );
    assert_eq!(
        sandbox
            .run(["--config", "other.toml", "config", "check"])
            .fails(2),
        format!(
            "autosync: `other.toml` line 3: `folder.max_file` is \"1\": the unit is missing, as in \
             \"50MB\" or \"1GiB\". {hint}"
        )
    );
    let gone = sandbox
        .run(["config", "check", "--config", "gone.toml"])
        .fails(2);
    assert!(
        gone.starts_with("autosync: cannot read the configuration `gone.toml`: "),
        "{gone}"
    );
}

#[test]
fn a_good_configuration_is_told_as_it_is_meant() {
    let sandbox = Sandbox::new();
    let said = sandbox.run(["config", "check"]).ok();
    assert!(
        said.contains("config.toml; the defaults count.\n"),
        "{said}"
    );
    assert!(
        said.ends_with("This host is laptop, with 0 folders.\n"),
        "{said}"
    );

    let file = sandbox.config("[[folder]]\npath = \"~/Sync\"\nhub = \"me@server:Sync.git\"\n");
    assert_eq!(
        sandbox.run(["config", "check"]).ok(),
        format!(
            "{} is good.\nThis host is laptop, with 1 folder.\n  Sync: {}/Sync (not there yet)\n    \
             hub me@server:Sync.git\n",
            file.display(),
            sandbox.home().display()
        )
    );
    let path = sandbox.run(["config", "path"]).ok();
    assert_eq!(path, format!("{}\n", file.display()));
    let elsewhere = Sandbox::new().with("AUTOSYNC_CONFIG", "/etc/a.toml");
    assert_eq!(elsewhere.run(["config", "path"]).ok(), "/etc/a.toml\n");
}

#[test]
fn the_example_it_prints_is_a_configuration() {
    let sandbox = Sandbox::new();
    let example = sandbox.run(["config", "example"]).ok();
    assert_eq!(example, autosync::config::EXAMPLE);
    sandbox.config(&example);
    sandbox.run(["config", "check"]).ok();
}

#[test]
fn a_home_is_needed_and_a_bad_host_is_refused() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(PROGRAM);
    command.env_remove("HOME").arg("status");
    let said = ended(command.output().unwrap()).fails(1);
    assert!(said.contains("HOME is not set"), "{said}");
    let said = Sandbox::named("a b").run(["config", "check"]).fails(2);
    assert!(
        said.starts_with("autosync: the variable AUTOSYNC_HOST must be"),
        "{said}"
    );
    let said = Sandbox::new()
        .with("AUTOSYNC_LOG", "a=b=c")
        .run(["status"])
        .fails(2);
    assert!(
        said.starts_with("autosync: the variable AUTOSYNC_LOG is no filter"),
        "{said}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let sandbox = Sandbox::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = sandbox.command(PROGRAM);
    command
        .args(["config", "example"])
        .stdout(writer)
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    ended(child.wait_with_output().unwrap()).ok();
}

fn collect(command: &clap::Command, words: &mut BTreeSet<String>) {
    for arg in command
        .get_arguments()
        .filter(|arg| arg.get_long().is_some())
    {
        words.insert(format!("--{}", arg.get_long().unwrap()));
    }
    for command in command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        words.insert(command.get_name().to_owned());
        collect(command, words);
    }
}

#[test]
fn the_manual_and_the_completions_name_every_command_and_flag() {
    let mut words = BTreeSet::new();
    collect(&autosync::cli::command(), &mut words);
    assert!(
        words.contains("--wait") && words.contains("example"),
        "{words:?}"
    );

    let sandbox = Sandbox::new();
    let mut homeless = sandbox.command(PROGRAM);
    homeless.env_clear().args(["generate", "man"]);
    let manual = ended(homeless.output().unwrap()).ok();
    let plain = manual
        .replace("\\-", "-")
        .replace("\\fB", "")
        .replace("\\fR", "");
    for word in &words {
        assert!(plain.contains(word.as_str()), "the manual lacks {word}");
    }
    for title in ["NAME", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "FILES"] {
        assert!(plain.contains(title), "the manual lacks {title}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let text = Sandbox::new().run(["generate", "completions", shell]).ok();
        for word in &words {
            // fish writes a long flag without its dashes.
            let word = if shell == "fish" {
                word.trim_start_matches("--")
            } else {
                word
            };
            assert!(text.contains(word), "{shell} lacks {word}");
        }
    }
}

#[tokio::test]
async fn the_status_is_told_for_people_and_for_scripts() {
    let sandbox = Sandbox::new();
    let answer = |ask| match ask {
        Ask::Status { reply } => reply.send(Ok(status(State::Idle))).unwrap(),
        other => panic!("{other:?}"),
    };
    let (ran, seen) = beside(&sandbox, &["status"], answer).await;
    let text = ran.ok();
    assert!(
        text.contains("Sync  idle        local versions only\n"),
        "{text}"
    );
    assert_eq!(seen, ["Status {"]);

    let (ran, _) = beside(&sandbox, &["status", "--json"], answer).await;
    let told: Status = serde_json::from_str(&ran.ok()).unwrap();
    assert_eq!(told, status(State::Idle));
}

#[tokio::test]
async fn something_held_ends_with_3() {
    let sandbox = Sandbox::new();
    let (ran, _) = beside(&sandbox, &["status", "--json"], |ask| match ask {
        Ask::Status { reply } => {
            let mut status = status(State::Idle);
            status.folders[0].held.push(HeldStatus {
                code: "too-big".into(),
                paths: vec!["a".into()],
                more: 0,
                message: String::new(),
                hint: String::new(),
                incoming: false,
            });
            reply.send(Ok(status)).unwrap();
        }
        other => panic!("{other:?}"),
    })
    .await;
    assert_eq!(ran.code, Some(3));
}

#[tokio::test]
async fn a_wait_that_is_not_met_shows_what_is_in_the_way_and_ends_with_1() {
    let sandbox = Sandbox::new();
    let args = ["status", "--wait", "synced", "--timeout", "20ms"];
    let (ran, seen) = beside(&sandbox, &args, |ask| match ask {
        Ask::Wait { until, reply } => {
            assert_eq!(until, Until::Synced);
            // Kept open until the time is over, as an agent does.
            tokio::spawn(async move {
                let mut reply = reply;
                reply.closed().await;
            });
        }
        Ask::Status { reply } => reply.send(Ok(status(State::Retry))).unwrap(),
        other => panic!("{other:?}"),
    })
    .await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("Sync  retry"), "{}", ran.out);
    assert_eq!(ran.err, "autosync: not synced within 20ms\n");
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn orders_are_handed_on_and_refusals_are_told() {
    let sandbox = Sandbox::new();
    let yes = |ask| match ask {
        Ask::Sync { reply, .. }
        | Ask::Pause { reply, .. }
        | Ask::Resume { reply, .. }
        | Ask::Stop { reply } => reply.send(Ok(())).unwrap(),
        Ask::Approve { reply, .. } => reply.send(Ok(vec!["Sync".into()])).unwrap(),
        Ask::Conflicts { reply } => reply.send(Ok(Vec::<FolderConflicts>::new())).unwrap(),
        Ask::Status { reply } => reply.send(Ok(status(State::Idle))).unwrap(),
        other => panic!("{other:?}"),
    };
    for (args, said, asked) in [
        (
            &["sync", "Sync"][..],
            "Looking, committing, pushing and fetching now.\n",
            "Sync { folder: Some(\"Sync\"),",
        ),
        (
            &["pause", "--for", "2h"],
            "Paused for 2h.\n",
            "Pause { folder: None, length: Some(7200s),",
        ),
        (
            &["pause"],
            "Paused until `autosync resume`.\n",
            "Pause { folder: None, length: None,",
        ),
        (&["resume"], "Going on.\n", "Resume { folder: None,"),
        (
            &["approve"],
            "Approved what was held in Sync.\n",
            "Approve { folder: None,",
        ),
        (&["conflicts"], "There are no conflicts.\n", "Conflicts {"),
        (&["stop"], "The agent is stopping.\n", "Stop {"),
    ] {
        let (ran, seen) = beside(&sandbox, args, yes).await;
        // What stays held in spite of an approval is asked for before it.
        let first = (args == ["approve"]).then_some("Status {");
        let wanted: Vec<&str> = first.into_iter().chain([asked]).collect();
        assert_eq!(ran.ok(), said);
        assert_eq!(seen, wanted);
    }
    let (ran, seen) = beside(&sandbox, &["sync", "."], |ask| match ask {
        Ask::Sync { reply, folder } => {
            let refusal = Refusal::NoSuchFolder {
                asked: folder.unwrap(),
                known: vec!["Sync".into()],
            };
            reply.send(Err(refusal)).unwrap();
        }
        other => panic!("{other:?}"),
    })
    .await;
    let here = sandbox.home().canonicalize().unwrap();
    assert_eq!(
        ran.fails(1),
        format!(
            "autosync: there is no folder `{}`. The folders are: Sync.\n",
            here.display()
        )
    );
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn an_agent_is_found_without_a_session_and_behind_a_broken_configuration() {
    let sandbox = Sandbox::new();
    sandbox.config("nonsense");
    let bare = |ask| match ask {
        Ask::Stop { reply } => reply.send(Ok(())).unwrap(),
        other => panic!("{other:?}"),
    };
    let (ran, _) = beside(&sandbox, &["stop"], bare).await;
    ran.ok();

    // A shell of cron has no session; the agent's lock says where it is.
    let mut command = sandbox.command(PROGRAM);
    command.arg("stop").env_remove("XDG_RUNTIME_DIR");
    let (ran, seen) = run_beside(&sandbox, command, bare).await;
    ran.ok();
    assert_eq!(seen, ["Stop {"]);
}
