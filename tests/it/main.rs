//! The one integration-test binary.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod architecture;
mod config;
mod control;
mod network;
mod watch;
