//! What an idle guest costs: memory of its processes and of its supervisor, and processor time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::table::{Budget, Row, Table, Unit};
use crate::variant::Variant;
use crate::{Effort, Ground};

/// Further processes of the larger idle guest.
const MORE: u32 = 8;
/// How long an idle guest's processor time is watched.
const WATCHED: Duration = Duration::from_secs(2);

pub(crate) fn measure(ground: &Ground, variants: &[Variant], _: &Effort) -> Vec<Table> {
    eprintln!("footprint");
    let mut first = Row::new("memory of an idle guest", Budget::Most(4096.0), variants.len());
    let mut further = Row::new("each further process", Budget::None, variants.len());
    let mut ticks = Row::new(
        "processor time of an idle guest",
        Budget::Most(0.0),
        variants.len(),
    );
    for (at, variant) in variants.iter().enumerate() {
        // The native one would be measured with the script that makes the chroot.
        if variant.is_native() {
            continue;
        }
        match alone(ground, variant) {
            Ok((memory, time)) => {
                first.samples[at].push(memory);
                ticks.samples[at].push(time);
                match with_more(ground, variant) {
                    Ok(all) => further.samples[at].push((all - memory) / f64::from(MORE)),
                    Err(error) => eprintln!("footprint: {}: {error:#}", variant.title()),
                }
            }
            Err(error) => eprintln!("footprint: {}: {error:#}", variant.title()),
        }
    }
    vec![
        Table {
            title: "Memory, KiB",
            note: "Proportional set size of the command and all its descendants: supervisor, stubs, helpers.",
            unit: Unit::Kibibytes,
            rows: vec![first, further],
        },
        Table {
            title: "Processor time in 2 s, ticks of 10 ms",
            note: "",
            unit: Unit::Ticks,
            rows: vec![ticks],
        },
    ]
}

/// KiB of a guest with one idle process.
pub(crate) fn idle(ground: &Ground, variant: &Variant) -> Result<f64> {
    Idle::start(ground, variant, 0)?.memory()
}

/// KiB and ticks of a guest with one idle process.
fn alone(ground: &Ground, variant: &Variant) -> Result<(f64, f64)> {
    let guest = Idle::start(ground, variant, 0)?;
    let memory = guest.memory()?;
    let before = guest.ticks()?;
    thread::sleep(WATCHED);
    Ok((memory, guest.ticks()? - before))
}

/// KiB of a guest with [`MORE`] further idle processes.
fn with_more(ground: &Ground, variant: &Variant) -> Result<f64> {
    Idle::start(ground, variant, MORE)?.memory()
}

/// A running guest that does nothing; killed at the end.
struct Idle(Child);

impl Idle {
    fn start(ground: &Ground, variant: &Variant, more: u32) -> Result<Idle> {
        let program = variant.program(ground, "idle");
        let child = variant
            .command(ground, &[&program, &more.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut idle = Idle(child);
        let stdout = idle.0.stdout.take().context("no pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim_end() == "idle", "it does not come up");
        // What the start leaves to do is done soon after.
        thread::sleep(Duration::from_millis(300));
        Ok(idle)
    }

    /// Pids of the command and all its descendants.
    fn tree(&self) -> Result<Vec<u32>> {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Ok(fields) = stat(pid) {
                let parent = fields.get(1).and_then(|field| field.parse().ok());
                children
                    .entry(parent.context("no parent")?)
                    .or_default()
                    .push(pid);
            }
        }
        let mut tree = vec![self.0.id()];
        let mut next = 0;
        while let Some(pid) = tree.get(next) {
            tree.extend(children.remove(pid).unwrap_or_default());
            next += 1;
        }
        Ok(tree)
    }

    fn memory(&self) -> Result<f64> {
        let mut sum = 0.0;
        for pid in self.tree()? {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let number = line
                .and_then(|line| line.split_whitespace().next())
                .context("no Pss")?;
            sum += number.parse::<f64>()?;
        }
        Ok(sum)
    }

    /// User and system time.
    fn ticks(&self) -> Result<f64> {
        let mut sum = 0.0;
        for pid in self.tree()? {
            for field in stat(pid)?.get(11..13).context("a short stat")? {
                sum += field.parse::<f64>()?;
            }
        }
        Ok(sum)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // It may have gone by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The fields of `/proc/PID/stat` behind the name: state, parent...
fn stat(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(") ").context("no name")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}
