//! Which transports the agent has.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Inbox;
use crate::config::{Settings, TransportKind};
use crate::transport::{self, HubTransport, PollTransport, Transport};

/// Makes the transports that the settings name; what they report goes to the inbox.
pub(super) fn transports(
    settings: &Settings,
    runtime: &Path,
    inbox: &mpsc::UnboundedSender<Inbox>,
) -> Vec<Box<dyn Transport>> {
    let inbox = inbox.clone();
    let sink: transport::Sink = Arc::new(move |key: &str, event| {
        drop(inbox.send(Inbox::Told(key.to_owned(), Box::new(event))));
    });
    let make = |kind: &TransportKind| -> Option<Box<dyn Transport>> {
        Some(match kind {
            TransportKind::Hub => Box::new(HubTransport::new(
                Arc::clone(&sink),
                runtime.to_owned(),
                transport::hub::Pace::default(),
            )),
            TransportKind::Xmpp | TransportKind::Fanout => return None,
            TransportKind::Poll => Box::new(PollTransport::new()),
        })
    };
    settings.notice.transports.iter().filter_map(make).collect()
}
