//! Input and output ports: the devices that sit there, and the bus that IN and OUT, /dev/port and /proc/ioports reach them by.
//!
//! A [`PortDevice`] is one file of this folder and sees one byte at a time, as every device here is eight bits wide: the bus
//! takes wider transfers apart, lowest port first. What is where is the table in [`PortBus::new`].

mod access;
mod cmos;
mod debug;
mod node;
mod pit;
mod post;
mod uart;

use std::fmt::Write;
use std::sync::Arc;

pub use access::PortAccess;
pub(in crate::kernel) use access::dispatch;
pub use node::{NODE, PortDriver};

use crate::kernel::dev::console::Line;
use crate::kernel::time::Clock;
use crate::kernel::wait::reactor::Reactor;

/// How many ports there are.
pub const PORTS: u32 = 1 << 16;

/// A device of the bus, at ports of its own.
pub trait PortDevice: Send + Sync {
    /// The byte that is read at `port`.
    fn input(&self, port: u16) -> u8;
    /// A byte is written to `port`.
    fn output(&self, port: u16, value: u8);
}

/// Ports of a device.
struct Claim {
    first: u16,
    last: u16,
    name: &'static str,
    device: Arc<dyn PortDevice>,
}

/// The ports of one guest.
pub struct PortBus {
    reactor: Arc<Reactor>,
    claims: Vec<Claim>,
}

impl PortBus {
    /// The bus with all its devices; COM1 is on `serial`.
    pub fn new(clock: &Arc<Clock>, reactor: &Arc<Reactor>, serial: &Arc<Line>) -> PortBus {
        let uart: Arc<dyn PortDevice> = Arc::new(uart::Uart::new(serial));
        let pit: Arc<dyn PortDevice> = Arc::new(pit::Pit::new(clock));
        let claims = [
            (0x40, 0x43, "timer0", pit.clone()),
            (0x61, 0x61, "speaker", pit),
            (0x70, 0x71, "rtc0", Arc::new(cmos::Cmos::new(clock))),
            (0x80, 0x80, "post", Arc::new(post::Post::default())),
            (0xe9, 0xe9, "debugcon", Arc::new(debug::DebugConsole::default())),
            (uart::COM1, uart::COM1 + 7, "serial", uart),
        ];
        let claims = claims.map(|(first, last, name, device)| Claim {
            first,
            last,
            name,
            device,
        });
        PortBus {
            reactor: reactor.clone(),
            claims: claims.into(),
        }
    }

    fn device(&self, port: u16) -> Option<&dyn PortDevice> {
        let claim = self
            .claims
            .iter()
            .find(|claim| (claim.first..=claim.last).contains(&port))?;
        Some(&*claim.device)
    }

    /// Read `width` bytes (at most 4) from `port` on. Where no device is, all bits are set.
    pub fn input(&self, port: u16, width: u16) -> u32 {
        // Whoever looks at a device may wait for a time, and must see one pass.
        self.reactor.clock_is_read();
        let mut bytes = [0; 4];
        for (port, byte) in (port..=u16::MAX).zip(bytes.iter_mut()).take(width.into()) {
            *byte = self.device(port).map_or(0xff, |device| device.input(port));
        }
        u32::from_le_bytes(bytes)
    }

    /// Write the low `width` bytes (at most 4) of `value` to `port` and those behind it.
    pub fn output(&self, port: u16, width: u16, value: u32) {
        for (port, byte) in (port..=u16::MAX).zip(value.to_le_bytes()).take(width.into()) {
            if let Some(device) = self.device(port) {
                device.output(port, byte);
            }
        }
    }

    /// /proc/ioports, where the numbers are only for those who administer the machine.
    pub fn table(&self, with_numbers: bool) -> String {
        let mut text = String::new();
        for claim in &self.claims {
            let (first, last) = if with_numbers {
                (claim.first, claim.last)
            } else {
                (0, 0)
            };
            let _ = writeln!(text, "{first:04x}-{last:04x} : {}", claim.name);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::time::{Pace, Start};

    fn bus() -> PortBus {
        let clock = Arc::new(Clock::starting(Pace::TravelOnly, Start::At(0)));
        let reactor = Reactor::new(clock.clone()).unwrap();
        PortBus::new(&clock, &reactor, &Arc::default())
    }

    #[test]
    fn nothing_reads_as_ones() {
        let bus = bus();
        assert_eq!(bus.input(0x100, 1), 0xff);
        assert_eq!(bus.input(0x100, 4), u32::MAX);
        bus.output(0xffff, 4, 0);
        assert_eq!(
            bus.input(0xffff, 4),
            0xff,
            "there is nothing behind the last port"
        );
    }

    #[test]
    fn wide_transfers_are_bytes() {
        let bus = bus();
        bus.output(0x7f, 4, 0x1122_3344);
        assert_eq!(bus.input(0x80, 1), 0x33);
        assert_eq!(bus.input(0x7f, 2), 0x33ff);
    }

    #[test]
    fn the_table_is_in_order_and_nothing_overlaps() {
        let bus = bus();
        assert!(bus.claims.iter().all(|claim| claim.first <= claim.last));
        assert!(bus.claims.windows(2).all(|pair| pair[0].last < pair[1].first));
        assert!(bus.table(true).contains("\n03f8-03ff : serial\n"));
        assert!(bus.table(false).contains("\n0000-0000 : serial\n"));
    }

    /// Mostly ports of devices.
    fn ports() -> impl proptest::strategy::Strategy<Value = u16> {
        proptest::prop_oneof![
            0x40..0x44u16,
            0x61..0x62u16,
            0x70..0x72u16,
            0x3f8..0x400u16,
            0..u16::MAX
        ]
    }

    proptest::proptest! {
        #[test]
        fn no_access_is_too_much(accesses in proptest::collection::vec(
            (ports(), 0usize..3, proptest::option::of(proptest::prelude::any::<u32>())), 0..400,
        )) {
            let bus = bus();
            for (port, width, value) in accesses {
                let width = [1, 2, 4][width];
                match value {
                    None => { bus.input(port, width); }
                    Some(value) => bus.output(port, width, value),
                }
            }
        }
    }
}
