//! A Debian userland in a guest against the same natively: outputs and exit statuses.

#[path = "../support/mod.rs"]
mod support;

mod shell;
