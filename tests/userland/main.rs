//! A Debian userland in a guest against the same natively: outputs and exit statuses.

#[path = "../support/mod.rs"]
mod support;

mod databases;
mod development;
mod files;
mod languages;
mod packages;
mod processes;
mod python;
mod shell;
mod users;
