//! The bell over XMPP, against a real Prosody and a real ejabberd.

mod agents;
mod announce;
mod broken;
mod end;
mod login;
mod notices;
mod old;
mod proxy;
mod raw;
pub(crate) mod server;
mod servers;
