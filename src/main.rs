//! The `autosync` program.

fn main() {}
