//! The filter of every stub: what the host does for it.
//!
//! * From anywhere but the runtime's text, or by a foreign way into the host's kernel: SIGSYS, which the runtime catches.
//! * From the runtime's text: what [`syscall_table::Host`] says of each row. Guest code can jump to any instruction of
//!   the runtime with any registers, so nothing is let through here that would harm anybody but the guest process itself:
//!   its memory, its threads, and descriptors that the supervisor chose to put into it.
//! * Everything else, x32 numbers too, kills the stub.
//!
//! The host's own reading of an argument decides what a test has to look at: it cuts descriptors, futex operations,
//! advice and options of prctl to 32 bits, so their upper halves mean nothing; other arguments are tested whole.
//!
//! The filter assumes that a stub has no capabilities, so that the host's limits on locked memory bind it, and that
//! file memory which a guest may only read was mapped from a descriptor that cannot write, as mprotect is free.

use std::ops::Range;

use guest_runtime::abi::{BELL_FD, HANDED, NR_HELLO, SOCKET_FD, TAKEN_FD};
use syscall_table::{Host, Row};

use crate::platform::bpf::{ARCH_X86_64, Field, Instruction, Test, give, if_all, if_equal, load, skip};
use crate::platform::{Io, WriteBound};

#[cfg(test)]
#[allow(unsafe_code)]
mod tests;

/// Descriptors of pipes that the supervisor hands in. They are low, as a fork copies the table up to the highest one.
pub const HAND_PIPE: Range<u32> = HANDED..32;

/// Descriptors of plain files that it hands in for reading.
pub const HAND_READ: Range<u32> = HAND_PIPE.end..512;

/// Numbers for each of the bounds of plain files that it hands in for writing.
const WRITE_EACH: u32 = 16;

/// Descriptors of plain files that it hands in for writing, to this bound.
pub const fn hand_write(bound: WriteBound) -> Range<u32> {
    let first = HAND_READ.end + WRITE_EACH * bound.place();
    first..first + WRITE_EACH
}

/// Bytes of a `syscall` instruction; the host shows the address behind it.
const SYSCALL_LEN: u32 = 2;

/// Calls in the order of how often a busy guest makes them; the others follow by number.
const FREQUENT: [i64; 11] = [
    libc::SYS_futex,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_rt_sigreturn,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_clone,
];

/// Calls on descriptors of files; with [`Io::Mediated`] none of them is let through.
const ON_FILES: [i64; 4] = [
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_write,
];

/// Tests that all have to hold.
type Rule = &'static [Test];

/// One rule without tests: any arguments will do.
const ANY: &[Rule] = &[&[]];

const FUTEX_MODIFIERS: u32 = (libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) as u32;

const PRIVATE: u32 = libc::FUTEX_PRIVATE_FLAG as u32;

/// Waits and wakes. Requeueing could move a waiting server thread of the supervisor to a futex that nobody wakes, unless
/// it is private, which is the caller's own memory; priority inheritance reaches any thread by its number.
const FUTEX: &[Rule] = &[
    &[Test::OneOfBut(
        Field::Low(1),
        FUTEX_MODIFIERS,
        &[
            libc::FUTEX_WAIT as u32,
            libc::FUTEX_WAKE as u32,
            libc::FUTEX_WAIT_BITSET as u32,
            libc::FUTEX_WAKE_BITSET as u32,
        ],
    )],
    &[Test::OneOf(
        Field::Low(1),
        &[
            libc::FUTEX_REQUEUE as u32 | PRIVATE,
            libc::FUTEX_CMP_REQUEUE as u32 | PRIVATE,
            libc::FUTEX_WAKE_OP as u32 | PRIVATE,
        ],
    )],
];

/// A clock that is nobody's.
const CLOCK_GETTIME: &[Rule] = &[&[Test::Is(Field::Low(0), libc::CLOCK_MONOTONIC as u32)]];

