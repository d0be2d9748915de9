//! Socket addresses and messages.

use std::net::{Ipv4Addr, Ipv6Addr};

use syscall_table::flags;

use crate::trace::buffers::{self, Shown};
use crate::trace::memory::{Fields, Memory, bytes};
use crate::trace::text::{self, Braces, quote, quote_hex};

/// The longest socket address, `struct sockaddr_storage`, in bytes.
const ADDRESS_MAX: usize = 128;

/// The most control data that is looked at, in bytes.
const CONTROL_MAX: u64 = 4096;

/// A socket address of `len` bytes.
pub(in crate::trace) fn address(mem: &dyn Memory, addr: u64, len: u64) -> String {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(ADDRESS_MAX);
    if addr == 0 || len < 2 {
        return text::addr(addr);
    }
    bytes(mem, addr, len).map_or_else(|| text::addr(addr), |found| address_bytes(&found))
}

fn address_bytes(found: &[u8]) -> String {
    let address = Fields(found);
    let family = address.u16(0);
    let fields = Braces::new().field("sa_family", flags::AF.display(family.into()));
    match family {
        _ if found.len() == 2 => fields.end(),
        1 => fields.field("sun_path", unix_path(address.slice(2, 108))).end(),
        2 if found.len() >= 8 => {
            let ip = Ipv4Addr::from(address.u32(4).to_le_bytes());
            let ip = format!("inet_addr(\"{ip}\")");
            fields
                .field("sin_port", port(address))
                .field("sin_addr", ip)
                .end()
        }
        10 if found.len() >= 24 => {
            let low = u128::from(u64::from_be(address.u64(16)));
            let ip = Ipv6Addr::from(u128::from(u64::from_be(address.u64(8))) << 64 | low);
            fields
                .field("sin6_port", port(address))
                .field(
                    "sin6_flowinfo",
                    format_args!("htonl({})", u32::from_be(address.u32(4))),
                )
                .text(&format!("inet_pton(AF_INET6, \"{ip}\", &sin6_addr)"))
                .field("sin6_scope_id", address.u32(24))
                .end()
        }
        16 if found.len() >= 12 => fields
            .field("nl_pid", address.u32(4))
            .field("nl_groups", format_args!("{:08x}", address.u32(8)))
            .end(),
        _ => fields
            .field("sa_data", quote(address.slice(2, found.len())))
            .end(),
    }
}

fn port(address: Fields<'_>) -> String {
    format!("htons({})", u16::from_be(address.u16(2)))
}

/// A name in the file system up to its NUL, or one of the abstract names, which begin with a NUL.
fn unix_path(path: &[u8]) -> String {
    match path.split_first() {
        Some((0, name)) => format!("@{}", quote(name)),
        _ => quote(path.split(|byte| *byte == 0).next().unwrap_or_default()),
    }
}

/// `struct msghdr`, 56 bytes. `received` is how many bytes the call has put into the vectors; a message that is
/// sent has its bytes there already.
pub(in crate::trace) fn message(mem: &dyn Memory, header: Fields<'_>, received: Option<u64>) -> String {
    let (name_len, count) = (header.u32(8), header.u64(24));
    let shown = received.map_or(Shown::All, Shown::Bytes);
    let mut fields = Braces::new()
        .field("msg_name", address(mem, header.u64(0), name_len.into()))
        .field("msg_namelen", name_len)
        .field("msg_iov", buffers::iovec(mem, header.u64(16), count, shown))
        .field("msg_iovlen", count);
    let control_len = header.u64(40);
    if control_len != 0 {
        fields = fields.field("msg_control", control(mem, header.u64(32), control_len));
    }
    fields
        .field("msg_controllen", control_len)
        .field("msg_flags", flags::MSG.display(header.u32(48).into()))
        .end()
}

/// `struct mmsghdr`, 64 bytes, of a call that sends or receives.
pub(in crate::trace) fn multi_message(
    mem: &dyn Memory,
    message_header: Fields<'_>,
    receiving: bool,
) -> String {
    let len = message_header.u32(56);
    let received = receiving.then_some(u64::from(len));
    let header = message(mem, Fields(message_header.slice(0, 56)), received);
    Braces::new().field("msg_hdr", header).field("msg_len", len).end()
}

/// Control messages: a header of 16 bytes each, then data, padded to eight bytes.
fn control(mem: &dyn Memory, addr: u64, len: u64) -> String {
    let Some(data) = bytes(mem, addr, len.min(CONTROL_MAX) as usize) else {
        return text::addr(addr);
    };
    let mut messages = Vec::new();
    let mut rest = data.as_slice();
    while rest.len() >= 16 {
        let header = Fields(rest);
        let own = usize::try_from(header.u64(0))
            .unwrap_or(usize::MAX)
            .min(rest.len());
        if own < 16 {
            break;
        }
        messages.push(control_message(header, own));
        rest = rest.get(own.next_multiple_of(8)..).unwrap_or_default();
    }
    text::list(messages)
}

fn control_message(message: Fields<'_>, len: usize) -> String {
    let (level, kind) = (message.u32(8), message.u32(12));
    let data = message.slice(16, len - 16);
    let fields = Braces::new()
        .field("cmsg_len", message.u64(0))
        .field("cmsg_level", flags::SOL.display(level.into()));
    // SOL_SOCKET
    if level != 1 {
        return fields
            .field("cmsg_type", text::hex(kind.into()))
            .field("cmsg_data", quote_hex(data))
            .end();
    }
    let shown = match kind {
        1 => text::list(data.chunks_exact(4).map(|fd| Fields(fd).i32(0).to_string())),
        2 if data.len() >= 12 => credentials(Fields(data)),
        _ => quote_hex(data),
    };
    fields
        .field("cmsg_type", flags::SCM.display(kind.into()))
        .field("cmsg_data", shown)
        .end()
}

/// `struct ucred`, 12 bytes.
pub(in crate::trace) fn credentials(who: Fields<'_>) -> String {
    Braces::new()
        .field("pid", who.i32(0))
        .field("uid", text::id(who.u32(4)))
        .field("gid", text::id(who.u32(8)))
        .end()
}
