//! `uvm doctor`: what this host offers, which platform that allows, what becomes of sensitive instructions, and the filter of the seccomp platform.

use std::io::{self, Write};

use clap::Args;

use super::json::{string, strings};
use crate::cpu::{INSTRUCTIONS, Instruction, Model, Remedy};
use crate::machine::default_platform;
use crate::platform::Io;
use crate::platform::bpf::{action_name, listing};
use crate::platform::host::{self, Fact, Missing, PlatformKind};
use crate::platform::seccomp::{self, filter};

/// Options of `uvm doctor`.
#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print what the seccomp platform lets guest processes do, and the program that sees to it
    #[arg(long)]
    filter: bool,
}

/// Status when no platform runs on this host.
const NO_PLATFORM: u8 = 1;

/// Prints what is asked for and returns the exit status.
///
/// # Errors
/// Those of `out`.
pub(super) fn print(args: &DoctorArgs, out: &mut dyn Write) -> io::Result<u8> {
    if args.filter {
        if args.json {
            filter_json(out)?;
        } else {
            filter_text(out)?;
        }
        return Ok(0);
    }
    let facts = host::facts();
    let report = Report {
        choice: default_platform(&facts),
        missing: [PlatformKind::Ptrace, PlatformKind::Seccomp]
            .map(|kind| (kind, host::missing(&facts, kind))),
        facts,
    };
    if args.json {
        report.json(out)?;
    } else {
        report.text(out)?;
    }
    Ok(if report.choice.is_some() { 0 } else { NO_PLATFORM })
}

/// What can be said to `uvm run` on this host of the processor, and what comes of it.
fn options(has: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let cpuid = has("cpuid-faulting");
    let shown = if cpuid {
        "by CPUID, /proc/cpuinfo and the auxiliary vector"
    } else {
        "without CPUID faulting, guests see this machine's processor"
    };
    let mut options = vec![("--cpu host".into(), format!("this machine's processor, {shown}"))];
    for level in 1..=4 {
        let name = format!("x86-64-v{level}");
        let model = name.parse().and_then(|choice| Model::here(&choice, 1, false));
        let what = match model {
            Ok(_) if cpuid => "this machine can show it".to_owned(),
            Ok(_) => "cannot be shown here: the host has no CPUID faulting".to_owned(),
            Err(why) => format!("cannot be shown here: {why}"),
        };
        options.push((format!("--cpu {name}"), what));
    }
    let cpus = if cpuid {
        "that many CPUs, by every way to ask"
    } else {
        "that many CPUs, by every way to ask but CPUID"
    };
    options.push(("--cpus N".into(), cpus.into()));
    options
}

struct Report {
    choice: Option<PlatformKind>,
    missing: [(PlatformKind, Option<Missing>); 2],
    facts: Vec<Fact>,
}

impl Report {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.choice {
            Some(kind) => writeln!(out, "uvm run uses the {} platform on this host.", kind.name())?,
            None => writeln!(out, "uvm run cannot run anything on this host.")?,
        }
        writeln!(out)?;
        for (kind, missing) in &self.missing {
            match missing {
                None => writeln!(out, "{:<8} the host has all that it needs", kind.name())?,
                Some(missing) => writeln!(out, "{:<8} {missing}", kind.name())?,
            }
        }
        for (present, title) in [(true, "There is"), (false, "There is not")] {
            let facts: Vec<&Fact> = self.facts.iter().filter(|fact| fact.present == present).collect();
            if !facts.is_empty() {
                writeln!(out, "\n{title}")?;
            }
            facts.into_iter().try_for_each(|fact| fact_text(fact, out))?;
        }
        writeln!(out, "\nInstructions whose effect depends on the machine")?;
        for row in INSTRUCTIONS {
            self.instruction_text(row, out)?;
        }
        writeln!(out, "\nOptions of uvm run that follow")?;
        for (option, what) in options(|id| self.has(id)) {
            writeln!(out, "  {option:<16} {what}")?;
        }
        Ok(())
    }

    /// Whether the host has the fact of this id.
    fn has(&self, id: &str) -> bool {
        self.facts.iter().any(|fact| fact.id == id && fact.present)
    }

    fn instruction_text(&self, row: &Instruction, out: &mut dyn Write) -> io::Result<()> {
        let (class, handling) = (row.class.name(), row.handling(|id| self.has(id)));
        let traps = if row.traps(|id| self.has(id)) {
            "traps"
        } else {
            "does not trap"
        };
        writeln!(out, "  {} ({class}, {traps} here)", row.names)?;
        writeln!(out, "      {}", handling.handled)?;
        match handling.visible {
            "" => Ok(()),
            visible => writeln!(out, "      guests see {visible}"),
        }
    }

    fn instruction_json(&self, row: &Instruction) -> String {
        let handling = row.handling(|id| self.has(id));
        let by = match row.remedy {
            Remedy::Itself => "\"itself\"".into(),
            Remedy::Platform => "\"platform\"".into(),
            Remedy::Host(fact) => string(fact),
            Remedy::Nothing => "null".into(),
        };
        format!(
            "{{\"names\":{},\"class\":{},\"traps\":{},\"by\":{by},\"handled\":{},\"visible\":{}}}",
            string(row.names),
            string(row.class.name()),
            row.traps(|id| self.has(id)),
            string(handling.handled),
            string(handling.visible),
        )
    }

    fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let choice = self.choice.map_or("null".into(), |kind| string(kind.name()));
        let platforms = self.missing.each_ref().map(|(kind, missing)| {
            let missing = missing
                .as_ref()
                .map_or("null".into(), |missing| string(&missing.to_string()));
            format!("{{\"name\":{},\"missing\":{missing}}}", string(kind.name()))
        });
        let facts: Vec<String> = self.facts.iter().map(fact_json).collect();
        let instructions: Vec<String> = INSTRUCTIONS
            .iter()
            .map(|row| self.instruction_json(row))
            .collect();
        let options: Vec<String> = options(|id| self.has(id))
            .iter()
            .map(|(option, what)| format!("{{\"option\":{},\"what\":{}}}", string(option), string(what)))
            .collect();
        writeln!(
            out,
            "{{\"platform\":{choice},\n\"platforms\":[\n{}],\n\"facts\":[\n{}],\n\"instructions\":[\n{}],\n\"options\":[\n{}]}}",
            platforms.join(",\n"),
            facts.join(",\n"),
            instructions.join(",\n"),
            options.join(",\n")
        )
    }
}

