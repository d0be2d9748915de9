//! Scalar instructions of x86-64-v2 and -v3, carried out for a processor that lacks them.
//!
//! LZCNT and TZCNT are here for completeness: a processor without them raises nothing, but takes them for BSR and BSF. So no guest
//! is told of them (nor of BMI1, which TZCNT belongs to) where the host does not have them.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::platform::Regs;

/// Features that a guest may be shown although the host lacks them, with `--emulate-missing`.
pub(super) const SHOWN: [&str; 4] = ["movbe", "popcnt", "bmi2", "rdpid"];

const CF: u64 = 1;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;
/// Those of arithmetic: carry, parity, adjust, zero, sign, overflow.
const STATUS: u64 = 0x8d5;

/// Selector of 64-bit user code.
pub(super) const USER_CS: u64 = 0x33;

/// Guest memory, by addresses that the guest gave.
pub trait Memory {
    /// Fill `bytes` from `address`. False when that cannot be read.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool;
    /// Put `bytes` at `address`. False when that cannot be written.
    fn write(&mut self, address: u64, bytes: &[u8]) -> bool;
}

/// What became of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out, and the registers are those behind it.
    Done,
    /// It is none that is known here.
    Unknown,
    /// Its operand in memory at this address could not be read, or written. No register has changed.
    #[allow(missing_docs)]
    BadMemory { address: u64, write: bool },
}

/// An operand could not be reached.
struct Bad {
    address: u64,
    write: bool,
}

/// Carry out the instruction that `code`, found at rip, begins with. `cpu` is what RDPID gives.
pub fn emulate(code: &[u8], regs: &mut Regs, memory: &mut dyn Memory, cpu: u32) -> Outcome {
    if regs.cs != USER_CS {
        return Outcome::Unknown;
    }
    let mut decoder = Decoder::with_ip(64, code, regs.rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() || instruction.has_lock_prefix() {
        return Outcome::Unknown;
    }
    let mut new = *regs;
    let mut work = Work {
        instruction: &instruction,
        old: *regs,
        new: &mut new,
        memory,
    };
    match work.carry_out(cpu) {
        Ok(true) => {
            new.rip = instruction.next_ip();
            *regs = new;
            Outcome::Done
        }
        Ok(false) => Outcome::Unknown,
        Err(Bad { address, write }) => Outcome::BadMemory { address, write },
    }
}

struct Work<'a> {
    instruction: &'a Instruction,
    old: Regs,
    new: &'a mut Regs,
    memory: &'a mut dyn Memory,
}

