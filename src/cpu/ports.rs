//! Port instructions: IN, OUT, INS and OUTS in all their forms, carried out on ports and memory that the caller gives.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::missing::USER_CS;
use crate::platform::Regs;

const TF: u64 = 1 << 8;
const DF: u64 = 1 << 10;

/// The ports that a guest thread has before it.
pub trait Ports {
    /// Whether it may use the ports from `port` on, `width` of them (1, 2 or 4).
    fn may_use(&self, port: u16, width: u16) -> bool;
    /// Read them.
    fn input(&mut self, port: u16, width: u16) -> u32;
    /// Write the low bytes of `value` to them.
    fn output(&mut self, port: u16, width: u16, value: u32);
}

/// Guest memory that string instructions move from and to.
pub trait Buffer {
    /// Bytes read from `address`, up to the first that cannot be.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> usize;
    /// Bytes written to `address`, up to the first that cannot be.
    fn write(&mut self, address: u64, bytes: &[u8]) -> usize;
}

/// What became of a port instruction. The registers tell how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// It is done, and rip behind it.
    Done,
    /// A part of its repetitions is done; rip is still at it.
    Partly,
    /// It is no port instruction, or one of ports that may not be used. Nothing has changed.
    Refused,
    /// Memory at this address could not be read, or written; rip is still at it.
    #[allow(missing_docs)]
    BadMemory { address: u64, write: bool },
}

/// Carry out the instruction that `code`, found at rip, begins with: at most `most` of its repetitions, and one when it is
/// single-stepped, as the processor does.
pub fn transfer(
    code: &[u8],
    regs: &mut Regs,
    ports: &mut dyn Ports,
    memory: &mut dyn Buffer,
    most: u32,
) -> Transfer {
    if regs.cs != USER_CS {
        return Transfer::Refused;
    }
    let instruction = Decoder::with_ip(64, code, regs.rip, DecoderOptions::NONE).decode();
    match instruction.mnemonic() {
        Mnemonic::In | Mnemonic::Out => single(&instruction, regs, ports),
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => string(&instruction, regs, ports, memory, most),
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => {
            string(&instruction, regs, ports, memory, most)
        }
        _ => Transfer::Refused,
    }
}

/// IN and OUT.
fn single(instruction: &Instruction, regs: &mut Regs, ports: &mut dyn Ports) -> Transfer {
    let is_input = instruction.mnemonic() == Mnemonic::In;
    let (data, place) = if is_input { (0, 1) } else { (1, 0) };
    let port = match instruction.op_kind(place) {
        OpKind::Immediate8 => instruction.immediate8().into(),
        _ => regs.rdx as u16,
    };
    let width = instruction.op_register(data).size() as u16;
    if !ports.may_use(port, width) {
        return Transfer::Refused;
    }
    if is_input {
        let value = u64::from(ports.input(port, width));
        regs.rax = match width {
            1 => regs.rax & !0xff | value & 0xff,
            2 => regs.rax & !0xffff | value & 0xffff,
            // The upper half is cleared.
            _ => value,
        };
    } else {
        ports.output(port, width, regs.rax as u32);
    }
    regs.rip = instruction.next_ip();
    Transfer::Done
}

