//! poll, select and epoll.

use syscall_table::flags;

use crate::trace::memory::Fields;
use crate::trace::text::{Braces, put};

/// How many members of a set are shown.
const SET_LIMIT: usize = 1024;

/// `struct pollfd`, 8 bytes: what is asked for, or what came of it.
pub(in crate::trace) fn pollfd(fd: Fields<'_>, answered: bool) -> String {
    let fields = Braces::new().field("fd", fd.i32(0));
    let (name, events) = if answered {
        ("revents", fd.u16(6))
    } else {
        ("events", fd.u16(4))
    };
    fields.field(name, flags::POLL.display(events.into())).end()
}

/// `struct epoll_event`, 12 bytes, packed.
pub(super) fn epoll_event(event: Fields<'_>) -> String {
    Braces::new()
        .field("events", flags::EPOLL.display(event.u32(0).into()))
        .field(
            "data",
            format_args!("{{u32={}, u64={}}}", event.u32(4), event.u64(4)),
        )
        .end()
}

/// The positions of the bits that are set, lowest first: descriptors of an `fd_set`, or CPUs of a mask.
pub(in crate::trace) fn bit_set(bits: &[u8]) -> String {
    let is_set = |index: &usize| {
        bits.get(index / 8)
            .is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    };
    let mut numbers = (0..bits.len() * 8).filter(is_set);
    let mut text = String::from("[");
    for number in numbers.by_ref().take(SET_LIMIT) {
        let separator = if text.len() > 1 { " " } else { "" };
        put!(text, "{separator}{number}");
    }
    text.push_str(if numbers.next().is_some() { " ...]" } else { "]" });
    text
}
