//! How a site may be overwritten.

use std::ops::Range;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use super::code::{Code, Window};
use super::relocate::Movable;
use super::targets::Targets;
use super::{JUMP_LEN, Refusal, SITE_LEN};

/// At most so many instructions behind the site are moved: three bytes have no more.
const MAX_AFTER: usize = 3;

/// What traps at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `syscall`
    Syscall,
    /// `cpuid`
    Cpuid,
}

impl Kind {
    fn of(bytes: &[u8]) -> Option<Self> {
        let kinds = [Self::Syscall, Self::Cpuid];
        kinds.into_iter().find(|kind| kind.bytes() == bytes)
    }

    /// The instruction.
    pub fn bytes(self) -> &'static [u8; SITE_LEN as usize] {
        match self {
            Self::Syscall => &[0x0f, 0x05],
            Self::Cpuid => &[0x0f, 0xa2],
        }
    }
}

/// Which instructions around a site are moved to a trampoline: independent of where the text is mapped, so that what
/// was learnt in one process serves the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    kind: Kind,
    /// Bytes of instructions moved from in front of the site.
    before: u8,
    /// Bytes of all instructions that are moved or replaced: those in front, the site, those behind.
    len: u8,
    /// The bytes that were there, of all those instructions and of all that the jump overwrites.
    original: Box<[u8]>,
}

impl Recipe {
    /// What traps there.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where the jump is written, for the site at `site`.
    pub fn start(&self, site: u64) -> u64 {
        site.wrapping_sub(self.before.into())
    }

    /// The text that must be as it was when the recipe was made, for the site at `site`; what the jump overwrites is
    /// within.
    pub fn covered(&self, site: u64) -> Range<u64> {
        let start = self.start(site);
        start..start.wrapping_add(self.original.len() as u64)
    }

    /// The original bytes of [`Recipe::covered`].
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// The bytes of the instructions moved from in front of the site.
    pub(super) fn moved_before(&self) -> &[u8] {
        self.original.get(..self.before.into()).unwrap_or_default()
    }

    /// The bytes of the instructions moved from behind the site.
    pub(super) fn moved_after(&self) -> &[u8] {
        let first = usize::from(self.before) + self.kind.bytes().len();
        self.original.get(first..self.len.into()).unwrap_or_default()
    }
}

/// One way to overwrite a site, before it is known to be safe.
struct Candidate {
    /// Where the jump would be.
    start: u64,
    /// Where the last moved instruction ends.
    end: u64,
    /// Instructions moved from in front and from behind.
    moved: (usize, usize),
    /// Instructions that begin in the overwritten bytes, behind the first byte.
    inner: usize,
}

/// Decide how to overwrite the `syscall` or `cpuid` at `site`, which was reached with `number` in rax. `window` holds the
/// original bytes around it. `targets` of the whole text are needed only when [`Refusal::NeedsTargets`] says so.
pub fn analyse(
    window: &Window<'_>,
    site: u64,
    number: u64,
    targets: Option<&Targets>,
) -> Result<Recipe, Refusal> {
    let behind = site.checked_add(SITE_LEN).ok_or(Refusal::NoSite)?;
    let found = window.get(site..behind).and_then(Kind::of);
    let kind = found.ok_or(Refusal::NoSite)?;
    if !window.suffices(site) {
        return Err(Refusal::ShortWindow);
    }
    let mut code = Code::new(window);
    let before = predecessors(&mut code, site, number);
    let (after, slack) = followers(&mut code, behind);
    let mut refusal = Refusal::Immovable;
    for candidate in candidates(site, &before, &after, slack) {
        match candidate.check(window, &mut code, site, targets) {
            Ok(()) => return candidate.recipe(window, site, kind),
            // What more knowledge may allow is worth more than why the others are refused.
            Err(_) if refusal == Refusal::NeedsTargets => {}
            Err(why) => refusal = why,
        }
    }
    Err(refusal)
}

/// All ways to make room for the jump, best first: with nothing but its first byte to branch to, then with fewest
/// instructions behind the site, since a thread often goes on there, then with fewest in front.
fn candidates(site: u64, before: &[Instruction], after: &[Instruction], slack: u64) -> Vec<Candidate> {
    let mut found = Vec::new();
    for fore in 0..=before.len() {
        let fore_part = before.get(before.len() - fore..).unwrap_or_default();
        let start = fore_part.first().map_or(site, Instruction::ip);
        for aft in 0..=after.len() {
            let aft_part = after.get(..aft).unwrap_or_default();
            let end = aft_part.last().map_or(site + SITE_LEN, Instruction::next_ip);
            // Padding behind the last follower may be overwritten as well.
            let room = if aft == after.len() { slack } else { 0 };
            if end + room - start < JUMP_LEN {
                continue;
            }
            let starts = fore_part
                .iter()
                .chain(aft_part)
                .map(Instruction::ip)
                .chain([site]);
            let inner = starts
                .filter(|at| (start + 1..start + JUMP_LEN).contains(at))
                .count();
            found.push(Candidate {
                start,
                end,
                moved: (fore, aft),
                inner,
            });
            break;
        }
    }
    found.sort_by_key(|candidate| (candidate.inner, candidate.moved.1, candidate.moved.0));
    found
}

