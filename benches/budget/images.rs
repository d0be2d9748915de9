//! Images beside directories: a start, the first indexing, reading everything, the memory of the index; and the upper layer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::table::{Budget, Row, Samples, Table, Unit};
use crate::variant::Variant;
use crate::{Effort, Ground, child, footprint};

/// How layers are compressed: the name of the layout, and what its first indexing has to do.
const KINDS: [&str; 3] = ["plain", "gzip", "zstd"];
/// Bytes of uncompressed layers that are indexed in a second, at least.
const RATE: Budget = Budget::Least(200.0);
/// How much later than from a directory a program starts from an indexed image, at most, in nanoseconds.
const LATER: Budget = Budget::Most(15e6);
/// Times that reading everything of an image takes what it takes from a directory, at most.
const READING: Budget = Budget::Most(2.0);
/// Bytes of memory that the index takes for each file, at most.
const INDEX: Budget = Budget::Most(200.0);
/// Times that writing into the upper takes what it takes natively into a tmpfs, at most.
const WRITING: Budget = Budget::Ratio(3.0);

const READ_ALL: &str = "find / -xdev -type f -exec cat {} + | cat >/dev/null";

/// The same files as layouts and as a directory.
struct Images {
    place: PathBuf,
    /// Bytes of all layers, uncompressed.
    bytes: f64,
    /// How many there are.
    files: f64,
}

