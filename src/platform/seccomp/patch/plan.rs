//! A recipe at its place: the bytes to write, and where a thread in them is for the guest.

use std::ops::Range;

use super::relocate::{Movable, Writer, distance};
use super::site::{Kind, Recipe};
use super::{JUMP_LEN, Refusal, SITE_LEN};
use crate::platform::{USER_END, USER_START};

/// Offset in the record of the address at which the guest goes on: behind the site, or at the copies of what was
/// behind it.
pub const RECORD_GO_ON: usize = 0;

/// Offset in the record of the address behind the original site: the guest's rip, and after a call rcx.
pub const RECORD_RCX: usize = 8;

/// Offset in the record of the address of the real instruction that then goes on as the record says, for a thread whose
/// %gs is not the runtime's.
pub const RECORD_SLOW: usize = 16;

/// `lea r11, [rip + distance]`
const LEA_R11: [u8; 3] = [0x4c, 0x8d, 0x1d];

/// `lea rbx, [rip + distance]`
const LEA_RBX: [u8; 3] = [0x48, 0x8d, 0x1d];

/// `jmp [rip + distance]`
const JUMP_INDIRECT: [u8; 2] = [0xff, 0x25];

/// `jmp distance`
const JUMP: [u8; 1] = [0xe9];

/// A site rewritten: what to write where, and the ways between original and copy.
///
/// The trampoline, at a multiple of eight:
/// ```text
///         copies of the instructions in front of the site
///         lea r11, [record]           rcx and r11 are dead: `syscall` overwrites them; rbx, and rdx, of `cpuid`
///         jmp [entry]                 all else is as at the site: flags, stack, red zone, registers
/// slow:   syscall, or cpuid
///         jmp go_on
/// moved:  copies of the instructions behind the site; jmp to behind them
/// record: u64 go_on, rcx, slow
/// entry:  u64; then return addresses of moved calls
/// ```
/// `go_on` is `moved` where something was moved from behind the site, and else the original address behind it. When
/// the instructions in front have five bytes or more, the site itself is not overwritten and works as before for
/// who branches to it.
#[derive(Debug)]
pub struct Plan {
    site: u64,
    recipe: Recipe,
    at: u64,
    jump: [u8; JUMP_LEN as usize],
    trampoline: Box<[u8]>,
    /// Address of the first byte that is not code.
    code_end: u64,
    /// (address of an instruction in the trampoline, what the guest takes it for), in order.
    steps: Box<[(u64, u64)]>,
    /// (address of an instruction overwritten, where it is now).
    moved: Box<[(u64, u64)]>,
}

/// Where the runtime is entered from trampolines.
#[derive(Clone, Copy, Debug)]
pub struct Entries {
    /// For `syscall`.
    pub syscall: u64,
    /// For `cpuid`.
    pub cpuid: u64,
}

impl Recipe {
    /// Make the bytes for the site at `site`, a trampoline at `at` (a multiple of eight) and the runtime's `entries`.
    pub fn place(&self, site: u64, at: u64, entries: Entries) -> Result<Plan, Refusal> {
        let (lea, entry) = match self.kind() {
            Kind::Syscall => (LEA_R11, entries.syscall),
            Kind::Cpuid => (LEA_RBX, entries.cpuid),
        };
        let covered = self.covered(site);
        let sane = |address: u64| (USER_START..USER_END).contains(&address);
        if !sane(covered.start) || !sane(covered.end) || !sane(at) || !at.is_multiple_of(8) {
            return Err(Refusal::TooFar);
        }
        let behind = site + SITE_LEN;
        let mut writer = Writer::new(at);
        let [go_on, rcx, slow, target] = [0, behind, 0, entry].map(|value| writer.constant(value));
        debug_assert!(go_on == RECORD_GO_ON / 8 && rcx == RECORD_RCX / 8 && slow == RECORD_SLOW / 8);

        let mut moved = Vec::new();
        move_all(&mut writer, self.moved_before(), covered.start, &mut moved)?;
        moved.push((site, writer.here()));
        writer.step(site);
        writer.with_constant(&lea, go_on);
        writer.step(site);
        writer.with_constant(&JUMP_INDIRECT, target);

        writer.set_constant(slow, writer.here());
        writer.step(site);
        writer.raw(self.kind().bytes());
        writer.step(behind);
        let after = self.moved_after();
        if after.is_empty() {
            writer.relative(&JUMP, behind)?;
            writer.set_constant(go_on, behind);
        } else {
            let copies = writer.here() + JUMP.len() as u64 + 4;
            writer.relative(&JUMP, copies)?;
            writer.set_constant(go_on, copies);
            let last = move_all(&mut writer, after, behind, &mut moved)?;
            if !last {
                let end = behind + after.len() as u64;
                writer.step(end);
                writer.relative(&JUMP, end)?;
            }
        }
        let written = writer.finish()?;

        let overwritten = covered.start..covered.start + JUMP_LEN;
        moved.retain(|(original, _)| *original > overwritten.start && overwritten.contains(original));
        let mut jump = [0; JUMP_LEN as usize];
        jump[..1].copy_from_slice(&JUMP);
        jump[1..].copy_from_slice(&distance(overwritten.end, at)?.to_le_bytes());
        Ok(Plan {
            site,
            recipe: self.clone(),
            at,
            jump,
            trampoline: written.bytes.into(),
            code_end: written.code_end,
            steps: written.steps.into(),
            moved: moved.into(),
        })
    }
}

