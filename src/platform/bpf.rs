//! Classic BPF programs for seccomp(2): how they are put together and printed.
//!
//! The crate seccompiler is not used. It knows numbers and arguments, but neither instruction pointers nor user
//! notifications, kills at a foreign architecture where a trap is wanted, and sorts calls by number rather than by how
//! frequent they are; what is left of it would be smaller than the code here.

use std::fmt;

use zerocopy::{Immutable, IntoBytes};

/// The most instructions that the host takes.
pub const MAX_LEN: usize = 4096;

/// The architecture of 64-bit calls, x32 ones included.
pub const ARCH_X86_64: u32 = 0xc000_003e;

/// `BPF_LD | BPF_W | BPF_ABS`
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`
const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`
const JUMP_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`, unsigned
const JUMP_AT_LEAST: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`
const JUMP_ANY_BIT: u16 = 0x45;
/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;

/// `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Immutable, IntoBytes)]
pub struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    value: u32,
}

/// A 32-bit word of `struct seccomp_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The number of the call.
    Number,
    /// `AUDIT_ARCH_*`.
    Arch,
    /// The lower half of the address behind the instruction.
    IpLow,
    /// The upper half of it.
    IpHigh,
    /// The lower half of an argument, counted from 0.
    Low(u8),
    /// The upper half of an argument.
    High(u8),
}