impl Images {
    /// Makes them, unless an earlier run has.
    fn make(ground: &Ground, megabytes: u32) -> Result<Images> {
        let place = ground.programs.join(format!("images-{megabytes}"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/images");
        let made = Command::new(script)
            .arg(&ground.rootfs)
            .arg(&place)
            .arg(megabytes.to_string())
            .stdin(Stdio::null())
            .status()?;
        ensure!(made.success(), "benches/images: {made}");
        let facts = fs::read_to_string(place.join("facts"))?;
        let (bytes, files) = facts.trim_end().split_once(' ').context("facts")?;
        Ok(Images {
            bytes: bytes.parse()?,
            files: files.parse()?,
            place,
        })
    }

    /// One of them as what guests are started from.
    fn ground(&self, ground: &Ground, name: &str) -> Ground {
        Ground {
            rootfs: self.place.join(name),
            programs: ground.programs.clone(),
            data: self.place.join("data"),
        }
    }

    /// Forgets what earlier starts have found out.
    fn forget(&self) -> Result<()> {
        match fs::remove_dir_all(self.place.join("data")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Only uvm has images, and only on one platform are they measured: the other one reads them by the same code.
pub(crate) fn measure(ground: &Ground, variants: &[Variant], effort: &Effort) -> Vec<Table> {
    let place = |platform| variants.iter().position(|variant| variant.is_uvm(platform));
    let Some(at) = place("seccomp").or_else(|| place("ptrace")) else {
        return Vec::new();
    };
    let made = Images::make(ground, effort.image_megabytes).and_then(|images| {
        let run = Run {
            images: &images,
            ground,
            variants,
            at,
            effort,
        };
        run.tables()
    });
    made.unwrap_or_else(|error| {
        eprintln!("images: {error:#}");
        Vec::new()
    })
}

/// What is measured, and by which variant.
struct Run<'a> {
    images: &'a Images,
    ground: &'a Ground,
    variants: &'a [Variant],
    at: usize,
    effort: &'a Effort,
}

impl Run<'_> {
    fn tables(&self) -> Result<Vec<Table>> {
        let indexing = self.indexing()?;
        let (start, later) = self.starts()?;
        let (reading, times) = self.reading()?;
        let memory = self.memory()?;
        let table = |title, note, unit, rows| Table {
            title,
            note,
            unit,
            rows,
        };
        Ok(vec![
            table(
                "Images: first indexing, MB of uncompressed layers in a second",
                "Of an OCI layout of 20 layers, of 1 GB unless `--quick` is given, to the end of a run of /bin/true: digests are checked, \
                 what is compressed is decompressed, and index and layers are kept on the disk.",
                Unit::Times,
                indexing,
            ),
            table(
                "Images: times, ms",
                "The files of those 20 layers from the image, indexed before, and from a plain directory, both under uvm; each in a guest of \
                 its own. What is written goes to the root's upper layer in memory, natively to a tmpfs.",
                Unit::Milliseconds,
                [start, vec![later], reading, vec![self.writing()]].concat(),
            ),
            table("Images: ratios", "", Unit::Times, vec![times]),
            table(
                "Images: memory of the index, bytes a file",
                "By how much an idle guest takes more memory than from the directory.",
                Unit::Bytes,
                vec![memory],
            ),
        ])
    }

    fn row(&self, label: impl Into<String>, budget: Budget) -> Row {
        Row::new(label, budget, self.variants.len())
    }

    fn uvm(&self) -> &Variant {
        &self.variants[self.at]
    }

    /// Nanoseconds of a start of /bin/true, from outside.
    fn start(&self, name: &str) -> Result<f64> {
        let ground = self.images.ground(self.ground, name);
        let mut command = self.uvm().start(&ground, None);
        let begin = Instant::now();
        child::run(&mut command).with_context(|| format!("start {name}"))?;
        Ok(begin.elapsed().as_secs_f64() * 1e9)
    }

    fn indexing(&self) -> Result<Vec<Row>> {
        let mut rows = KINDS.map(|kind| self.row(kind, RATE));
        for round in 1..=self.effort.program_rounds {
            eprintln!("images: indexing, round {round}");
            for (row, kind) in rows.iter_mut().zip(KINDS) {
                self.images.forget()?;
                let rate = self.images.bytes * 1e3 / self.start(kind)?;
                row.samples[self.at].push_larger(rate);
            }
        }
        Ok(rows.into())
    }

    fn starts(&self) -> Result<(Vec<Row>, Row)> {
        let mut directory = self.row("start from a directory", Budget::None);
        let mut image = self.row("start from an indexed image", Budget::None);
        self.start(KINDS[1])?;
        for round in 1..=self.effort.rounds {
            eprintln!("images: starts, round {round}");
            for _ in 0..self.effort.starts {
                directory.samples[self.at].push(self.start("tree")?);
                image.samples[self.at].push(self.start(KINDS[1])?);
            }
        }
        let mut later = self.row("so much later from the image", LATER);
        let [from_directory, from_image] = [&directory, &image].map(|row| row.samples[self.at].least());
        if let (Some(from_directory), Some(from_image)) = (from_directory, from_image) {
            later.samples[self.at].push((from_image - from_directory).max(0.0));
        }
        Ok((vec![directory, image], later))
    }

    /// Nanoseconds of a script in a guest of its own, inside.
    fn inside(&self, ground: &Ground, variant: &Variant, setup: &str, script: &str) -> Result<f64> {
        let timed = variant.program(ground, "timed");
        let text = child::output(&mut variant.command(ground, &[&timed, "1", setup, script]))?;
        text.trim().parse().context("no figure")
    }

    fn reading(&self) -> Result<(Vec<Row>, Row)> {
        let mut directory = self.row("find and read everything, directory", Budget::None);
        let mut image = self.row("find and read everything, image", Budget::None);
        for round in 1..=self.effort.program_rounds {
            eprintln!("images: reading, round {round}");
            for (row, name) in [(&mut directory, "tree"), (&mut image, KINDS[1])] {
                let ground = self.images.ground(self.ground, name);
                row.samples[self.at].push(self.inside(&ground, self.uvm(), ":", READ_ALL)?);
            }
        }
        let mut times = self.row("find and read everything: image by directory", READING);
        let [from_directory, from_image] = [&directory, &image].map(|row| row.samples[self.at].least());
        if let (Some(from_directory), Some(from_image)) = (from_directory, from_image) {
            times.samples[self.at].push(from_image / from_directory);
        }
        Ok((vec![directory, image], times))
    }

    fn memory(&self) -> Result<Row> {
        let mut row = self.row("index", INDEX);
        let kibibytes = |name: &str| footprint::idle(&self.images.ground(self.ground, name), self.uvm());
        let more = (kibibytes(KINDS[1])? - kibibytes("tree")?).max(0.0);
        row.samples[self.at].push(more * 1024.0 / self.images.files);
        Ok(row)
    }

    fn writing(&self) -> Row {
        let mut row = self.row("80 MB in blocks of 4 KiB into the upper", WRITING);
        for _ in 0..self.effort.rounds {
            for at in [0, self.at] {
                let variant = &self.variants[at];
                let file = if variant.is_native() {
                    "/tmp/blocks"
                } else {
                    "/blocks"
                };
                let script = format!("dd if=/dev/zero of={file} bs=4k count=20480 status=none");
                match self.inside(self.ground, variant, &format!("rm -f {file}"), &script) {
                    Ok(nanoseconds) => row.samples[at].push(nanoseconds),
                    Err(error) => eprintln!("{}: {}: {error:#}", row.label, variant.title()),
                }
            }
        }
        row
    }
}

impl Samples {
    /// Keeps the larger one: of rates the best is what the thing does when nothing comes between.
    fn push_larger(&mut self, value: f64) {
        let best = self.least().unwrap_or(value).max(value);
        *self = Samples::default();
        self.push(best);
    }
}
