//! Which transports the agent has.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Inbox;
use crate::config::{Settings, TransportKind};
use crate::transport::{
    self, FanoutTransport, HubTransport, PollTransport, Transport, XmppTransport,
};

/// Makes the transports that the settings name; what they report goes to the inbox.
pub(super) fn transports(
    settings: &Settings,
    runtime: &Path,
    inbox: &mpsc::UnboundedSender<Inbox>,
) -> Vec<Box<dyn Transport>> {
    let (inbox, inbox_of_transports) = (inbox.clone(), inbox.clone());
    let sink: transport::Sink = Arc::new(move |key: &str, event| {
        drop(inbox.send(Inbox::Told(key.to_owned(), Box::new(event))));
    });
    let inbox = inbox_of_transports;
    let herald: transport::Herald = Arc::new(move |name, trouble| {
        drop(inbox.send(Inbox::Herald(name, trouble)));
    });
    let kinds = settings.notice.transports.iter();
    kinds
        .filter_map(|kind| make(*kind, settings, runtime, &sink, &herald))
        .collect()
}

/// Makes one transport, if the settings have what it needs; what it reports goes to the sink, and what
/// concerns it as a whole to the herald.
pub fn make(
    kind: TransportKind,
    settings: &Settings,
    runtime: &Path,
    sink: &transport::Sink,
    herald: &transport::Herald,
) -> Option<Box<dyn Transport>> {
    Some(match kind {
        TransportKind::Hub => Box::new(HubTransport::new(
            Arc::clone(sink),
            runtime.to_owned(),
            transport::hub::Pace::default(),
        )),
        TransportKind::Xmpp => {
            let xmpp = settings.xmpp.clone()?;
            let (sink, herald) = (Arc::clone(sink), Arc::clone(herald));
            Box::new(XmppTransport::new(
                sink,
                herald,
                xmpp,
                settings.host.clone(),
            ))
        }
        TransportKind::Fanout => Box::new(FanoutTransport::new(
            Arc::clone(sink),
            Arc::clone(herald),
            settings.fanout.as_ref()?,
            &settings.host,
            transport::fanout::Pace::default(),
        )),
        TransportKind::Poll => Box::new(PollTransport::new()),
    })
}