impl Work<'_> {
    fn carry_out(&mut self, cpu: u32) -> Result<bool, Bad> {
        let bits = self.size(0) * 8;
        match self.instruction.mnemonic() {
            Mnemonic::Movbe => {
                let value = self.get(1)?.swap_bytes() >> (64 - bits);
                self.put(0, value)?;
            }
            Mnemonic::Crc32 => {
                let sum = crc32(self.get(0)? as u32, self.get(1)?, self.size(1));
                self.put(0, sum.into())?;
            }
            Mnemonic::Rdpid => self.put(0, cpu.into())?,
            Mnemonic::Popcnt => {
                let value = self.get(1)?;
                self.put(0, value.count_ones().into())?;
                self.flags(STATUS, if value == 0 { ZF } else { 0 });
            }
            Mnemonic::Lzcnt | Mnemonic::Tzcnt => self.count_zeros(bits)?,
            Mnemonic::Andn | Mnemonic::Blsi | Mnemonic::Blsmsk | Mnemonic::Blsr => self.lowest_bits(bits)?,
            Mnemonic::Bextr | Mnemonic::Bzhi => self.field(bits)?,
            Mnemonic::Mulx => {
                let factor = if bits == 64 {
                    self.old.rdx
                } else {
                    self.old.rdx & 0xffff_ffff
                };
                let product = u128::from(factor) * u128::from(self.get(2)?);
                self.put(1, product as u64)?;
                self.put(0, (product >> bits) as u64)?;
            }
            Mnemonic::Pdep => {
                let value = spread(self.get(1)?, self.get(2)?);
                self.put(0, value)?;
            }
            Mnemonic::Pext => {
                let value = gather(self.get(1)?, self.get(2)?);
                self.put(0, value)?;
            }
            Mnemonic::Rorx | Mnemonic::Sarx | Mnemonic::Shlx | Mnemonic::Shrx => self.shift(bits)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn count_zeros(&mut self, bits: u32) -> Result<(), Bad> {
        let value = self.get(1)?;
        let count = if self.instruction.mnemonic() == Mnemonic::Lzcnt {
            value.leading_zeros() - (64 - bits)
        } else {
            value.trailing_zeros().min(bits)
        };
        self.put(0, count.into())?;
        let carry = if value == 0 { CF } else { 0 };
        self.flags(CF | ZF, carry | if count == 0 { ZF } else { 0 });
        Ok(())
    }

    /// ANDN, and what isolates or clears the lowest bit.
    fn lowest_bits(&mut self, bits: u32) -> Result<(), Bad> {
        let first = self.get(1)?;
        let (value, carry) = match self.instruction.mnemonic() {
            Mnemonic::Andn => (!first & self.get(2)?, false),
            Mnemonic::Blsi => (first.wrapping_neg() & first, first != 0),
            Mnemonic::Blsmsk => (first.wrapping_sub(1) ^ first, first == 0),
            _ => (first.wrapping_sub(1) & first, first == 0),
        };
        self.put_with_flags(value, carry, bits)
    }

    /// BEXTR and BZHI.
    fn field(&mut self, bits: u32) -> Result<(), Bad> {
        let (value, control) = (self.get(1)?, self.get(2)?);
        let low = |count: u64| if count >= 64 { u64::MAX } else { (1 << count) - 1 };
        if self.instruction.mnemonic() == Mnemonic::Bzhi {
            let index = control & 0xff;
            return self.put_with_flags(value & low(index), index >= bits.into(), bits);
        }
        let (start, length) = (control & 0xff, control >> 8 & 0xff);
        let shifted = if start >= 64 { 0 } else { value >> start };
        let value = shifted & low(length);
        self.put(0, value)?;
        self.flags(CF | ZF | OF, if value == 0 { ZF } else { 0 });
        Ok(())
    }

    fn shift(&mut self, bits: u32) -> Result<(), Bad> {
        let value = self.get(1)?;
        let count = match self.instruction.mnemonic() {
            Mnemonic::Rorx => self.instruction.immediate8().into(),
            _ => self.get(2)?,
        };
        let count = (count & u64::from(bits - 1)) as u32;
        let value = match self.instruction.mnemonic() {
            Mnemonic::Shlx => value << count,
            Mnemonic::Shrx => value >> count,
            Mnemonic::Sarx if bits == 64 => (value.cast_signed() >> count).cast_unsigned(),
            Mnemonic::Sarx => u64::from(((value as u32).cast_signed() >> count).cast_unsigned()),
            _ if bits == 64 => value.rotate_right(count),
            _ => (value as u32).rotate_right(count).into(),
        };
        self.put(0, value)
    }

    fn put_with_flags(&mut self, value: u64, carry: bool, bits: u32) -> Result<(), Bad> {
        let value = if bits == 64 { value } else { value & 0xffff_ffff };
        self.put(0, value)?;
        let carry = if carry { CF } else { 0 };
        let zero = if value == 0 { ZF } else { 0 };
        let sign = if value >> (bits - 1) & 1 != 0 { SF } else { 0 };
        self.flags(CF | ZF | SF | OF, carry | zero | sign);
        Ok(())
    }

    fn flags(&mut self, mask: u64, value: u64) {
        self.new.eflags = self.new.eflags & !mask | value;
    }

    /// Bytes of an operand.
    fn size(&self, operand: u32) -> u32 {
        match self.instruction.op_kind(operand) {
            OpKind::Register => self.instruction.op_register(operand).size() as u32,
            _ => self.instruction.memory_size().size() as u32,
        }
        .clamp(1, 8)
    }

    fn address(&self, operand: u32) -> u64 {
        let value = |register: Register, _, _| {
            Some(match register {
                Register::ES | Register::CS | Register::SS | Register::DS => 0,
                Register::FS => self.old.fs_base,
                Register::GS => self.old.gs_base,
                other if other.size() == 4 => general(&self.old, other) & 0xffff_ffff,
                other => general(&self.old, other),
            })
        };
        self.instruction.virtual_address(operand, 0, value).unwrap_or(0)
    }

    fn get(&mut self, operand: u32) -> Result<u64, Bad> {
        let size = self.size(operand);
        if self.instruction.op_kind(operand) != OpKind::Memory {
            let register = self.instruction.op_register(operand);
            let value = general(&self.old, register.full_register());
            let high = matches!(
                register,
                Register::AH | Register::BH | Register::CH | Register::DH
            );
            let value = if high { value >> 8 } else { value };
            return Ok(value & u64::MAX >> (64 - size * 8));
        }
        let address = self.address(operand);
        let mut bytes = [0; 8];
        if self.memory.read(address, &mut bytes[..size as usize]) {
            Ok(u64::from_le_bytes(bytes))
        } else {
            Err(Bad {
                address,
                write: false,
            })
        }
    }

    fn put(&mut self, operand: u32, value: u64) -> Result<(), Bad> {
        let size = self.size(operand);
        if self.instruction.op_kind(operand) == OpKind::Memory {
            let address = self.address(operand);
            let bytes = value.to_le_bytes();
            return if self.memory.write(address, &bytes[..size as usize]) {
                Ok(())
            } else {
                Err(Bad { address, write: true })
            };
        }
        let register = self.instruction.op_register(operand).full_register();
        let old = general(&self.old, register);
        if let Some(place) = general_mut(self.new, register) {
            *place = match size {
                8 => value,
                // The upper half is cleared.
                4 => value & 0xffff_ffff,
                _ => old & !0xffff | value & 0xffff,
            };
        }
        Ok(())
    }
}

/// CRC-32C of `size` bytes of `value`, going on from `sum`.
fn crc32(sum: u32, value: u64, size: u32) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let bytes = value.to_le_bytes();
    bytes.iter().take(size as usize).fold(sum, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            sum >> 1 ^ if sum & 1 != 0 { POLYNOMIAL } else { 0 }
        })
    })
}

