//! The virtual kernel: what a guest sees as Linux.
//!
//! It knows nothing of ptrace or seccomp (see [`crate::platform`]) and touches the host only through hostfs, the console
//! and the reactor. A handler never blocks: see [`wait`].
//!
//! # Lock order
//! Locks are taken in the order of [`sync::Rank`], outermost first; debug builds check every acquisition:
//! Turn, Epoll, File, Timer, Names, Pids, Group, Signal, Task, Mm, Files, FsContext, Mounts, Tty, Object, Dentry, Journal, Operation,
//! Directory, Inode, Table, Ready, WaitQueue, Reactor, Leaf.

use std::sync::Arc;

pub mod abi;
pub mod cpu;
pub mod dev;
pub mod fs;
pub mod ipc;
pub mod mm;
pub mod net;
pub mod poll;
pub mod sched;
pub mod signal;
pub mod stop;
pub mod sync;
pub mod sys;
pub mod syscall;
pub mod task;
pub mod time;
pub mod user_memory;
pub mod wait;

use crate::cpu::Model;
use crate::platform::Platform;
use sync::{Lock, Rank};
use task::PidTable;
use time::Clock;
use wait::reactor::Reactor;

/// One guest's kernel: everything its processes share.
pub struct Kernel {
    /// What runs guest code.
    pub platform: Arc<dyn Platform>,
    /// What the guest is told about the machine.
    pub hardware: sys::Hardware,
    /// What the guest is told about the processor.
    pub processor: sys::Processor,
    /// The source of all time.
    pub clock: Arc<Clock>,
    /// Timers and host readiness.
    pub reactor: Arc<Reactor>,
    /// The guest's files.
    pub vfs: fs::Vfs,
    /// Disks and loop devices.
    pub block: dev::block::BlockDevices,
    /// Serial lines.
    pub consoles: dev::console::Consoles,
    /// Input and output ports.
    pub ports: Arc<dev::port::PortBus>,
    /// The clock that goes on while the machine is off.
    pub rtc: Arc<dev::rtc::Rtc>,
    /// What /dev/kmsg and syslog(2) show.
    pub log: Arc<dev::kmsg::Log>,
    /// Terminals.
    pub terminals: dev::tty::Terminals,
    /// The process tree.
    pub pids: PidTable,
    /// Who waits on which word of memory.
    pub futexes: ipc::futex::Futexes,
    /// System V IPC.
    pub sysv: ipc::sysv::SysV,
    /// POSIX message queues.
    pub mqueues: ipc::mqueue::MessageQueues,
    /// Sockets.
    pub net: net::Net,
    /// Files in memory that no directory names.
    pub hidden_files: mm::HiddenFiles,
    /// Held while one epoll instance begins to watch another.
    pub epoll_nesting: Lock<()>,
    /// The guest's name and the like.
    pub uts: Lock<Uts>,
    /// How the first process ended, and the machine with it.
    pub ended: Lock<Option<task::ExitStatus>>,
    /// Where syscalls are reported to, when somebody wants to see them.
    pub tracer: Option<Box<dyn syscall::Tracer>>,
    /// Where random numbers come from.
    pub random: sys::Random,
    /// Whose turn it is, where only one thread runs at a time.
    pub turns: Option<Arc<sched::Turns>>,
}

/// What the machine gives a new kernel.
pub struct Boot {
    /// What runs guest code.
    pub platform: Arc<dyn Platform>,
    /// The root file system, mounted.
    pub vfs: fs::Vfs,
    /// The guest's host name.
    pub nodename: Vec<u8>,
    /// The source of all time.
    pub clock: Arc<Clock>,
    /// Timers and host readiness; its thread is the machine's.
    pub reactor: Arc<Reactor>,
    /// Where syscalls are reported to.
    pub tracer: Option<Box<dyn syscall::Tracer>>,
    /// The processor that guests are shown.
    pub model: Model,
    /// What all that happens is to follow from.
    pub seed: Option<u64>,
}

impl Kernel {
    /// A kernel without processes on the hardware of this host.
    pub fn new(boot: Boot) -> Arc<Kernel> {
        let Boot {
            platform,
            vfs,
            nodename,
            clock,
            reactor,
            tracer,
            model,
            seed,
        } = boot;
        let uts = Uts {
            nodename,
            domainname: b"(none)".to_vec(),
        };
        let random = sys::Random::new(seed);
        let hardware = sys::Hardware::read(model.cpus, &random);
        let turns = seed.map(|seed| sched::Turns::new(seed, reactor.clone()));
        let host_clock = platform.host_clock().filter(|_| !clock.is_virtual());
        match time::Vdso::new(host_clock, hardware.cpus) {
            Ok(vdso) => clock.show(vdso),
            Err(e) => tracing::warn!("guests get no vDSO: {e}"),
        }
        if let Some((boot, ahead)) = clock.against_host() {
            platform.set_clock(boot, ahead);
        }
        if let Some(activity) = reactor.activity() {
            platform.count_activity(activity.clone());
        }
        let consoles = dev::console::Consoles::default();
        let ports = Arc::new(dev::port::PortBus::new(&clock, &reactor, &consoles.serial));
        let rtc = dev::rtc::Rtc::new(&clock, &reactor);
        let log = dev::kmsg::Log::new(&clock);
        Arc::new(Kernel {
            platform,
            hardware,
            processor: sys::Processor::new(model),
            clock,
            reactor,
            vfs,
            block: dev::block::BlockDevices::default(),
            consoles,
            ports,
            rtc,
            log,
            terminals: dev::tty::Terminals::default(),
            pids: PidTable::default(),
            futexes: ipc::futex::Futexes::default(),
            net: net::Net::default(),
            sysv: ipc::sysv::SysV::default(),
            mqueues: ipc::mqueue::MessageQueues::default(),
            hidden_files: mm::HiddenFiles::default(),
            epoll_nesting: Lock::new(Rank::Epoll, ()),
            uts: Lock::new(Rank::Leaf, uts),
            ended: Lock::new(Rank::Leaf, None),
            tracer,
            random,
            turns,
        })
    }

    /// Whether every call has to come to the kernel: somebody wants to see it, or the turn may pass with it.
    pub fn sees_all_calls(&self) -> bool {
        self.tracer.is_some() || self.turns.is_some()
    }
}

/// What uname(2) answers beside the constants.
#[derive(Clone, Debug)]
pub struct Uts {
    /// Host name.
    pub nodename: Vec<u8>,
    /// NIS domain name.
    pub domainname: Vec<u8>,
}