/// A condition on one word. Whoever writes one thinks of the half of the argument that it does not see: where the host
/// looks at 32 bits of an argument the upper half is noise, where it looks at 64 it has to be tested too.
#[derive(Clone, Copy, Debug)]
pub enum Test {
    /// It is this value.
    Is(Field, u32),
    /// It is one of these values.
    OneOf(Field, &'static [u32]),
    /// Without the bits of the first mask it is one of these values.
    OneOfBut(Field, u32, &'static [u32]),
    /// It is at least the first and below the second value, unsigned.
    Within(Field, u32, u32),
    /// None of these bits is set.
    NoneOf(Field, u32),
}

impl Field {
    /// Where it is, in bytes.
    const fn offset(self) -> u32 {
        match self {
            Self::Number => 0,
            Self::Arch => 4,
            Self::IpLow => 8,
            Self::IpHigh => 12,
            Self::Low(argument) => 16 + 8 * argument as u32,
            Self::High(argument) => 20 + 8 * argument as u32,
        }
    }

    fn at(offset: u32) -> Option<Self> {
        let fields = [Self::Number, Self::Arch, Self::IpLow, Self::IpHigh];
        let arguments = (0..6).flat_map(|n| [Self::Low(n), Self::High(n)]);
        fields
            .into_iter()
            .chain(arguments)
            .find(|field| field.offset() == offset)
    }
}

/// Return `action` (`SECCOMP_RET_*`).
pub fn give(action: u32) -> Instruction {
    one(RETURN, action)
}

/// Put a word where comparisons look.
pub fn load(field: Field) -> Instruction {
    one(LOAD, field.offset())
}

/// Skip so many instructions.
pub fn skip(count: u32) -> Instruction {
    one(JUMP, count)
}

fn one(code: u16, value: u32) -> Instruction {
    branch(code, value, 0, 0)
}

/// A comparison that skips `yes` or `no` instructions.
///
/// # Panics
/// When a distance does not fit: programs are made of constants, and a wrong one must not be installed.
fn branch(code: u16, value: u32, yes: usize, no: usize) -> Instruction {
    assert!(yes < 256 && no < 256, "a jump of {yes} or {no} instructions");
    Instruction {
        code,
        jump_true: yes as u8,
        jump_false: no as u8,
        value,
    }
}

/// Run `then` if the loaded word is `value`; else go on behind it.
pub fn if_equal(value: u32, then: &[Instruction]) -> Vec<Instruction> {
    [&[branch(JUMP_EQUAL, value, 0, then.len())], then].concat()
}

/// Run `then` if all tests hold; else go on behind it.
pub fn if_all(tests: &[Test], then: &[Instruction]) -> Vec<Instruction> {
    tests
        .iter()
        .rev()
        .fold(then.to_vec(), |rest, test| [test.code(rest.len()), rest].concat())
}

impl Test {
    /// Go on if it holds, else skip `rest` more instructions.
    fn code(&self, rest: usize) -> Vec<Instruction> {
        let one_of = |values: &[u32]| {
            let after = |at: usize| values.len() - 1 - at;
            let compare = |(at, value): (usize, &u32)| {
                // The last comparison decides; one before it may only succeed.
                let otherwise = if after(at) == 0 { rest } else { 0 };
                branch(JUMP_EQUAL, *value, after(at), otherwise)
            };
            values.iter().enumerate().map(compare).collect::<Vec<_>>()
        };
        let (field, tail) = match *self {
            Self::Is(field, value) => (field, one_of(&[value])),
            Self::OneOf(field, values) => (field, one_of(values)),
            Self::OneOfBut(field, mask, values) => (field, [vec![one(AND, !mask)], one_of(values)].concat()),
            Self::Within(field, 0, end) => (field, vec![branch(JUMP_AT_LEAST, end, rest, 0)]),
            Self::Within(field, start, end) => {
                let above = branch(JUMP_AT_LEAST, start, 0, rest + 1);
                (field, vec![above, branch(JUMP_AT_LEAST, end, rest, 0)])
            }
            Self::NoneOf(field, bits) => (field, vec![branch(JUMP_ANY_BIT, bits, rest, 0)]),
        };
        [vec![load(field)], tail].concat()
    }

    /// The condition in words, with the names of the call's arguments.
    pub fn text(&self, argument: impl Fn(usize) -> String) -> String {
        let named = |field: Field| match field {
            Field::Low(n) => argument(n.into()),
            Field::High(n) => format!("{} >> 32", argument(n.into())),
            other => other.to_string(),
        };
        let list = |values: &[u32]| {
            let shown: Vec<String> = values.iter().map(|value| number(*value)).collect();
            format!("is one of {}", shown.join(" "))
        };
        match *self {
            Self::Is(field, value) => format!("{} is {}", named(field), number(value)),
            Self::OneOf(field, values) => format!("{} {}", named(field), list(values)),
            Self::OneOfBut(field, mask, values) => {
                format!("{} without {mask:#x} {}", named(field), list(values))
            }
            Self::Within(field, 0, end) => format!("{} is below {}", named(field), number(end)),
            Self::Within(field, start, end) => {
                format!("{} is {} to {}", named(field), number(start), number(end - 1))
            }
            Self::NoneOf(field, bits) => format!("{} has no bit of {bits:#x}", named(field)),
        }
    }
}

/// Small numbers as people count, others in hexadecimal.
fn number(value: u32) -> String {
    if value < 10_000 {
        value.to_string()
    } else {
        format!("{value:#x}")
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number => f.write_str("number"),
            Self::Arch => f.write_str("architecture"),
            Self::IpLow => f.write_str("ip"),
            Self::IpHigh => f.write_str("ip >> 32"),
            Self::Low(n) => write!(f, "argument {}", n + 1),
            Self::High(n) => write!(f, "argument {} >> 32", n + 1),
        }
    }
}

/// The name of a `SECCOMP_RET_*` value.
pub fn action_name(action: u32) -> &'static str {
    match action {
        libc::SECCOMP_RET_ALLOW => "allow",
        libc::SECCOMP_RET_USER_NOTIF => "notify",
        libc::SECCOMP_RET_TRAP => "trap",
        libc::SECCOMP_RET_KILL_PROCESS => "kill",
        _ => "?",
    }
}

/// A line of text per instruction.
pub fn listing(program: &[Instruction]) -> impl Iterator<Item = String> {
    program.iter().enumerate().map(|(at, instruction)| {
        let text = instruction.text(at);
        format!("{at:>4}  {text}")
    })
}

impl Instruction {
    /// What it does when it stands at `at`.
    fn text(&self, at: usize) -> String {
        let yes = at + 1 + usize::from(self.jump_true);
        let no = at + 1 + usize::from(self.jump_false);
        let value = self.value;
        let test = |relation: &str| match (self.jump_true, self.jump_false) {
            (_, 0) => format!("if {relation} {value:#x} goto {yes}"),
            (0, _) => format!("if not {relation} {value:#x} goto {no}"),
            _ => format!("if {relation} {value:#x} goto {yes} else {no}"),
        };
        match self.code {
            LOAD => match Field::at(value) {
                Some(field) => format!("load {field}"),
                None => format!("load word at {value}"),
            },
            AND => format!("and {value:#x}"),
            JUMP => format!("goto {}", at + 1 + value as usize),
            JUMP_EQUAL => test("=="),
            JUMP_AT_LEAST => test(">="),
            JUMP_ANY_BIT => test("&"),
            RETURN => format!("return {}", action_name(value)),
            _ => format!("{:#x} {value:#x}", self.code),
        }
    }
}

