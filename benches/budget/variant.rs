//! The ways to run a program that are compared.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Ground, child};

/// Where the guest programs are found inside; a directory that the Debian root has.
pub(crate) const INSIDE: &str = "/mnt";

const ENVIRONMENT: [&str; 5] = [
    "-i",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "TZ=UTC",
];

/// One way to run a program.
pub(crate) struct Variant {
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// In the root by chroot(1), in a mount namespace of its own.
    Chroot,
    Bwrap,
    /// On this machine's own files.
    Plain,
    Uvm(&'static str),
    Runsc,
    Proot,
}

impl Variant {
    /// All that work here, the native one first. What does not work is told on stderr.
    pub(crate) fn all(ground: &Ground) -> Vec<Variant> {
        let native = [How::Chroot, How::Bwrap, How::Plain]
            .into_iter()
            .find(|how| how.is_there() && how.works(ground).is_ok())
            .unwrap_or(How::Plain);
        let mut all = vec![Variant { how: native }];
        for how in [How::Uvm("seccomp"), How::Uvm("ptrace"), How::Runsc, How::Proot] {
            let works = if how.is_there() {
                how.works(ground)
            } else {
                Err(anyhow::anyhow!("not on PATH"))
            };
            match works {
                Ok(()) => all.push(Variant { how }),
                Err(error) => eprintln!("left out: {}: {error:#}", Variant { how }.title()),
            }
        }
        all
    }

    pub(crate) fn is_native(&self) -> bool {
        matches!(self.how, How::Chroot | How::Bwrap | How::Plain)
    }

    /// Whether it is this platform of uvm.
    pub(crate) fn is_uvm(&self, platform: &str) -> bool {
        matches!(self.how, How::Uvm(name) if name == platform)
    }

    /// Whether it sees the files of the Debian root.
    pub(crate) fn has_rootfs(&self) -> bool {
        self.how != How::Plain
    }

    /// The command that runs this program of the root and tells by `--stats` what it did; none but uvm can.
    pub(crate) fn counting(&self, ground: &Ground, program: &[&str]) -> Option<Command> {
        matches!(self.how, How::Uvm(_)).then(|| self.how.command(ground, &["--stats"], program))
    }

    /// What `--variants` calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self.how {
            How::Chroot | How::Bwrap | How::Plain => "native",
            How::Uvm(platform) => platform,
            How::Runsc => "runsc",
            How::Proot => "proot",
        }
    }

    /// The head of its column.
    pub(crate) fn title(&self) -> String {
        match self.how {
            How::Chroot => "native (chroot)".into(),
            How::Bwrap => "native (bwrap)".into(),
            How::Plain => "native (plain)".into(),
            How::Uvm(platform) => format!("uvm {platform}"),
            How::Runsc => "runsc".into(),
            How::Proot => "proot".into(),
        }
    }

    /// The command that runs this program of the root.
    pub(crate) fn command(&self, ground: &Ground, program: &[&str]) -> Command {
        self.how.command(ground, &[], program)
    }

    /// The command that runs a guest program, or `/bin/true`, and no more than it takes.
    pub(crate) fn start(&self, ground: &Ground, name: Option<&str>) -> Command {
        match name {
            Some(name) => self.how.bare(ground, true, &[], &[&self.program(ground, name)]),
            None => self.how.bare(ground, false, &[], &["/bin/true"]),
        }
    }

    /// The path inside of one of the guest programs.
    pub(crate) fn program(&self, ground: &Ground, name: &str) -> String {
        if self.has_rootfs() {
            format!("{INSIDE}/{name}")
        } else {
            ground.programs.join(name).to_string_lossy().into_owned()
        }
    }
}

impl How {
    fn is_there(self) -> bool {
        match self {
            How::Chroot => nix::unistd::geteuid().is_root(),
            How::Bwrap => on_path("bwrap"),
            How::Plain | How::Uvm(_) => true,
            How::Runsc => on_path("runsc"),
            How::Proot => on_path("proot"),
        }
    }

    fn works(self, ground: &Ground) -> anyhow::Result<()> {
        child::output(&mut self.command(ground, &[], &["/bin/true"])).map(drop)
    }

