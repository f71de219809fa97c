//! The pure core: decides what happens next and never does it.

pub mod action;
pub mod event;
pub mod notice;
pub mod status;
pub mod timer;
