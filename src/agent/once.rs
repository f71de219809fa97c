//! One sync without a watcher: until there is nothing left to do.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::clock;
use crate::config::{FolderSettings, Settings};
use crate::engine::action::{Action, Job, Tell};
use crate::engine::event::{Code, Event, Recovery, Request, Trouble};
use crate::engine::status::FolderStatus;
use crate::engine::{Engine, FolderBasics};
use crate::error::{Complaint, Exit};
use crate::git::public_url;
use crate::names::escape;
use crate::repo;

use super::folder::{engine_settings, lock_folder};
use super::lanes::{Ear, Lanes, Said, refuse};

/// After this long in trouble, a sync gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a sync came to.
#[derive(Debug)]
pub struct Outcome {
    /// The folder afterwards.
    pub status: FolderStatus,
    /// Everything that the user may want to hear, in order.
    pub tells: Vec<Tell>,
    /// Whether the hub and the folder are the same.
    pub synced: bool,
    /// What is in the way, if anything.
    pub trouble: Option<Trouble>,
}

/// Syncs a folder to quiescence: commits, fetches, merges, pushes, applies.
///
/// Returns when nothing is left to do, or after ten seconds of one and the same trouble.
pub fn once(
    config: &FolderSettings,
    settings: &repo::Settings,
    agent: &Settings,
    runtime: &Path,
) -> Result<Outcome, Complaint> {
    let _lock = lock_folder(settings)?;
    let mut wanted = engine_settings(config, settings, agent);
    for window in [
        &mut wanted.settle.quiet,
        &mut wanted.settle.quiet_max,
        &mut wanted.push.quiet,
        &mut wanted.push.quiet_max,
    ] {
        *window = Duration::ZERO;
    }
    let (said_tx, said) = channel();
    let ear: Ear = Arc::new(move |said| drop(said_tx.send(said)));
    let lanes = Lanes::start(settings, runtime.to_owned(), &ear)
        .map_err(|error| Complaint::new(Exit::Failed, error.to_string(), ""))?;
    drop(ear);
    let mut engine = Engine::new(wanted, fastrand::u64(..), clock::now());
    let mut tells = Vec::new();
    let mut troubled = None;
    let mut looked = false;
    loop {
        while let Some(action) = engine.poll_action() {
            match action {
                Action::Run(Job::Maintain) => {
                    engine.handle_event(clock::now(), Event::Maintained(Ok(())));
                }
                Action::Run(job) => {
                    if let Err(job) = lanes.submit(job) {
                        let message = "a thread of the agent has ended";
                        let trouble = Trouble::new(Code::Internal, Recovery::Hold, message, "");
                        engine.handle_event(clock::now(), refuse(&job, trouble));
                    }
                }
                Action::Announce(_) => {}
                Action::Tell(tell) => tells.push(tell),
            }
        }
        if engine.is_idle() {
            if looked {
                break;
            }
            // The first look may have been before the first fetch: one more of both.
            looked = true;
            engine.handle_event(clock::now(), Event::Asked(Request::Sync));
            continue;
        }
        let now = clock::now();
        match engine.trouble() {
            None => troubled = None,
            Some(trouble) => {
                let code = trouble.code;
                match troubled {
                    Some((old, since)) if old == code => {
                        if now.since(since) > PATIENCE {
                            break;
                        }
                    }
                    _ => troubled = Some((code, now)),
                }
                if trouble.recovery == Recovery::Hold {
                    break;
                }
            }
        }
        let wait = engine
            .poll_timeout()
            .map_or(PATIENCE, clock::until)
            .min(PATIENCE);
        match said.recv_timeout(wait) {
            Ok(Said::Event(event)) => engine.handle_event(clock::now(), *event),
            Ok(Said::Progress(..) | Said::Basic | Said::Hub(..) | Said::TrackedIgnored(_))
            | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = clock::now();
        if engine.poll_timeout().is_some_and(|due| due <= now) {
            engine.handle_timeout(now);
        }
    }
    lanes.join();
    let basics = FolderBasics {
        name: config.name.clone(),
        path: escape(settings.root.as_os_str().as_encoded_bytes()),
        hub_url: settings.hub.as_deref().map(public_url),
    };
    Ok(Outcome {
        status: engine.status(basics, &clock::wall_at),
        tells,
        synced: engine.is_synced(),
        trouble: engine.trouble().cloned(),
    })
}
