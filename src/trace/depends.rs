//! Arguments whose meaning, or whose being there at all, depends on other arguments of the call.

use syscall_table::flags::{self, FlagSet};

use super::memory::{Fields, array, bytes};
use super::text::{self, Braces};
use super::{Call, buffers, flags_bits, ioctl, may_create, prctl, structs};

/// One bit for each argument that this call looks at.
pub(super) fn shown(call: &Call<'_>) -> u8 {
    let first = |count: usize| (1_u8 << count) - 1;
    let first_if = |condition: bool, count: usize, otherwise: usize| {
        if condition { first(count) } else { first(otherwise) }
    };
    match call.row.name {
        "open" => first_if(may_create(call.arg(1)), 3, 2),
        "openat" => first_if(may_create(call.arg(2)), 4, 3),
        "mq_open" => first_if(may_create(call.arg(1)), 4, 2),
        "mremap" => first_if(
            call.arg(3) & flags_bits(&flags::MREMAP, "MREMAP_FIXED") != 0,
            5,
            4,
        ),
        "membarrier" => first_if(call.arg(1) != 0, 3, 2),
        "kcmp" => first_if(matches!(call.arg(2), 0 | 7), 5, 3),
        "syslog" => first_if(matches!(call.arg(0), 2..=4 | 8), 3, 1),
        "reboot" => first_if(call.arg(2) as u32 == 0xa1b2_c3d4, 4, 3),
        "fcntl" => first_if(fcntl_has_argument(call), 3, 2),
        "ioctl" => first_if(ioctl::has_argument(call.arg(1)), 3, 2),
        "prctl" => first(prctl::count(call)),
        "futex" => futex_shown(call.arg(1)),
        // The upper half of an offset that has room in the lower one.
        "preadv2" | "pwritev2" => 0b10_1111,
        _ => u8::MAX,
    }
}

/// Whether the arguments of this kind are known only after the call.
pub(super) fn is_late(call: &Call<'_>) -> bool {
    match call.row.name {
        "ioctl" => ioctl::is_late(call.arg(1)),
        "prctl" => prctl::is_late(call),
        "fcntl" => matches!(fcntl_command(call), "F_GETLK" | "F_OFD_GETLK" | "F_GETOWN_EX"),
        "arch_prctl" => flags::ARCH_PRCTL
            .name_of(call.arg(0))
            .is_some_and(|name| name.contains("_GET_")),
        "shmctl" => matches!(call.int(1), 2 | 13 | 15),
        "semctl" => matches!(call.int(2), 2 | 18 | 20),
        "msgctl" => matches!(call.int(1), 2 | 11 | 13),
        _ => false,
    }
}

/// A value in names, with the exceptions that single calls make.
pub(super) fn named(call: &Call<'_>, set: &FlagSet, value: u64) -> String {
    match call.row.name {
        "ioctl" => ioctl::request(value),
        "personality" if value as u32 == u32::MAX => "0xffffffff".into(),
        // Any other number is somebody's own key.
        "shmget" | "semget" | "msgget" if *set == flags::IPC_KEY && value as u32 != 0 => {
            text::hex(value & 0xffff_ffff)
        }
        "syslog" => match set.name_of(value & 0xffff_ffff) {
            Some(name) => format!("{} /* {name} */", value as u32),
            None => set.display(value).to_string(),
        },
        _ => set.display(value).to_string(),
    }
}

/// An argument that depends on another one.
pub(super) fn argument(call: &Call<'_>, index: usize) -> String {
    let value = call.arg(index);
    match call.row.name {
        "ioctl" => ioctl::argument(call),
        "prctl" => prctl::argument(call, index),
        "fcntl" => fcntl_argument(call),
        "arch_prctl" => arch_prctl_argument(call),
        "futex" => futex_argument(call, index),
        "socket" | "socketpair" => protocol(call),
        "setsockopt" | "getsockopt" => option_name(call),
        "shmctl" => control(call, 1, value, 112, structs::shmid_ds),
        "semctl" => control(call, 2, value, 104, structs::semid_ds),
        "msgctl" => control(call, 1, value, 120, structs::msqid_ds),
        "ptrace" => ptrace_argument(call, index),
        "fsconfig" => match call.int(1) {
            1 => buffers::string(call.mem, value),
            3 | 4 => buffers::file_name(call.mem, value),
            _ => text::addr(value),
        },
        "seccomp" if call.int(0) == 1 => match array::<16>(call.mem, value) {
            Some(program) => filter(Fields(&program)),
            None => text::addr(value),
        },
        _ => text::addr(value),
    }
}

