//! autosync keeps folders identical on all computers of one person, with git as the memory.
//!
//! The map of the rooms is in `ARCHITECTURE.md`. Pure core, IO at the edges, one direction:
//! the command line calls the agent, the agent drives the edges, the edges speak the engine's
//! types, and the engine knows nobody.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod desktop;
pub mod engine;
pub mod error;
pub mod fault;
#[cfg(feature = "faults")]
#[doc(hidden)]
pub mod fuzz;
pub mod git;
pub mod lock;
pub mod logging;
pub mod names;
pub mod paths;
pub mod process;
pub mod repo;
mod sys;
pub mod transport;
pub mod watch;