impl Candidate {
    fn check(
        &self,
        window: &Window<'_>,
        code: &mut Code<'_>,
        site: u64,
        targets: Option<&Targets>,
    ) -> Result<(), Refusal> {
        let overwritten = self.start..self.start + JUMP_LEN;
        if !(window.text().start <= overwritten.start && overwritten.end <= window.text().end) {
            return Err(Refusal::Immovable);
        }
        let forbidden = overwritten.start + 1..overwritten.end;
        if code.names(&forbidden, site) {
            return Err(Refusal::BranchInside);
        }
        if self.inner == 0 && self.end >= overwritten.end {
            return Ok(());
        }
        let targets = targets.ok_or(Refusal::NeedsTargets)?;
        if targets.lead_into(window.offset(forbidden.start)..window.offset(forbidden.end)) {
            return Err(Refusal::BranchInside);
        }
        if targets.computed_jump_around(window.offset(site)) {
            return Err(Refusal::ComputedJump);
        }
        Ok(())
    }

    fn recipe(&self, window: &Window<'_>, site: u64, kind: Kind) -> Result<Recipe, Refusal> {
        let covered = self.start..self.end.max(self.start + JUMP_LEN);
        let original = window.get(covered).ok_or(Refusal::Immovable)?;
        Ok(Recipe {
            kind,
            before: u8::try_from(site - self.start).map_err(|_| Refusal::Immovable)?,
            len: u8::try_from(self.end - self.start).map_err(|_| Refusal::Immovable)?,
            original: original.into(),
        })
    }
}

/// What may be moved from in front of the site, in order of address. Nothing when it would have loaded another number
/// than was there: then the site was reached in another way, or these are no instructions.
fn predecessors(code: &mut Code<'_>, site: u64, number: u64) -> Vec<Instruction> {
    let mut found = code.before(site);
    // Padding lies in front of what is branched to, which would go past a jump written there.
    let movable = found.iter().rev().take_while(|instruction| {
        Movable::of(instruction) == Some(Movable::Plain) && instruction.mnemonic() != Mnemonic::Nop
    });
    let movable = movable.count();
    found.drain(..found.len() - movable);
    let mut information = InstructionInfoFactory::new();
    for instruction in found.iter().rev() {
        match loaded_number(instruction) {
            Some(loaded) if loaded != number => return Vec::new(),
            Some(_) => break,
            None if writes_rax(&mut information, instruction) => break,
            None => {}
        }
    }
    found
}

/// The constant that an instruction loads into rax.
pub(super) fn loaded_number(instruction: &Instruction) -> Option<u64> {
    match instruction.code() {
        iced_x86::Code::Mov_r32_imm32 | iced_x86::Code::Mov_rm32_imm32
            if instruction.op0_register() == Register::EAX =>
        {
            Some(instruction.immediate32().into())
        }
        iced_x86::Code::Mov_rm64_imm32 | iced_x86::Code::Mov_r64_imm64
            if instruction.op0_register() == Register::RAX =>
        {
            Some(instruction.immediate(1))
        }
        _ => {
            let registers = instruction.op_count() == 2 && instruction.op1_kind() == OpKind::Register;
            let same = registers && instruction.op0_register() == instruction.op1_register();
            let zero = matches!(instruction.mnemonic(), Mnemonic::Xor | Mnemonic::Sub);
            let whole = matches!(instruction.op0_register(), Register::EAX | Register::RAX);
            (same && zero && whole).then_some(0)
        }
    }
}

fn writes_rax(information: &mut InstructionInfoFactory, instruction: &Instruction) -> bool {
    let used = information.info(instruction).used_registers();
    used.iter().any(|used| {
        used.register().full_register() == Register::RAX
            && !matches!(
                used.access(),
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            )
    })
}

/// What may be moved from behind the site, and how many bytes of padding behind it are reached by nothing.
fn followers(code: &mut Code<'_>, behind: u64) -> (Vec<Instruction>, u64) {
    let mut found = Vec::new();
    let mut at = behind;
    while found.len() < MAX_AFTER {
        let Some(instruction) = code.decode(at) else {
            break;
        };
        let Some(movable) = Movable::of(&instruction) else {
            break;
        };
        found.push(instruction);
        at = instruction.next_ip();
        if movable.is_last() {
            let room = if movable == Movable::Call {
                0
            } else {
                padding(code, at)
            };
            return (found, room);
        }
    }
    (found, 0)
}

/// Bytes of filling between functions at `from`, as far as they matter.
fn padding(code: &mut Code<'_>, from: u64) -> u64 {
    let mut at = from;
    while at - from < JUMP_LEN {
        match code.decode(at) {
            Some(instruction) if matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3) => {
                at = instruction.next_ip();
            }
            _ => break,
        }
    }
    at - from
}
