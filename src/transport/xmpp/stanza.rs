//! What is said over XMPP, and what of what others say is believed.
//!
//! A notice is a `headline` to one connection: a server hands it to that one or to nobody, keeps
//! nothing, copies nothing, and no person's chat program shows it. Other hosts are found by presence,
//! which carries an element of ours.
//!
//! Invariants:
//! 1. Everybody can send us anything, but the server vouches for `from`. A notice counts only from
//!    another connection of our own account, or from an account that is listed as a peer.
//! 2. What was delayed, forwarded, copied or bounced is no notice; the fetch after each login has it.
//! 3. The form of a notice is checked by [`wire`], in whatever it came.

use std::collections::BTreeSet;

use tokio_xmpp::jid::{BareJid, FullJid, Jid};
use tokio_xmpp::minidom::Element;
use tokio_xmpp::parsers::disco::{DiscoInfoResult, Identity};
use tokio_xmpp::parsers::iq::Iq;
use tokio_xmpp::parsers::message::{Lang, Message, MessageType};
use tokio_xmpp::parsers::ns;
use tokio_xmpp::parsers::ping::Ping;
use tokio_xmpp::parsers::presence::Presence;
use tokio_xmpp::parsers::stanza_error::{DefinedCondition, ErrorType, StanzaError};

use super::legacy;
use crate::engine::notice::Notice;
use crate::transport::wire::{self, Fields, NAMESPACE, NotANotice};

/// XEP-0334.
const HINTS: &str = "urn:xmpp:hints";
/// So many folders are named in presence at most, to keep it small.
const NAMED: usize = 50;
/// Below this no server gives us a message that is for a person.
const ASIDE: i8 = -1;
/// With this we get what old hosts send to the account.
const BESIDE: i8 = 0;

/// Returns our presence. `ids` are the identities of the folders.
pub(super) fn presence<'a>(
    host: &str,
    ids: impl Iterator<Item = &'a str>,
    legacy: bool,
) -> Presence {
    let ids: Vec<&str> = ids.filter(|id| !id.is_empty()).take(NAMED).collect();
    let host = if wire::is_host(host) { host } else { "" };
    let ids = ids.join(" ");
    let agent = format!("<agent xmlns='{NAMESPACE}' host='{host}' repos='{ids}'/>");
    let priority = if legacy { BESIDE } else { ASIDE };
    Presence::available()
        .with_priority(priority)
        .with_payloads(agent.parse().into_iter().collect())
}

/// Returns the notice of a push for one connection.
pub(super) fn push(to: &FullJid, notice: &Notice) -> Message {
    headline(to, &wire::to_xml(notice))
}

/// Returns the word that a commit is in the tree here, for one connection.
pub(super) fn have(to: &FullJid, notice: &Notice) -> Message {
    let xml = wire::to_xml(notice);
    let rest = xml.strip_prefix("<push").unwrap_or_default();
    headline(to, &format!("<have{rest}"))
}

fn headline(to: &FullJid, xml: &str) -> Message {
    let payloads = xml.parse().into_iter().chain(hints()).collect();
    Message::headline(Jid::from(to.clone())).with_payloads(payloads)
}

/// Returns the notice of a push for the connection of an old host.
pub(super) fn old_push(to: &FullJid, url: &str) -> Message {
    Message::chat(Jid::from(to.clone()))
        .with_body(Lang::new(), legacy::say(url))
        .with_payloads(hints().collect())
}

/// Returns a text for a person. What XML cannot hold is replaced.
pub(super) fn text(to: &BareJid, text: &str) -> Message {
    let text = text.replace(
        |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'),
        "?",
    );
    Message::chat(Jid::from(to.clone())).with_body(Lang::new(), text)
}

fn hints() -> impl Iterator<Item = Element> {
    ["no-store", "no-copy"]
        .into_iter()
        .filter_map(|hint| format!("<{hint} xmlns='{HINTS}'/>").parse().ok())
}

/// Returns the question whether the server is there.
pub(super) fn ping(id: &str) -> Iq {
    Iq::from_get(id, Ping)
}

/// Returns the answer to a question; `None` if it is none.
pub(super) fn answer(iq: Iq) -> Option<Iq> {
    let (from, id, question) = match iq {
        Iq::Get {
            from, id, payload, ..
        } => (from, id, Some(payload)),
        Iq::Set { from, id, .. } => (from, id, None),
        Iq::Result { .. } | Iq::Error { .. } => return None,
    };
    let answer = match question {
        Some(asked) if asked.is("ping", ns::PING) => Iq::from_result(id, None::<DiscoInfoResult>),
        Some(asked) if asked.is("query", ns::DISCO_INFO) && asked.attr("node").is_none() => {
            Iq::from_result(id, Some(about_us()))
        }
        Some(_) | None => {
            let unavailable = DefinedCondition::ServiceUnavailable;
            let why = "this program does not do that";
            Iq::from_error(
                id,
                StanzaError::new(ErrorType::Cancel, unavailable, "en", why),
            )
        }
    };
    Some(match from {
        Some(from) => answer.with_to(from),
        None => answer,
    })
}