/// INS and OUTS.
fn string(
    instruction: &Instruction,
    regs: &mut Regs,
    ports: &mut dyn Ports,
    memory: &mut dyn Buffer,
    most: u32,
) -> Transfer {
    let is_input = matches!(
        instruction.mnemonic(),
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd
    );
    let place = instruction.op_kind(u32::from(!is_input));
    let short = matches!(place, OpKind::MemoryESEDI | OpKind::MemorySegESI);
    let mask = if short { u64::from(u32::MAX) } else { u64::MAX };
    let width = match instruction.mnemonic() {
        Mnemonic::Insb | Mnemonic::Outsb => 1u16,
        Mnemonic::Insw | Mnemonic::Outsw => 2,
        _ => 4,
    };
    let port = regs.rdx as u16;
    if !ports.may_use(port, width) {
        return Transfer::Refused;
    }
    let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let base = match instruction.memory_segment() {
        Register::FS if !is_input => regs.fs_base,
        Register::GS if !is_input => regs.gs_base,
        _ => 0,
    };
    let step = if regs.eflags & DF == 0 {
        u64::from(width)
    } else {
        u64::from(width).wrapping_neg()
    };
    let most = if regs.eflags & TF == 0 { most } else { 1 };
    for _ in 0..most {
        if repeated && regs.rcx & mask == 0 {
            break;
        }
        let index = if is_input { regs.rdi } else { regs.rsi } & mask;
        let address = base.wrapping_add(index);
        if let Err(bad) = element(is_input, address, (port, width), ports, memory) {
            return Transfer::BadMemory {
                address: bad,
                write: is_input,
            };
        }
        let next = index.wrapping_add(step) & mask;
        *(if is_input { &mut regs.rdi } else { &mut regs.rsi }) = next;
        if !repeated {
            break;
        }
        regs.rcx = (regs.rcx & mask).wrapping_sub(1);
    }
    if repeated && regs.rcx & mask != 0 {
        return Transfer::Partly;
    }
    regs.rip = instruction.next_ip();
    Transfer::Done
}

