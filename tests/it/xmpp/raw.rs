//! A client that says exactly what a test writes, and keeps exactly what it hears.
//!
//! It knows just enough of XMPP to log in (STARTTLS or direct TLS, SASL PLAIN) and to tell one stanza
//! from the next. What it sends and returns is text as it is on the wire.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use autosync::clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// The domain of every test server.
pub(crate) const DOMAIN: &str = "sync.test";

/// Nothing takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where and as whom a client logs in.
#[derive(Debug, Clone)]
pub(crate) struct Login<'a> {
    pub(crate) port: u16,
    pub(crate) direct: bool,
    pub(crate) ca: &'a Path,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) resource: &'a str,
}

/// A connection that is logged in and has a resource. It is closed when dropped.
pub(crate) struct Raw {
    /// The full address that the server gave.
    pub(crate) jid: String,
    orders: UnboundedSender<String>,
    heard: Receiver<String>,
    pings: std::cell::Cell<u32>,
}

impl Raw {
    /// Logs in and binds a resource; sends no presence.
    pub(crate) fn open(login: &Login<'_>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stream, jid) = runtime.block_on(async {
            let limit = tokio::time::timeout(Duration::from_secs(10), log_in(login));
            limit.await.unwrap_or_else(|_| Err(other("no login")))
        })?;
        let (orders, mut todo) = unbounded_channel::<String>();
        let (told, heard) = channel();
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let Stream { io, mut rest } = stream;
                let (mut reader, mut writer) = tokio::io::split(io);
                let mut buffer = vec![0; 1 << 16];
                loop {
                    while let Some(stanza) = rest.next() {
                        if told.send(stanza).is_err() {
                            return;
                        }
                    }
                    tokio::select! {
                        read = reader.read(&mut buffer) => match read {
                            Ok(0) | Err(_) => return,
                            Ok(count) => rest.add(&buffer[..count]),
                        },
                        order = todo.recv() => {
                            let (text, last) = match order {
                                Some(text) => (text, false),
                                None => ("</stream:stream>".to_owned(), true),
                            };
                            let sent = writer.write_all(text.as_bytes()).await.is_ok()
                                && writer.flush().await.is_ok();
                            if last || !sent {
                                return;
                            }
                        }
                    }
                }
            });
        });
        Ok(Self {
            jid,
            orders,
            heard,
            pings: std::cell::Cell::new(0),
        })
    }

    /// The address without the resource.
    pub(crate) fn bare(&self) -> &str {
        self.jid.split_once('/').unwrap().0
    }

    /// Writes this to the stream.
    pub(crate) fn send(&self, xml: &str) {
        self.orders.send(xml.to_owned()).unwrap();
    }

    /// Returns the next stanza.
    #[track_caller]
    pub(crate) fn next(&self) -> String {
        self.heard.recv_timeout(PATIENCE).unwrap()
    }

    /// Passes over stanzas until one is as wanted, and returns that.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, so: impl Fn(&str) -> bool) -> String {
        let deadline = clock::now() + PATIENCE;
        let mut others = Vec::new();
        loop {
            let left = deadline.since(clock::now());
            match self.heard.recv_timeout(left) {
                Ok(stanza) if so(&stanza) => return stanza,
                Ok(stanza) => others.push(stanza),
                Err(error) => panic!("{error}: no {what} among {others:#?}"),
            }
        }
    }

    /// Returns every stanza that the server had for us when it answered a question of ours.
    #[track_caller]
    pub(crate) fn all(&self) -> Vec<String> {
        self.pings.set(self.pings.get() + 1);
        let id = format!("all-{}", self.pings.get());
        self.send(&format!(
            "<iq type='get' id='{id}'><ping xmlns='urn:xmpp:ping'/></iq>"
        ));
        let mut all = Vec::new();
        loop {
            let stanza = self.next();
            if stanza.starts_with("<iq") && attribute(&stanza, "id").as_deref() == Some(&id) {
                return all;
            }
            all.push(stanza);
        }
    }

    /// Waits until the server has closed the connection. Returns what came before.
    pub(crate) fn closed(&self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(stanza) => all.push(stanza),
                Err(RecvTimeoutError::Disconnected) => return all,
                Err(RecvTimeoutError::Timeout) => panic!("the connection stands"),
            }
        }
    }
}

/// Returns an attribute of the outermost element.
pub(crate) fn attribute(stanza: &str, name: &str) -> Option<String> {
    let head = &stanza[..tag_end(stanza.as_bytes())?];
    ['\'', '"'].iter().find_map(|quote| {
        let from = head.find(&format!(" {name}={quote}"))? + name.len() + 3;
        let length = head[from..].find(*quote)?;
        Some(head[from..from + length].to_owned())
    })
}

/// Returns the text of the body of a message.
pub(crate) fn body(stanza: &str) -> Option<&str> {
    let (_, rest) = stanza.split_once("<body>")?;
    Some(rest.split_once("</body>")?.0)
}

