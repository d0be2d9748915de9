//! Whole programs in the Debian root, timed inside by `benches/guest/timed.c`.

use anyhow::{Context, Result};

use crate::calls::Calls;
use crate::table::{Budget, Row, Table, Unit};
use crate::variant::Variant;
use crate::{Effort, Ground, child};

struct Program {
    name: &'static str,
    label: &'static str,
    budget: f64,
    /// The first repetition warms the caches of a fresh guest, as the host's are warm; the shortest counts.
    repetitions: u32,
    /// Not timed. Standard output is not looked at.
    setup: &'static str,
    script: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "true",
        label: "200 x /bin/true from sh",
        budget: 2.0,
        repetitions: 2,
        setup: ":",
        script: "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i + 1)); done",
    },
    Program {
        name: "make",
        label: "make -j2, 24 small C files",
        budget: 1.15,
        repetitions: 1,
        // Twelve sources of the project that the tests build, twice.
        setup: r#"mkdir -p /tmp/make && cd /tmp/make && cp -r /srv/project/src one && rm one/main.c && cp -r one two
            printf 'all: $(patsubst %%.c,%%.o,$(wildcard */*.c))\n%%.o: %%.c\n\tgcc -O2 -c -o $@ $<\n' >Makefile"#,
        script: "cd /tmp/make && make -s -j2",
    },
    Program {
        name: "find",
        label: "find /usr -printf",
        budget: 3.0,
        repetitions: 2,
        setup: ":",
        script: r"find /usr -printf '%p %s %m %u %T@\n' >/tmp/found",
    },
    Program {
        name: "tar",
        label: "tar of /usr parts through a pipe",
        budget: 2.0,
        repetitions: 2,
        setup: ":",
        script: "cd /usr && tar -cf - lib/python3* share/perl lib/git-core include | cat >/dev/null",
    },
    Program {
        name: "dd",
        label: "dd 4 KiB blocks, 80 MB out and in",
        budget: 3.0,
        repetitions: 2,
        setup: "rm -f /tmp/blocks",
        script: "dd if=/dev/zero of=/tmp/blocks bs=4k count=20480 status=none; dd if=/tmp/blocks of=/dev/null bs=4k status=none",
    },
    Program {
        name: "git",
        label: "git init, add, commit of 600 files",
        budget: 2.0,
        repetitions: 2,
        setup: r#"rm -rf /tmp/git && mkdir /tmp/git && cd /tmp/git
            for d in $(seq 20); do mkdir $d; for f in $(seq 30); do echo "file $f of $d" >$d/$f; done; done"#,
        script: "cd /tmp/git && git -c init.defaultBranch=main init -q && git add . &&
            git -c user.name=n -c user.email=n@example.org -c gc.auto=0 commit -q -m all",
    },
];

pub(crate) fn measure(ground: &Ground, variants: &[Variant], effort: &Effort) -> Vec<Table> {
    let mut rows = Vec::new();
    for program in PROGRAMS.iter().filter(|program| effort.wants(program.name)) {
        eprintln!("programs: {}", program.label);
        let mut row = Row::new(program.label, Budget::Ratio(program.budget), variants.len());
        for _ in 0..effort.program_rounds {
            for (variant, samples) in variants.iter().zip(&mut row.samples) {
                if !variant.has_rootfs() {
                    continue;
                }
                match once(ground, variant, program) {
                    Ok(nanoseconds) => samples.push(nanoseconds),
                    Err(error) => eprintln!("{}: {}: {error:#}", program.label, variant.title()),
                }
            }
        }
        rows.push(row);
    }
    vec![Table {
        title: "Whole programs, ms",
        note: "Timed inside, in the Debian root of the tests, each in a guest of its own; where it is short, after a first run that fills the caches of the guest.",
        unit: Unit::Milliseconds,
        rows,
    }]
}

/// Calls of one run of each program, by label.
pub(crate) fn calls(
    ground: &Ground,
    variant: &Variant,
    effort: &Effort,
) -> Vec<(&'static str, Result<Calls>)> {
    let all = PROGRAMS.iter().filter(|program| effort.wants(program.name));
    all.map(|program| (program.label, calls_of(ground, variant, program)))
        .collect()
}

fn calls_of(ground: &Ground, variant: &Variant, program: &Program) -> Result<Calls> {
    let timed = variant.program(ground, "timed");
    let run = |script| Calls::of(ground, variant, &[&timed, "1", program.setup, script]);
    Ok(run(program.script)?.since(run(":")?))
}

fn once(ground: &Ground, variant: &Variant, program: &Program) -> Result<f64> {
    let timed = variant.program(ground, "timed");
    let repetitions = program.repetitions.to_string();
    let arguments = [&timed, &*repetitions, program.setup, program.script];
    let text = child::output(&mut variant.command(ground, &arguments))?;
    text.trim().parse().context("no figure")
}