fn about_us() -> DiscoInfoResult {
    let features = [ns::DISCO_INFO, ns::PING, NAMESPACE];
    DiscoInfoResult {
        node: None,
        identities: vec![Identity::new("automation", "file-sync", "en", "autosync")],
        features: features.into_iter().map(str::to_owned).collect(),
        extensions: Vec::new(),
    }
}

/// Who we are, and whom we believe.
#[derive(Debug)]
pub(super) struct Ears {
    /// Our connection.
    pub(super) me: FullJid,
    /// The accounts of the people who share folders with us.
    pub(super) peers: BTreeSet<BareJid>,
    /// Whether old hosts are heard.
    pub(super) legacy: bool,
}

/// Whose connection something came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// Another one of our own account.
    Own,
    /// That of a peer.
    Peer(BareJid),
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// A push.
    Push(Notice, Whose),
    /// A commit is in the tree there.
    Have(Notice),
    /// A push of an old host, with the address that it names.
    Old(String),
}

/// Why something was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unheard {
    /// It is from somebody else, or from ourselves.
    #[error("it is from somebody who is not asked")]
    Stranger,
    /// It is of no kind that carries notices.
    #[error("it is no notice")]
    Kind,
    /// It did not come straight.
    #[error("it was delayed, forwarded or copied")]
    Detour,
    /// Its form is wrong.
    #[error("{0}")]
    Form(#[from] NotANotice),
}

impl Ears {
    /// Returns whose connection this is; `None` for our own, strangers' and accounts as such.
    pub(super) fn whose(&self, from: &Jid) -> Option<(FullJid, Whose)> {
        let from = from.try_as_full().ok()?;
        let bare = from.to_bare();
        if bare == self.me.to_bare() {
            (*from != self.me).then(|| (from.clone(), Whose::Own))
        } else {
            let is_peer = self.peers.contains(&bare);
            is_peer.then(|| (from.clone(), Whose::Peer(bare)))
        }
    }

    /// Returns what a message says, if it is to be believed, and which connection said it.
    pub(super) fn hear(&self, message: &Message) -> Result<(FullJid, Heard), Unheard> {
        let from = message.from.as_ref().ok_or(Unheard::Stranger)?;
        let (from, whose) = self.whose(from).ok_or(Unheard::Stranger)?;
        if message.payloads.iter().any(is_detour) {
            return Err(Unheard::Detour);
        }
        match message.type_ {
            MessageType::Headline => Ok((from, headline_heard(message, whose)?)),
            MessageType::Chat if self.legacy && whose == Whose::Own => {
                let body = message.get_best_body(Vec::new()).ok_or(Unheard::Kind)?.1;
                if body.len() > wire::LIMIT {
                    return Err(NotANotice::TooLong.into());
                }
                let url = legacy::pushed(body).ok_or(Unheard::Kind)?;
                Ok((from, Heard::Old(url.to_owned())))
            }
            MessageType::Chat
            | MessageType::Error
            | MessageType::Groupchat
            | MessageType::Normal => Err(Unheard::Kind),
        }
    }
}

fn headline_heard(message: &Message, whose: Whose) -> Result<Heard, Unheard> {
    let bodies = message.bodies.values().map(String::len).sum::<usize>();
    let payloads = message.payloads.iter();
    let length = bodies + payloads.map(|it| String::from(it).len()).sum::<usize>();
    if length > wire::LIMIT {
        return Err(NotANotice::TooLong.into());
    }
    let mut ours = message.payloads.iter().filter(|it| it.has_ns(NAMESPACE));
    let (Some(element), None) = (ours.next(), ours.next()) else {
        return Err(Unheard::Kind);
    };
    let fields = Fields {
        repo: element.attr("repo"),
        reference: element.attr("ref"),
        commit: element.attr("commit"),
        host: element.attr("host"),
        seq: element.attr("seq"),
    };
    match (element.name(), whose) {
        ("push", whose) => Ok(Heard::Push(fields.check()?, whose)),
        ("have", Whose::Own) => Ok(Heard::Have(fields.check()?)),
        (_, _) => Err(Unheard::Kind),
    }
}

/// Whether something shows that a message did not come straight from its sender, now.
fn is_detour(payload: &Element) -> bool {
    const DETOURS: [&str; 5] = [
        ns::DELAY,
        "jabber:x:delay",
        ns::FORWARD,
        ns::CARBONS,
        ns::MAM,
    ];
    DETOURS.iter().any(|detour| payload.has_ns(*detour))
}

/// Returns the host in our element of a presence; `None` if it is not that of an agent, empty if it
/// does not say.
pub(super) fn agent_host(presence: &Presence) -> Option<String> {
    let is_ours = |payload: &&Element| payload.is("agent", NAMESPACE);
    let agent = presence.payloads.iter().find(is_ours)?;
    let host = agent.attr("host").filter(|host| wire::is_host(host));
    Some(host.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests;
