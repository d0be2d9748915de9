//! Real programs of the host: how many of their sites can be patched, and whether what runs elsewhere is the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use super::*;

/// An executable segment of a file, and its address there.
struct Segment {
    start: u64,
    bytes: Vec<u8>,
}

/// The executable segments of an ELF file; none when there is no such file.
fn segments(path: &Path) -> Option<Vec<Segment>> {
    let file = fs::read(path).ok()?;
    let word = |at: usize, len: usize| {
        let mut word = [0; 8];
        word[..len].copy_from_slice(&file[at..at + len]);
        u64::from_le_bytes(word)
    };
    let (headers, count) = (word(0x20, 8) as usize, word(0x38, 2) as usize);
    let headers = (0..count).map(|index| headers + index * 56);
    let executable = headers.filter(|at| word(*at, 4) == 1 && word(at + 4, 4) & 1 != 0);
    let segment = |at: usize| {
        let (offset, len) = (word(at + 8, 8) as usize, word(at + 32, 8) as usize);
        // As if not position independent, so that addresses are sane.
        Segment {
            start: 0x100_0000 + word(at + 16, 8),
            bytes: file[offset..offset + len].to_vec(),
        }
    };
    Some(executable.map(segment).collect())
}

impl Segment {
    /// Every `syscall` that decoding from the start comes upon.
    fn sites(&self) -> Vec<u64> {
        let decoder = Decoder::with_ip(64, &self.bytes, self.start, DecoderOptions::NONE);
        decoder
            .into_iter()
            .filter(|found| found.code() == Code::Syscall)
            .map(|found| found.ip())
            .collect()
    }

    fn window(&self, site: u64) -> Window<'_> {
        let text = self.start..self.start + self.bytes.len() as u64;
        let wanted = Window::wanted(&text, site);
        let bytes = &self.bytes[(wanted.start - self.start) as usize..(wanted.end - self.start) as usize];
        Window::new(text, wanted.start, bytes).expect("within")
    }
}

/// The number that the instructions in front of a site load, or one that nobody loads.
fn number(window: &Window<'_>, site: u64) -> u64 {
    let before = super::super::code::Code::new(window).before(site);
    before
        .iter()
        .rev()
        .find_map(super::super::site::loaded_number)
        .unwrap_or(0xdead)
}

/// How many of a file's sites can be patched, of how many.
#[derive(Debug, Default)]
struct Share {
    patched: usize,
    whole: usize,
}

fn share(path: &Path) -> Option<Share> {
    let mut share = Share::default();
    for segment in segments(path)? {
        let targets = Targets::scan(&segment.bytes);
        for site in segment.sites() {
            share.whole += 1;
            let window = segment.window(site);
            match analyse(&window, site, number(&window, site), targets.as_ref()) {
                Ok(recipe) => {
                    share.patched += 1;
                    let at = (site - 0x10_0000) & !15;
                    let plan = recipe.place(site, at, ENTRIES).expect("near enough");
                    same(&recipe, &plan);
                }
                Err(why) => println!("{}: {:#x}: {why}", path.display(), site - 0x100_0000),
            }
        }
    }
    println!("{}: {} of {}", path.display(), share.patched, share.whole);
    Some(share)
}

/// Checks that the trampoline of a plan does what the original instructions did.
pub(super) fn same(recipe: &Recipe, plan: &Plan) {
    let site = plan.site();
    let covered = plan.covered();
    let mut original = covered.start;
    let end = site + 2 + recipe.moved_after().len() as u64;
    while original < end {
        let one = instruction(
            &recipe.original()[(original - covered.start) as usize..],
            original,
        );
        if original != site {
            let copy = place_of(plan, original);
            compare(&one, plan, copy);
        }
        original = one.next_ip();
    }
}

/// Where in the trampoline the copy of an instruction is.
fn place_of(plan: &Plan, original: u64) -> u64 {
    let mut range = plan.trampoline_range();
    let place = range.rfind(|at| plan.guest_rip(*at) == Some(original));
    place.expect("a copy")
}

fn compare(original: &Instruction, plan: &Plan, at: u64) {
    let offset = (at - plan.trampoline_range().start) as usize;
    let copy = instruction(&plan.trampoline()[offset..], at);
    if original.flow_control() == FlowControl::Call {
        assert_eq!(copy.code(), Code::Push_rm64);
        return;
    }
    assert_eq!(original.mnemonic(), copy.mnemonic());
    assert_eq!(original.op_count(), copy.op_count());
    assert_eq!(original.near_branch_target(), copy.near_branch_target());
    for operand in 0..original.op_count() {
        match original.op_kind(operand) {
            OpKind::NearBranch64 => continue,
            OpKind::Register => assert_eq!(original.op_register(operand), copy.op_register(operand)),
            OpKind::Memory => {
                assert_eq!(original.memory_base(), copy.memory_base());
                assert_eq!(original.memory_index(), copy.memory_index());
                assert_eq!(original.memory_displacement64(), copy.memory_displacement64());
                assert_eq!(original.segment_prefix(), copy.segment_prefix());
            }
            _ => assert_eq!(
                original.try_immediate(operand).ok(),
                copy.try_immediate(operand).ok()
            ),
        }
        assert_eq!(original.op_kind(operand), copy.op_kind(operand));
    }
}

/// Checks that at least so many of a hundred sites can be patched, if there is such a file with sites.
fn expect(path: &str, percent: usize) {
    match share(Path::new(path)) {
        Some(share) => assert!(share.patched * 100 >= share.whole * percent, "{path}: {share:?}"),
        None => println!("{path}: not there"),
    }
}

#[test]
fn nearly_all_sites_of_glibc() {
    expect("/lib/x86_64-linux-gnu/libc.so.6", 97);
    expect("/lib64/ld-linux-x86-64.so.2", 90);
}

#[test]
fn nearly_all_sites_of_go() {
    expect("/usr/bin/go", 90);
}

#[test]
fn nearly_all_sites_of_musl_and_busybox() {
    expect("/lib/ld-musl-x86_64.so.1", 97);
    expect("/bin/busybox", 97);
}

#[test]
fn nearly_all_sites_of_a_static_program() {
    let directory = std::env::temp_dir().join(format!("uvm-patch-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("make a directory");
    let (source, program) = (directory.join("empty.c"), directory.join("empty"));
    fs::write(&source, "int main(void) { return 0; }").expect("write a program");
    let compiler = Command::new("gcc")
        .arg("-static")
        .arg("-o")
        .args([&program, &source])
        .status();
    let share = share(&program);
    fs::remove_dir_all(&directory).expect("remove the directory");
    match share {
        Some(share) => assert!(share.patched * 100 >= share.whole * 97, "{share:?}"),
        None => println!("no compiler: {compiler:?}"),
    }
}
