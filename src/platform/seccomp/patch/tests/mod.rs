//! Tests of patching, on bytes written by hand and on programs of the host.

mod binaries;
mod known;
mod plan;
mod random;
mod room;
mod site;

use super::*;

/// Where the text of tests is mapped.
const TEXT: u64 = 0x40_0000;

/// Where their trampolines are.
const AT: u64 = 0x3e_0000;

/// The runtime's entries, further than any branch reaches.
const ENTRIES: Entries = Entries {
    syscall: 0x7fff_0000_1000,
    cpuid: 0x7fff_0000_2000,
};

/// What begins a site of either kind.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const CPUID: [u8; 2] = [0x0f, 0xa2];

/// Instructions in front of what a test gives: enough that decodes agree.
const FILL: u64 = 96;

/// A text: `nop`s, what a test gives, `nop`s.
struct Text {
    bytes: Vec<u8>,
}

impl Text {
    fn new(code: &[u8]) -> Self {
        let mut bytes = vec![0x90; FILL as usize];
        bytes.extend_from_slice(code);
        bytes.extend_from_slice(&[0x90; 32]);
        Self { bytes }
    }

    /// The same, but with nothing behind the code.
    fn ending(code: &[u8]) -> Self {
        let mut text = Self::new(code);
        text.bytes.truncate(FILL as usize + code.len());
        text
    }

    fn window(&self) -> Window<'_> {
        let range = TEXT..TEXT + self.bytes.len() as u64;
        Window::new(range, TEXT, &self.bytes).expect("within the mapping")
    }

    /// Address of the `syscall` or `cpuid` number `index`.
    fn site(&self, index: usize) -> u64 {
        let at = self
            .bytes
            .windows(2)
            .enumerate()
            .filter(|(_, bytes)| *bytes == SYSCALL || *bytes == CPUID);
        TEXT + at.map(|(at, _)| at).nth(index).expect("a site") as u64
    }

    fn analyse(&self, number: u64) -> Result<Recipe, Refusal> {
        let targets = Targets::scan(&self.bytes).expect("small");
        analyse(&self.window(), self.site(0), number, Some(&targets))
    }

    fn plan(&self, number: u64) -> Plan {
        let recipe = self.analyse(number).expect("a recipe");
        recipe.place(self.site(0), AT, ENTRIES).expect("a plan")
    }
}

/// Address of the byte at `offset` of the code that a test gave.
fn code(offset: u64) -> u64 {
    TEXT + FILL + offset
}

/// What a program has at an address, with nothing around it.
fn instruction(bytes: &[u8], address: u64) -> iced_x86::Instruction {
    super::code::decode(bytes, address).expect("an instruction").0
}

/// The `index`th word of a plan's record.
fn record(plan: &Plan, offset: usize) -> u64 {
    let record = (plan.code_end() - plan.trampoline_range().start) as usize + offset;
    let bytes = &plan.trampoline()[record..record + 8];
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}
