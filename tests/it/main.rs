//! The one integration-test binary.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod apply;
mod architecture;
mod base_map;
mod cli;
mod config;
mod control;
mod crash;
mod demo;
mod desktop;
mod durable;
mod external;
mod fanout;
mod faults;
mod git_bench;
mod hostile;
mod interleaved;
mod mysteries;
mod network;
mod offline;
mod outcomes;
mod pair;
mod processes;
mod random;
mod readme;
mod snapshot;
mod ssh;
mod support;
mod told;
mod transport_path;
mod traps;
mod two_hosts;
mod undo;
mod user_git;
mod watch;
mod xmpp;
