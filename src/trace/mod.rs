//! Writes system calls as strace(1) does, from what the rows of the syscall table say about their arguments.
//!
//! A line comes in two parts. [`enter`] writes what is known when the call begins, up to the first argument that the
//! call will fill; [`exit`] writes the rest and the result. Neither remembers anything in between, so what a call
//! has overwritten is shown as it is afterwards only. [`Log`] puts the two together into lines of many threads.
//!
//! Knows nothing of the kernel, only of its [`Memory`].

mod buffers;
mod clone;
mod depends;
mod ioctl;
mod log;
mod memory;
mod prctl;
mod result;
mod structs;
mod summary;
mod text;

use syscall_table::{Kind, Row, Struct, flags};

pub use log::Log;
pub use memory::Memory;
pub use summary::Summary;

use buffers::Shown;
use memory::bytes;
use text::{ARRAY_LIMIT, put};

/// The column in which results begin, unless the call is longer.
const RESULT_COLUMN: usize = 40;

/// Begins the line of a call: its name and the arguments that are known already.
pub fn enter(row: &Row, args: &[u64; 6], mem: &dyn Memory, out: &mut String) {
    put!(out, "{}(", row.name);
    let call = Call {
        row,
        args,
        mem,
        result: None,
    };
    if row.name == "clone" {
        return clone::enter(&call, out);
    }
    let mut separator = "";
    for index in call.shown() {
        out.push_str(separator);
        if call.is_late(index) {
            return;
        }
        out.push_str(&call.argument(index));
        if call.changes(index) {
            return;
        }
        separator = ", ";
    }
}

/// Ends the line of a call: the arguments it has filled, and its result. A negative result from -4095 on is an error.
///
/// `out` holds what [`enter`] has written, or the beginning of a new line that goes on with the call.
pub fn exit(row: &Row, args: &[u64; 6], result: i64, mem: &dyn Memory, out: &mut String) {
    let call = Call {
        row,
        args,
        mem,
        result: Some(result),
    };
    if row.name == "clone" {
        clone::exit(&call, out);
    } else {
        let mut separator = "";
        for index in call
            .shown()
            .skip_while(|index| !call.is_late(*index) && !call.changes(*index))
        {
            out.push_str(separator);
            let text = if call.changes(index) {
                depends::change(&call)
            } else {
                call.argument(index)
            };
            out.push_str(&text);
            separator = ", ";
        }
    }
    end(out);
    out.push_str(&result::text(&call));
}

/// What to say when a signal is delivered, from its `siginfo_t`.
pub fn signal_event(siginfo: &[u8; 128]) -> String {
    let info = memory::Fields(siginfo);
    format!(
        "--- {} {} ---",
        text::signal_name(info.u32(0).into()),
        structs::siginfo(info)
    )
}

/// Begins the line of a number that the table does not have.
pub fn enter_unknown(nr: u64, args: &[u64; 6], out: &mut String) {
    let args: Vec<String> = args.iter().map(|arg| text::hex(*arg)).collect();
    put!(out, "syscall_{nr:#x}({}", args.join(", "));
}

/// Ends it.
pub fn exit_unknown(result: i64, out: &mut String) {
    end(out);
    out.push_str(&result::plain(result));
}

/// Closes the parenthesis, and goes to the column of results.
fn end(out: &mut String) {
    out.push_str(") ");
    let line_start = out.rfind('\n').map_or(0, |newline| newline + 1);
    let column = out.len() - line_start;
    out.extend(std::iter::repeat_n(' ', RESULT_COLUMN.saturating_sub(column)));
    out.push_str("= ");
}

/// One call that is being written.
struct Call<'a> {
    row: &'a Row,
    args: &'a [u64; 6],
    mem: &'a dyn Memory,
    /// Unknown as long as the call goes on.
    result: Option<i64>,
}

