//! One sync without a watcher: until there is nothing left to do.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::clock;
use crate::config::{FolderSettings, Settings};
use crate::engine::action::{Action, Job, Tell};
use crate::engine::event::{Code, Event, Recovery, Request, Trouble};
use crate::engine::status::{AsideStatus, FolderStatus};
use crate::engine::{Engine, FolderBasics};
use crate::error::{Complaint, Exit};
use crate::git::public_url;
use crate::names::escape;
use crate::repo;

use super::folder::{engine_settings, lock_folder};
use super::lanes::{Ear, Lanes, Said, refuse};

/// After this long in a trouble that may pass, a sync gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// After this long in one, it is said: who sees nothing takes it for hung.
const SAID: Duration = Duration::from_secs(2);

/// What a sync came to.
#[derive(Debug)]
pub struct Outcome {
    /// The folder afterwards.
    pub status: FolderStatus,
    /// Everything that the user may want to hear, in order.
    pub tells: Vec<Tell>,
    /// What had to make room meanwhile.
    pub made_way: Vec<AsideStatus>,
    /// Whether the hub and the folder are the same.
    pub synced: bool,
    /// What is in the way, if anything.
    pub trouble: Option<Trouble>,
    /// Whether that was given to `waits`.
    pub is_told: bool,
}

/// Syncs a folder to quiescence: commits, fetches, merges, pushes, applies.
///
/// Returns when nothing is left to do, or nothing can be done about what is in the way: at once if
/// it will not pass by itself soon, else after ten seconds of it. What it waits for is given to
/// `waits` once it has done so for a while.
pub fn once(
    config: &FolderSettings,
    settings: &repo::Settings,
    agent: &Settings,
    runtime: &Path,
    waits: impl Fn(&Trouble),
) -> Result<Outcome, Complaint> {
    let _lock = lock_folder(settings)?;
    let mut wanted = engine_settings(config, settings, agent);
    // Nobody sits there to be asked.
    wanted.ask = false;
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
    let mut told = None;
    let (mut recovered, mut looked) = (false, false);
    let (mut aside, mut made_way) = (Vec::new(), Vec::new());
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
                Action::Announce(_) | Action::Confirm(_) | Action::Answer { .. } => {}
                Action::Tell(tell) => tells.push(tell),
            }
        }
        let now = clock::now();
        let mut wait = engine.poll_timeout().map_or(PATIENCE, clock::until);
        if let Some(trouble) = engine.trouble() {
            let since = match troubled {
                Some((code, since)) if code == trouble.code => since,
                _ => {
                    tracing::debug!(message = trouble.message, "in the way");
                    now
                }
            };
            troubled = Some((trouble.code, since));
            let patience = if may_pass_soon(trouble.code) {
                PATIENCE.saturating_sub(now.since(since))
            } else {
                Duration::ZERO
            };
            // What can be done in spite of it is done first.
            if engine.rests() && patience.is_zero() {
                break;
            }
            // With a job in flight its outcome wakes us.
            if !patience.is_zero() {
                wait = wait.min(patience);
                // What is only tried again may be over the next time, and then it was none.
                if trouble.recovery == Recovery::Pause && told != Some(trouble.code) {
                    let untold = SAID.saturating_sub(now.since(since));
                    if untold.is_zero() {
                        waits(trouble);
                        told = Some(trouble.code);
                    } else {
                        wait = wait.min(untold);
                    }
                }
            }
        } else {
            troubled = None;
            if engine.is_idle() {
                if looked {
                    break;
                }
                // The first look may have been before the first fetch: one more of both.
                looked = true;
                engine.handle_event(clock::now(), Event::Asked(Request::Sync));
                continue;
            }
        }
        match said.recv_timeout(wait.min(PATIENCE)) {
            Ok(Said::Event(event)) => {
                recovered |= matches!(*event, Event::Recovered(_));
                engine.handle_event(clock::now(), *event);
            }
            Ok(Said::Aside(found)) => {
                // What was there before is told by the first job.
                if recovered {
                    let new = found.iter().filter(|it| !aside.contains(*it)).cloned();
                    made_way.extend(new);
                }
                aside = found;
            }
            Ok(
                Said::Progress(..)
                | Said::Basic
                | Said::Hub(..)
                | Said::TrackedIgnored(_)
                | Said::Damaged,
            )
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
    let mut status = engine.status(basics, &clock::wall_at);
    status.aside = aside;
    Ok(Outcome {
        status,
        tells,
        made_way,
        synced: engine.is_synced(),
        is_told: told.is_some() && told == engine.trouble().map(|trouble| trouble.code),
        trouble: engine.trouble().cloned(),
    })
}

/// Returns whether something that is in the way may be gone within seconds, without a person or a
/// cable.
fn may_pass_soon(code: Code) -> bool {
    matches!(
        code,
        Code::GitBusy | Code::Contended | Code::Git | Code::Internal
    )
}
