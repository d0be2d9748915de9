//! Signals: actions, what they carry, and how they are delivered.

use syscall_table::flags;

use crate::trace::memory::Fields;
use crate::trace::text::{self, Braces};

/// The kernel's `struct sigaction`, 32 bytes.
pub(super) fn sigaction(action: Fields<'_>) -> String {
    let action_flags = action.u64(8);
    let handler = match action.u64(0) {
        0 => "SIG_DFL".to_owned(),
        1 => "SIG_IGN".to_owned(),
        handler => format!("{handler:#x}"),
    };
    let fields = Braces::new()
        .field("sa_handler", handler)
        .field("sa_mask", text::sigset(action.u64(24)))
        .field("sa_flags", flags::SIGACTION.display(action_flags));
    // SA_RESTORER
    if action_flags & 0x400_0000 == 0 {
        fields.end()
    } else {
        fields.field("sa_restorer", text::addr(action.u64(16))).end()
    }
}

/// `stack_t`, 24 bytes.
pub(super) fn alt_stack(stack: Fields<'_>) -> String {
    Braces::new()
        .field("ss_sp", text::addr(stack.u64(0)))
        .field("ss_flags", flags::ALT_STACK.display(stack.u32(8).into()))
        .field("ss_size", stack.u64(16))
        .end()
}

/// `struct sigevent`, 64 bytes.
pub(super) fn sigevent(event: Fields<'_>) -> String {
    let value = event.u64(0);
    let mut fields = Braces::new();
    if value != 0 {
        let number = event.i32(0);
        fields = fields.field(
            "sigev_value",
            format_args!("{{sival_int={number}, sival_ptr={value:#x}}}"),
        );
    }
    fields = fields
        .field("sigev_signo", text::signal_name(event.u32(8).into()))
        .field("sigev_notify", flags::SIGEV.display(event.u32(12).into()));
    // SIGEV_THREAD_ID
    if event.u32(12) == 4 {
        fields.field("sigev_notify_thread_id", event.i32(16)).end()
    } else {
        fields.end()
    }
}

/// `siginfo_t`, 128 bytes.
pub(in crate::trace) fn siginfo(info: Fields<'_>) -> String {
    let (signal, code) = (info.u32(0), info.i32(8));
    if signal == 0 {
        return "{}".into();
    }
    let mut fields = Braces::new()
        .field("si_signo", text::signal_name(signal.into()))
        .field("si_code", code_name(signal, code));
    if info.i32(4) != 0 {
        fields = fields.field("si_errno", info.i32(4));
    }
    match (signal, code) {
        (_, SI_TIMER) => fields
            .field("si_timerid", text::hex(info.u32(16).into()))
            .field("si_overrun", info.i32(20))
            .field("si_int", info.i32(24))
            .field("si_ptr", text::addr(info.u64(24)))
            .end(),
        (SIGCHLD, 1..) => {
            // CLD_EXITED has an exit status, all others have a signal.
            let status = match code {
                1 => info.i32(24).to_string(),
                _ => text::signal_name(info.u32(24).into()),
            };
            sender(fields, info)
                .field("si_status", status)
                .field("si_utime", info.i64(32))
                .field("si_stime", info.i64(40))
                .end()
        }
        (SIGILL | SIGTRAP | SIGBUS | SIGFPE | SIGSEGV, 1..) => {
            fields.field("si_addr", text::addr(info.u64(16))).end()
        }
        (SIGIO, 1..) => fields
            .field("si_band", info.i64(16))
            .field("si_fd", info.i32(24))
            .end(),
        (SIGSYS, 1..) => fields
            .field("si_call_addr", text::addr(info.u64(16)))
            .field("si_syscall", info.i32(24))
            .field("si_arch", text::hex(info.u32(28).into()))
            .end(),
        (_, 0x80) => fields.end(),
        (_, SI_USER | SI_TKILL) => sender(fields, info).end(),
        _ => {
            let fields = sender(fields, info);
            if info.u64(24) == 0 {
                return fields.end();
            }
            fields
                .field("si_int", info.i32(24))
                .field("si_ptr", text::addr(info.u64(24)))
                .end()
        }
    }
}

fn sender(fields: Braces, info: Fields<'_>) -> Braces {
    fields.field("si_pid", info.i32(16)).field("si_uid", info.u32(20))
}

const SIGILL: u32 = 4;
const SIGTRAP: u32 = 5;
const SIGBUS: u32 = 7;
const SIGFPE: u32 = 8;
const SIGSEGV: u32 = 11;
const SIGCHLD: u32 = 17;
const SIGIO: u32 = 29;
const SIGSYS: u32 = 31;
const SI_USER: i32 = 0;
const SI_TIMER: i32 = -2;
const SI_TKILL: i32 = -6;

fn code_name(signal: u32, code: i32) -> String {
    let general = match code {
        0 => "SI_USER",
        0x80 => "SI_KERNEL",
        -1 => "SI_QUEUE",
        -2 => "SI_TIMER",
        -3 => "SI_MESGQ",
        -4 => "SI_ASYNCIO",
        -5 => "SI_SIGIO",
        -6 => "SI_TKILL",
        -7 => "SI_DETHREAD",
        -60 => "SI_ASYNCNL",
        _ => "",
    };
    if !general.is_empty() {
        return general.into();
    }
    let of_signal: &[&str] = match signal {
        SIGCHLD => &[
            "CLD_EXITED",
            "CLD_KILLED",
            "CLD_DUMPED",
            "CLD_TRAPPED",
            "CLD_STOPPED",
            "CLD_CONTINUED",
        ],
        SIGSEGV => &["SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"],
        SIGBUS => &["BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR"],
        SIGFPE => &[
            "FPE_INTDIV",
            "FPE_INTOVF",
            "FPE_FLTDIV",
            "FPE_FLTOVF",
            "FPE_FLTUND",
            "FPE_FLTRES",
            "FPE_FLTINV",
            "FPE_FLTSUB",
        ],
        SIGILL => &[
            "ILL_ILLOPC",
            "ILL_ILLOPN",
            "ILL_ILLADR",
            "ILL_ILLTRP",
            "ILL_PRVOPC",
            "ILL_PRVREG",
            "ILL_COPROC",
            "ILL_BADSTK",
        ],
        SIGTRAP => &[
            "TRAP_BRKPT",
            "TRAP_TRACE",
            "TRAP_BRANCH",
            "TRAP_HWBKPT",
            "TRAP_UNK",
        ],
        SIGIO => &[
            "POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP",
        ],
        SIGSYS => &["SYS_SECCOMP", "SYS_USER_DISPATCH"],
        _ => &[],
    };
    let index = usize::try_from(code - 1).unwrap_or(usize::MAX);
    of_signal
        .get(index)
        .map_or_else(|| code.to_string(), |name| (*name).to_owned())
}