/// The low bits of `value` at the places that `mask` has.
fn spread(value: u64, mask: u64) -> u64 {
    let places = (0..64).filter(|place| mask >> place & 1 != 0);
    places
        .enumerate()
        .fold(0, |sum, (at, place)| sum | (value >> at & 1) << place)
}

/// The bits of `value` at the places that `mask` has, side by side.
fn gather(value: u64, mask: u64) -> u64 {
    let places = (0..64).filter(|place| mask >> place & 1 != 0);
    places
        .enumerate()
        .fold(0, |sum, (at, place)| sum | (value >> place & 1) << at)
}

fn general(regs: &Regs, register: Register) -> u64 {
    let mut copy = *regs;
    general_mut(&mut copy, register.full_register()).map_or(0, |place| *place)
}

fn general_mut(regs: &mut Regs, register: Register) -> Option<&mut u64> {
    Some(match register {
        Register::RAX => &mut regs.rax,
        Register::RBX => &mut regs.rbx,
        Register::RCX => &mut regs.rcx,
        Register::RDX => &mut regs.rdx,
        Register::RSI => &mut regs.rsi,
        Register::RDI => &mut regs.rdi,
        Register::RBP => &mut regs.rbp,
        Register::RSP => &mut regs.rsp,
        Register::R8 => &mut regs.r8,
        Register::R9 => &mut regs.r9,
        Register::R10 => &mut regs.r10,
        Register::R11 => &mut regs.r11,
        Register::R12 => &mut regs.r12,
        Register::R13 => &mut regs.r13,
        Register::R14 => &mut regs.r14,
        Register::R15 => &mut regs.r15,
        _ => return None,
    })
}