    /// Everything up to the program; `with_programs`: the guest programs are shown, and /tmp is an empty tmpfs. Options are
    /// uvm's.
    fn start(self, ground: &Ground, with_programs: bool, options: &[&str]) -> Command {
        let (rootfs, programs) = (&ground.rootfs, &ground.programs);
        match self {
            How::Chroot => {
                let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/chroot");
                let mut command = Command::new(script);
                command.arg(rootfs).arg(programs).arg(INSIDE);
                command
            }
            How::Bwrap => {
                let mut command = Command::new("bwrap");
                command.arg("--ro-bind").arg(rootfs).arg("/");
                command.arg("--ro-bind").arg(programs).arg(INSIDE);
                command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
                command
            }
            How::Plain => Command::new("env"),
            How::Uvm(platform) => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_uvm"));
                command.env("XDG_DATA_HOME", &ground.data);
                command.args(["run", "--platform", platform]).args(options);
                if with_programs {
                    command
                        .args(["--tmpfs", "/tmp", "-v"])
                        .arg(volume(programs, ":ro"));
                }
                command.arg(rootfs).arg("--");
                command
            }
            How::Runsc => {
                let mut command = Command::new("runsc");
                command.args(["--network=none", "--ignore-cgroups"]);
                if !nix::unistd::geteuid().is_root() {
                    command.arg("--rootless");
                }
                command
            }
            How::Proot => {
                let mut command = Command::new("proot");
                command.arg("-r").arg(rootfs).arg("-b").arg(volume(programs, ""));
                command.args(["-b", "/proc", "-b", "/dev", "-b", "/tmp", "-w", "/"]);
                command
            }
        }
    }

    /// Runs the program as it is, with whatever environment it gets.
    fn bare(self, ground: &Ground, with_programs: bool, options: &[&str], program: &[&str]) -> Command {
        let mut command = self.start(ground, with_programs, options);
        if self == How::Runsc {
            // A name that is free: of this process, and of the one container that it runs at a time.
            let id = format!("uvm-bench-{}", std::process::id());
            let bundle = bundle(ground, program).unwrap_or_default();
            command.args(["run", "--bundle"]).arg(bundle).arg(id);
        } else {
            command.args(program);
        }
        command
    }

    /// Runs the program with the environment that all variants have.
    fn command(self, ground: &Ground, options: &[&str], program: &[&str]) -> Command {
        let env = if self == How::Plain {
            None
        } else {
            Some("/usr/bin/env")
        };
        let all: Vec<&str> = env
            .into_iter()
            .chain(ENVIRONMENT)
            .chain(program.iter().copied())
            .collect();
        self.bare(ground, true, options, &all)
    }
}

/// The guest programs and where they go, as `-v` and `-b` want it.
fn volume(programs: &Path, suffix: &str) -> std::ffi::OsString {
    let mut text = programs.as_os_str().to_owned();
    text.push(format!(":{INSIDE}{suffix}"));
    text
}

/// What runsc runs: a directory with a description of the container.
fn bundle(ground: &Ground, program: &[&str]) -> std::io::Result<PathBuf> {
    let list = |words: &mut dyn Iterator<Item = &str>| {
        let quoted: Vec<_> = words.map(quoted).collect();
        quoted.join(", ")
    };
    let mount = |destination: &str, kind: &str, source: &str, options: &str| {
        format!(
            r#"{{"destination": "{destination}", "type": "{kind}", "source": {}, "options": [{options}]}}"#,
            quoted(source)
        )
    };
    let mounts = [
        mount("/proc", "proc", "proc", ""),
        mount("/dev", "tmpfs", "tmpfs", ""),
        mount("/tmp", "tmpfs", "tmpfs", ""),
        mount(
            INSIDE,
            "bind",
            &ground.programs.to_string_lossy(),
            r#""rbind", "ro""#,
        ),
    ];
    let config = format!(
        r#"{{"ociVersion": "1.0.0", "root": {{"path": {}, "readonly": true}}, "mounts": [{}],
"process": {{"user": {{"uid": 0, "gid": 0}}, "args": [{}], "env": [{}], "cwd": "/"}},
"linux": {{"namespaces": [{{"type": "pid"}}, {{"type": "mount"}}]}}}}"#,
        quoted(&ground.rootfs.to_string_lossy()),
        mounts.join(", "),
        list(&mut program.iter().copied()),
        list(&mut ENVIRONMENT[1..].iter().copied()),
    );
    let directory = ground.programs.with_file_name("bench-bundle");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("config.json"), config)?;
    Ok(directory)
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut result = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => result.extend(['\\', character]),
            control if control.is_control() => result.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => result.push(other),
        }
    }
    result + "\""
}

fn on_path(name: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|directory| directory.join(name).is_file()))
}
