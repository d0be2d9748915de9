//! One running guest: built from options, run to its end.

mod changes;
mod choice;
mod command;
mod consoles;
mod disks;
mod files;
mod limits;
mod options;
mod processor;
mod report;
mod signals;
mod stdio;
mod terminal;
mod tracer;
mod user;

pub use changes::{Changes, Refused};
pub use choice::default_platform;
pub use consoles::{BackEndKind, ConsoleName, ConsoleTo};
pub use disks::{DiskFile, DiskFormat, DiskWrites};
pub use limits::raise_stack;
pub use options::{Options, TmpfsMount, TraceTo, User, Volume};
pub use terminal::{GUARD_VERB, guard as terminal_guard};

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::personality;

use crate::kernel::fs::memfs::MemFs;
use crate::kernel::task::exec::{Init, start_init};
use crate::kernel::task::{Creds, ExitStatus, Rlimits};
use crate::kernel::time::Timestamp;
use crate::kernel::wait::reactor::{Reactor, Timer};
use crate::kernel::wait::{Events, Wakeup};
use crate::kernel::{Boot, Kernel};
use crate::platform::PATIENCE;
use command::CommandError;
use consoles::Consoles;
use report::{Recorder, Report};
use stdio::Stdio;

/// Status for a failure of uvm itself, as docker has it.
pub const EXIT_FAILURE: u8 = 125;

/// Exit status when `--timeout` ended the guest, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// Said when a handler does not come back.
const STUCK: &str = "the guest's processes were ended, but uvm is still busy with a system call of theirs: this is a flaw of uvm";

/// How long after the guest was ended by `--timeout` the platform may take to say so: longer than its own patience.
const OVERDUE: Duration = PATIENCE.saturating_add(Duration::from_secs(5));

/// What is left of a guest that has ended.
pub struct Ended {
    /// Exit status for the caller.
    pub status: u8,
    /// Why its command could not be started, if so.
    pub not_started: Option<String>,
    /// What it wrote to its root, unless that went to the host.
    upper: Option<Arc<MemFs>>,
    /// What it did, if that was to be noted.
    report: Option<Report>,
    /// When it began to look at the host's files, by the clock that those have their times from.
    since: Timestamp,
}

impl Ended {
    /// What it changed on its root; nothing with [`Options::writable`].
    pub fn changes(&self) -> Result<Option<Changes>> {
        let of = |upper: &Arc<MemFs>| Changes::of(upper, self.since);
        self.upper.as_ref().map(of).transpose()
    }

    /// Write what it did as JSON; nothing without [`Options::report`].
    pub fn write_report(&self, out: &mut dyn Write) -> io::Result<()> {
        let disk = self.upper.as_ref().map(|upper| upper.used());
        match &self.report {
            Some(report) => report.write(self.status, disk, out),
            None => Ok(()),
        }
    }
}

/// Run a guest to its end.
pub fn run(options: &Options) -> Result<Ended> {
    limits::raise()?;
    processor::confine(options);
    let since = now()?;
    let root = files::root(options, since)?;
    let upper = root.upper.clone();
    // What earlier guests changed lies upon what was there then.
    let since = upper.as_ref().and_then(|upper| upper.since()).unwrap_or(since);
    let recorder = options.report.then(Recorder::new);
    let (status, not_started) = run_on(options, root, recorder.clone())?;
    if let (Some(upper), Some(dir)) = (&upper, &options.overlay) {
        let settled = upper.settle();
        settled.with_context(|| format!("the upper layer {}", dir.display()))?;
    }
    let report = recorder.map(Recorder::finish);
    Ok(Ended {
        status,
        not_started,
        upper,
        report,
        since,
    })
}

/// What earlier guests changed on a root, kept in [`Options::overlay`]. No guest is run.
pub fn changes(options: &Options) -> Result<Changes> {
    let since = now()?;
    let root = files::root(options, since)?;
    let upper = root.upper.context("nothing was kept")?;
    let since = upper.since().unwrap_or(since);
    Changes::of(&upper, since)
}

/// The time, by the clock that files of the host have theirs from.
fn now() -> Result<Timestamp> {
    // The finest: from Linux 6.13 on, times of files can be finer than the tick, and so later than the coarse clock.
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME)?;
    Ok(Timestamp {
        sec: now.tv_sec(),
        nsec: u32::try_from(now.tv_nsec())?,
    })
}

/// Run a guest on this root and return the exit status for the caller, and why the command could not be started, if so.
fn run_on(
    options: &Options,
    root: files::Root,
    recorder: Option<Arc<Recorder>>,
) -> Result<(u8, Option<String>)> {
    let protected = root.protected.clone();
    let kernel = build(options, root, recorder)?;
    files::mount_all(&kernel, options, &protected)?;
    let passwd = files::read_text(&kernel, "/etc/passwd");
    let group = files::read_text(&kernel, "/etc/group");
    let who = match &options.user {
        User::Root => user::resolve(None, &passwd, &group)?,
        User::Named(spec) => user::resolve(Some(spec), &passwd, &group)?,
        User::Caller => user::caller(&passwd)?,
    };
    let consoles = Consoles::connect(&kernel, options)?;
    let mut stdio = Stdio::connect(&kernel, consoles.on_stdio())?;
    consoles.choose_main(&kernel);
    let result = run_first(&kernel, options, &who, &stdio);
    consoles.finish();
    stdio.finish();
    if let Some(tracer) = &kernel.tracer {
        tracer.finish();
    }
    if options.stats {
        match kernel.platform.statistics() {
            Some(counts) => counts
                .to_string()
                .lines()
                .for_each(|line| eprintln!("uvm: {line}")),
            None => eprintln!("uvm: the {} platform counts nothing", kernel.platform.name()),
        }
    }
    match result {
        Err(error) => error
            .downcast::<CommandError>()
            .map(|error| (error.status, Some(error.message))),
        Ok(status) => Ok((status, None)),
    }
}

