//! What the host offers, what uvm needs it for, and what it does without.

use std::fmt;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};

mod probe;
mod processor;

pub use processor::cpuid;

use super::native;
use probe::{Obstacle, attempt};

/// `--platform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformKind {
    /// The reference platform.
    Ptrace,
    /// The fast platform.
    Seccomp,
}

impl PlatformKind {
    /// The name as given to `--platform`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seccomp => "seccomp",
            Self::Ptrace => "ptrace",
        }
    }
}

/// A detail of what is there, or why it is not.
type Answer = Result<String, String>;

/// Something of the host's that uvm can use.
#[derive(Clone, Copy)]
struct Question {
    id: &'static str,
    what: &'static str,
    needed_by: &'static [PlatformKind],
    needed_for: &'static str,
    without: &'static str,
    ask: fn() -> Answer,
}

/// The answer to one question about the host.
#[derive(Clone, Debug)]
pub struct Fact {
    /// A name for programs, which does not change.
    pub id: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// More about it, or why it is not there; may be empty.
    pub detail: String,
    /// Platforms that cannot run without it.
    pub needed_by: &'static [PlatformKind],
    /// What uvm uses it for.
    pub needed_for: &'static str,
    /// What uvm does without it.
    pub without: &'static str,
}

/// What a platform cannot run without and the host does not offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it is.
    pub what: &'static str,
    /// Why it is not there.
    pub detail: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host lacks {} ({})", self.what, self.detail)
    }
}

impl std::error::Error for Missing {}

const BOTH: &[PlatformKind] = &[PlatformKind::Seccomp, PlatformKind::Ptrace];
const SECCOMP: &[PlatformKind] = &[PlatformKind::Seccomp];
const PTRACE: &[PlatformKind] = &[PlatformKind::Ptrace];

