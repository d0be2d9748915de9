//! Single instructions, natively and as a guest: every row of the table that `uvm doctor` prints, and random ones. Compared are
//! signal, code, address, exception, registers, flags, selectors, extended state and memory.
//!
//! `UVM_FUZZ_INSTRUCTIONS` says how many random ones are tried, `UVM_FUZZ_SEED` where they begin; with `UVM_PLATFORM` all is
//! compared on that platform alone.

#[path = "instructions/cases.rs"]
mod cases;
#[path = "instructions/generate.rs"]
mod generate;
#[path = "instructions/state.rs"]
mod state;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cases::{CASES, COUNTER, Compared, STAMPS};
use generate::{Random, decode, instruction};
use uvm::cpu::INSTRUCTIONS;

const UVM: &str = env!("CARGO_BIN_EXE_uvm");

/// Random instructions that are tried without more.
const FEW: usize = 20_000;

/// Pieces that the runner tells of together.
const BLOCK: usize = 256;

/// The platforms, and what the runner is told on each: ptrace(2) shows neither vectors nor error codes of exceptions.
const PLATFORMS: [(&str, &[&str]); 2] = [("seccomp", &[]), ("ptrace", &["--without-vectors"])];

/// The platforms to compare on.
fn platforms() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let chosen = std::env::var("UVM_PLATFORM").ok();
    let is_chosen = move |platform: &str| chosen.as_ref().is_none_or(|chosen| chosen == platform);
    PLATFORMS
        .into_iter()
        .filter(move |(platform, _)| is_chosen(platform))
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    fs::create_dir_all(&folder).expect("create the output directory");
    folder.join(name)
}

