//! The bell over XMPP, against a real Prosody and a real ejabberd.

mod raw;
mod server;
mod servers;