/// At offsets that the call gives: nothing of a descriptor changes.
const PREAD: &[Rule] = &[&[Test::Within(Field::Low(0), HAND_READ.start, HAND_READ.end)]];

/// So much, and so far into the file, as has been set aside for it: the number says how far that is.
const PWRITE: &[Rule] = &[
    &pwrite(WriteBound::ALL[0]),
    &pwrite(WriteBound::ALL[1]),
    &pwrite(WriteBound::ALL[2]),
    &pwrite(WriteBound::ALL[3]),
    &pwrite(WriteBound::ALL[4]),
    &pwrite(WriteBound::ALL[5]),
    &pwrite(WriteBound::ALL[6]),
];

const fn pwrite(bound: WriteBound) -> [Test; 5] {
    let numbers = hand_write(bound);
    [
        Test::Within(Field::Low(0), numbers.start, numbers.end),
        Test::Within(Field::Low(2), 0, WriteBound::MOST as u32 + 1),
        Test::Is(Field::High(2), 0),
        Test::Within(Field::Low(3), 0, bound.start() as u32),
        Test::Is(Field::High(3), 0),
    ]
}

/// Pipes alone, where there is no offset to move.
const PIPE: &[Rule] = &[&[Test::Within(Field::Low(0), HAND_PIPE.start, HAND_PIPE.end)]];

/// Not huge pages, of a reserve that is the whole host's, and of descriptors only those that come to be mapped. Minus one is none.
const MMAP: &[Rule] = &[&[
    Test::NoneOf(Field::Low(3), libc::MAP_HUGETLB as u32),
    Test::OneOf(Field::Low(4), &[u32::MAX, TAKEN_FD, BELL_FD as u32]),
]];

/// Not poisoning of the host's memory (100, 101). 102 and 103 set and clear guard pages.
const MADVISE: &[Rule] = &[
    &[Test::Within(Field::Low(2), 0, 100)],
    &[Test::OneOf(Field::Low(2), &[102, 103])],
];

/// The first stub sends its listener out by that socket, and closes it. Nothing that is handed in is a socket.
const SENDMSG: &[Rule] = &[&[Test::Is(Field::Low(0), SOCKET_FD as u32)]];

/// A fork clears the signal that the supervisor's death sends, so each stub sets it anew: to SIGKILL and nothing else.
const PRCTL: &[Rule] = &[
    &[
        Test::Is(Field::Low(0), libc::PR_SET_PDEATHSIG as u32),
        Test::Is(Field::Low(1), libc::SIGKILL as u32),
        Test::Is(Field::High(1), 0),
    ],
    &[Test::Is(Field::Low(0), libc::PR_SET_TSC as u32)],
];

/// A query, and barriers between the threads of one process.
const MEMBARRIER: &[Rule] = &[&[Test::OneOf(
    Field::Low(0),
    &[
        libc::MEMBARRIER_CMD_QUERY as u32,
        libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32,
        libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32,
        libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE as u32,
        libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE as u32,
    ],
)]];

/// What the supervisor is not even asked for: namespaces, a descriptor, and a share in somebody's tracing.
const CLONE: &[Rule] = &[&[Test::NoneOf(
    Field::Low(0),
    (libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_PIDFD
        | libc::CLONE_PTRACE) as u32,
)]];

/// Any of these rules has to hold for a call that the table calls `checked` or `asked`.
const RULES: [(i64, &[Rule]); 13] = [
    (libc::SYS_futex, FUTEX),
    (libc::SYS_clock_gettime, CLOCK_GETTIME),
    (libc::SYS_pread64, PREAD),
    (libc::SYS_pwrite64, PWRITE),
    (libc::SYS_read, PIPE),
    (libc::SYS_write, PIPE),
    (libc::SYS_mmap, MMAP),
    (libc::SYS_madvise, MADVISE),
    (libc::SYS_sendmsg, SENDMSG),
    (libc::SYS_prctl, PRCTL),
    (libc::SYS_membarrier, MEMBARRIER),
    (libc::SYS_clone, CLONE),
    (NR_HELLO as i64, ANY),
];