const QUESTIONS: [Question; 19] = [
    Question {
        id: "memory-file",
        what: "executable memory files",
        needed_by: BOTH,
        needed_for: "the program that every guest process begins with",
        without: "no platform runs",
        ask: || tried(probe::memory_file()),
    },
    Question {
        id: "memory-map",
        what: "the memory maps of own processes in /proc",
        needed_by: BOTH,
        needed_for: "knowing what guests have mapped",
        without: "no platform runs",
        ask: || tried(attempt(probe::memory_map)),
    },
    Question {
        id: "openat2",
        what: "openat2",
        needed_by: BOTH,
        needed_for: "opening files of the guest's root without leaving it",
        without: "no guest can be given files",
        ask: || tried(attempt(probe::openat2)),
    },
    Question {
        id: "pidfd",
        what: "descriptors for processes",
        needed_by: BOTH,
        needed_for: "signalling a guest process and no later one of its number",
        without: "no platform runs",
        ask: || tried(attempt(probe::pidfd_open)),
    },
    Question {
        id: "seccomp-filter",
        what: "seccomp filters",
        needed_by: SECCOMP,
        needed_for: "catching system calls; on the ptrace platform, those of the vsyscall page",
        without: "guests of the ptrace platform reach the host's vsyscall page",
        ask: || tried(probe::filter()),
    },
    Question {
        id: "seccomp-listener",
        what: "seccomp user notification",
        needed_by: SECCOMP,
        needed_for: "agreeing to each new guest thread",
        without: "the seccomp platform does not run",
        ask: || probe::listener().map(|()| String::new()).map_err(why_no_listener),
    },
    Question {
        id: "seccomp-hand-in",
        what: "handing in descriptors by seccomp notification",
        needed_by: SECCOMP,
        needed_for: "mapping files and reading them without a hop",
        without: "the seccomp platform does not run",
        ask: || tried(probe::hand_in()),
    },
    Question {
        id: "fsgsbase",
        what: "the FSGSBASE instructions",
        needed_by: SECCOMP,
        needed_for: "keeping a guest thread's segment bases and the runtime's apart",
        without: "the seccomp platform does not run",
        ask: processor::fsgsbase,
    },
    Question {
        id: "xsave",
        what: "XSAVE",
        needed_by: SECCOMP,
        needed_for: "saving vector registers in signal frames",
        without: "the seccomp platform does not run",
        ask: processor::xsave,
    },
    Question {
        id: "rdpid",
        what: "the RDPID instruction",
        needed_by: &[],
        needed_for: "a server that follows its guest thread to its processor",
        without: "a slower instruction tells the processor's number",
        ask: processor::rdpid,
    },
    Question {
        id: "bmi2",
        what: "the BMI2 instructions",
        needed_by: &[],
        needed_for: "calls from patched code, which keep the flags as they are",
        without: "the seccomp platform patches nothing: each call traps by a signal",
        ask: processor::bmi2,
    },
    Question {
        id: "affinity",
        what: "sched_setaffinity",
        needed_by: &[],
        needed_for: "keeping a guest thread and its server on one processor",
        without: "the host's scheduler decides, and calls into the kernel take longer",
        ask: || tried(attempt(probe::affinity)),
    },
    Question {
        id: "futex-waitv",
        what: "futex_waitv",
        needed_by: &[],
        needed_for: "waiting for several guest threads in one server thread (not done yet)",
        without: "a server thread waits for one guest thread",
        ask: || tried(attempt(probe::futex_waitv)),
    },
    Question {
        id: "ptrace",
        what: "ptrace",
        needed_by: PTRACE,
        needed_for: "the ptrace platform",
        without: "the ptrace platform does not run",
        ask: || {
            attempt(probe::ptrace)
                .map(|()| String::new())
                .map_err(why_no_ptrace)
        },
    },
    Question {
        id: "process-vm",
        what: "process_vm_readv between own processes",
        needed_by: PTRACE,
        needed_for: "copying guest memory on the ptrace platform",
        without: "the ptrace platform does not run",
        ask: || {
            attempt(probe::process_vm_readv)
                .map(|()| String::new())
                .map_err(why_no_ptrace)
        },
    },
    Question {
        id: "tsc-trapping",
        what: "PR_SET_TSC",
        needed_by: &[],
        needed_for: "guests that ask for time stamp reads to trap",
        without: "that request of theirs fails",
        ask: || tried(attempt(probe::trap_tsc)),
    },
    Question {
        id: "cpuid-faulting",
        what: "CPUID faulting",
        needed_by: &[],
        needed_for: "showing guests the processor of --cpu",
        without: "guests see the host's processor",
        ask: || tried(attempt(probe::cpuid_faulting)),
    },
    Question {
        id: "umip",
        what: "UMIP",
        needed_by: &[],
        needed_for: "hiding the host's descriptor tables (SGDT, SIDT, SLDT, STR, SMSW)",
        without: "guests can read where they lie",
        ask: umip,
    },
    Question {
        id: "vsyscall",
        what: "the vsyscall page",
        needed_by: &[],
        needed_for: "very old static programs",
        without: "those die of a page fault, as on such a host",
        ask: vsyscall,
    },
];

/// Everything there is to know about this host.
pub fn facts() -> Vec<Fact> {
    reap_children();
    QUESTIONS.iter().map(Question::fact).collect()
}

/// The first thing among these that a platform cannot run without and that is not there.
pub fn missing(facts: &[Fact], platform: PlatformKind) -> Option<Missing> {
    let lacking = |fact: &&Fact| !fact.present && fact.needed_by.contains(&platform);
    facts.iter().find(lacking).map(|fact| Missing {
        what: fact.what,
        detail: fact.detail.clone(),
    })
}

/// Whether the host can have CPUID fault, so that guests see another processor than its own.
pub fn can_fault_cpuid() -> bool {
    native::cpuid::can_fault()
}

