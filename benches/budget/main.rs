//! What a guest costs beside the same programs natively, against the budget: `cargo bench`.
//!
//! The same static programs (`benches/guest`) and shell scripts run natively in the Debian root of the tests, under uvm
//! on each platform, and under runsc and proot where those are on PATH. All take turns, round after round, so that
//! whatever else the machine does falls on all of them alike. Nothing here is asserted.

mod calls;
mod child;
mod footprint;
mod images;
mod operations;
mod programs;
mod report;
mod startup;
mod table;
mod variant;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use report::Report;
use table::Table;
use variant::Variant;

/// Measure uvm beside native runs, and print the budget table.
#[derive(Parser)]
struct Args {
    /// A short run for CI: fewer rounds and shorter batches
    #[arg(long)]
    quick: bool,

    /// Rounds; in each, every variant runs once
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,

    /// Only these parts: operations, programs, startup, footprint, images
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    parts: Vec<String>,

    /// Only these operations and programs, by the names of the sources
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    names: Vec<String>,

    /// Only these variants beside the native one: ptrace, seccomp, runsc, proot
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    variants: Vec<String>,

    /// Put the results and a description of the machine into this Markdown file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// What cargo gives every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is measured.
struct Effort {
    /// Turns of every variant.
    rounds: usize,
    /// Length of one batch of an operation, in milliseconds, and how many of them a run has.
    batch: u32,
    batches: u32,
    /// Turns of every variant for a whole program, which takes longer.
    program_rounds: usize,
    /// Starts of a guest in each round.
    starts: usize,
    /// Megabytes of the image, uncompressed.
    image_megabytes: u32,
    names: Vec<String>,
}

impl Effort {
    fn new(args: &Args) -> Effort {
        let (rounds, batch, batches, program_rounds, starts, image_megabytes) = if args.quick {
            (2, 4, 4, 1, 4, 100)
        } else {
            (7, 8, 6, 3, 10, 1000)
        };
        Effort {
            rounds: args.rounds.unwrap_or(rounds),
            batch,
            batches,
            program_rounds: args.rounds.unwrap_or(program_rounds),
            starts,
            image_megabytes,
            names: args.names.clone(),
        }
    }

    /// Whether an operation or program of this name was asked for.
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}

/// Measures one part for all variants.
type Part = fn(&Ground, &[Variant], &Effort) -> Vec<Table>;

/// What all variants run, and where.
struct Ground {
    /// The Debian root of the tests.
    rootfs: PathBuf,
    /// The built guest programs; shown as [`variant::INSIDE`].
    programs: PathBuf,
    /// Where uvm keeps what it finds out of images.
    data: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let effort = Effort::new(&args);
    let programs = build_guest_programs()?;
    let ground = Ground {
        rootfs: rootfs()?,
        data: programs.join("data"),
        programs,
    };
    let variants: Vec<Variant> = Variant::all(&ground)
        .into_iter()
        .filter(|variant| {
            let wanted = args.variants.is_empty() || args.variants.iter().any(|name| name == variant.name());
            variant.is_native() || wanted
        })
        .collect();

    let parts: [(&str, Part); 5] = [
        ("operations", operations::measure),
        ("programs", programs::measure),
        ("startup", startup::measure),
        ("footprint", footprint::measure),
        ("images", images::measure),
    ];
    let mut report = Report::new(&variants);
    let mut all = Vec::new();
    for (name, measure) in parts {
        if args.parts.is_empty() || args.parts.iter().any(|part| part == name) {
            let tables = measure(&ground, &variants, &effort);
            for table in tables.iter().filter(|table| !table.rows.is_empty()) {
                print!("\n{}", report.add(table));
            }
            all.extend(tables);
        }
    }
    for (title, lines) in calls::measure(&ground, &variants, &effort, &all) {
        print!("\n{}", report.add_lines(&title, &lines));
    }
    print!("\n{}", report.summary());
    match &args.write {
        Some(path) => report.write(path),
        None => Ok(()),
    }
}

/// The root file system of the tests; made on the first use.
fn rootfs() -> Result<PathBuf> {
    let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rootfs/make");
    let made = child::output(&mut Command::new(make)).context("tests/rootfs/make")?;
    Ok(made.trim_end().into())
}

/// The programs of `benches/guest`, each built as one static executable.
fn build_guest_programs() -> Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    std::fs::create_dir_all(&directory).context("make the directory of the guest programs")?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/guest");
    for (name, options) in [
        ("operations", ["-pthread"].as_slice()),
        ("timed", &[]),
        ("idle", &[]),
        ("nop", &["-nostdlib"]),
    ] {
        let status = Command::new("gcc")
            .args(["-O2", "-Wall", "-Wextra", "-static"])
            .args(options)
            .arg(sources.join(name).with_extension("c"))
            .arg("-o")
            .arg(directory.join(name))
            .status()
            .context("run gcc")?;
        ensure!(status.success(), "gcc cannot build {name}");
    }
    Ok(directory)
}