/// What has been read of a stream and not been taken.
#[derive(Default)]
struct Pieces {
    bytes: Vec<u8>,
}

impl Pieces {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole element, or the opening or end of the stream.
    fn next(&mut self) -> Option<String> {
        let skip = self.bytes.iter().take_while(|b| b.is_ascii_whitespace());
        let skip = skip.count();
        self.bytes.drain(..skip);
        let (mut at, mut depth) = (0, 0_usize);
        loop {
            let from = at + self.bytes[at..].iter().position(|b| *b == b'<')?;
            let end = from + tag_end(&self.bytes[from..])? + 1;
            let tag = &self.bytes[from..end];
            let is_stream = tag.starts_with(b"<?") || tag.starts_with(b"<stream:stream");
            if tag.starts_with(b"</") {
                depth = depth.saturating_sub(1);
            } else if !is_stream && !tag.ends_with(b"/>") {
                depth += 1;
            }
            at = end;
            if depth == 0 {
                let element: Vec<u8> = self.bytes.drain(..end).collect();
                return Some(String::from_utf8(element).unwrap());
            }
        }
    }
}

/// Returns where the tag at the beginning ends: at its `>`, which is in no quotes.
fn tag_end(text: impl AsRef<[u8]>) -> Option<usize> {
    let mut quote = None;
    text.as_ref().iter().position(|byte| {
        match quote {
            Some(open) if open == *byte => quote = None,
            None if matches!(byte, b'\'' | b'"') => quote = Some(*byte),
            None => return *byte == b'>',
            Some(_) => {}
        }
        false
    })
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

struct Stream {
    io: Box<dyn Duplex>,
    rest: Pieces,
}

impl Stream {
    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.io.write_all(text.as_bytes()).await?;
        self.io.flush().await
    }

    async fn hear(&mut self) -> io::Result<String> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(element) = self.rest.next() {
                return Ok(element);
            }
            match self.io.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.rest.add(&buffer[..count]),
            }
        }
    }

    async fn hear_until(&mut self, start: &str) -> io::Result<String> {
        loop {
            let element = self.hear().await?;
            if element.starts_with(start) {
                return Ok(element);
            }
            if element.starts_with("<failure") || element.starts_with("<stream:error") {
                return Err(other(&element));
            }
        }
    }

    async fn begin(&mut self) -> io::Result<String> {
        self.say(&format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' to='{DOMAIN}' version='1.0'>"
        ))
        .await?;
        self.hear_until("<stream:features").await
    }
}

async fn log_in(login: &Login<'_>) -> io::Result<(Stream, String)> {
    let tcp = TcpStream::connect(("127.0.0.1", login.port)).await?;
    tcp.set_nodelay(true)?;
    let tcp = if login.direct {
        tcp
    } else {
        let mut clear = Clear::new(tcp);
        clear.start_tls().await?;
        clear.tcp
    };
    let tls = connector(login.ca)?
        .connect(ServerName::try_from(DOMAIN).unwrap(), tcp)
        .await?;
    let mut stream = Stream {
        io: Box::new(tls),
        rest: Pieces::default(),
    };
    stream.begin().await?;
    let plain = base64(format!("\0{}\0{}", login.user, login.password).as_bytes());
    stream
        .say(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"
        ))
        .await?;
    stream.hear_until("<success").await?;
    stream.begin().await?;
    stream
        .say(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{}</resource></bind></iq>",
            login.resource
        ))
        .await?;
    let bound = stream.hear_until("<iq").await?;
    let jid = bound
        .split_once("<jid>")
        .and_then(|(_, rest)| rest.split_once("</jid>"))
        .ok_or_else(|| other(&bound))?
        .0
        .to_owned();
    Ok((stream, jid))
}

/// The part of a stream before TLS.
struct Clear {
    tcp: TcpStream,
}

impl Clear {
    fn new(tcp: TcpStream) -> Self {
        Self { tcp }
    }

    async fn start_tls(&mut self) -> io::Result<()> {
        let head = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' to='{DOMAIN}' version='1.0'>"
        );
        self.tcp.write_all(head.as_bytes()).await?;
        self.hear_until("</stream:features>").await?;
        self.tcp
            .write_all(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            .await?;
        self.hear_until("<proceed").await
    }

    async fn hear_until(&mut self, wanted: &str) -> io::Result<()> {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = self.tcp.read(&mut buffer).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            heard.extend_from_slice(&buffer[..count]);
            if String::from_utf8_lossy(&heard).contains(wanted) && heard.ends_with(b">") {
                return Ok(());
            }
        }
    }
}

fn connector(ca: &Path) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(io::Error::other)? {
        let certificate = certificate.map_err(io::Error::other)?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn other(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            let is_pad = place > three.len();
            out.push(if is_pad { '=' } else { char::from(digit) });
        }
    }
    out
}
