//! Results, and what they say in words.

use syscall_table::{Ret, flags};

use super::memory::{Fields, bytes};
use super::text::{self, ARRAY_LIMIT};
use super::{Call, depends, structs};

/// The result of a call.
pub(super) fn text(call: &Call<'_>) -> String {
    let Some(result) = call.result else {
        return "?".into();
    };
    let Some(done) = call.done().filter(|_| call.row.ret != Ret::Never) else {
        return if call.row.ret == Ret::Never {
            "?".into()
        } else {
            failure(call, result)
        };
    };
    if let Some(text) = special(call, done) {
        return text;
    }
    match call.row.ret {
        Ret::Addr | Ret::Hex => text::hex(done),
        Ret::Mode => text::octal(done),
        Ret::Signal => format!("{done} ({})", text::signal_name(done)),
        Ret::Enum(set) => format!("{done} ({})", set.display(done)),
        _ => done.to_string(),
    }
}

/// The result of a call that the table does not have.
pub(super) fn plain(result: i64) -> String {
    match error(result) {
        Some(errno) => text::failure(errno),
        None => result.to_string(),
    }
}

fn error(result: i64) -> Option<i32> {
    (-4095..0).contains(&result).then(|| -(result as i32))
}

fn failure(call: &Call<'_>, result: i64) -> String {
    match error(result) {
        Some(errno) => text::failure(errno),
        // An address in the upper half, or a process that counts from there.
        None if matches!(call.row.ret, Ret::Addr | Ret::Hex) => text::hex(result.cast_unsigned()),
        None => result.to_string(),
    }
}

/// Results that say more than their number.
fn special(call: &Call<'_>, done: u64) -> Option<String> {
    Some(match call.row.name {
        "fcntl" => match depends::fcntl_command(call) {
            "F_GETFL" => format!("{} (flags {})", text::hex(done), flags::OPEN.display(done)),
            "F_GETFD" if done != 0 => format!("{done:#x} (flags {})", flags::FD_FLAGS.display(done)),
            "F_GET_SEALS" if done != 0 => format!("{done:#x} (seals {})", flags::SEALS.display(done)),
            "F_GETLEASE" => format!("{} ({})", text::hex(done), flags::LOCK_TYPE.display(done)),
            "F_GETSIG" if done != 0 => format!("{done} ({})", text::signal_name(done)),
            _ => return None,
        },
        "personality" => format!("{} ({})", text::hex(done), flags::PERSONALITY.display(done)),
        "prctl" if flags::PRCTL.name_of(call.arg(0)) == Some("PR_GET_DUMPABLE") => {
            format!("{done} ({})", flags::DUMPABLE.display(done))
        }
        "membarrier" if call.arg(0) == 0 && done != 0 => {
            format!("{done:#x} ({})", flags::MEMBARRIER_COMMANDS.display(done))
        }
        "adjtimex" | "clock_adjtime" => {
            let states = [
                "TIME_OK",
                "TIME_INS",
                "TIME_DEL",
                "TIME_OOP",
                "TIME_WAIT",
                "TIME_ERROR",
            ];
            let state = usize::try_from(done).ok().and_then(|done| states.get(done));
            format!("{done} ({})", state.unwrap_or(&"TIME_???"))
        }
        "poll" | "ppoll" | "select" | "pselect6" if done == 0 => "0 (Timeout)".into(),
        "poll" => format!("{done} ({})", polled(call)?),
        "ppoll" => format!("{done} ({}{})", polled(call)?, left(call, 2)),
        "select" | "pselect6" => format!("{done} ({}{})", selected(call), left(call, 4)),
        _ => return None,
    })
}

/// The descriptors that poll(2) has found something about.
fn polled(call: &Call<'_>) -> Option<String> {
    let count = usize::try_from(call.arg(1) & 0xffff_ffff).ok()?.min(65536);
    let fds = bytes(call.mem, call.arg(0), count * 8)?;
    let answered = fds.chunks_exact(8).filter(|fd| Fields(fd).u16(6) != 0);
    Some(text::list(
        answered
            .take(ARRAY_LIMIT + 1)
            .map(|fd| structs::pollfd(Fields(fd), true)),
    ))
}

/// The descriptors that select(2) has found ready.
fn selected(call: &Call<'_>) -> String {
    let mut sets = Vec::new();
    for (index, name) in [(1, "in"), (2, "out"), (3, "except")] {
        let text = call.argument(index);
        if text.len() > 2 && text.starts_with('[') {
            sets.push(format!("{name} {text}"));
        }
    }
    sets.join(", ")
}

/// The time that a call has left over.
fn left(call: &Call<'_>, index: usize) -> String {
    if call.arg(index) == 0 {
        String::new()
    } else {
        format!(", left {}", call.argument(index))
    }
}