/// A call that the filter lets through from the runtime's text.
pub struct Entry {
    /// Its row.
    pub row: &'static Row,
    /// `SECCOMP_RET_*`.
    pub action: u32,
    rules: &'static [Rule],
}

impl Entry {
    fn of(row: &'static Row) -> Option<Entry> {
        let (action, ruled) = match row.host {
            Host::Never => return None,
            Host::Always => (libc::SECCOMP_RET_ALLOW, false),
            Host::Checked => (libc::SECCOMP_RET_ALLOW, true),
            Host::Asked => (libc::SECCOMP_RET_USER_NOTIF, true),
        };
        let rules = if ruled { rules(row.nr) } else { ANY };
        Some(Entry { row, action, rules })
    }

    /// Whether it acts on the descriptor of a file, and is not let through with [`Io::Mediated`].
    pub fn is_on_files(&self) -> bool {
        ON_FILES.contains(&i64::from(self.row.nr))
    }

    /// What has to hold, one line for each alternative; nothing when any arguments do.
    pub fn conditions(&self) -> Vec<String> {
        let argument = |n: usize| {
            let name = self.row.args.get(n).map(|arg| arg.name);
            name.map_or_else(|| format!("argument {}", n + 1), str::to_owned)
        };
        let text = |rule: &Rule| {
            let tests: Vec<String> = rule.iter().map(|test| test.text(argument)).collect();
            tests.join(", ")
        };
        self.rules
            .iter()
            .filter(|rule| !rule.is_empty())
            .map(text)
            .collect()
    }

    /// Decides about the call when its number is loaded; goes on behind for any other.
    fn code(&self) -> Vec<Instruction> {
        let mut then: Vec<Instruction> = self
            .rules
            .iter()
            .flat_map(|rule| if_all(rule, &[give(self.action)]))
            .collect();
        if self.rules.iter().all(|rule| !rule.is_empty()) {
            then.push(give(libc::SECCOMP_RET_KILL_PROCESS));
        }
        if_equal(self.row.nr, &then)
    }
}

/// The rules of a call; none, which is that it never happens, for one that has been forgotten.
fn rules(number: u32) -> &'static [Rule] {
    RULES
        .iter()
        .find(|(of, _)| *of == i64::from(number))
        .map_or(&[], |(_, rules)| rules)
}

/// Everything that is let through, in the order in which the filter looks.
pub fn entries(io: Io) -> Vec<Entry> {
    let mut entries: Vec<Entry> = syscall_table::rows().filter_map(Entry::of).collect();
    entries.retain(|entry| io == Io::Enlightened || !entry.is_on_files());
    let place = |number: u32| FREQUENT.iter().position(|n| *n == i64::from(number));
    entries.sort_by_key(|entry| (place(entry.row.nr).unwrap_or(FREQUENT.len()), entry.row.nr));
    entries
}

/// The program for a runtime whose text is at `text`.
///
/// # Panics
/// When the text crosses a multiple of 4 GiB, as the upper half of its addresses is compared once.
pub fn program(text: Range<u64>, io: Io) -> Vec<Instruction> {
    let high = (text.start >> 32) as u32;
    assert_eq!(high, (text.end >> 32) as u32, "the text lies within 4 GiB");
    // From behind the first two bytes to behind the last ones.
    let first = text.start as u32 + SYSCALL_LEN;
    let own = [
        Test::Is(Field::Arch, ARCH_X86_64),
        Test::Is(Field::IpHigh, high),
        Test::Within(Field::IpLow, first, text.end as u32 + 1),
    ];
    let mut program = if_all(&own, &[skip(1)]);
    program.push(give(libc::SECCOMP_RET_TRAP));
    program.push(load(Field::Number));
    program.extend(entries(io).iter().flat_map(Entry::code));
    program.push(give(libc::SECCOMP_RET_KILL_PROCESS));
    program
}
