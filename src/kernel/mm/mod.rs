//! Address spaces. Guest memory is native memory of the host, so the map of truth is the host's; what is kept here is
//! what the host cannot know: the break, which guest file a handed-in file is, where arguments and environment lie.

use std::collections::HashMap;
use std::sync::Arc;

use super::fs::Path;
use super::sync::{Lock, Rank};
use crate::platform::Space;

/// One guest address space, shared by the threads (and vfork children) that run in it.
pub struct Mm {
    /// The platform's side.
    pub space: Arc<dyn Space>,
    /// The kernel's side.
    pub state: Lock<MmState>,
}

/// What the kernel knows of an address space.
#[derive(Clone, Default)]
pub struct MmState {
    /// Where the heap begins.
    pub brk_start: u64,
    /// The present break.
    pub brk: u64,
    /// The executable (/proc/PID/exe).
    pub exe: Option<Path>,
    /// Argument strings, first byte and one past the last (/proc/PID/cmdline).
    pub args: (u64, u64),
    /// Environment strings, first byte and one past the last (/proc/PID/environ).
    pub env: (u64, u64),
    /// Top of the main stack, for naming it in /proc/PID/maps.
    pub stack_top: u64,
    /// The auxiliary vector as written on the stack.
    pub auxv: Vec<u8>,
    /// Guest names of mapped files by host device and inode.
    pub files: HashMap<(u64, u64), Path>,
    /// PR_SET_DUMPABLE.
    pub dumpable: i32,
    /// Whether there has ever been a shared mapping: without one, no futex can be another address space's too.
    pub shares_memory: bool,
}

impl Mm {
    /// An address space that holds nothing yet.
    pub fn new(space: Arc<dyn Space>) -> Arc<Mm> {
        Arc::new(Mm {
            space,
            state: Lock::new(
                Rank::Mm,
                MmState {
                    dumpable: 1,
                    ..MmState::default()
                },
            ),
        })
    }

    /// Whether some of its memory may be another address space's too.
    pub fn shares_memory(&self) -> bool {
        self.state.lock().shares_memory
    }

    /// The kernel's side of a forked copy.
    pub fn forked(&self, space: Arc<dyn Space>) -> Arc<Mm> {
        Arc::new(Mm {
            space,
            state: Lock::new(Rank::Mm, self.state.lock().clone()),
        })
    }
}