/// The program that executes pieces of code, built for this test.
fn runner(name: &str) -> PathBuf {
    let program = scratch(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/instructions/runner.c");
    let status = Command::new("cc")
        .args([
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-static-pie",
            "-fno-stack-protector",
            "-mfsgsbase",
            "-o",
        ])
        .arg(&program)
        .arg(source)
        .status()
        .expect("run the C compiler `cc`");
    assert!(status.success(), "runner.c does not compile");
    program
}

/// Pieces of code in a file of their own, and what executes them.
struct Pieces {
    runner: PathBuf,
    file: PathBuf,
    seed: u64,
    clock: &'static str,
}

impl Pieces {
    fn new(name: &str, seed: u64, pieces: impl Iterator<Item = Vec<u8>>) -> Pieces {
        let file = scratch(&format!("{name}.pieces"));
        let bytes = pieces.flat_map(|piece| {
            let length = u8::try_from(piece.len()).expect("a short piece");
            std::iter::once(length).chain(piece)
        });
        fs::write(&file, bytes.collect::<Vec<u8>>()).expect("write the pieces");
        Pieces {
            runner: runner(&format!("{name}-runner")),
            file,
            seed,
            clock: "host",
        }
    }

    /// What the runner says, natively or on a platform.
    fn run(&self, platform: Option<&str>, options: &[&str]) -> Vec<String> {
        let mut command = match platform {
            None => Command::new(&self.runner),
            Some(platform) => {
                let mut uvm = Command::new(UVM);
                uvm.args(["run", "--clock", self.clock, "--platform", platform, "/", "--"])
                    .arg(&self.runner);
                uvm
            }
        };
        command.arg(&self.file).arg(self.seed.to_string()).args(options);
        let output = command.output().expect("run the runner");
        assert!(
            output.status.success(),
            "{command:?} ends with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .expect("text")
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// As [`Pieces::run`], with an outcome for each piece from one to another.
    fn outcomes(&self, platform: Option<&str>, options: &[&str], from: usize, to: usize) -> Vec<String> {
        let (from, to) = (from.to_string(), to.to_string());
        let options: Vec<&str> = options.iter().copied().chain(["--tell", &from, &to]).collect();
        let mut lines = self.run(platform, &options);
        lines.retain(|line| !line.starts_with("block"));
        lines
    }
}

/// What of what is compared is otherwise in `guest` than in `native`, if anything is.
fn differences(native: &str, guest: &str, compared: Compared) -> Option<String> {
    let left_out = match compared {
        Compared::All => &[],
        Compared::But(names) => names,
    };
    let named = |word: &str| left_out.iter().any(|name| word.split('=').next() == Some(name));
    let pairs = native
        .split(' ')
        .zip(guest.split(' '))
        .filter(|(one, other)| one != other && !named(one));
    let pairs: Vec<String> = pairs
        .map(|(one, other)| format!("{one} but {other} as a guest"))
        .collect();
    let bytes = native.rsplit('=').next().unwrap_or_default();
    (!pairs.is_empty()).then(|| format!("{bytes}: {}", pairs.join(", ")))
}

#[test]
fn every_row_of_the_table() {
    for row in INSTRUCTIONS {
        let of_row = CASES.iter().filter(|(names, ..)| row.names.starts_with(names));
        assert_ne!(of_row.count(), 0, "{}", row.names);
    }
    let all: Vec<(&str, Compared, &[u8])> = CASES
        .iter()
        .flat_map(|(names, compared, pieces)| pieces.iter().map(|piece| (*names, *compared, *piece)))
        .collect();
    let pieces = Pieces::new("table", 1, all.iter().map(|(.., piece)| piece.to_vec()));
    for (platform, options) in platforms() {
        let native = pieces.outcomes(None, options, 0, all.len());
        let guest = pieces.outcomes(Some(platform), options, 0, all.len());
        assert_eq!((native.len(), guest.len()), (all.len(), all.len()), "{platform}");
        let mut wrong = Vec::new();
        for ((native, guest), (names, compared, _)) in native.iter().zip(&guest).zip(&all) {
            if let Some(differences) = differences(native, guest, *compared) {
                wrong.push(format!("{names}: {differences}"));
            }
        }
        assert!(wrong.is_empty(), "{platform}:\n{}", wrong.join("\n"));
    }
}

/// With a clock of its own a guest's RDTSC traps and is carried out by the virtual kernel: all but the counter is as native.
#[test]
fn time_stamps_of_a_virtual_clock() {
    let mut pieces = Pieces::new("stamps", 1, STAMPS.iter().map(|piece| piece.to_vec()));
    pieces.clock = "travel";
    for (platform, options) in platforms() {
        let native = pieces.outcomes(None, options, 0, STAMPS.len());
        let guest = pieces.outcomes(Some(platform), options, 0, STAMPS.len());
        assert_eq!(
            (native.len(), guest.len()),
            (STAMPS.len(), STAMPS.len()),
            "{platform}"
        );
        for (native, guest) in native.iter().zip(&guest) {
            assert_eq!(
                differences(native, guest, Compared::But(COUNTER)),
                None,
                "{platform}"
            );
        }
    }
}

#[test]
fn random_instructions() {
    let wish = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(
            value
                .parse()
                .unwrap_or_else(|e| panic!("{name} is no number: {e}")),
        )
    };
    let seed = wish("UVM_FUZZ_SEED").unwrap_or(1);
    let count = wish("UVM_FUZZ_INSTRUCTIONS").map_or(FEW, |count| usize::try_from(count).expect("a number"));
    let mut random = Random(seed);
    let all: Vec<Vec<u8>> = (0..count).map(|_| instruction(&mut random)).collect();
    let pieces = Pieces::new("random", seed, all.iter().cloned());
    for (platform, options) in platforms() {
        let (native, guest) = (pieces.run(None, options), pieces.run(Some(platform), options));
        assert_eq!(native.len(), guest.len(), "{platform}");
        println!("{count} instructions from seed {seed} on {platform}");
        let Some(block) = native
            .iter()
            .zip(&guest)
            .position(|(native, guest)| native != guest)
        else {
            continue;
        };
        let (from, to) = (block * BLOCK, (block + 1) * BLOCK);
        let native = pieces.outcomes(None, options, from, to);
        let guest = pieces.outcomes(Some(platform), options, from, to);
        let mut wrong = Vec::new();
        for (at, (native, guest)) in native.iter().zip(&guest).enumerate() {
            if let Some(differences) = differences(native, guest, Compared::All) {
                let code = decode(&all[from + at]).0.code();
                wrong.push(format!("number {} ({code:?}) {differences}", from + at));
            }
        }
        panic!("{platform}, seed {seed}:\n{}", wrong.join("\n"));
    }
}

/// What the emulator is given to read: the runner's data.
struct Data(Vec<u8>);

impl Data {
    fn place(&mut self, address: u64, len: usize) -> Option<&mut [u8]> {
        let at = usize::try_from(address.checked_sub(state::DATA)?).ok()?;
        self.0.get_mut(at..at.checked_add(len)?)
    }
}

impl uvm::cpu::Memory for Data {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        let from = self.place(address, bytes.len());
        from.map(|from| bytes.copy_from_slice(from)).is_some()
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        let to = self.place(address, bytes.len());
        to.map(|to| to.copy_from_slice(bytes)).is_some()
    }
}

/// Instructions that this machine has, carried out by the emulator of those that are missing: it comes to what the processor does.
#[test]
fn emulated_instructions() {
    const COUNT: usize = 20_000;
    let mut random = Random(3);
    let all: Vec<Vec<u8>> = (0..COUNT).map(|_| generate::scalar(&mut random)).collect();
    let pieces = Pieces::new("emulated", 5, all.iter().cloned());
    let native = pieces.outcomes(None, &[], 0, COUNT);
    let data = state::data(5);
    let (mut wrong, mut carried_out) = (Vec::new(), 0);
    for (at, (told, piece)) in native.iter().zip(&all).enumerate() {
        let told = state::Told::of(told);
        let code = decode(piece).0;
        // Not a fault, what the processor lacks as well, or a step: it came to the INT3 behind. Nor of code as data.
        let done = told.number("signal") == 5 && told.number("code") == 0x80;
        if !done || code.is_ip_rel_memory_operand() {
            continue;
        }
        carried_out += 1;
        let mut regs = state::registers(5, at as u64);
        let mut memory = Data(data.clone());
        let outcome = uvm::cpu::emulate(piece, &mut regs, &mut memory, 0);
        let flags = state::defined_flags(code.mnemonic());
        let same = outcome == uvm::cpu::Outcome::Done
            && state::general(&regs) == told.registers()
            && (regs.eflags ^ told.number("flags")) & flags == 0
            && told.number("data") == state::hash(&memory.0);
        if !same {
            let (is, was) = (state::general(&regs), told.registers());
            wrong.push(format!(
                "{:?} {piece:02x?}: {outcome:?}\n{is:x?}\n{was:x?}",
                code.code()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {carried_out}:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    assert!(carried_out > COUNT / 2, "{carried_out}");
}
