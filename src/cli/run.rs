//! `autosync run`

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::out::{complain, say};
use super::scene::Scene;
use crate::agent::away::Absent;
use crate::agent::prepare::{Ready, Wish, next_host_line, prepare};
use crate::agent::{Agent, Prepared, Reload};
use crate::config::Settings;
use crate::control;
use crate::error::{Complaint, Exit};
use crate::lock::Lock;
use crate::names::escape;
use crate::paths::private_dir;

/// Keep folders in sync until stopped
///
/// Without DIR: the folders of the configuration. With DIR: those alone, with all defaults. A DIR
/// that does not exist is made; one that is no repository becomes one; one without a hub gets a
/// hub of its own on this computer, and the line to type on the next one is printed.
///
/// Stays in the foreground and ends on SIGTERM, on Ctrl-C or by `autosync stop`; reads its
/// configuration again on SIGHUP. There is one agent for each user: a second one ends with 11.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The folders, instead of those of the configuration
    #[arg(value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
}

pub(super) fn run(args: &RunArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let settings = scene.settings_for(&args.dirs)?;
    scene.start_log(settings.log)?;
    if settings.folders.is_empty() {
        let hint = "Give one: `autosync run ~/Sync`, or write `[[folder]]` into the configuration.";
        return Err(Complaint::new(Exit::Usage, "there is no folder to care for", hint).into());
    }
    private_dir(&scene.paths.state).map_err(Complaint::from)?;
    let lock = Lock::acquire(&scene.paths.agent_lock(&settings.host)).map_err(Complaint::from)?;
    let given = !args.dirs.is_empty();
    let wish = Wish {
        make: given,
        make_hub: given,
        keep_lost: true,
        ..Wish::default()
    };
    let folders = ready(&settings, scene, &wish, given, true)?;
    if let Some(complaint) = none_to_wait_for(&folders) {
        return Err(complaint.into());
    }
    let runtime = scene.paths.runtime(&settings.host);
    private_dir(&runtime).map_err(Complaint::from)?;
    let socket = settings.control.socket.clone();
    let socket = socket.unwrap_or_else(|| scene.paths.control_socket(&settings.host));

    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let exit = tokio.block_on(async {
        let door = control::bind(&socket).map_err(Complaint::from)?;
        lock.note(&socket.to_string_lossy())
            .map_err(Complaint::from)?;
        let (mut term, mut int) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let mut hup = signal(SignalKind::hangup())?;
        let (hangup, hangups) = mpsc::channel(1);
        let listener = tokio::spawn(async move {
            while hup.recv().await.is_some() {
                if hangup.send(()).await.is_err() {
                    break;
                }
            }
        });
        let exit = std::rc::Rc::new(std::cell::Cell::new(Exit::Done));
        let seen = std::rc::Rc::clone(&exit);
        let stop = Box::pin(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => seen.set(Exit::Interrupted),
            }
        });
        let again = Scene::again(scene);
        let dirs = args.dirs.clone();
        let reload: Reload = Box::new(move || {
            let read = || -> anyhow::Result<(Settings, Vec<Prepared>)> {
                let settings = again.settings_for(&dirs)?;
                let folders = ready(&settings, &again, &wish, given, false)?;
                // What is no disk that is away is a mistake, and then the old configuration is better.
                let mut absent = folders.iter().filter_map(|(_, it)| it.as_ref().err());
                if let Some(wrong) = absent.find(|absent| !absent.may_return()) {
                    return Err(wrong.clone().into_complaint().into());
                }
                Ok((settings, folders))
            };
            match read() {
                Ok(read) => Some(read),
                Err(error) => {
                    complain(&format!("the old configuration stays: {error:#}"));
                    tracing::error!("the old configuration stays: {error:#}");
                    None
                }
            }
        });
        let agent = Agent::new(settings, scene.paths.clone(), runtime, folders)?;
        agent.run(Some(door), stop, hangups, reload).await;
        listener.abort();
        anyhow::Ok(exit.get())
    });
    tokio.shutdown_timeout(std::time::Duration::from_millis(100));
    exit
}

/// Makes every folder ready, and says what was made. Of those that somebody `gave` each has to be
/// there; of those of the configuration some may be away.
fn ready(
    settings: &Settings,
    scene: &Scene,
    wish: &Wish,
    given: bool,
    aloud: bool,
) -> anyhow::Result<Vec<Prepared>> {
    let mut folders = Vec::new();
    for folder in &settings.folders {
        let found = match prepare(folder, settings, &scene.paths, wish) {
            Ok(ready) => {
                if aloud {
                    introduce(&ready)?;
                }
                Ok(ready.settings)
            }
            Err(complaint) if given => return Err(complaint.into()),
            Err(complaint) => Err(Absent::new(folder, &scene.paths, complaint)),
        };
        folders.push((folder.clone(), found));
    }
    Ok(folders)
}

/// Returns what to end with if no folder is there and none is worth waiting for.
fn none_to_wait_for(folders: &[Prepared]) -> Option<Complaint> {
    let absent: Vec<&Absent> = folders
        .iter()
        .filter_map(|(_, found)| found.as_ref().err())
        .collect();
    let none = absent.len() == folders.len() && !absent.iter().any(|absent| absent.may_return());
    let first = absent.first().filter(|_| none)?;
    Some((*first).clone().into_complaint())
}

/// Says where a folder is and how the next computer gets it.
pub(super) fn introduce(ready: &Ready) -> std::io::Result<()> {
    let root = escape(ready.settings.root.as_os_str().as_encoded_bytes());
    if ready.made_directory {
        say(format!("Made `{root}`."))?;
    }
    if let Some(inside) = &ready.inside {
        let inside = escape(inside.as_os_str().as_encoded_bytes());
        say(format!(
            "`{root}` lies in the repository `{inside}`, which does not look into it from now on."
        ))?;
    }
    let Some(hub) = &ready.settings.hub else {
        return say(format!(
            "`{root}` has no hub: its versions stay on this computer."
        ));
    };
    if let Some(path) = &ready.made_hub {
        let path = escape(path.as_os_str().as_encoded_bytes());
        say(format!("Made the hub `{path}`."))?;
    }
    let public = crate::git::public_url(hub);
    say(format!(
        "Keeping `{root}` in sync with `{}`.",
        escape(public.as_bytes())
    ))?;
    let line = next_host_line(hub, &ready.settings.root, &ready.settings.host);
    say(format!("On the next computer: {line}"))
}
