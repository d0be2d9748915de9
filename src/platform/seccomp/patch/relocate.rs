//! Running an instruction at another address than its own.
//!
//! Instructions are copied byte for byte, with a new distance where they have one to something relative to `rip`, so that
//! nothing else about them can change; only direct branches, of which there are three forms, are written anew. A general
//! encoder would be free to choose other forms of the same instruction, and is not needed.

use iced_x86::{FlowControl, Instruction, Register};

use super::Refusal;
use super::code;

/// What moving an instruction takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Movable {
    /// Runs anywhere, and goes on behind itself; perhaps with a distance to correct.
    Plain,
    /// `jcc`: goes on behind itself, or not.
    Branch,
    /// `jmp`, direct.
    Jump,
    /// `call`, direct: comes back behind the original.
    Call,
    /// `ret` and indirect jumps: copied, and what is behind is not reached by it.
    Leave,
}

impl Movable {
    /// What it takes; none when it cannot be moved.
    pub(super) fn of(instruction: &Instruction) -> Option<Self> {
        if instruction.is_ip_rel_memory_operand() && instruction.memory_base() != Register::RIP {
            return None;
        }
        // A site of its own.
        if instruction.mnemonic() == iced_x86::Mnemonic::Cpuid {
            return None;
        }
        // Branches with prefixes have other lengths than these; nobody writes them.
        match (instruction.flow_control(), instruction.len()) {
            (FlowControl::Next, _) => Some(Self::Plain),
            (FlowControl::ConditionalBranch, 2 | 6) if instruction.is_jcc_short_or_near() => {
                Some(Self::Branch)
            }
            (FlowControl::UnconditionalBranch, 2 | 5) if instruction.is_jmp_short_or_near() => {
                Some(Self::Jump)
            }
            (FlowControl::Call, 5) if instruction.is_call_near() => Some(Self::Call),
            (FlowControl::IndirectBranch, _) if instruction.is_jmp_near_indirect() => Some(Self::Leave),
            (FlowControl::Return, _) if instruction.mnemonic() == iced_x86::Mnemonic::Ret => {
                Some(Self::Leave)
            }
            _ => None,
        }
    }

    /// Whether the bytes behind it are not reached through it (a call comes back to them from elsewhere).
    pub(super) fn is_last(self) -> bool {
        matches!(self, Self::Jump | Self::Call | Self::Leave)
    }
}

/// Code being written at an address, with the places in it that correspond to places in the original.
#[derive(Debug)]
pub(super) struct Writer {
    base: u64,
    bytes: Vec<u8>,
    /// (address of an instruction written, address in the guest's text that a thread there is at), in order.
    steps: Vec<(u64, u64)>,
    /// (offset of a 32-bit distance, index into `constants`) to be filled in.
    uses: Vec<(usize, usize)>,
    constants: Vec<u64>,
}

/// What a [`Writer`] has written.
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    /// As in the writer.
    pub(super) steps: Vec<(u64, u64)>,
    /// Address of the first constant.
    pub(super) code_end: u64,
}

impl Writer {
    pub(super) fn new(base: u64) -> Self {
        Self {
            base,
            bytes: Vec::new(),
            steps: Vec::new(),
            uses: Vec::new(),
            constants: Vec::new(),
        }
    }

    /// The address written at next.
    pub(super) fn here(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Note that a thread about to run what is written next is at `guest_rip` for the guest.
    pub(super) fn step(&mut self, guest_rip: u64) {
        self.steps.push((self.here(), guest_rip));
    }

    /// Write bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Write an opcode and the distance to `target`.
    pub(super) fn relative(&mut self, opcode: &[u8], target: u64) -> Result<(), Refusal> {
        let end = self.here() + opcode.len() as u64 + 4;
        let distance = distance(end, target)?;
        self.raw(opcode);
        self.raw(&distance.to_le_bytes());
        Ok(())
    }

    /// Write an opcode and the distance to constant number `index`.
    pub(super) fn with_constant(&mut self, opcode: &[u8], index: usize) {
        self.raw(opcode);
        self.uses.push((self.bytes.len(), index));
        self.raw(&[0; 4]);
    }

    /// Add a constant; its number.
    pub(super) fn constant(&mut self, value: u64) -> usize {
        self.constants.push(value);
        self.constants.len() - 1
    }

    /// Set a constant.
    pub(super) fn set_constant(&mut self, index: usize, value: u64) {
        if let Some(constant) = self.constants.get_mut(index) {
            *constant = value;
        }
    }

    /// Write what does at this place what the instruction with these bytes does at `address`.
    pub(super) fn instruction(&mut self, bytes: &[u8], address: u64) -> Result<Instruction, Refusal> {
        let (instruction, offsets) = code::decode(bytes, address).ok_or(Refusal::Immovable)?;
        let bytes = bytes.get(..instruction.len()).ok_or(Refusal::Immovable)?;
        let movable = Movable::of(&instruction).ok_or(Refusal::Immovable)?;
        let target = instruction.near_branch_target();
        self.step(address);
        match movable {
            Movable::Plain | Movable::Leave if instruction.is_ip_rel_memory_operand() => {
                let new = distance(
                    self.here() + bytes.len() as u64,
                    instruction.ip_rel_memory_address(),
                )?;
                let at = self.bytes.len() + offsets.displacement_offset();
                self.raw(bytes);
                let place = self.bytes.get_mut(at..at + 4).ok_or(Refusal::Immovable)?;
                place.copy_from_slice(&new.to_le_bytes());
            }
            Movable::Plain | Movable::Leave => self.raw(bytes),
            Movable::Branch => {
                // The condition is in the low four bits of 7x and 0f 8x.
                let condition = match *bytes {
                    [0x0f, second, ..] => second & 0x0f,
                    [first, ..] => first & 0x0f,
                    [] => return Err(Refusal::Immovable),
                };
                self.relative(&[0x0f, 0x80 | condition], target)?;
            }
            Movable::Jump => self.relative(&[0xe9], target)?,
            Movable::Call => {
                // The guest must find the return address that it knows, for unwinding: push it, then jump.
                let back = self.constant(instruction.next_ip());
                self.with_constant(&[0xff, 0x35], back);
                self.step(target);
                self.relative(&[0xe9], target)?;
            }
        }
        Ok(instruction)
    }

    /// Add filling and, at a multiple of eight, the constants.
    pub(super) fn finish(mut self) -> Result<Written, Refusal> {
        while !self.here().is_multiple_of(8) {
            self.bytes.push(0xcc);
        }
        let constants = self.here();
        for (at, index) in std::mem::take(&mut self.uses) {
            let distance = distance(self.base + at as u64 + 4, constants + 8 * index as u64)?;
            if let Some(place) = self.bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&distance.to_le_bytes());
            }
        }
        let values: Vec<u8> = self
            .constants
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.raw(&values);
        Ok(Written {
            bytes: self.bytes,
            steps: self.steps,
            code_end: constants,
        })
    }
}

/// What a 32-bit distance counted from `end` must be to lead to `target`.
pub(super) fn distance(end: u64, target: u64) -> Result<i32, Refusal> {
    i32::try_from(target.wrapping_sub(end) as i64).map_err(|_| Refusal::TooFar)
}