/// Start the first process and serve the guest until it ends.
fn run_first(kernel: &Arc<Kernel>, options: &Options, who: &user::Identity, stdio: &Stdio) -> Result<u8> {
    let envp = command::environment(options, who, stdio.console.is_some());
    let argv = command::arguments(options, who);
    let cwd = command::workdir(kernel, options)?;
    let cwd_text = cwd.text(&kernel.vfs.mounts.root()).text;
    let path = command::find(kernel, &argv[0], &envp, &cwd_text)?;
    let fs = kernel.vfs.context(options.umask);
    fs.lock().set_cwd(cwd);
    let init = Init {
        path: path.clone(),
        argv,
        envp,
        creds: Creds::of_user(who.uid, who.gid, &who.groups),
        fs,
        files: stdio.files.clone(),
        limits: Rlimits::default(),
    };
    let first = start_init(kernel, init).map_err(|errno| command::exec_error(&path, errno))?;
    if let Some(console) = &stdio.console {
        console.control(first.pid());
    }

    let timeout = Arc::new_cyclic(|me| Timeout {
        kernel: kernel.clone(),
        fired: AtomicBool::new(false),
        me: me.clone(),
        overdue: Mutex::new(None),
    });
    let waiter: Arc<dyn Wakeup> = timeout.clone();
    let _timer = options
        .timeout
        .map(|after| kernel.reactor.host_timer(nanos(after), &waiter));
    let forwarder = signals::forward(
        kernel.clone(),
        first.group.clone(),
        stdio.console.clone(),
        options.stop_signal,
    )?;
    let reactor = kernel.reactor.clone();
    let served = std::thread::Builder::new()
        .name("reactor".into())
        .spawn(move || reactor.run())?;

    let ran = kernel.platform.run();
    if ran == Err(nix::errno::Errno::ETIMEDOUT) {
        bail!("{STUCK}");
    }
    forwarder.stop();
    kernel.reactor.stop();
    if let Ok(Err(errno)) = served.join() {
        bail!("waiting for timers and descriptors failed: {}", errno.desc());
    }
    ran.map_err(|errno| anyhow::anyhow!("the platform failed: {}", errno.desc()))?;
    if timeout.fired.load(Ordering::SeqCst) {
        return Ok(TIMED_OUT);
    }
    let ended = *kernel.ended.lock();
    match ended {
        Some(ExitStatus::Exited(code)) => Ok(code),
        Some(ExitStatus::Signaled { signal, .. }) => Ok(128 + u8::try_from(signal).unwrap_or(0)),
        None => bail!("the guest ended without an exit status: all its host processes were killed"),
    }
}

fn build(options: &Options, root: files::Root, recorder: Option<Arc<Recorder>>) -> Result<Arc<Kernel>> {
    let files::Root { vfs, clock, .. } = root;
    let tracer = tracer::tracer(options.trace.as_ref(), recorder)?;
    if options.seed.is_some() {
        // Stubs inherit it, and programs begin where the host puts them.
        let persona = personality::get()? | personality::Persona::ADDR_NO_RANDOMIZE;
        personality::set(persona)?;
    }
    let (model, faults) = processor::choose(options)?;
    let cpuid = faults.then(|| model.answers());
    let platform = choice::start(options.platform, options.io, !clock.is_virtual(), cpuid)?;
    let reactor = Reactor::new(clock.clone()).context("timers and descriptors")?;
    let nodename = options.hostname.clone().into_bytes();
    Ok(Kernel::new(Boot {
        platform,
        vfs,
        nodename,
        clock,
        reactor,
        tracer,
        model,
        seed: options.seed,
    }))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Ends the guest when its time is over, and then uvm, should the platform not come back from that.
struct Timeout {
    kernel: Arc<Kernel>,
    fired: AtomicBool,
    me: Weak<Timeout>,
    overdue: Mutex<Option<Timer>>,
}

impl Wakeup for Timeout {
    fn wake(&self, _: Events) {
        if self.fired.swap(true, Ordering::SeqCst) {
            eprintln!("uvm: {STUCK}");
            std::process::exit(EXIT_FAILURE.into());
        }
        if let Some(me) = self.me.upgrade() {
            let waiter: Arc<dyn Wakeup> = me;
            let timer = self.kernel.reactor.host_timer(nanos(OVERDUE), &waiter);
            *self.overdue.lock().unwrap_or_else(PoisonError::into_inner) = Some(timer);
        }
        self.kernel.stop();
    }
}