/// What has become of an argument that [`Call::changes`].
pub(super) fn change(call: &Call<'_>) -> String {
    let change = match call.row.name {
        "sendfile" => call
            .done()
            .and_then(|_| array(call.mem, call.arg(2)))
            .map(|offset| format!(" => [{}]", i64::from_le_bytes(offset))),
        "clone3" => parent_tid(call).map(|tid| format!(" => {{parent_tid=[{tid}]}}")),
        _ => None,
    };
    change.unwrap_or_default()
}

/// The id that clone3(2) has stored for the parent.
fn parent_tid(call: &Call<'_>) -> Option<i32> {
    call.done()?;
    let args = array::<32>(call.mem, call.arg(0))?;
    let args = Fields(&args);
    let wanted = args.u64(0) & flags_bits(&flags::CLONE, "CLONE_PARENT_SETTID") != 0;
    wanted
        .then(|| array(call.mem, args.u64(24)).map(i32::from_le_bytes))
        .flatten()
}

/// `struct sock_fprog`, 16 bytes.
fn filter(program: Fields<'_>) -> String {
    Braces::new()
        .field("len", program.u16(0))
        .field("filter", text::addr(program.u64(8)))
        .end()
}

pub(super) fn fcntl_command(call: &Call<'_>) -> &'static str {
    flags::FCNTL
        .name_of(call.arg(1) & 0xffff_ffff)
        .unwrap_or_default()
}

fn fcntl_has_argument(call: &Call<'_>) -> bool {
    !matches!(
        fcntl_command(call),
        "F_GETFD" | "F_GETFL" | "F_GETOWN" | "F_GETSIG" | "F_GETLEASE" | "F_GETPIPE_SZ" | "F_GET_SEALS"
    )
}

fn fcntl_argument(call: &Call<'_>) -> String {
    let value = call.arg(2);
    match fcntl_command(call) {
        "F_DUPFD" | "F_DUPFD_CLOEXEC" | "F_DUPFD_QUERY" | "F_SETPIPE_SZ" | "F_SETOWN" => {
            call.int(2).to_string()
        }
        "F_SETFD" => flags::FD_FLAGS.display(value).to_string(),
        "F_SETFL" => flags::OPEN.display(value).to_string(),
        "F_SETSIG" => text::signal_name(value),
        "F_SETLEASE" => flags::LOCK_TYPE.display(value).to_string(),
        "F_NOTIFY" => flags::DNOTIFY.display(value).to_string(),
        "F_ADD_SEALS" => flags::SEALS.display(value).to_string(),
        "F_SETLK" | "F_SETLKW" | "F_OFD_SETLK" | "F_OFD_SETLKW" => lock(call, false),
        "F_GETLK" | "F_OFD_GETLK" if call.done().is_some() => lock(call, true),
        "F_SETOWN_EX" => owner(call),
        "F_GETOWN_EX" if call.done().is_some() => owner(call),
        _ => text::addr(value),
    }
}

fn lock(call: &Call<'_>, with_holder: bool) -> String {
    let read = array::<32>(call.mem, call.arg(2));
    read.map_or_else(
        || text::addr(call.arg(2)),
        |lock| structs::flock(Fields(&lock), with_holder),
    )
}

/// `struct f_owner_ex`, 8 bytes.
fn owner(call: &Call<'_>) -> String {
    let Some(owner) = array::<8>(call.mem, call.arg(2)) else {
        return text::addr(call.arg(2));
    };
    let owner = Fields(&owner);
    let kind = match owner.i32(0) {
        0 => "F_OWNER_TID".into(),
        1 => "F_OWNER_PID".into(),
        2 => "F_OWNER_PGRP".into(),
        kind => kind.to_string(),
    };
    Braces::new().field("type", kind).field("pid", owner.i32(4)).end()
}

fn arch_prctl_argument(call: &Call<'_>) -> String {
    let read = (is_late(call) && call.done().is_some())
        .then(|| array(call.mem, call.arg(1)))
        .flatten();
    read.map_or_else(
        || text::addr(call.arg(1)),
        |value| format!("[{}]", text::hex(u64::from_le_bytes(value))),
    )
}

/// The operations of futex(2), without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME.
mod futex {
    pub(super) const WAIT: u64 = 0;
    pub(super) const WAKE: u64 = 1;
    pub(super) const REQUEUE: u64 = 3;
    pub(super) const WAKE_OP: u64 = 5;
    pub(super) const LOCK_PI: u64 = 6;
    pub(super) const UNLOCK_PI: u64 = 7;
    pub(super) const TRYLOCK_PI: u64 = 8;
    pub(super) const WAIT_BITSET: u64 = 9;
    pub(super) const WAKE_BITSET: u64 = 10;
    pub(super) const WAIT_REQUEUE_PI: u64 = 11;
    pub(super) const LOCK_PI2: u64 = 13;
}

fn futex_shown(op: u64) -> u8 {
    match op & 0x7f {
        futex::WAIT => 0b00_1111,
        futex::WAKE => 0b00_0111,
        futex::LOCK_PI | futex::LOCK_PI2 => 0b00_1011,
        futex::UNLOCK_PI | futex::TRYLOCK_PI => 0b00_0011,
        futex::WAIT_BITSET => 0b10_1111,
        futex::WAKE_BITSET => 0b10_0111,
        futex::REQUEUE | futex::WAIT_REQUEUE_PI => 0b01_1111,
        _ => 0b11_1111,
    }
}

fn futex_argument(call: &Call<'_>, index: usize) -> String {
    let value = call.arg(index);
    let op = call.arg(1) & 0x7f;
    let waits = matches!(
        op,
        futex::WAIT | futex::LOCK_PI | futex::LOCK_PI2 | futex::WAIT_BITSET | futex::WAIT_REQUEUE_PI
    );
    match index {
        3 if waits => match array::<16>(call.mem, value) {
            Some(timeout) => structs::timespec(Fields(&timeout)),
            None => text::addr(value),
        },
        3 => (value as u32).to_string(),
        5 if matches!(op, futex::WAIT_BITSET | futex::WAKE_BITSET) && value as u32 == u32::MAX => {
            "FUTEX_BITSET_MATCH_ANY".into()
        }
        5 if matches!(op, futex::WAIT_BITSET | futex::WAKE_BITSET) => text::hex(value & 0xffff_ffff),
        5 if op == futex::WAKE_OP => futex_operation(value as u32),
        5 => (value as u32).to_string(),
        _ => text::addr(value),
    }
}

/// What FUTEX_WAKE_OP does to the second futex, and which comparison decides on its waiters.
fn futex_operation(value: u32) -> String {
    let part = |shift: u32, bits: u32| (value >> shift) & ((1 << bits) - 1);
    let operations = [
        "FUTEX_OP_SET",
        "FUTEX_OP_ADD",
        "FUTEX_OP_OR",
        "FUTEX_OP_ANDN",
        "FUTEX_OP_XOR",
    ];
    let comparisons = [
        "FUTEX_OP_CMP_EQ",
        "FUTEX_OP_CMP_NE",
        "FUTEX_OP_CMP_LT",
        "FUTEX_OP_CMP_LE",
        "FUTEX_OP_CMP_GT",
        "FUTEX_OP_CMP_GE",
    ];
    let name = |names: &[&str], index: u32| {
        names
            .get(index as usize)
            .map_or_else(|| index.to_string(), |name| (*name).to_owned())
    };
    let shifted = if part(31, 1) == 0 {
        ""
    } else {
        "FUTEX_OP_OPARG_SHIFT<<28|"
    };
    format!(
        "{shifted}{}<<28|{}<<12|{}<<24|{}",
        name(&operations, part(28, 3)),
        text::hex(part(12, 12).into()),
        name(&comparisons, part(24, 4)),
        text::hex(part(0, 12).into()),
    )
}

fn protocol(call: &Call<'_>) -> String {
    let value = call.arg(2) & 0xffff_ffff;
    match call.int(0) {
        2 | 10 => flags::IPPROTO.display(value).to_string(),
        16 => flags::NETLINK.display(value).to_string(),
        _ => value.to_string(),
    }
}

const SOL_SOCKET: i32 = 1;

fn option_name(call: &Call<'_>) -> String {
    let value = call.arg(2);
    match call.int(1) {
        0 => flags::IP.display(value).to_string(),
        SOL_SOCKET => flags::SO.display(value).to_string(),
        6 => flags::TCP.display(value).to_string(),
        41 => flags::IPV6.display(value).to_string(),
        _ => text::hex(value & 0xffff_ffff),
    }
}

/// The value of a socket option, `len` bytes at the fourth argument.
pub(super) fn socket_option(call: &Call<'_>, len: u64) -> String {
    let (mem, addr) = (call.mem, call.arg(3));
    let len = len & 0xffff_ffff;
    let name = if call.int(1) == SOL_SOCKET {
        flags::SO.name_of(call.arg(2)).unwrap_or_default()
    } else {
        ""
    };
    let structured = match (name, len) {
        ("SO_PEERCRED", 12..) => array::<12>(mem, addr).map(|who| structs::credentials(Fields(&who))),
        ("SO_LINGER", 8..) => array::<8>(mem, addr).map(|linger| {
            let linger = Fields(&linger);
            Braces::new()
                .field("l_onoff", linger.i32(0))
                .field("l_linger", linger.i32(4))
                .end()
        }),
        ("SO_RCVTIMEO_OLD" | "SO_SNDTIMEO_OLD", 16..) => {
            array::<16>(mem, addr).map(|time| structs::timeval(Fields(&time)))
        }
        ("SO_ATTACH_FILTER", 16..) => array::<16>(mem, addr).map(|program| filter(Fields(&program))),
        (_, 4) => array(mem, addr).map(|number| format!("[{}]", i32::from_le_bytes(number))),
        _ => None,
    };
    structured.unwrap_or_else(|| buffers::buffer(mem, addr, len))
}

/// The last argument of shmctl(2) and its like: a structure for IPC_STAT, after success, and for IPC_SET.
fn control(
    call: &Call<'_>,
    command: usize,
    value: u64,
    size: usize,
    write: fn(Fields<'_>) -> String,
) -> String {
    let (ipc_set, set_value) = (1, 16);
    let command = call.int(command);
    if call.row.name == "semctl" && command == set_value {
        return text::hex(value);
    }
    let filled = is_late(call) && call.done().is_some();
    let read = (command == ipc_set || filled)
        .then(|| bytes(call.mem, value, size))
        .flatten();
    read.map_or_else(|| text::addr(value), |object| write(Fields(&object)))
}

fn ptrace_argument(call: &Call<'_>, index: usize) -> String {
    let value = call.arg(index);
    match (flags::PTRACE.name_of(call.arg(0)).unwrap_or_default(), index) {
        ("PTRACE_SETOPTIONS" | "PTRACE_SEIZE", 3) => flags::PTRACE_OPTIONS.display(value).to_string(),
        ("PTRACE_CONT" | "PTRACE_SYSCALL" | "PTRACE_SINGLESTEP" | "PTRACE_DETACH" | "PTRACE_SYSEMU", 3) => {
            if value == 0 {
                "0".into()
            } else {
                text::signal_name(value)
            }
        }
        _ => text::addr(value),
    }
}
