//! Argument and environment strings: what execve(2) copies and how much of it.

use crate::kernel::stop::Errno;
use crate::kernel::user_memory::{UserAddr, UserCString, UserMemory, UserRef};

/// Longest single string with its zero, in bytes (MAX_ARG_STRLEN).
const STRING_MAX: usize = 128 << 10;

/// Most that strings and pointers may take together whatever the stack limit (three quarters of 8 MiB), in bytes.
const TOTAL_MAX: u64 = 6 << 20;

/// What they may always take (ARG_MAX), in bytes.
const TOTAL_MIN: u64 = 128 << 10;

/// Pointers read from the guest at once.
const POINTERS: usize = 64;

/// The strings of a new program, each without its final zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Strings {
    pub(super) argv: Vec<Vec<u8>>,
    pub(super) envp: Vec<Vec<u8>>,
    /// Bytes left for more.
    pub(super) room: u64,
}

impl Strings {
    /// Strings that do not come from a guest.
    pub(super) fn new(argv: Vec<Vec<u8>>, envp: Vec<Vec<u8>>, stack_limit: u64) -> Strings {
        Strings {
            argv,
            envp,
            room: budget(stack_limit),
        }
    }

    /// Copy both vectors. EFAULT for bad pointers, E2BIG for too much. No argument at all becomes one empty argument.
    pub(super) fn read(
        memory: &UserMemory,
        argv: UserRef<u64>,
        envp: UserRef<u64>,
        stack_limit: u64,
        name_len: usize,
    ) -> Result<Strings, Errno> {
        let mut strings = Strings {
            room: budget(stack_limit),
            ..Strings::default()
        };
        strings.take(name_len as u64 + 1)?;
        strings.argv = strings.read_vector(memory, argv)?;
        strings.envp = strings.read_vector(memory, envp)?;
        if strings.argv.is_empty() {
            strings.argv.push(Vec::new());
        }
        Ok(strings)
    }

    /// Account for `bytes` more.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Errno> {
        self.room = self.room.checked_sub(bytes).ok_or(Errno::E2BIG)?;
        Ok(())
    }

    fn read_vector(&mut self, memory: &UserMemory, vector: UserRef<u64>) -> Result<Vec<Vec<u8>>, Errno> {
        let mut strings = Vec::new();
        if vector.is_null() {
            return Ok(strings);
        }
        for pointer in Pointers::new(memory, vector) {
            let pointer = pointer?;
            if pointer == 0 {
                break;
            }
            self.take(8)?;
            let string = match memory.read_cstring(UserCString(UserAddr(pointer)), STRING_MAX) {
                Err(Errno::ENAMETOOLONG) => return Err(Errno::E2BIG),
                string => string?,
            };
            self.take(string.len() as u64 + 1)?;
            strings.push(string);
        }
        Ok(strings)
    }
}

fn budget(stack_limit: u64) -> u64 {
    (stack_limit / 4).clamp(TOTAL_MIN, TOTAL_MAX)
}

/// The words of a vector, several read at a time; a word that cannot be read is EFAULT when it is reached.
struct Pointers<'a> {
    memory: &'a UserMemory,
    next: UserRef<u64>,
    read: std::vec::IntoIter<u64>,
}

impl<'a> Pointers<'a> {
    fn new(memory: &'a UserMemory, start: UserRef<u64>) -> Pointers<'a> {
        Pointers {
            memory,
            next: start,
            read: Vec::new().into_iter(),
        }
    }

    fn fill(&mut self) -> Result<(), Errno> {
        let mut bytes = [0; POINTERS * 8];
        let words = self.memory.copy_in(self.next.addr(), &mut bytes) / 8;
        if words == 0 {
            return Err(Errno::EFAULT);
        }
        self.next = self.next.at(words as u64)?;
        let words: Vec<u64> = bytes[..words * 8]
            .chunks_exact(8)
            .map(|word| word.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
            .collect();
        self.read = words.into_iter();
        Ok(())
    }
}

impl Iterator for Pointers<'_> {
    type Item = Result<u64, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(word) = self.read.next() {
            return Some(Ok(word));
        }
        if let Err(errno) = self.fill() {
            return Some(Err(errno));
        }
        self.read.next().map(Ok)
    }
}
