//! `uvm run`, and what every guest's options are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::clock::{self, ClockArg};
use super::{commit, values};
use crate::cpu::Choice;
use crate::image::{self, Config, Reference, Subject};
use crate::machine::{self, Ended, Options, TraceTo, User};
use crate::platform::Io;
use crate::platform::host::PlatformKind;

/// Options of `uvm run`.
#[derive(Args)]
pub(super) struct RunArgs {
    /// What becomes the guest's root: a directory (`/` is this machine), or an image: a tar archive of one, a squashfs,
    /// erofs or ext4 file, an OCI layout or archive, what `docker save` wrote, or a name in the store (see `uvm image`). It
    /// is not written to
    rootfs: PathBuf,

    /// Command to run [default: the image's, else the user's shell in the guest's /etc/passwd, else /bin/sh]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,

    #[command(flatten)]
    guest: GuestArgs,

    /// Host name of the guest
    #[arg(long, value_name = "NAME", default_value = "uvm", value_parser = hostname)]
    hostname: String,

    /// User and group in the guest, by name or number [default: root]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Program to run instead of the image's entry point; an empty one stands for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<OsString>,

    /// Give the guest a file of this machine as a disk, /dev/vda and so on: what it writes goes to the file, or with :cow to memory; with
    /// :ro it cannot write. The file is raw, or qcow2 if its name ends so, unless :raw or :qcow2 says which
    #[arg(long, value_name = "FILE[:raw|:qcow2][:ro|:cow]")]
    disk: Vec<OsString>,

    /// Connect a terminal of the guest, ttyS0 unless hvc0 is named: to uvm's own standard input and output, which then are the
    /// command's by it, to a new terminal of this machine, whose path is printed, to a file that takes what is written, or to a socket that
    /// clients connect to, one at a time
    #[arg(long, value_name = "[NAME=]stdio|pty|file:PATH|unix:PATH")]
    console: Vec<OsString>,

    /// Let the guest write to ROOTFS itself
    #[arg(long, conflicts_with_all = ["read_only", "max_disk", "commit", "overlay"])]
    writable: bool,

    /// If the command succeeds, put the image into the store under this name, with what was written as a new layer
    #[arg(long, value_name = "NAME", value_parser = values::reference)]
    commit: Option<Reference>,
}

/// Options of every guest.
#[derive(Args)]
pub(super) struct GuestArgs {
    /// Set an environment variable; NAME alone takes this machine's value
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,

    /// Read environment variables from a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Working directory in the guest
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,

    /// Show a directory or file of this machine in the guest, writable unless :ro is given
    #[arg(short, long = "volume", value_name = "SRC:DST[:ro]")]
    volume: Vec<OsString>,

    /// Mount an empty memory file system
    #[arg(long, value_name = "DST[:size=SIZE]")]
    tmpfs: Vec<OsString>,

    /// Let the guest write nothing to its root
    #[arg(long)]
    read_only: bool,

    /// Keep what the guest writes to its root in this directory, and begin with what is there already
    #[arg(long, value_name = "DIR")]
    overlay: Option<PathBuf>,

    /// Most bytes that the guest may write to its root [default: half of this machine's memory; all that DIR of --overlay has]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_disk: Option<u64>,

    /// What runs guest code [default: what 'uvm doctor' says]
    #[arg(long, value_enum, env = "UVM_PLATFORM", hide_env_values = true)]
    platform: Option<PlatformArg>,

    /// Whether guest threads may read plain files, and use pipes, by host descriptors that can do nothing else, or only uvm does
    #[arg(long, value_enum, default_value = "enlightened", value_name = "HOW")]
    io: IoArg,

    /// How the guest's clock moves: `host`, `offset=DURATION` (as +1d12h) ahead of this machine's, `rate=FACTOR` of its
    /// speed, or `travel`: jumping to the next timer when nothing runs (`travel=inf-cpu`: moving only so)
    #[arg(long, value_name = "HOW", default_value = "host", value_parser = clock::clock, allow_hyphen_values = true)]
    clock: ClockArg,

    /// The guest's time of day at first: YYYY-MM-DD, YYYY-MM-DDTHH:MM:SS (UTC) or @SECONDS [default: this machine's]
    #[arg(long, value_name = "TIME", value_parser = clock::time_start)]
    time_start: Option<i64>,

