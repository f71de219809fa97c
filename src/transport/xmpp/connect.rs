//! A connection to the server of an account, private and checked before anything is said on it.
//!
//! Invariants: nothing of ours but the domain's name goes out in clear; a certificate is believed
//! only as rustls believes it, for the domain of the account, whatever the server is called; nobody
//! who adds bytes before the encryption begins is heard, because they are dropped with the buffer.
//!
//! Absent: how long it may take. The caller limits that as a whole.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt, StreamExt};
use sasl::common::ChannelBinding;
use tokio::io::BufStream;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, ProtocolVersion,
    RootCertStore, SignatureScheme,
};
use tokio_xmpp::Error;
use tokio_xmpp::jid::BareJid;
use tokio_xmpp::parsers::{ns, starttls, stream_features::StreamFeatures};
use tokio_xmpp::xmlstream::{
    FallibleStreamElement, PendingFeaturesRecv, ReadError, StreamHeader, Timeouts, XmppStream,
    XmppStreamElement, initiate_stream,
};

use super::certificate;
use super::failure::Failure;
use super::seek;
use crate::config::{Tls, XmppSettings};

/// A private stream whose features are still to come.
pub(super) type Opened = PendingFeaturesRecv<BufStream<TlsStream<TcpStream>>>;

/// Connects to the server of an account.
pub(super) async fn open(
    settings: &XmppSettings,
    account: &BareJid,
    timeouts: Timeouts,
) -> Result<(Opened, ChannelBinding), Failure> {
    let domain = account.domain().as_str();
    // Before the network: what is wrong with them is wrong without it, too.
    let roots = roots(settings.ca_file.as_deref())?;
    let tcp = seek::reach(settings, domain).await?;
    // A notice is one small packet, and nothing follows that it could wait for.
    tcp.set_nodelay(true).map_err(Failure::network)?;
    let tcp = match settings.tls {
        Tls::Direct => tcp,
        Tls::StartTls => upgrade(tcp, account, timeouts).await?,
    };
    let (tls, binding) = encrypt(tcp, domain, roots).await?;
    let stream = initiate_stream(
        BufStream::new(tls),
        ns::JABBER_CLIENT,
        header(account),
        timeouts,
    );
    Ok((stream.await.map_err(Failure::network)?, binding))
}

/// Returns the header of a stream to the server of an account.
pub(super) fn header(account: &BareJid) -> StreamHeader<'_> {
    StreamHeader {
        to: Some(Cow::Borrowed(account.domain().as_str())),
        from: None,
        id: None,
    }
}

/// Agrees with the server to begin the encryption.
async fn upgrade(
    tcp: TcpStream,
    account: &BareJid,
    timeouts: Timeouts,
) -> Result<TcpStream, Failure> {
    let stream = initiate_stream(
        BufStream::new(tcp),
        ns::JABBER_CLIENT,
        header(account),
        timeouts,
    );
    let stream = stream.await.map_err(Failure::network)?;
    let (features, mut stream): (StreamFeatures, XmppStream<_>) =
        stream.recv_features().await.map_err(Error::from)?;
    if !features.can_starttls() {
        return Err(Failure::NoTls);
    }
    let ask = XmppStreamElement::Starttls(starttls::Nonza::Request(starttls::Request));
    stream.send(&ask).await.map_err(Failure::network)?;
    loop {
        let element = stream.next().await;
        match element.map(|element| element.and_then(FallibleStreamElement::into_read_error)) {
            Some(Ok(XmppStreamElement::Starttls(starttls::Nonza::Proceed(_)))) => break,
            Some(Err(ReadError::SoftTimeout)) => {}
            Some(Err(ReadError::HardError(error))) => return Err(Failure::network(error)),
            Some(Ok(_)) => return Err(Failure::NoTls),
            Some(Err(ReadError::ParseError(_) | ReadError::StreamFooterReceived)) | None => {
                return Err(Error::Disconnected.into());
            }
        }
    }
    Ok(stream.into_inner().into_inner())
}

async fn encrypt(
    tcp: TcpStream,
    domain: &str,
    roots: Arc<RootCertStore>,
) -> Result<(TlsStream<TcpStream>, ChannelBinding), Failure> {
    let provider = Arc::new(ring::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| Failure::network(io::Error::other(error)))?;
    let witness = Arc::new(Witness {
        inner,
        refused: Mutex::default(),
    });
    // Who decides is the verifier inside; the witness only remembers what it refused.
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::network(io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name = ServerName::try_from(domain.to_owned()).map_err(|_| Failure::UnknownServer {
        name: domain.to_owned(),
    })?;
    let connector = TlsConnector::from(Arc::new(config));
    let tls = match connector.connect(name, tcp).await {
        Ok(tls) => tls,
        Err(error) => return Err(witness.explain(error, domain)),
    };
    let connection = tls.get_ref().1;
    let is_13 = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    // RFC 9266; before TLS 1.3 it is not unique.
    let exported =
        connection.export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", None);
    let binding = match exported {
        Ok(bytes) if is_13 => ChannelBinding::TlsExporter(bytes),
        Ok(_) | Err(_) => ChannelBinding::None,
    };
    Ok((tls, binding))
}

/// Returns the certificates that are trusted: the system's, and those of the file.
fn roots(ca_file: Option<&Path>) -> Result<Arc<RootCertStore>, Failure> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "certificates of the system that cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        add_file(&mut roots, path).map_err(|why| Failure::CaFile {
            path: PathBuf::from(path),
            why,
        })?;
    }
    if roots.is_empty() {
        return Err(Failure::NoRoots);
    }
    Ok(Arc::new(roots))
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let before = roots.len();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.len() == before {
        return Err("there is no certificate in it".into());
    }
    Ok(())
}

/// Remembers the certificate that was refused, to say what it was.
#[derive(Debug)]
struct Witness {
    inner: Arc<WebPkiServerVerifier>,
    refused: Mutex<Option<Vec<u8>>>,
}

impl Witness {
    fn explain(&self, error: io::Error, domain: &str) -> Failure {
        let refused = self.refused.lock();
        let refused = refused.unwrap_or_else(PoisonError::into_inner).take();
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        let (Some(TlsError::InvalidCertificate(why)), Some(der)) = (tls, refused) else {
            return Failure::network(error);
        };
        let (subject, issuer) = certificate::names(&der);
        Failure::Certificate {
            wanted: domain.to_owned(),
            subject,
            issuer,
            why: in_words(why),
        }
    }
}

/// Returns what is wrong with a certificate.
fn in_words(why: &CertificateError) -> String {
    use CertificateError as Bad;
    if let Bad::NotValidForNameContext { presented, .. } = why
        && !presented.is_empty()
    {
        let names: Vec<String> = presented
            .iter()
            .take(4)
            .map(|name| crate::names::escape(name.as_bytes()))
            .collect();
        return format!("it is for {}", names.join(", "));
    }
    if matches!(why, Bad::UnknownIssuer) {
        "nobody who is trusted here issued it".into()
    } else if matches!(why, Bad::Expired | Bad::ExpiredContext { .. }) {
        "it has expired".into()
    } else if matches!(why, Bad::NotValidYet | Bad::NotValidYetContext { .. }) {
        "it is not valid yet".into()
    } else if matches!(
        why,
        Bad::NotValidForName | Bad::NotValidForNameContext { .. }
    ) {
        "it is for another name".into()
    } else {
        format!("it does not hold ({why})")
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verdict = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        if verdict.is_err() {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused = Some(end_entity.to_vec());
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