/// Whether a platform can run here.
///
/// # Errors
/// The first thing that it lacks.
pub fn check(platform: PlatformKind) -> Result<(), Missing> {
    reap_children();
    let needed = |question: &&Question| question.needed_by.contains(&platform);
    let mut facts = QUESTIONS.iter().filter(needed).map(Question::fact);
    facts
        .find_map(|fact| missing(&[fact], platform))
        .map_or(Ok(()), Err)
}

impl Question {
    fn fact(&self) -> Fact {
        let answer = (self.ask)();
        Fact {
            id: self.id,
            what: self.what,
            present: answer.is_ok(),
            detail: answer.unwrap_or_else(|why| why),
            needed_by: self.needed_by,
            needed_for: self.needed_for,
            without: self.without,
        }
    }
}

/// A parent may have left SIGCHLD ignored, and then the host keeps no child's status.
fn reap_children() {
    // SAFETY: no handler is installed.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

fn tried(result: Result<(), Obstacle>) -> Answer {
    result
        .map(|()| String::new())
        .map_err(|obstacle| obstacle.to_string())
}

/// A process has one listener at most, its ancestors' included.
fn why_no_listener(obstacle: Obstacle) -> String {
    match obstacle {
        Obstacle::Failed(Errno::EBUSY) => "something that supervises uvm itself listens already".into(),
        other => other.to_string(),
    }
}

fn why_no_ptrace(obstacle: Obstacle) -> String {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    match (obstacle, scope.as_deref().map(str::trim)) {
        (Obstacle::Failed(Errno::EPERM), Ok(scope @ ("2" | "3"))) => {
            format!("kernel.yama.ptrace_scope is {scope}")
        }
        (Obstacle::Failed(Errno::EPERM | Errno::ENOSYS), _) if filtered() => {
            format!("{obstacle}, and a seccomp filter is in force")
        }
        _ => obstacle.to_string(),
    }
}

/// Whether uvm itself runs under a seccomp filter.
fn filtered() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .any(|line| line.starts_with("Seccomp:") && line.ends_with('2'))
    })
}

fn umip() -> Answer {
    match attempt(probe::umip) {
        Ok(()) => Ok(String::new()),
        // The host does not make anything up: the instruction is refused.
        Err(Obstacle::Killed(Signal::SIGSEGV)) => Ok(String::new()),
        Err(_) => Err("the processor lacks it, or the host has not enabled it".into()),
    }
}

fn vsyscall() -> Answer {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|error| error.to_string())?;
    let line = maps.lines().find(|line| line.ends_with("[vsyscall]"));
    match line.and_then(|line| line.split_whitespace().nth(1)) {
        Some(access) if access.starts_with('r') => Ok("can be read and called; calls are caught".into()),
        Some(_) => Ok("can be called; calls are caught".into()),
        None => Err("the host has none".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_told_apart() {
        for (at, question) in QUESTIONS.iter().enumerate() {
            assert!(
                QUESTIONS[at + 1..].iter().all(|other| other.id != question.id),
                "{}",
                question.id
            );
            for text in [question.what, question.needed_for, question.without] {
                assert!(!text.is_empty() && !text.contains('\n'), "{}", question.id);
            }
        }
    }

    #[test]
    fn a_platform_runs_where_all_is_there() {
        let facts = facts();
        for kind in [PlatformKind::Seccomp, PlatformKind::Ptrace] {
            assert_eq!(check(kind).err(), missing(&facts, kind));
        }
    }

    #[test]
    fn a_child_that_is_killed_is_told_of() {
        let killed = attempt(|| {
            // SAFETY: no pointers.
            unsafe { libc::raise(libc::SIGKILL) };
            Ok(())
        });
        assert_eq!(killed, Err(Obstacle::Killed(Signal::SIGKILL)));
        assert_eq!(attempt(|| Err(Errno::EBUSY)), Err(Obstacle::Failed(Errno::EBUSY)));
        assert_eq!(attempt(|| Ok(())), Ok(()));
    }
}