    /// Processor that the guest is shown: this machine's (host), or x86-64-v1 to x86-64-v4, the same on every machine
    #[arg(long, value_name = "MODEL[,+FEATURE,-FEATURE]", default_value = "host")]
    cpu: Choice,

    /// Carry out MOVBE, POPCNT, BMI1 and BMI2 instructions, CRC32 and RDPID where this machine's processor lacks them
    #[arg(long)]
    emulate_missing: bool,

    /// How many CPUs the guest has, and the most of this machine's that it uses [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    cpus: Option<u32>,

    /// Run one guest thread at a time, in an order that follows from the seed, as do the time and random numbers. The guest
    /// begins in 2030 unless `--time-start` says otherwise
    #[arg(long)]
    deterministic: bool,

    /// What `--deterministic` draws from
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "deterministic")]
    seed: u64,

    /// Kill the guest after so many seconds and exit with 124
    #[arg(long, value_name = "SECS", value_parser = values::seconds)]
    timeout: Option<Duration>,

    /// Print a line per system call to stderr or to a file, and a summary of refused ones
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    trace: Option<Option<PathBuf>>,

    /// Print to stderr at the end how many calls the guest made, and how they were answered
    #[arg(long)]
    stats: bool,

    /// What uvm says about itself on stderr
    #[arg(long, value_enum, default_value = "warn", value_name = "LEVEL")]
    log_level: LogLevel,
}

#[derive(Clone, Copy, ValueEnum)]
enum PlatformArg {
    Ptrace,
    Seccomp,
}

#[derive(Clone, Copy, ValueEnum)]
enum IoArg {
    Enlightened,
    Mediated,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

pub(super) fn hostname(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len());
    if fits
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
    {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{text}' is no host name: 1 to 64 letters, digits, '-', '_' and '.'"
        ))
    }
}

/// Run the guest and return its exit status.
pub(super) fn run(args: RunArgs) -> Result<u8> {
    let options = args.guest.options(args.rootfs, args.command);
    let mut options = options.context("run")?;
    options.hostname = args.hostname;
    options.user = args.user.map_or(User::Root, User::Named);
    options.writable = args.writable;
    options.disks = args
        .disk
        .iter()
        .map(|text| values::disk(text))
        .collect::<Result<_>>()?;
    options.consoles = args
        .console
        .iter()
        .map(|text| values::console(text))
        .collect::<Result<_>>()?;
    let shown = options.rootfs.display().to_string();
    let subject = subject(&options.rootfs).with_context(|| format!("run: {shown}"))?;
    if let Subject::Image(image) = subject {
        if options.writable {
            bail!("run: --writable: {shown} is an image, which is never written");
        }
        apply_config(&mut options, &image.config, args.entrypoint.is_some());
        options.image = Some(Arc::new(image));
    } else if args.commit.is_some() {
        bail!("run: --commit: {shown} is a directory; make an image of it by 'uvm image import'");
    }
    // An empty one takes the image's away.
    if let Some(program) = args.entrypoint.filter(|program| !program.is_empty()) {
        options.command.insert(0, program);
    }
    let commit = args.commit.as_ref();
    let described = |name: &Reference| format!("run: --commit {name}");
    let target = commit.map(|name| commit::Target::find(name).with_context(|| described(name)));
    let target = target.transpose()?;
    let ended = machine::run(&options).context("run")?;
    tell_not_started("run", &ended);
    if let (Some(name), Some(target)) = (commit, &target) {
        keep(&options, &ended, name, target).with_context(|| described(name))?;
    }
    Ok(ended.status)
}

/// Say why the command could not be started, if so.
pub(super) fn tell_not_started(verb: &str, ended: &Ended) {
    if let Some(why) = &ended.not_started {
        eprintln!("uvm: {verb}: {why}");
    }
}

/// What the user means by ROOTFS or IMAGE. An image that is not in the store, and whose name says a registry, is pulled.
fn subject(text: &Path) -> Result<Subject> {
    match image::find(text) {
        #[cfg(feature = "registry")]
        Err(error) => match error.downcast_ref::<image::NotStored>() {
            Some(missing) if super::pull::missing(&missing.0)? => image::find(text),
            _ => Err(error),
        },
        found => found,
    }
}