/// Move one element; the address that could not be reached.
fn element(
    is_input: bool,
    address: u64,
    (port, width): (u16, u16),
    ports: &mut dyn Ports,
    memory: &mut dyn Buffer,
) -> Result<(), u64> {
    let length = usize::from(width);
    let moved = if is_input {
        // The processor may lose what it has read when the memory turns out to be bad, too.
        let bytes = ports.input(port, width).to_le_bytes();
        memory.write(address, &bytes[..length])
    } else {
        let mut bytes = [0; 4];
        let read = memory.read(address, &mut bytes[..length]);
        if read == length {
            ports.output(port, width, u32::from_le_bytes(bytes));
        }
        read
    };
    if moved == length {
        Ok(())
    } else {
        Err(address.wrapping_add(moved as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports from 0x10 to 0x1f, which count what is read and keep what is written.
    #[derive(Default)]
    struct Counter {
        next: u8,
        written: Vec<(u16, u16, u32)>,
    }

    impl Ports for Counter {
        fn may_use(&self, port: u16, width: u16) -> bool {
            (0x10..=0x20 - width).contains(&port)
        }

        fn input(&mut self, _: u16, width: u16) -> u32 {
            let mut bytes = [0; 4];
            for byte in bytes.iter_mut().take(width.into()) {
                self.next += 1;
                *byte = self.next;
            }
            u32::from_le_bytes(bytes)
        }

        fn output(&mut self, port: u16, width: u16, value: u32) {
            self.written.push((port, width, value));
        }
    }

    /// Memory from [`START`] on.
    struct Bytes(Vec<u8>);

    const START: u64 = 0x10_0000;

    impl Bytes {
        fn from(&mut self, address: u64) -> &mut [u8] {
            let at = address.checked_sub(START).and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| self.0.get_mut(at..)).unwrap_or_default()
        }
    }

    impl Buffer for Bytes {
        fn read(&mut self, address: u64, bytes: &mut [u8]) -> usize {
            let from = self.from(address);
            let len = from.len().min(bytes.len());
            bytes[..len].copy_from_slice(&from[..len]);
            len
        }

        fn write(&mut self, address: u64, bytes: &[u8]) -> usize {
            let to = self.from(address);
            let len = to.len().min(bytes.len());
            to[..len].copy_from_slice(&bytes[..len]);
            len
        }
    }

    fn regs() -> Regs {
        Regs {
            cs: USER_CS,
            rip: 0x1000,
            rax: u64::MAX,
            rcx: 4,
            rdx: 0xffff_0010,
            rsi: START,
            rdi: START,
            ..Regs::default()
        }
    }

    fn run(code: &[u8], regs: &mut Regs, memory: &mut Bytes, most: u32) -> (Transfer, Counter) {
        let mut ports = Counter::default();
        (transfer(code, regs, &mut ports, memory, most), ports)
    }

    #[test]
    fn single_transfers_change_what_the_processor_changes() {
        for (code, rax) in [
            (&[0xe4, 0x12][..], 0xffff_ffff_ffff_ff01),
            (&[0x66, 0xed], 0xffff_ffff_ffff_0201),
            (&[0xed], 0x0403_0201),
            (&[0x48, 0xed], 0x0403_0201),
        ] {
            let mut regs = regs();
            let (outcome, _) = run(code, &mut regs, &mut Bytes(Vec::new()), 1);
            assert_eq!((outcome, regs.rax), (Transfer::Done, rax), "{code:x?}");
            assert_eq!(regs.rip, 0x1000 + code.len() as u64);
        }
        let mut regs = regs();
        let (_, ports) = run(&[0x66, 0xe7, 0x1e], &mut regs, &mut Bytes(Vec::new()), 1);
        assert_eq!(ports.written, [(0x1e, 2, u32::MAX)]);
    }

    #[test]
    fn what_may_not_be_used_is_refused() {
        for code in [
            // IN AL, 0xf; IN EAX, 0x1d; HLT; nothing at all.
            &[0xe4, 0x0f][..],
            &[0xe5, 0x1d],
            &[0xf4],
            &[],
        ] {
            let mut regs = regs();
            let (outcome, _) = run(code, &mut regs, &mut Bytes(Vec::new()), 1);
            assert_eq!((outcome, regs), (Transfer::Refused, self::regs()), "{code:x?}");
        }
    }

    #[test]
    fn repetitions_are_cut_and_go_on() {
        let (mut regs, mut memory) = (regs(), Bytes(vec![0; 8]));
        // REP INSW.
        let code = [0xf3, 0x66, 0x6d];
        assert_eq!(run(&code, &mut regs, &mut memory, 3).0, Transfer::Partly);
        assert_eq!((regs.rcx, regs.rdi, regs.rip), (1, START + 6, 0x1000));
        assert_eq!(run(&code, &mut regs, &mut memory, 3).0, Transfer::Done);
        assert_eq!((regs.rcx, regs.rdi, regs.rip), (0, START + 8, 0x1003));
        assert_eq!(memory.0, [1, 2, 3, 4, 5, 6, 1, 2]);
        assert_eq!(run(&code, &mut regs, &mut memory, 3).0, Transfer::Done);
        assert_eq!((regs.rcx, regs.rdi), (0, START + 8), "none are none");
    }

    #[test]
    fn bad_memory_stops_where_it_begins() {
        let (mut regs, mut memory) = (regs(), Bytes(vec![0; 6]));
        // REP INSD.
        let (outcome, _) = run(&[0xf3, 0x6d], &mut regs, &mut memory, 9);
        let address = START + 6;
        assert_eq!(outcome, Transfer::BadMemory { address, write: true });
        assert_eq!((regs.rcx, regs.rdi, regs.rip), (3, START + 4, 0x1000));
    }

    #[test]
    fn downwards_by_short_addresses_and_from_another_segment() {
        let (mut regs, mut memory) = (regs(), Bytes(vec![7, 8, 9]));
        regs.eflags = DF;
        regs.fs_base = START;
        (regs.rsi, regs.rcx) = (0xffff_ffff_0000_0002, 0xffff_ffff_0000_0003);
        // REP OUTSB from FS:[ESI].
        let code = [0x64, 0x67, 0xf3, 0x6e];
        let (outcome, ports) = run(&code, &mut regs, &mut memory, 9);
        assert_eq!(outcome, Transfer::Done);
        assert_eq!(ports.written, [(0x10, 1, 9), (0x10, 1, 8), (0x10, 1, 7)]);
        assert_eq!((regs.rcx, regs.rsi), (0, 0xffff_ffff));
    }

    #[test]
    fn a_step_is_one_repetition() {
        let (mut regs, mut memory) = (regs(), Bytes(vec![1; 8]));
        regs.eflags = TF;
        // REP OUTSB.
        assert_eq!(run(&[0xf3, 0x6e], &mut regs, &mut memory, 9).0, Transfer::Partly);
        assert_eq!(regs.rcx, 3);
    }
}
