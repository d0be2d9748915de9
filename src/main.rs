//! The `uvm` command.

fn main() {}
