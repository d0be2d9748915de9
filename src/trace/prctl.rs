//! prctl(2): what its arguments mean for each option.

use syscall_table::flags;

use super::memory::array;
use super::{Call, buffers, text};

/// What the second argument is; the ones behind it are plain numbers.
#[derive(Clone, Copy, PartialEq)]
enum Second {
    /// Nothing is looked at.
    Nothing,
    /// A number, or several of them.
    Numbers(usize),
    Signal,
    Dumpable,
    Tsc,
    Capability,
    SecureBits,
    SeccompMode,
    Ambient,
    Name,
    /// Pointers to what the call answers.
    OutSignal,
    OutName,
    OutNumber,
    OutPointer,
    OutTsc,
}

fn second(option: u64) -> Second {
    match flags::PRCTL.name_of(option).unwrap_or_default() {
        "PR_SET_PDEATHSIG" => Second::Signal,
        "PR_GET_PDEATHSIG" => Second::OutSignal,
        "PR_SET_DUMPABLE" => Second::Dumpable,
        "PR_SET_TSC" => Second::Tsc,
        "PR_GET_TSC" => Second::OutTsc,
        "PR_CAPBSET_READ" | "PR_CAPBSET_DROP" => Second::Capability,
        "PR_SET_SECUREBITS" => Second::SecureBits,
        "PR_SET_SECCOMP" => Second::SeccompMode,
        "PR_CAP_AMBIENT" => Second::Ambient,
        "PR_SET_NAME" => Second::Name,
        "PR_GET_NAME" => Second::OutName,
        "PR_GET_CHILD_SUBREAPER" | "PR_GET_UNALIGN" | "PR_GET_FPEMU" | "PR_GET_FPEXC" | "PR_GET_ENDIAN" => {
            Second::OutNumber
        }
        "PR_GET_TID_ADDRESS" => Second::OutPointer,
        "PR_GET_DUMPABLE"
        | "PR_GET_KEEPCAPS"
        | "PR_GET_TIMING"
        | "PR_GET_SECCOMP"
        | "PR_GET_SECUREBITS"
        | "PR_GET_TIMERSLACK"
        | "PR_TASK_PERF_EVENTS_DISABLE"
        | "PR_TASK_PERF_EVENTS_ENABLE" => Second::Nothing,
        "PR_SET_KEEPCAPS"
        | "PR_SET_TIMING"
        | "PR_SET_TIMERSLACK"
        | "PR_SET_CHILD_SUBREAPER"
        | "PR_SET_PTRACER" => Second::Numbers(1),
        "PR_SET_SPECULATION_CTRL" => Second::Numbers(2),
        _ => Second::Numbers(4),
    }
}

/// How many arguments the option looks at, itself included.
pub(super) fn count(call: &Call<'_>) -> usize {
    match second(call.arg(0)) {
        Second::Nothing => 1,
        Second::Numbers(count) => 1 + count,
        Second::Ambient => 5,
        _ => 2,
    }
}

/// Whether the option answers through memory.
pub(super) fn is_late(call: &Call<'_>) -> bool {
    let outputs = [
        Second::OutSignal,
        Second::OutName,
        Second::OutNumber,
        Second::OutPointer,
        Second::OutTsc,
    ];
    outputs.contains(&second(call.arg(0)))
}

/// One of the arguments behind the option.
pub(super) fn argument(call: &Call<'_>, index: usize) -> String {
    let value = call.arg(index);
    let kind = second(call.arg(0));
    if index == 2 && kind == Second::Ambient {
        return flags::CAP.display(value).to_string();
    }
    if index != 1 {
        return text::hex(value);
    }
    match kind {
        Second::Signal => text::signal_name(value),
        Second::Dumpable => flags::DUMPABLE.display(value).to_string(),
        Second::Tsc => flags::TSC.display(value).to_string(),
        Second::Capability => flags::CAP.display(value).to_string(),
        Second::SecureBits => flags::SECUREBITS.display(value).to_string(),
        Second::SeccompMode => flags::SECCOMP_MODE.display(value).to_string(),
        Second::Ambient => flags::CAP_AMBIENT.display(value).to_string(),
        Second::Name => buffers::string(call.mem, value),
        Second::Numbers(1) => value.to_string(),
        Second::Nothing | Second::Numbers(_) => text::hex(value),
        _ => answer(call, kind, value).unwrap_or_else(|| text::addr(value)),
    }
}

/// What the call has written.
fn answer(call: &Call<'_>, kind: Second, addr: u64) -> Option<String> {
    call.done()?;
    if kind == Second::OutName {
        return Some(buffers::string(call.mem, addr));
    }
    if kind == Second::OutPointer {
        let pointer = array(call.mem, addr).map(u64::from_le_bytes)?;
        return Some(format!("[{}]", text::addr(pointer)));
    }
    let number = array(call.mem, addr).map(u32::from_le_bytes)?;
    Some(match kind {
        Second::OutSignal => format!("[{}]", text::signal_name(number.into())),
        Second::OutTsc => format!("[{}]", flags::TSC.display(number.into())),
        _ => format!("[{number}]"),
    })
}