/// Copy the instructions `bytes` found at `address`; whether the last one does not go on behind itself. Notes in
/// `moved` where each has come to.
fn move_all(
    writer: &mut Writer,
    mut bytes: &[u8],
    mut address: u64,
    moved: &mut Vec<(u64, u64)>,
) -> Result<bool, Refusal> {
    let mut last = false;
    while !bytes.is_empty() {
        moved.push((address, writer.here()));
        let instruction = writer.instruction(bytes, address)?;
        last = Movable::of(&instruction).is_some_and(Movable::is_last);
        bytes = bytes.get(instruction.len()..).unwrap_or_default();
        address = instruction.next_ip();
    }
    Ok(last)
}

impl Plan {
    /// Address of the instruction that traps.
    pub fn site(&self) -> u64 {
        self.site
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.recipe.kind()
    }

    /// The text that the jump overwrites.
    pub fn overwritten(&self) -> Range<u64> {
        let start = self.recipe.start(self.site);
        start..start + JUMP_LEN
    }

    /// The text whose bytes the plan was made of.
    pub fn covered(&self) -> Range<u64> {
        self.recipe.covered(self.site)
    }

    /// What to write over [`Plan::overwritten`].
    pub fn jump(&self) -> &[u8] {
        &self.jump
    }

    /// What was at [`Plan::overwritten`]: to be there before, and what the guest is shown since.
    pub fn original(&self) -> &[u8] {
        self.recipe
            .original()
            .get(..JUMP_LEN as usize)
            .unwrap_or_default()
    }

    /// Compare with the bytes at [`Plan::covered`], right before the jump is written: the text may have changed since
    /// it was looked at.
    pub fn check(&self, text: &[u8]) -> Result<(), Refusal> {
        if text == self.recipe.original() {
            Ok(())
        } else {
            Err(Refusal::Changed)
        }
    }

    /// What to write into the trampoline.
    pub fn trampoline(&self) -> &[u8] {
        &self.trampoline
    }

    /// Where the trampoline is.
    pub fn trampoline_range(&self) -> Range<u64> {
        self.at..self.at + self.trampoline.len() as u64
    }

    /// Where the trampoline's code ends and its record begins.
    pub fn code_end(&self) -> u64 {
        self.code_end
    }

    /// Where a thread is for the guest that stopped at `rip` in the trampoline. None when there is no instruction of
    /// the trampoline there: whoever jumped to such a place sees it as it is.
    pub fn guest_rip(&self, rip: u64) -> Option<u64> {
        let step = self.steps.partition_point(|(at, _)| *at < rip);
        let (at, original) = self.steps.get(step)?;
        (*at == rip && rip < self.code_end).then_some(*original)
    }

    /// Where a thread must go on that is to go on at `rip` in the overwritten bytes, behind their first: in the
    /// trampoline. None where no instruction began.
    pub fn resume(&self, rip: u64) -> Option<u64> {
        let mut moved = self.moved.iter();
        moved.find(|(original, _)| *original == rip).map(|(_, at)| *at)
    }
}
