//! Programs with random input: how long they run, and with which seed.
//!
//! Without more they do a fixed amount from a fixed seed. `UVM_FUZZ_SECONDS` has them go on for that long, and
//! `UVM_FUZZ_SEED` begin elsewhere; both say at their end how to begin where they stopped.

use std::env;
use std::mem::{offset_of, size_of};
use std::time::Duration;

use guest_runtime::abi::{Answer, COMMANDS, Command, Page, Request, SEGMENTS};

fn wish(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|e| panic!("{name} is no number: {e}")),
    )
}

/// How long they go on beyond the fixed amount.
pub(super) fn time() -> Duration {
    Duration::from_secs(wish("UVM_FUZZ_SECONDS").unwrap_or(0))
}

/// What a program is told of it.
pub(super) fn options() -> Vec<String> {
    let mut options = Vec::new();
    for (option, name) in [("--seconds", "UVM_FUZZ_SECONDS"), ("--seed", "UVM_FUZZ_SEED")] {
        if let Some(value) = wish(name) {
            options.extend([option.to_owned(), value.to_string()]);
        }
    }
    options
}

/// The doorbell page as `attacks/layout.h` wants to know it.
pub(super) fn layout() -> String {
    let (request, answer) = (offset_of!(Page, request), offset_of!(Page, answer));
    let places = [
        offset_of!(Page, req),
        offset_of!(Page, rsp),
        offset_of!(Page, done),
        offset_of!(Page, alive),
        request,
        request + offset_of!(Request, regs),
        request + offset_of!(Request, exception),
        request + offset_of!(Request, segments),
        SEGMENTS,
        answer,
        answer + offset_of!(Answer, count),
        answer + offset_of!(Answer, commands),
        COMMANDS,
        size_of::<Command>(),
        offset_of!(Command, args),
        offset_of!(Command, result),
    ];
    places.map(|place| place.to_string()).join(",")
}
