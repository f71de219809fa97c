//! One end of the bell inside a test: a transport and what it says.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use autosync::config::{Password, Secret, Tls, XmppSettings};
use autosync::engine::event::{Event, Trouble};
use autosync::engine::notice::{Circle, Notice};
use autosync::git::hub::Kind;
use autosync::names::ObjectId;
use autosync::transport::xmpp::Pace;
use autosync::transport::{Folder, Herald, Sink, Transport, XmppTransport};

use super::raw::{DOMAIN, Raw, attribute};
use super::server::{Make, PASSWORD, Server};

/// Nothing takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The identity of the folder that every end has.
pub(crate) const FOLDER: &str = "0123456789abcdef0123456789abcdef01234567";
/// The address of its hub.
pub(crate) const URL: &str = "server:autosync.git";

/// A transport, and what it says.
pub(crate) struct End {
    pub(crate) transport: XmppTransport,
    events: Receiver<(String, Event)>,
    troubles: Receiver<Option<Trouble>>,
}

impl End {
    /// Makes one that begins to log in, with one folder.
    pub(crate) fn new(host: &str, settings: XmppSettings, pace: Pace) -> Self {
        let mut end = Self::bare(host, settings, pace);
        end.transport.watch(&folder("Sync", FOLDER));
        end
    }

    /// The same without a folder.
    pub(crate) fn bare(host: &str, settings: XmppSettings, pace: Pace) -> Self {
        let (told, events) = channel();
        let sink: Sink = Arc::new(move |key: &str, event: Event| {
            // The test may be over before the transport's last word.
            drop(told.send((key.to_owned(), event)));
        });
        let (told, troubles) = channel();
        let herald: Herald = Arc::new(move |_, trouble| drop(told.send(trouble)));
        Self {
            transport: XmppTransport::paced(sink, herald, settings, host.to_owned(), pace),
            events,
            troubles,
        }
    }

    /// The same on an account of a server, once it is online.
    pub(crate) fn online(host: &str, server: &Server, user: &str) -> Self {
        let end = Self::new(host, settings(server, user), Pace::default());
        end.expect_online(true);
        end
    }

    /// Returns the next event of any folder.
    #[track_caller]
    pub(crate) fn next(&self) -> (String, Event) {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until notices can come, or no longer; nothing else must come before.
    #[track_caller]
    pub(crate) fn expect_online(&self, wanted: bool) {
        let (key, event) = self.next();
        let name = "xmpp";
        let online = wanted;
        assert_eq!(
            (key.as_str(), event),
            ("Sync", Event::Transport { name, online })
        );
    }

    /// Waits for a notice; nothing else must come before.
    #[track_caller]
    pub(crate) fn expect_notice(&self) -> (String, Notice, Circle) {
        let (key, event) = self.next();
        let Event::Noticed(notice, circle) = event else {
            panic!("{key}: {event:?}");
        };
        (key, notice, circle)
    }

    /// Returns what the user is told next of the transport.
    #[track_caller]
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.troubles.recv_timeout(PATIENCE).unwrap()
    }

    /// Returns what the user was told and did not look at yet.
    pub(crate) fn more_troubles(&self) -> Vec<Option<Trouble>> {
        self.troubles.try_iter().collect()
    }

    /// Lets another connection of the account say a last word, and returns every event before that.
    #[track_caller]
    pub(crate) fn until_now(&self, raw: &Raw, host: &str) -> Vec<(String, Event)> {
        let last = notice(FOLDER, u64::MAX);
        raw.send(&push(&agent(raw, host), &last));
        let mut all = Vec::new();
        loop {
            match self.next() {
                (_, Event::Noticed(notice, _)) if notice.sequence == u64::MAX => return all,
                event => all.push(event),
            }
        }
    }
}

/// What the configuration would say of this account.
pub(crate) fn settings(server: &Server, user: &str) -> XmppSettings {
    XmppSettings {
        jid: format!("{user}@{DOMAIN}"),
        password: Password::Inline(Secret::new(PASSWORD.to_owned())),
        server: Some(("127.0.0.1".to_owned(), server.port)),
        tls: Tls::StartTls,
        ca_file: Some(server.ca()),
        resource: None,
        legacy: false,
        also_notify: Vec::new(),
        peers: Vec::new(),
    }
}

pub(crate) fn folder(key: &str, id: &str) -> Folder {
    Folder {
        key: key.to_owned(),
        id: id.to_owned(),
        name: key.to_owned(),
        root: "/nowhere".into(),
        url: URL.to_owned(),
        peers: Vec::new(),
        branch: "main".into(),
        hub: Kind::Other,
        ssh_command: None,
    }
}

/// A notice of a host that nobody is.
pub(crate) fn notice(folder: &str, sequence: u64) -> Notice {
    Notice {
        folder: folder.to_owned(),
        branch: "main".into(),
        commit: Some(ObjectId::from_hex(format!("{sequence:040x}")).unwrap()),
        host: "elsewhere".into(),
        sequence,
    }
}

/// The same as a stanza.
pub(crate) fn push(to: &str, notice: &Notice) -> String {
    stanza("headline", to, notice, "")
}

/// The same as a stanza of another type and with something more in it.
pub(crate) fn stanza(kind: &str, to: &str, notice: &Notice, more: &str) -> String {
    let xml = autosync::transport::wire::to_xml(notice);
    format!("<message type='{kind}' to='{to}'>{xml}{more}</message>")
}

/// Returns the connection of the agent of a host on the same account, once it is there.
#[track_caller]
pub(crate) fn agent(raw: &Raw, host: &str) -> String {
    // Who says again that it is there hears again who else is.
    raw.send("<presence type='unavailable'/><presence><priority>-5</priority></presence>");
    let marks = [format!("host='{host}'"), format!("host=\"{host}\"")];
    let is = |stanza: &str| {
        stanza.starts_with("<presence") && marks.iter().any(|mark| stanza.contains(mark.as_str()))
    };
    attribute(&raw.until("agent", is), "from").unwrap()
}

/// Runs a test on each server that is installed here; says which is not.
pub(crate) fn on_each(test: &str, run: impl Fn(Make)) {
    for make in Make::BOTH {
        match make.is_missing() {
            Some(why) => crate::network::skipped(test, why),
            None => run(make),
        }
    }
}

/// Runs a test on the first server that is installed here, because it does not matter which.
pub(crate) fn on_one(test: &str, run: impl Fn(Make)) {
    match Make::BOTH
        .into_iter()
        .find(|make| make.is_missing().is_none())
    {
        Some(make) => run(make),
        None => crate::network::skipped(test, "there is no XMPP server"),
    }
}
