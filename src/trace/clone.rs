//! clone(2), whose arguments strace names, as their order differs between architectures.

use syscall_table::flags;

use super::memory::array;
use super::text::{addr, put};
use super::{Call, flags_bits};

/// Arguments that every clone(2) has.
pub(super) fn enter(call: &Call<'_>, out: &mut String) {
    put!(
        out,
        "child_stack={}, flags={}",
        addr(call.arg(1)),
        flags::CLONE.display(call.arg(0))
    );
}

/// Arguments that only some flags make clone(2) look at, and where it has written the new thread's id to.
pub(super) fn exit(call: &Call<'_>, out: &mut String) {
    let given = |name| call.arg(0) & flags_bits(&flags::CLONE, name) != 0;
    if given("CLONE_PARENT_SETTID") {
        let written = call.done().and_then(|_| array(call.mem, call.arg(2)));
        match written.map(i32::from_le_bytes) {
            Some(tid) => put!(out, ", parent_tid=[{tid}]"),
            None => put!(out, ", parent_tid={}", addr(call.arg(2))),
        }
    }
    if given("CLONE_SETTLS") {
        put!(out, ", tls={}", addr(call.arg(4)));
    }
    if given("CLONE_CHILD_SETTID") || given("CLONE_CHILD_CLEARTID") {
        put!(out, ", child_tidptr={}", addr(call.arg(3)));
    }
}
