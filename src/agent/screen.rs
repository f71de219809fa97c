//! What the desktop is told, and what a click on it asks for.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Agent, Inbox};
use crate::config::Settings;
use crate::desktop::{Deed, Desktop};
use crate::engine::action::Tell;
use crate::engine::event::Event;

/// Starts what shows things on the desktop.
pub(super) fn desktop(settings: &Settings, inbox: &mpsc::UnboundedSender<Inbox>) -> Desktop {
    let inbox = inbox.clone();
    let sink = Arc::new(move |key: &str, deed| {
        // The agent is gone: so is what was clicked on.
        drop(inbox.send(Inbox::Clicked(key.to_owned(), deed)));
    });
    Desktop::start(&settings.desktop, &settings.host, sink)
}

impl Agent {
    /// Lets the desktop know a folder.
    pub(super) fn introduce(&self, id: u64) {
        if let Some(folder) = self.folders.get(&id) {
            let root = &folder.settings.root;
            self.desktop
                .know(&id.to_string(), &folder.config.name, root);
        }
    }

    /// Goes over to other settings of the desktop.
    pub(super) fn change_desktop(&mut self) {
        let new = desktop(&self.settings, &self.inbox.0);
        let old = std::mem::replace(&mut self.desktop, new);
        // It takes its leave of the server meanwhile.
        drop(tokio::task::spawn_blocking(move || drop(old)));
        let all: Vec<u64> = self.folders.keys().copied().collect();
        for id in all {
            self.introduce(id);
        }
        for folder in self.folders.values_mut() {
            folder.forget_news();
        }
    }

    /// Shows what is the matter with a transport, until it is over.
    pub(super) fn show_transport(&self, name: &str, tell: &Tell) {
        match tell {
            Tell::Problem(trouble) => {
                self.desktop.problem(name, &trouble.message, &trouble.hint);
            }
            Tell::Solved => self.desktop.solved(name),
            Tell::Over(_)
            | Tell::Committed(_)
            | Tell::Pushed(_)
            | Tell::Arrived { .. }
            | Tell::Received { .. }
            | Tell::Conflict(_)
            | Tell::Marked(_)
            | Tell::Held(_) => {}
        }
    }

    /// Does what a person asked for by a click.
    pub(super) fn clicked(&mut self, key: &str, deed: Deed) {
        let Ok(id) = key.parse() else {
            return;
        };
        let Some(folder) = self.folders.get_mut(&id) else {
            return;
        };
        match deed {
            Deed::Undo(commit) => self.undo_by_click(id, commit),
            Deed::Approve(shown) => {
                if !folder.approve(&shown) {
                    tracing::info!(
                        folder = folder.config.name,
                        "not approved: something else waits than what was clicked on"
                    );
                    self.desktop.again(key, &folder.status(), &folder.stopped());
                }
            }
            Deed::Describe { commit, message } => {
                folder.handle(Event::Answered { commit, message });
            }
        }
    }
}
