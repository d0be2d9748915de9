//! /proc/tty: the drivers of terminals.

use std::sync::Weak;

use super::super::FileType;
use super::super::pseudo::{Entry, PseudoDir};
use super::names;
use crate::kernel::Kernel;
use crate::kernel::dev::tty;

/// /proc/tty.
pub(super) struct Dir(pub(super) Weak<Kernel>);

/// /proc/tty/driver, which only root may search.
struct Drivers(Weak<Kernel>);

fn file(kernel: &Weak<Kernel>, make: fn(&Kernel) -> String) -> Entry {
    let kernel = kernel.clone();
    Entry::text(move || kernel.upgrade().map(|k| make(&k)).unwrap_or_default())
}

impl PseudoDir for Dir {
    fn list(&self) -> Vec<(String, FileType)> {
        let mut list = names(["drivers", "ldiscs"], FileType::Regular);
        list.extend(names(["driver", "ldisc"], FileType::Directory));
        list
    }

    fn find(&self, name: &str) -> Option<Entry> {
        match name {
            "drivers" => Some(file(&self.0, tty::drivers)),
            "ldiscs" => Some(file(&self.0, |_| "n_tty       0\n".to_owned())),
            "driver" => Some(Entry::dir(Drivers(self.0.clone())).mode(0o500)),
            "ldisc" => Some(Entry::dir(NoDisciplines)),
            _ => None,
        }
    }
}

impl PseudoDir for Drivers {
    fn list(&self) -> Vec<(String, FileType)> {
        names(["serial"], FileType::Regular)
    }

    fn find(&self, name: &str) -> Option<Entry> {
        (name == "serial").then(|| file(&self.0, tty::serial_driver))
    }
}

/// /proc/tty/ldisc, which is empty on Linux too.
struct NoDisciplines;

impl PseudoDir for NoDisciplines {
    fn list(&self) -> Vec<(String, FileType)> {
        Vec::new()
    }

    fn find(&self, _: &str) -> Option<Entry> {
        None
    }
}
