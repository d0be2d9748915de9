//! The command line: verbs, options, messages and exit statuses.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::machine::EXIT_FAILURE;

mod changes;
mod clock;
mod commit;
mod do_;
mod doctor;
mod export;
mod image;
mod json;
mod kept;
mod output;
#[cfg(feature = "registry")]
mod pull;
mod run;
mod secrets;
mod syscalls;
mod values;
mod verify;

/// A virtual machine whose machine is an ordinary process tree.
#[derive(Parser)]
#[command(name = "uvm", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command in a guest made from a directory
    Run(Box<run::RunArgs>),
    /// Run a command on a throw-away view of this machine and see what it changed
    Do(Box<do_::DoArgs>),
    /// Manage the images in the store
    #[command(subcommand)]
    Image(image::ImageVerb),
    /// Make an image of what 'uvm run --overlay' kept
    Commit(commit::CommitArgs),
    /// Write all files of an image as one tar archive
    Export(export::ExportArgs),
    /// List or remove what 'uvm do --keep' kept
    Kept(kept::KeptArgs),
    /// Run a command twice under --deterministic and compare, or once for each of many seeds
    Verify(verify::VerifyArgs),
    /// Restore the terminal when uvm is killed
    #[command(name = crate::machine::GUARD_VERB, hide = true)]
    TerminalGuard {
        /// Be the guard instead of starting it
        #[arg(long)]
        guard: bool,
    },
    /// Print what this machine offers to uvm, and which platform that allows
    Doctor(doctor::DoctorArgs),
    /// Print the table of system calls and how each is supported
    Syscalls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Run the command line and return the exit status.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    if let Err(error) = crate::machine::raise_stack() {
        eprintln!("uvm: {error:#}");
        return ExitCode::from(EXIT_FAILURE);
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    let done = match cli.verb {
        Verb::Run(args) => run::run(*args),
        Verb::Do(args) => do_::run(*args),
        Verb::Image(verb) => image::run(verb),
        Verb::Commit(args) => commit::run(&args),
        Verb::Export(args) => export::run(&args),
        Verb::Kept(args) => kept::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::TerminalGuard { guard } => crate::machine::terminal_guard(guard).map(|()| 0),
        Verb::Doctor(args) => to_stdout(|out| doctor::print(&args, out)),
        Verb::Syscalls { json } => to_stdout(|out| {
            let print = if json {
                syscalls::print_json
            } else {
                syscalls::print
            };
            print(out).map(|()| 0)
        }),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("uvm: {error:#}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Help and version go to stdout; a mistake is one line.
fn usage_error(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    // clap's first paragraph is the message; lists of missing arguments follow on lines of their own.
    let message: Vec<&str> = text
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .map(|line| line.trim().trim_start_matches("error: "))
        .collect();
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
        _ => message.join(" "),
    };
    eprintln!("uvm: {message}; see '{} --help'", command_named());
    ExitCode::from(EXIT_FAILURE)
}

/// The command that the arguments name, as far as they do.
fn command_named() -> String {
    let mut command = Cli::command();
    let mut names = vec!["uvm".to_owned()];
    for word in std::env::args().skip(1) {
        let Some(found) = command.find_subcommand(&word).cloned() else {
            break;
        };
        command = found;
        names.push(word);
    }
    names.join(" ")
}

/// Print something, and return the status that `print` gives.
fn to_stdout(print: impl FnOnce(&mut dyn Write) -> io::Result<u8>) -> anyhow::Result<u8> {
    let mut out = BufWriter::new(io::stdout().lock());
    match print(&mut out).and_then(|status| out.flush().map(|()| status)) {
        // A reader that has seen enough, such as head(1), is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        printed => printed.context("writing to stdout"),
    }
}
