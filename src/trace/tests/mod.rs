//! Lines compared with those of strace 6.1, from runs of the same calls.

mod files;
mod objects;
mod processes;

use super::*;
use crate::trace::memory::Memory;

/// A guest's memory: pieces at their addresses.
#[derive(Default)]
struct Guest(Vec<(u64, Vec<u8>)>);

impl Guest {
    fn with(mut self, addr: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.0.push((addr, bytes.as_ref().to_vec()));
        self
    }

    /// Numbers of 32 bits, one behind the other.
    fn words(self, addr: u64, words: &[u32]) -> Self {
        self.with(
            addr,
            words
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect::<Vec<u8>>(),
        )
    }

    /// Numbers of 64 bits, one behind the other.
    fn longs(self, addr: u64, longs: &[u64]) -> Self {
        self.with(
            addr,
            longs
                .iter()
                .flat_map(|long| long.to_le_bytes())
                .collect::<Vec<u8>>(),
        )
    }
}

impl Memory for Guest {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let holds = |start: u64, len: usize| (start..start + len as u64).contains(&addr);
        let Some((start, bytes)) = self.0.iter().find(|(start, bytes)| holds(*start, bytes.len())) else {
            return 0;
        };
        let found = &bytes[(addr - start) as usize..];
        let len = found.len().min(buf.len());
        buf[..len].copy_from_slice(&found[..len]);
        len
    }
}

/// The line of a call; `before` and `after` is what memory holds then.
fn changing(name: &str, args: &[u64], before: &Guest, result: i64, after: &Guest) -> String {
    let row = syscall_table::by_name(name).expect("a call of that name");
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let mut line = String::new();
    enter(row, &all, before, &mut line);
    exit(row, &all, result, after, &mut line);
    // The column of the result is tested on its own.
    let (call, result) = line.rsplit_once("= ").expect("a result");
    format!("{}= {result}", call.trim_end().to_owned() + " ")
}

fn line(name: &str, args: &[u64], result: i64, guest: &Guest) -> String {
    changing(name, args, guest, result, guest)
}

const AT_FDCWD: u64 = 0xffff_ff9c;
const P: u64 = 0x1000;
const Q: u64 = 0x2000;
const R: u64 = 0x3000;

#[test]
fn results_begin_in_one_column() {
    let row = syscall_table::by_name("close").expect("close");
    let mut out = String::from("a line before\n");
    enter(row, &[3, 0, 0, 0, 0, 0], &Guest::default(), &mut out);
    exit(row, &[3, 0, 0, 0, 0, 0], 0, &Guest::default(), &mut out);
    assert_eq!(out, "a line before\nclose(3)                                = 0");
}

#[test]
fn a_call_is_begun_up_to_what_it_will_fill() {
    let row = syscall_table::by_name("read").expect("read");
    let mut out = String::new();
    enter(row, &[3, P, 8, 0, 0, 0], &Guest::default(), &mut out);
    assert_eq!(out, "read(3, ");
}

/// No pointer, length or number makes the formatter fail or print without end.
#[test]
fn wild_arguments_are_survived() {
    let everywhere = Everywhere;
    let none = Guest::default();
    for row in syscall_table::rows() {
        for value in [
            0,
            1,
            7,
            0x1000,
            0x7fff_ffff,
            0xffff_ffff,
            1 << 47,
            i64::MAX.cast_unsigned(),
            u64::MAX,
        ] {
            for result in [i64::MIN, -4096, -4095, -1, 0, 1, 4096, i64::MAX] {
                for mem in [&everywhere as &dyn Memory, &none] {
                    let mut out = String::new();
                    enter(row, &[value; 6], mem, &mut out);
                    exit(row, &[value; 6], result, mem, &mut out);
                    assert!(out.len() < 1 << 20, "{}: {} bytes", row.name, out.len());
                }
            }
        }
    }
}

/// Memory that is readable at any address and holds ones.
struct Everywhere;

impl Memory for Everywhere {
    fn read(&self, _: u64, buf: &mut [u8]) -> usize {
        buf.fill(1);
        buf.len()
    }
}