impl Call<'_> {
    /// The value of an argument; zero for one that the row does not have.
    fn arg(&self, index: usize) -> u64 {
        self.args.get(index).copied().unwrap_or_default()
    }

    /// An argument that the kernel takes as a C `int`.
    fn int(&self, index: usize) -> i32 {
        self.arg(index) as u32 as i32
    }

    /// The number of bytes, elements or descriptors that the call has dealt with; nothing if it failed or is not over.
    fn done(&self) -> Option<u64> {
        self.result.and_then(|result| u64::try_from(result).ok())
    }

    /// The arguments worth showing: a call may take fewer than its row has, by what the first ones say.
    fn shown(&self) -> impl Iterator<Item = usize> {
        let mask = depends::shown(self);
        (0..self.row.args.len()).filter(move |index| mask & (1 << index) != 0)
    }

    /// Whether an argument is shown twice, as it was before the call and as it is afterwards.
    fn changes(&self, index: usize) -> bool {
        matches!((self.row.name, index), ("sendfile", 2) | ("clone3", 0)) && self.arg(index) != 0
    }

    /// Whether an argument says more after the call than before.
    fn is_late(&self, index: usize) -> bool {
        let Some(arg) = self.row.args.get(index) else {
            return false;
        };
        match arg.kind {
            Kind::FdSet(_)
            | Kind::InOut(
                Struct::Timespec | Struct::Timeval | Struct::Off | Struct::CloneArgs | Struct::CapHeader,
            )
            | Kind::InOutArray(Struct::Pollfd, _) => false,
            Kind::By(_) => depends::is_late(self),
            kind => kind.is_output(),
        }
    }

    /// One argument in words.
    fn argument(&self, index: usize) -> String {
        let (Some(arg), value) = (self.row.args.get(index), self.arg(index)) else {
            return String::new();
        };
        match arg.kind {
            Kind::Fd | Kind::Pid | Kind::Int => self.int(index).to_string(),
            Kind::DirFd => text::dirfd(self.int(index)),
            Kind::Uid | Kind::Gid => text::id(value as u32),
            Kind::Signal => text::signal_name(value & 0xffff_ffff),
            Kind::Clock => text::clock(self.int(index)),
            Kind::Uint => (value as u32).to_string(),
            Kind::Size => value.to_string(),
            Kind::Off => value.cast_signed().to_string(),
            Kind::Hex => text::hex(value),
            Kind::Mode if matches!(self.row.name, "mknod" | "mknodat") => text::mode(value & 0xffff),
            Kind::Mode => text::octal(value & 0xffff),
            Kind::Dev => text::dev(value),
            Kind::Flags(set) | Kind::Enum(set) => depends::named(self, set, value),
            Kind::Addr => text::addr(value),
            Kind::By(_) => depends::argument(self, index),
            Kind::Path => buffers::file_name(self.mem, value),
            Kind::Str => buffers::string(self.mem, value),
            Kind::Argv => buffers::string_vector(self.mem, value),
            Kind::Envp => buffers::environment(self.mem, value),
            Kind::In(of) | Kind::InOut(of) | Kind::Out(of) => self.structure(index, of, value),
            Kind::InArray(of, count) | Kind::OutArray(of, count) | Kind::InOutArray(of, count) => {
                self.array(arg.kind, of, value, self.arg(count))
            }
            _ => self.sized(arg.kind, value),
        }
    }

    /// An argument whose size is in another argument.
    fn sized(&self, kind: Kind, value: u64) -> String {
        let mem = self.mem;
        match kind {
            Kind::InBuf(len) => match self.row.name {
                "setsockopt" => depends::socket_option(self, self.arg(len)),
                _ => buffers::buffer(mem, value, self.arg(len)),
            },
            Kind::InSockAddr(len) => structs::address(mem, value, self.arg(len) & 0xffff_ffff),
            Kind::InIovec(count) => buffers::iovec(mem, value, self.arg(count), Shown::All),
            Kind::InMessage(len) => structs::user_message(mem, value, self.arg(len)),
            Kind::InCpuSet(len) => self.bit_set(value, self.arg(len)),
            Kind::FdSet(count) => self.bit_set(value, self.arg(count).min(1 << 16).div_ceil(8)),
            _ => match self.done() {
                Some(done) => self.filled(kind, value, done),
                None => self.unfilled(kind, value),
            },
        }
    }

    /// An output argument after success, where `done` is the result.
    fn filled(&self, kind: Kind, value: u64, done: u64) -> String {
        let mem = self.mem;
        match kind {
            Kind::OutBuf(len) if self.arg(len) == 0 => text::addr(value),
            Kind::OutBuf(len) => match self.row.name {
                "getrandom" => buffers::random_buffer(mem, value, done),
                // The result counts the final NUL.
                "getcwd" => buffers::file_name(mem, value),
                _ => buffers::buffer(mem, value, done.min(self.arg(len))),
            },
            Kind::OutBufAt(len) => depends::socket_option(self, self.pointed_len(len)),
            Kind::OutIovec(count) => buffers::iovec(mem, value, self.arg(count), Shown::Bytes(done)),
            Kind::OutDirents(_) | Kind::OutDirents64(_) => buffers::directory_entries(mem, value, done),
            Kind::OutSockAddr(len) => structs::address(mem, value, self.pointed_len(len)),
            Kind::OutMessage(_) => structs::user_message(mem, value, done),
            Kind::OutCpuSet(len) => self.bit_set(value, done.min(self.arg(len))),
            Kind::OutPageVec(len) => self.page_vector(value, self.arg(len)),
            _ => text::addr(value),
        }
    }

    /// An output argument before success, or without it.
    fn unfilled(&self, kind: Kind, value: u64) -> String {
        match kind {
            Kind::OutIovec(count) => buffers::iovec(self.mem, value, self.arg(count), Shown::Nothing),
            _ => text::addr(value),
        }
    }

    /// The length that an argument points to.
    fn pointed_len(&self, index: usize) -> u64 {
        memory::array(self.mem, self.arg(index)).map_or(0, |len| u32::from_le_bytes(len).into())
    }

    fn bit_set(&self, addr: u64, len: u64) -> String {
        let read = (addr != 0)
            .then(|| bytes(self.mem, addr, len.min(1 << 13) as usize))
            .flatten();
        read.map_or_else(|| text::addr(addr), |set| structs::bit_set(&set))
    }

    fn page_vector(&self, addr: u64, len: u64) -> String {
        let pages = usize::try_from(len.div_ceil(4096))
            .unwrap_or(usize::MAX)
            .min(ARRAY_LIMIT + 1);
        let read = bytes(self.mem, addr, pages);
        let resident = |pages: Vec<u8>| text::list(pages.iter().map(|page| (page & 1).to_string()));
        read.map_or_else(|| text::addr(addr), resident)
    }

    /// One structure; its address where it was not filled or cannot be read.
    fn structure(&self, index: usize, of: Struct, addr: u64) -> String {
        if addr == 0 || (self.is_late(index) && !self.is_filled(of)) {
            return text::addr(addr);
        }
        structs::read(self, of, addr).unwrap_or_else(|| text::addr(addr))
    }

    /// Whether an output structure has something in it now.
    fn is_filled(&self, of: Struct) -> bool {
        match self.row.name {
            // What is left of a sleep is stored only if a signal has ended it.
            "nanosleep" | "clock_nanosleep" => matches!(self.result, Some(-516..=-512 | -4)),
            // The length of a socket address is there even if no address came.
            _ => self.done().is_some() || (of == Struct::Int && self.result.is_some()),
        }
    }

    fn array(&self, kind: Kind, of: Struct, addr: u64, count: u64) -> String {
        let count = match kind {
            Kind::OutArray(..) | Kind::InOutArray(Struct::Mmsghdr, _) => match self.done() {
                Some(done) => done.min(count),
                None => return text::addr(addr),
            },
            _ => count,
        };
        if addr == 0 {
            return text::addr(addr);
        }
        let size = of.size() as u64;
        let shown = count.min(ARRAY_LIMIT as u64 + 1);
        let one = |index: u64| structs::read(self, of, addr.wrapping_add(index * size));
        let items: Option<Vec<String>> = (0..shown).map(one).collect();
        items.map_or_else(|| text::addr(addr), text::list)
    }
}

/// The bits of a name in a set; none if it is not in there.
fn flags_bits(set: &flags::FlagSet, name: &str) -> u64 {
    set.value_of(name).unwrap_or_default()
}

/// Whether flags of open(2) make it look at its mode.
fn may_create(open_flags: u64) -> bool {
    ["O_CREAT", "O_TMPFILE"]
        .map(|name| flags_bits(&flags::OPEN, name))
        .iter()
        .any(|bits| open_flags & bits == *bits)
}

#[cfg(test)]
mod tests;
