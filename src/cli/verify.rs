//! `uvm verify`: whether what a guest does follows from the seed, and for which seed it ends otherwise.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::EXIT_FAILURE;

/// Options of `uvm verify`.
#[derive(Args)]
#[command(after_help = "\
The command runs as by `uvm run --deterministic`, with nothing to read. Without --seeds it runs twice with one seed, and all its system \
calls, what it writes and its exit status have to be the same. With --seeds it runs once for each seed from 0 on, and the first seed \
is told for which it ends or writes otherwise than for seed 0. The exit status is 0 when nothing differs and 1 otherwise.")]
pub(super) struct VerifyArgs {
    /// Compare so many seeds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    seeds: Option<u64>,

    /// The seed of both runs
    #[arg(long, value_name = "NUMBER", default_value_t = 0, conflicts_with = "seeds")]
    seed: u64,

    /// Options of `uvm run`, ROOTFS or IMAGE, and the command
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "RUN-ARGUMENT"
    )]
    run: Vec<OsString>,
}

/// What came of one run.
struct Ran {
    seed: u64,
    output: Output,
    trace: Vec<u8>,
}

impl Ran {
    fn of(args: &VerifyArgs, seed: u64) -> Result<Ran> {
        // No file that a guest could find.
        let mut trace = File::from(memfd_create(c"uvm-verify", MFdFlags::MFD_CLOEXEC)?);
        let path = format!("--trace=/proc/{}/fd/{}", std::process::id(), trace.as_raw_fd());
        let program = std::env::current_exe().context("verify: this program")?;
        let output = Command::new(program)
            .args(["run", "--deterministic", "--seed", &seed.to_string(), &path])
            .args(&args.run)
            .stdin(Stdio::null())
            .output()
            .context("verify: starting a run")?;
        let mut bytes = Vec::new();
        trace.rewind()?;
        trace.read_to_end(&mut bytes)?;
        let told = String::from_utf8_lossy(&output.stderr);
        let last = told.trim_end().lines().next_back().unwrap_or_default();
        // A guest may end so itself.
        if output.status.code() == Some(EXIT_FAILURE.into())
            && let Some(told) = last.strip_prefix("uvm: ")
        {
            bail!("verify: {told}");
        }
        Ok(Ran {
            seed,
            output,
            trace: bytes,
        })
    }

    fn ends_as(&self, other: &Ran) -> bool {
        self.output == other.output
    }

    fn status(&self) -> String {
        self.output
            .status
            .code()
            .map_or("a signal".into(), |code| code.to_string())
    }

    fn calls(&self) -> usize {
        self.trace.split(|byte| *byte == b'\n').count().saturating_sub(1)
    }
}

/// Run, compare, print, and return the exit status.
pub(super) fn run(args: &VerifyArgs) -> Result<u8> {
    let Some(seeds) = args.seeds else {
        let (one, two) = (Ran::of(args, args.seed)?, Ran::of(args, args.seed)?);
        if one.ends_as(&two) && one.trace == two.trace {
            println!(
                "two runs with seed {} are the same: {} lines of trace, exit status {}",
                args.seed,
                one.calls(),
                one.status()
            );
            return Ok(0);
        }
        println!("two runs with seed {} differ{}", args.seed, ends(&one, &two));
        show_difference(&one, &two, ["first", "second"]);
        return Ok(1);
    };
    let first = Ran::of(args, 0)?;
    for seed in 1..seeds {
        let ran = Ran::of(args, seed)?;
        if !ran.ends_as(&first) {
            println!("seed {seed} differs from seed 0{}", ends(&first, &ran));
            let names = [first.seed, ran.seed].map(|seed| format!("seed {seed}"));
            show_difference(&first, &ran, [&names[0], &names[1]]);
            println!("to see it again: uvm run --deterministic --seed {seed} ...");
            return Ok(1);
        }
    }
    println!("{seeds} seeds end the same, with exit status {}", first.status());
    Ok(0)
}

fn ends(one: &Ran, two: &Ran) -> String {
    if one.output.status != two.output.status {
        format!(": exit status {} and {}", one.status(), two.status())
    } else if one.ends_as(two) {
        ", but end the same".into()
    } else {
        ": they write something else".into()
    }
}

/// The first lines of the traces that differ.
fn show_difference(one: &Ran, two: &Ran, names: [&str; 2]) {
    let lines = |ran: &Ran| -> Vec<String> {
        let text = String::from_utf8_lossy(&ran.trace);
        text.lines().map(str::to_owned).collect()
    };
    let (first, second) = (lines(one), lines(two));
    let Some(at) = (0..first.len().max(second.len())).find(|&at| first.get(at) != second.get(at)) else {
        println!("their system calls are the same");
        return;
    };
    println!(
        "the first system calls that differ, line {} of the traces:",
        at + 1
    );
    for (name, lines) in names.iter().zip([first, second]) {
        println!("  {name}: {}", lines.get(at).map_or("has ended", String::as_str));
    }
}
