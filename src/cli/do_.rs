//! `uvm do`.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::stat::{Mode, umask};

use super::changes::ChangesArgs;
use super::kept;
use super::run::{GuestArgs, hostname, tell_not_started};
use super::secrets::{Around, Secrets};
use crate::machine::{self, User, Volume};

/// Options of `uvm do`.
#[derive(Args)]
#[command(after_help = "\
The guest reads this machine's files in place and keeps what it writes to itself. It has the caller's user, groups, \
environment and directory, and sees no process, no network and no socket of this machine. Hidden are well-known secrets and \
the homes of others; `uvm do --list-hidden` prints the paths and variables.")]
pub(super) struct DoArgs {
    /// Command to run [default: the user's shell]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,

    #[command(flatten)]
    changes: ChangesArgs,

    /// Keep what the command writes under this name, to go on with it later
    #[arg(long, value_name = "NAME", value_parser = kept::name, conflicts_with_all = ["resume", "overlay"])]
    keep: Option<String>,

    /// Go on with what was kept under this name; 'uvm kept' lists the names
    #[arg(long, value_name = "NAME", value_parser = kept::name, conflicts_with = "overlay")]
    resume: Option<String>,

    /// Let writes to a file or directory through to this machine
    #[arg(long, value_name = "PATH")]
    write: Vec<PathBuf>,

    /// Let the guest write nothing to a file or directory
    #[arg(long, value_name = "PATH")]
    ro: Vec<PathBuf>,

    /// Hide a path (with a slash in it) or a variable, * matching anything
    #[arg(long, value_name = "PATH|NAME")]
    hide: Vec<OsString>,

    /// Show a path or variable that is hidden by default
    #[arg(long, value_name = "PATH|NAME")]
    show: Vec<OsString>,

    /// Print what would be hidden, and run nothing
    #[arg(long)]
    list_hidden: bool,

    /// User and group in the guest, by name or number [default: the caller]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Host name of the guest [default: this machine's]
    #[arg(long, value_name = "NAME", value_parser = hostname)]
    hostname: Option<String>,

    #[command(flatten)]
    guest: GuestArgs,
}

/// Run the guest, see to its changes, and return the exit status.
pub(super) fn run(args: DoArgs) -> Result<u8> {
    check_command(&args.command)?;
    let around = around()?;
    let mut written = Vec::new();
    for path in &args.write {
        let path = around.absolute(path);
        if !path.exists() {
            anyhow::bail!(
                "do: --write {}: there is no such file; make it first",
                path.display()
            );
        }
        if path.canonicalize().is_ok_and(|path| path == Path::new("/")) {
            anyhow::bail!(
                "do: --write /: nothing would be left to throw away; give what is to be written below it"
            );
        }
        written.push(path);
    }
    let secrets = Secrets::new(&around, &args.hide, &args.show, &written)?;
    if args.list_hidden {
        return list(&secrets);
    }
    let options = args.guest.options(PathBuf::from("/"), args.command);
    let mut options = options.context("do")?;
    if let Some(name) = &args.keep {
        options.overlay = Some(kept::new(name)?);
    } else if let Some(name) = &args.resume {
        options.overlay = Some(kept::find(name)?);
    }
    // What the user said with -e comes last and wins.
    let given = std::mem::take(&mut options.env);
    options.env = std::env::vars_os()
        .filter(|(name, value)| !secrets.hides_variable(name, value))
        .collect();
    options.env.extend(given);
    options.hidden = secrets.paths();
    options.own_ids = true;
    options.report = args.changes.wants_report();
    options.umask = current_umask();
    options.user = args.user.map_or(User::Caller, User::Named);
    options.hostname = match args.hostname {
        Some(name) => name,
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    options.workdir = options
        .workdir
        .or_else(|| Some(around.directory.clone().into_os_string()));
    options.volumes.extend(written.into_iter().map(|path| Volume {
        target: path.clone().into_os_string(),
        source: path,
        read_only: false,
    }));
    let protected = args.ro.iter().map(|path| around.absolute(path));
    // Where links lead, as changes are told by where they are.
    let protected: Vec<PathBuf> = protected
        .map(|path| path.canonicalize().unwrap_or(path))
        .collect();
    options.protected = protected
        .iter()
        .map(|path| path.clone().into_os_string())
        .collect();
    let outputs = args.changes.outputs()?;
    let ended = machine::run(&options).context("do")?;
    tell_not_started("do", &ended);
    let started = ended.not_started.is_none();
    let done = args.changes.finish(&ended, outputs, &around, &protected);
    // It has a lock.
    drop(ended);
    if let (Some(name), false) = (&args.keep, started) {
        // Nothing was run that could have written anything: the name is free again.
        kept::remove(name).with_context(|| format!("do: --keep {name}"))?;
    }
    done
}

/// Refuse what is no command but a mistyped option.
fn check_command(command: &[OsString]) -> Result<()> {
    let Some(first) = command.first().filter(|first| first.as_bytes().starts_with(b"-")) else {
        return Ok(());
    };
    let all: Vec<OsString> = std::env::args_os().collect();
    let before = all.len().checked_sub(command.len() + 1);
    if before.is_some_and(|before| all[before] == "--") {
        return Ok(());
    }
    anyhow::bail!(
        "do: {} is no option; a command that begins so comes behind --",
        first.display()
    )
}

fn around() -> Result<Around> {
    let directory = std::env::current_dir().context("do: the present directory")?;
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|home| home.is_absolute());
    let account = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let home = home.or_else(|| account().map(|account| account.dir));
    Ok(Around {
        home: home.unwrap_or_else(|| Path::new("/").to_owned()),
        directory,
    })
}

fn list(secrets: &Secrets) -> Result<u8> {
    let mut text = Vec::new();
    for path in secrets
        .paths()
        .iter()
        .filter(|path| path.symlink_metadata().is_ok())
    {
        text.extend([path.as_os_str().as_bytes(), b"\n"].concat());
    }
    for (name, _) in std::env::vars_os().filter(|(name, value)| secrets.hides_variable(name, value)) {
        text.extend([name.as_bytes(), b"\n"].concat());
    }
    std::io::stdout().write_all(&text).context("writing to stdout")?;
    Ok(0)
}

/// The caller's umask, which can only be read by setting it.
fn current_umask() -> u32 {
    let mask = umask(Mode::from_bits_truncate(0o022));
    umask(mask);
    mask.bits()
}