/// A machine that runs programs as the host does, for tests.
#[cfg(test)]
pub(crate) mod interpreter {
    use super::*;

    /// `struct seccomp_data`.
    #[derive(Clone, Copy, Debug)]
    pub struct Data {
        pub number: u32,
        pub arch: u32,
        pub ip: u64,
        pub args: [u64; 6],
    }

    impl Data {
        fn word(&self, offset: u32) -> u32 {
            let argument = |n: u8| self.args[usize::from(n)];
            match Field::at(offset).expect("an aligned offset in the data") {
                Field::Number => self.number,
                Field::Arch => self.arch,
                Field::IpLow => self.ip as u32,
                Field::IpHigh => (self.ip >> 32) as u32,
                Field::Low(n) => argument(n) as u32,
                Field::High(n) => (argument(n) >> 32) as u32,
            }
        }
    }

    /// What the program returns, and after how many instructions.
    pub fn run(program: &[Instruction], data: &Data) -> (u32, usize) {
        let (mut at, mut word, mut steps) = (0, 0, 0);
        loop {
            let Instruction {
                code,
                jump_true,
                jump_false,
                value,
            } = program[at];
            steps += 1;
            let mut branch = |yes: bool| at += usize::from(if yes { jump_true } else { jump_false });
            match code {
                LOAD => word = data.word(value),
                AND => word &= value,
                JUMP => at += value as usize,
                JUMP_EQUAL => branch(word == value),
                JUMP_AT_LEAST => branch(word >= value),
                JUMP_ANY_BIT => branch(word & value != 0),
                RETURN => return (value, steps),
                other => panic!("no instruction of ours: {other:#x}"),
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::interpreter::{Data, run};
    use super::*;
    use proptest::prelude::*;

    fn holds(tests: &[Test], arg: u64) -> bool {
        let program = [if_all(tests, &[give(1)]), vec![give(0)]].concat();
        let data = Data {
            number: 0,
            arch: 0,
            ip: 0,
            args: [0, arg, 0, 0, 0, 0],
        };
        run(&program, &data).0 == 1
    }

    proptest! {
        #[test]
        fn tests_mean_what_they_say(arg in prop_oneof![any::<u64>(), 0u64..64, (0u64..8).prop_map(|n| n << 32)]) {
            let low = arg as u32;
            let field = Field::Low(1);
            prop_assert_eq!(holds(&[Test::Is(field, 3)], arg), low == 3);
            prop_assert_eq!(holds(&[Test::OneOf(field, &[3, 7, 9])], arg), [3, 7, 9].contains(&low));
            prop_assert_eq!(holds(&[Test::OneOfBut(field, 0x30, &[1, 2])], arg), [1, 2].contains(&(low & !0x30)));
            prop_assert_eq!(holds(&[Test::Within(field, 5, 20)], arg), (5..20).contains(&low));
            prop_assert_eq!(holds(&[Test::Within(field, 0, 20)], arg), low < 20);
            prop_assert_eq!(holds(&[Test::NoneOf(field, 6)], arg), low & 6 == 0);
            let both = [Test::OneOf(field, &[3, 4]), Test::Is(Field::High(1), 0)];
            prop_assert_eq!(holds(&both, arg), [3, 4].contains(&arg));
        }
    }

    #[test]
    fn listings_are_readable() {
        let program = [
            if_all(
                &[Test::Within(Field::Low(0), 3, 5), Test::Is(Field::High(0), 0)],
                &[skip(1)],
            ),
            vec![give(libc::SECCOMP_RET_TRAP), give(libc::SECCOMP_RET_ALLOW)],
        ]
        .concat();
        let lines: Vec<String> = listing(&program).collect();
        assert_eq!(
            lines,
            [
                "   0  load argument 1",
                "   1  if not >= 0x3 goto 6",
                "   2  if >= 0x5 goto 6",
                "   3  load argument 1 >> 32",
                "   4  if not == 0x0 goto 6",
                "   5  goto 7",
                "   6  return trap",
                "   7  return allow",
            ]
        );
    }
}