/// Keep what was written as a layer of a new image, if the command succeeded.
fn keep(options: &Options, ended: &Ended, name: &Reference, target: &commit::Target) -> Result<()> {
    if ended.status != 0 {
        eprintln!(
            "uvm: run: --commit: the command failed with status {}; nothing was stored",
            ended.status
        );
        return Ok(());
    }
    let (Some(image), Some(changes)) = (&options.image, ended.changes()?) else {
        return Ok(());
    };
    let command: Vec<_> = options
        .command
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let by = format!("uvm run {}", command.join(" "));
    target.store(image, &changes, name, by.trim_end()).map(|_| ())
}

/// What an image says of how it is run holds where the user says nothing.
fn apply_config(options: &mut Options, config: &Config, other_entrypoint: bool) {
    let given = std::mem::take(&mut options.env);
    let env = config.env.iter().filter_map(|text| text.split_once('='));
    options.env = env.map(|(name, value)| (name.into(), value.into())).collect();
    options.env.extend(given);
    if !other_entrypoint {
        if options.command.is_empty() {
            options.command = config.cmd.iter().map(OsString::from).collect();
        }
        let entrypoint = config.entrypoint.iter().map(OsString::from);
        options.command.splice(0..0, entrypoint);
    }
    if options.user == User::Root && !config.user.is_empty() {
        options.user = User::Named(config.user.clone());
    }
    options.stop_signal = config.stop_signal;
    if options.workdir.is_none() && !config.working_dir.is_empty() {
        options.workdir = Some(OsString::from(&config.working_dir));
    }
}

impl GuestArgs {
    /// A guest of root's with these options. Starts the log.
    pub(super) fn options(self, rootfs: PathBuf, command: Vec<OsString>) -> Result<Options> {
        start_log(self.log_level);
        let args = self;
        let mut env = Vec::new();
        for file in &args.env_file {
            env.extend(values::env_file(file)?);
        }
        for text in &args.env {
            env.extend(values::env(text)?);
        }
        let (pace, start) = clock::settings(args.clock, args.time_start, args.deterministic)?;
        if let (true, Some(cpus @ 2..)) = (args.deterministic, args.cpus) {
            bail!("--deterministic runs one thread at a time, on one CPU; --cpus {cpus} does not go with it");
        }
        Ok(Options {
            rootfs,
            image: None,
            command,
            env,
            workdir: args.workdir,
            user: User::Root,
            umask: 0o022,
            volumes: args
                .volume
                .iter()
                .map(|v| values::volume(v))
                .collect::<Result<_>>()?,
            disks: Vec::new(),
            consoles: Vec::new(),
            tmpfs: args
                .tmpfs
                .iter()
                .map(|t| values::tmpfs(t))
                .collect::<Result<_>>()?,
            hostname: String::new(),
            read_only: args.read_only,
            writable: false,
            protected: Vec::new(),
            hidden: Vec::new(),
            own_ids: false,
            max_disk: args.max_disk,
            overlay: args.overlay,
            platform: args.platform.map(|platform| match platform {
                PlatformArg::Ptrace => PlatformKind::Ptrace,
                PlatformArg::Seccomp => PlatformKind::Seccomp,
            }),
            io: match args.io {
                IoArg::Enlightened => Io::Enlightened,
                IoArg::Mediated => Io::Mediated,
            },
            pace,
            start,
            emulate_missing: args.emulate_missing,
            cpu: if args.deterministic {
                args.cpu.without_randomness()
            } else {
                args.cpu
            },
            // Where only one thread runs at a time, there is one.
            cpus: if args.deterministic { Some(1) } else { args.cpus },
            seed: args.deterministic.then_some(args.seed),
            stop_signal: None,
            timeout: args.timeout,
            report: false,
            trace: args.trace.map(|file| file.map_or(TraceTo::Stderr, TraceTo::File)),
            stats: args.stats,
        })
    }
}

fn start_log(level: LogLevel) {
    use tracing::level_filters::LevelFilter;
    let filter = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // A second start in one process (tests) keeps the first log.
    let _ = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .try_init();
}