fn fact_text(fact: &Fact, out: &mut dyn Write) -> io::Result<()> {
    let detail = match fact.detail.as_str() {
        "" => String::new(),
        detail => format!(" ({detail})"),
    };
    writeln!(out, "  {}{detail}", fact.what)?;
    if fact.present {
        writeln!(out, "      for {}", fact.needed_for)
    } else {
        writeln!(out, "      for {}; without it {}", fact.needed_for, fact.without)
    }
}

fn fact_json(fact: &Fact) -> String {
    format!(
        "{{\"id\":{},\"what\":{},\"present\":{},\"detail\":{},\"needed_by\":{},\"needed_for\":{},\"without\":{}}}",
        string(fact.id),
        string(fact.what),
        fact.present,
        string(&fact.detail),
        strings(fact.needed_by.iter().map(|kind| kind.name())),
        string(fact.needed_for),
        string(fact.without),
    )
}

fn filter_text(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "From guest code every call is a trap; from the runtime's text these are let through:\n"
    )?;
    let title = ("number", "name", "action");
    writeln!(out, "{:>6}  {:<16}  {:<6}  arguments", title.0, title.1, title.2)?;
    for entry in filter::entries(Io::Enlightened) {
        let conditions = match entry.conditions() {
            none if none.is_empty() => "any".to_owned(),
            some => some.join("; or "),
        };
        let action = action_name(entry.action);
        writeln!(
            out,
            "{:>6}  {:<16}  {action:<6}  {conditions}",
            entry.row.nr, entry.row.name
        )?;
    }
    let on_files = filter::entries(Io::Enlightened)
        .into_iter()
        .filter(filter::Entry::is_on_files);
    let on_files: Vec<&str> = on_files.map(|entry| entry.row.name).collect();
    writeln!(
        out,
        "\nAny other kills the guest process. --io=mediated leaves out {}. The program:\n",
        on_files.join(", ")
    )?;
    listing(&program()).try_for_each(|line| writeln!(out, "{line}"))
}

fn filter_json(out: &mut dyn Write) -> io::Result<()> {
    let calls: Vec<String> = filter::entries(Io::Enlightened).iter().map(entry_json).collect();
    let program: Vec<String> = listing(&program())
        .map(|line| string(line.trim_start()))
        .collect();
    writeln!(
        out,
        "{{\"calls\":[\n{}],\n\"program\":[\n{}]}}",
        calls.join(",\n"),
        program.join(",\n")
    )
}

fn entry_json(entry: &filter::Entry) -> String {
    let conditions = entry.conditions();
    format!(
        "{{\"number\":{},\"name\":{},\"action\":{},\"conditions\":{}}}",
        entry.row.nr,
        string(entry.row.name),
        string(action_name(entry.action)),
        strings(conditions.iter().map(String::as_str)),
    )
}

fn program() -> Vec<crate::platform::bpf::Instruction> {
    filter::program(seccomp::text(), Io::Enlightened)
}
