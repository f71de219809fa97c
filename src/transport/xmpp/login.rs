//! The login: everything from the name of the server to a stream that only lacks its resource.
//!
//! Invariants: the password never leaves us in a form that others can use again (no PLAIN, no
//! ANONYMOUS); channel binding is used exactly if the server can do the one kind that we can;
//! stream management is never used, because a session that the server gave up is not recovered from
//! by the library, and what a lost connection cost is fetched anyway.

use sasl::common::{ChannelBinding, Credentials};
use tokio_xmpp::jid::{BareJid, Jid};
use tokio_xmpp::parsers::{sasl_cb, stream_features::StreamFeatures};
use tokio_xmpp::stanzastream::Connection;
use tokio_xmpp::xmlstream::{Timeouts, XmppStream};
use tokio_xmpp::{Error, client_login};

use super::connect;
use super::failure::Failure;
use crate::config::{Secret, XmppSettings};

/// Logs in, and asks for this resource.
pub(super) async fn login(
    settings: &XmppSettings,
    password: &Secret,
    resource: &str,
    timeouts: Timeouts,
) -> Result<Connection, Failure> {
    let address = || Failure::Address(settings.jid.clone());
    let account = BareJid::new(&settings.jid).map_err(|_| address())?;
    let user = account.node().ok_or_else(address)?.as_str();
    let identity = account.with_resource_str(resource).map_err(|_| address())?;
    let about = |failure: Failure| failure.about(account.as_str(), account.domain().as_str());

    let (opened, binding) = connect::open(settings, &account, timeouts)
        .await
        .map_err(about)?;
    let features = opened.recv_features().await;
    let (offered, stream): (StreamFeatures, XmppStream<_>) =
        features.map_err(|error| about(Error::from(error).into()))?;
    let binding = choose(binding, &offered);
    let mut mechanisms = offered.sasl_mechanisms;
    mechanisms.remove("PLAIN");
    mechanisms.remove("ANONYMOUS");
    let credentials = Credentials::default()
        .with_username(user)
        .with_password(password.expose())
        .with_channel_binding(binding);
    let stream = client_login(stream, mechanisms, credentials)
        .await
        .map_err(|error| about(error.into()))?;
    let stream = stream
        .send_header(connect::header(&account))
        .await
        .map_err(Failure::network)?;
    let (mut features, stream): (StreamFeatures, XmppStream<_>) =
        stream.recv_features().await.map_err(Error::from)?;
    if !features.can_bind() {
        let why = "it gives no name to the connection";
        return Err(Failure::Network(why.into()));
    }
    features.stream_management = None;
    Ok(Connection {
        stream: stream.box_stream(),
        features,
        identity: Jid::from(identity),
    })
}

/// Chooses what binds the login to the encryption: what we have if the server can check that; else
/// it is said whether we could have (then nobody in between can hide the server's offer).
fn choose(ours: ChannelBinding, offered: &StreamFeatures) -> ChannelBinding {
    let any_plus = offered.sasl_mechanisms.iter();
    let any_plus = any_plus.into_iter().any(|name| name.ends_with("-PLUS"));
    let exporter = offered
        .sasl_cb
        .as_ref()
        .is_some_and(|offer| offer.types.contains(&sasl_cb::Type::TlsExporter));
    match ours {
        binding @ ChannelBinding::TlsExporter(_) if any_plus && exporter => binding,
        ChannelBinding::TlsExporter(_) if !any_plus => ChannelBinding::Unsupported,
        ChannelBinding::TlsExporter(_)
        | ChannelBinding::TlsUnique(_)
        | ChannelBinding::Unsupported
        | ChannelBinding::None => ChannelBinding::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(mechanisms: &[&str], types: Option<Vec<sasl_cb::Type>>) -> StreamFeatures {
        StreamFeatures {
            sasl_mechanisms: mechanisms.iter().map(|name| (*name).to_owned()).collect(),
            sasl_cb: types.map(|types| sasl_cb::SaslChannelBinding { types }),
            ..StreamFeatures::default()
        }
    }

    #[test]
    fn binding_is_used_only_if_the_server_can_do_the_same_kind() {
        let ours = || ChannelBinding::TlsExporter(vec![7]);
        let plus = ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"];
        let plain = ["SCRAM-SHA-1", "PLAIN"];
        let exporter = || Some(vec![sasl_cb::Type::TlsExporter]);
        let unique = || Some(vec![sasl_cb::Type::TlsUnique]);
        let header = |ours, offer: &StreamFeatures| choose(ours, offer).header().to_vec();
        assert_eq!(
            header(ours(), &offer(&plus, exporter())),
            b"p=tls-exporter,,"
        );
        assert_eq!(header(ours(), &offer(&plus, unique())), b"n,,");
        assert_eq!(header(ours(), &offer(&plus, None)), b"n,,");
        assert_eq!(header(ours(), &offer(&plain, None)), b"y,,");
        let none = ChannelBinding::None;
        assert_eq!(header(none, &offer(&plus, exporter())), b"n,,");
    }
}
