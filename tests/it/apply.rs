//! Applies into real work trees: what comes in is written, and nothing that a user does at any
//! step of it is lost or taken back.

mod after;
mod displaced;
mod fixed;
mod keep;
mod kill;
mod marked;
mod plain;
mod race;
mod size;
mod two_lines;
pub(crate) mod world;
