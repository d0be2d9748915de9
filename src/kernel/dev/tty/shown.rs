//! What /proc/tty and /sys tell of terminals.

use std::fmt::Write;

use super::serial::{BAUD_BASE, FIFO_SIZE, FLAGS, IRQ, PORT, TYPE_16550A};
use super::{Device, Tty};
use crate::kernel::Kernel;
use crate::kernel::dev::block::Shown;
use crate::kernel::dev::console::Modem;

/// /proc/tty/drivers: by it, ps(1) and others find the name of a terminal's number.
pub fn drivers(_: &Kernel) -> String {
    let mut text = String::new();
    for (driver, node, major, minors, kind) in [
        ("/dev/tty", "/dev/tty", 5, "0", "system:/dev/tty"),
        ("/dev/console", "/dev/console", 5, "1", "system:console"),
        ("/dev/ptmx", "/dev/ptmx", 5, "2", "system"),
        ("hvc", "/dev/hvc", 229, "0-7", "system"),
        ("serial", "/dev/ttyS", 4, "64-95", "serial"),
        ("pty_slave", "/dev/pts", 136, "0-1048575", "pty:slave"),
        ("pty_master", "/dev/ptm", 128, "0-1048575", "pty:master"),
    ] {
        let _ = writeln!(
            text,
            "{driver:<20} /dev/{:<8} {major:3} {minors:>7} {kind}",
            &node[5..]
        );
    }
    text
}

/// /proc/tty/driver/serial.
pub fn serial_driver(kernel: &Kernel) -> String {
    let mut text = "serinfo:1.0 driver revision:\n".to_owned();
    for tty in kernel.terminals.fixed() {
        let (Device::Serial, Some(line)) = (tty.device, &tty.line) else {
            continue;
        };
        let (counts, modem) = (line.counts(), line.modem());
        let _ = write!(
            text,
            "{}: uart:16550A port:{PORT:08X} irq:{IRQ} tx:{} rx:{}",
            tty.index, counts.sent, counts.received
        );
        let named = [
            (Modem::RTS, "RTS"),
            (Modem::CTS, "CTS"),
            (Modem::DTR, "DTR"),
            (Modem::DSR, "DSR"),
            (Modem::CD, "CD"),
            (Modem::RI, "RI"),
        ];
        let set: Vec<_> = named.iter().filter(|(bit, _)| modem.contains(*bit)).collect();
        for (at, (_, name)) in set.iter().enumerate() {
            let _ = write!(text, "{}{name}", if at == 0 { ' ' } else { '|' });
        }
        text.push('\n');
    }
    text
}

/// The files of /sys, by their paths.
pub fn sysfs(kernel: &Kernel) -> Vec<(String, Shown)> {
    let mut found = Vec::new();
    for tty in kernel.terminals.fixed() {
        let at = match tty.device {
            Device::Serial => format!("devices/platform/serial8250/tty/{}", tty.name()),
            _ => format!("devices/virtual/tty/{}", tty.name()),
        };
        let (major, minor) = (libc::major(tty.dev()), libc::minor(tty.dev()));
        add(&mut found, &at, &tty.name(), (major, minor));
        if tty.device == Device::Serial {
            serial(&mut found, &at, &tty);
        }
    }
    for (name, minor) in [("tty", 0), ("console", 1), ("ptmx", 2)] {
        add(
            &mut found,
            &format!("devices/virtual/tty/{name}"),
            name,
            (5, minor),
        );
    }
    let active = kernel
        .terminals
        .console()
        .map(|tty| tty.name())
        .unwrap_or_default();
    found.push((
        "devices/virtual/tty/console/active".to_owned(),
        Shown::Text(active),
    ));
    found
}

fn add(found: &mut Vec<(String, Shown)>, at: &str, name: &str, (major, minor): (u32, u32)) {
    let depth = "../".repeat(at.split('/').count());
    let text = |text: String| Shown::Text(text);
    let link = |target: String| Shown::Link(target);
    found.push((format!("class/tty/{name}"), link(format!("../../{at}"))));
    found.push((format!("dev/char/{major}:{minor}"), link(format!("../../{at}"))));
    found.push((format!("{at}/subsystem"), link(format!("{depth}class/tty"))));
    found.push((format!("{at}/dev"), text(format!("{major}:{minor}"))));
    let uevent = format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={name}");
    found.push((format!("{at}/uevent"), text(uevent)));
}

/// What serial_core tells of a port.
fn serial(found: &mut Vec<(String, Shown)>, at: &str, tty: &Tty) {
    for (name, value) in [
        ("type", TYPE_16550A.to_string()),
        ("line", tty.index.to_string()),
        ("port", format!("0x{PORT:X}")),
        ("irq", IRQ.to_string()),
        ("flags", format!("0x{FLAGS:X}")),
        ("io_type", "0".to_owned()),
        ("uartclk", (BAUD_BASE * 16).to_string()),
        ("xmit_fifo_size", FIFO_SIZE.to_string()),
        ("close_delay", "50".to_owned()),
        ("closing_wait", "3000".to_owned()),
        ("custom_divisor", "0".to_owned()),
        ("iomem_base", "0x0".to_owned()),
        ("iomem_reg_shift", "0".to_owned()),
    ] {
        found.push((format!("{at}/{name}"), Shown::Text(value)));
    }
}
