//! Two hosts, two agents, one hub: what is done here is there.

mod content;
mod markers;
mod orders;
mod places;
mod repack;
mod shared;
mod ways;
