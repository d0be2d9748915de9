//! Structures in the guest's memory, as strace writes them.

mod file;
mod ipc;
mod process;
mod readiness;
mod signal;
mod socket;
mod system;
mod time;

use syscall_table::Struct;

use super::Call;
use super::memory::{Fields, Memory, bytes};
use super::text;

pub(super) use file::flock;
pub(super) use ipc::{msqid_ds, semid_ds, shmid_ds, user_message};
pub(super) use readiness::{bit_set, pollfd};
pub(super) use signal::siginfo;
pub(super) use socket::{address, credentials};
pub(super) use system::{termios, window_size};
pub(super) use time::{timespec, timeval};

/// One structure of a call; nothing if it cannot be read.
pub(super) fn read(call: &Call<'_>, of: Struct, addr: u64) -> Option<String> {
    let len = match of {
        // An older program gives fewer fields.
        Struct::CloneArgs => of.size().min(usize::try_from(call.arg(1)).ok()?),
        Struct::CapData if capability_version(call) == Some(1) => 12,
        _ => of.size(),
    };
    let found = bytes(call.mem, addr, len)?;
    Some(write(call, of, Fields(&found)))
}

/// The version of the capability sets, from the header that comes before them.
fn capability_version(call: &Call<'_>) -> Option<u32> {
    let header: [u8; 4] = super::memory::array(call.mem, call.arg(0))?;
    Some(if u32::from_le_bytes(header) == 0x1998_0330 {
        1
    } else {
        3
    })
}

fn write(call: &Call<'_>, of: Struct, fields: Fields<'_>) -> String {
    match of {
        Struct::Int | Struct::SchedParam => format!("[{}]", fields.i32(0)),
        Struct::Uint => format!("[{}]", fields.u32(0)),
        Struct::Uid => format!("[{}]", fields.u32(0)),
        // Groups come in arrays and alone.
        Struct::Gid if call.row.name.ends_with("groups") => fields.u32(0).to_string(),
        Struct::Gid => format!("[{}]", fields.u32(0)),
        Struct::Ulong => format!("[{}]", fields.u64(0)),
        Struct::Off | Struct::Time => format!("[{}]", fields.i64(0)),
        Struct::Pointer => format!("[{}]", text::addr(fields.u64(0))),
        Struct::FdPair => format!("[{}, {}]", fields.i32(0), fields.i32(4)),
        Struct::SigSet => text::sigset(fields.u64(0)),
        Struct::SigSetArg => sigset_argument(call.mem, fields),
        Struct::Iovec => iovec(fields),
        Struct::Msghdr => socket::message(call.mem, fields, received(call)),
        Struct::Mmsghdr => socket::multi_message(call.mem, fields, call.row.name == "recvmmsg"),
        _ => plain(of, fields),
    }
}

/// The structures that need nothing else than their bytes.
fn plain(of: Struct, fields: Fields<'_>) -> String {
    match of {
        Struct::Timespec => time::timespec(fields),
        Struct::TimespecPair => time::file_times(fields),
        Struct::Timeval => time::timeval(fields),
        Struct::TimevalPair => time::timeval_pair(fields),
        Struct::Timezone => time::timezone(fields),
        Struct::Itimerspec => time::itimerspec(fields),
        Struct::Itimerval => time::itimerval(fields),
        Struct::Timex => time::timex(fields),
        Struct::Tms => time::tms(fields),
        Struct::Utimbuf => time::utimbuf(fields),
        Struct::Stat => file::stat(fields),
        Struct::Statx => file::statx(fields),
        Struct::Statfs => file::statfs(fields),
        Struct::Ustat => file::ustat(fields),
        Struct::OpenHow => file::open_how(fields),
        Struct::FileHandle => file::file_handle(fields),
        Struct::FileAttr => file::file_attr(fields),
        Struct::MountAttr => file::mount_attr(fields),
        Struct::MountIdRequest => file::mount_id_request(fields),
        Struct::XattrArgs => file::xattr_args(fields),
        Struct::Cachestat => file::cachestat(fields),
        Struct::CachestatRange => file::cachestat_range(fields),
        Struct::IoEvent => file::io_event(fields),
        Struct::Pollfd => readiness::pollfd(fields, false),
        Struct::EpollEvent => readiness::epoll_event(fields),
        Struct::Sigaction => signal::sigaction(fields),
        Struct::Siginfo => signal::siginfo(fields),
        Struct::AltStack => signal::alt_stack(fields),
        Struct::Sigevent => signal::sigevent(fields),
        Struct::WaitStatus => process::wait_status(fields),
        Struct::CloneArgs => process::clone_args(fields),
        Struct::Rlimit => process::rlimit(fields),
        Struct::Rusage => process::rusage(fields),
        Struct::CapHeader => process::cap_header(fields),
        Struct::CapData => process::cap_data(fields),
        Struct::SchedAttr => process::sched_attr(fields),
        Struct::Sembuf => ipc::sembuf(fields),
        Struct::MqAttr => ipc::mq_attr(fields),
        Struct::FutexWaitv => ipc::futex_waitv(fields),
        Struct::FutexWaitvPair => {
            let one = |at: usize| ipc::futex_waitv(Fields(fields.slice(at, 24)));
            format!("[{}, {}]", one(0), one(24))
        }
        Struct::Utsname => system::utsname(fields),
        Struct::Sysinfo => system::sysinfo(fields),
        _ => String::new(),
    }
}

/// How many bytes of a message the call has received; a call that sends has them already.
fn received(call: &Call<'_>) -> Option<u64> {
    if call.row.name == "recvmsg" {
        call.done()
    } else {
        None
    }
}

fn iovec(vector: Fields<'_>) -> String {
    text::Braces::new()
        .field("iov_base", text::addr(vector.u64(0)))
        .field("iov_len", vector.u64(8))
        .end()
}

/// The pointer to a signal set, and its size, that pselect6(2) finds in memory.
fn sigset_argument(mem: &dyn Memory, argument: Fields<'_>) -> String {
    let (addr, size) = (argument.u64(0), argument.u64(8));
    let set = super::memory::array(mem, addr).map(u64::from_le_bytes);
    let set = set.map_or_else(|| text::addr(addr), text::sigset);
    text::Braces::new()
        .field("sigmask", set)
        .field("sigsetsize", size)
        .end()
}
