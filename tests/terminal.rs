//! A person at a terminal: the same dialogue with a native shell and with one in a guest.

mod support;

use std::process::Command;

use nix::sys::signal::Signal;
use support::process::poll_until;
use support::pty::{LIMIT, Terminal};
use support::{UVM, native_runs, rootfs, test_file};

/// Bash without anybody's configuration.
const BASH: [&str; 4] = ["bash", "--noprofile", "--norc", "-i"];

fn native(command: &[&str]) -> Terminal {
    let mut native = Command::new(test_file("support/native"));
    native.arg(rootfs()).args(["root", "/"]).args(command);
    Terminal::start(&native, false)
}

fn guest(command: &[&str]) -> Terminal {
    let mut uvm = Command::new(UVM);
    uvm.args(["run", "-w", "/"]).arg(rootfs()).arg("--").args(command);
    Terminal::start(&uvm, true)
}

/// Plays the dialogue with a native shell where that is possible, and with one in a guest.
fn play(command: &[&str], dialogue: fn(&mut Terminal)) {
    if native_runs() {
        dialogue(&mut native(command));
    }
    dialogue(&mut guest(command));
}

/// A prompt of our own: echoed input never looks like it, because of the expansion.
fn prompt(terminal: &mut Terminal) {
    terminal.send("PS1='ready''> '\r");
    terminal.expect("ready> ");
}

/// A program that says when it is in the foreground, and what it reads. What is typed at a program before it has said
/// anything may still be taken by the shell, which reads keys, not lines, and ignores the keys that stop and interrupt.
const READER: &str = r#"perl -e '$| = 1; $SIG{CONT} = sub { print "cont" . "inued
" }; print "read" . "ing
"; while (<STDIN>) { print "got $_" }'"#;

/// Types a command and waits for its answer and for the next prompt.
#[track_caller]
fn run(terminal: &mut Terminal, command: &str, answer: &str) {
    terminal.ask(command, answer);
    terminal.expect("ready> ");
}

fn leave(terminal: &mut Terminal, status: i32) {
    terminal.send(&format!("exit {status}\r"));
    assert_eq!(terminal.end(), status);
}

#[test]
fn a_shell_prompts_echoes_and_edits() {
    play(&BASH, |terminal| {
        prompt(terminal);
        run(
            terminal,
            "tty; test -t 0 -a -t 1 -a -t 2 && echo all-three''-terminals",
            "all-three-terminals",
        );
        run(terminal, "echo $((6 * 7))''answer", "42answer");
        run(
            terminal,
            "ps -o tty= -p $$ | grep -cv '?' && echo controlling''-terminal",
            "controlling-terminal",
        );
        // The line is edited: a backspace, a kill of the whole line, a recalled line.
        terminal.send("echo wrogn\x7f\x7fng\x01\x0becho 'edit''ed'\r");
        terminal.expect("edited");
        terminal.expect("ready> ");
        terminal.send("\x10\x05 again\r");
        terminal.expect("edited again");
        leave(terminal, 7);
    });
}

#[test]
fn control_d_ends_the_shell() {
    play(&BASH, |terminal| {
        prompt(terminal);
        terminal.ask(&format!("{READER}; echo reader''-ended"), "reading");
        terminal.ask("some text", "got some text");
        terminal.send("\x04");
        terminal.expect("reader-ended");
        terminal.expect("ready> ");
        terminal.send("\x04");
        assert_eq!(terminal.end(), 0);
    });
}

#[test]
fn control_c_interrupts_what_is_in_the_foreground() {
    play(&BASH, |terminal| {
        prompt(terminal);
        terminal.send("sh -c 'echo start\"\"ed; exec sleep 1000'\r");
        terminal.expect("started");
        terminal.send("\x03");
        terminal.expect("^C");
        terminal.expect("ready> ");
        run(terminal, "echo status''=$?", "status=130");
        // A pipeline is interrupted as a whole, a job in the background is not.
        run(terminal, "sleep 2000 & echo back''ground", "background");
        terminal.send("sh -c 'echo again\"\"started >/dev/tty; exec sleep 3000' | cat | cat\r");
        terminal.expect("againstarted");
        terminal.send("\x03");
        terminal.expect("ready> ");
        run(terminal, "echo sleeping''=$(pgrep -cx sleep)", "sleeping=1");
        run(terminal, "kill %1; wait; echo wait''ed", "waited");
        // Quit, and a program that takes the interrupt itself.
        terminal.send("ulimit -c 0; sh -c 'echo quit\"\"ting; exec sleep 1000'\r");
        terminal.expect("quitting");
        terminal.send("\x1c");
        terminal.expect("ready> ");
        run(terminal, "echo status''=$?", "status=131");
        terminal.send("perl -e '$| = 1; $SIG{INT} = sub { $got = 1; print \"cau\" . \"ght\\n\" }; print \"trap\" . \"ping\\n\"; select undef, undef, undef, 0.01 until $got; sleep 1000'\r");
        terminal.expect("trapping");
        terminal.send("\x03");
        terminal.expect("caught");
        terminal.send("\x1c");
        terminal.expect("ready> ");
        leave(terminal, 0);
    });
}

#[test]
fn jobs_stop_and_go_on() {
    play(&BASH, |terminal| {
        prompt(terminal);
        terminal.send("sh -c 'echo start\"\"ed; exec sleep 1000'\r");
        terminal.expect("started");
        terminal.send("\x1a");
        terminal.expect("Stopped");
        terminal.expect("ready> ");
        run(terminal, "echo status''=$?", "status=148");
        run(
            terminal,
            "jobs",
            "[1]+  Stopped                 sh -c 'echo start",
        );
        run(terminal, "bg", "[1]+ sh -c");
        run(terminal, "jobs", "[1]+  Running                 sh -c");
        run(terminal, "sleep 2000 & echo jobs''=$(jobs | wc -l)", "jobs=2");
        run(terminal, "kill %2; wait %2; echo wait''=$?", "wait=143");
        run(terminal, "kill %1; wait %1; echo wait''=$?", "wait=143");
        terminal.ask(READER, "reading");
        terminal.ask("first", "got first");
        terminal.send("\x1a");
        terminal.expect("Stopped");
        terminal.expect("ready> ");
        terminal.ask("fg", "continued");
        terminal.ask("second", "got second");
        terminal.send("\x03");
        terminal.expect("ready> ");
        run(terminal, "echo status''=$?", "status=130");
        // A job in the background that reads the terminal stops; in the foreground it gets its line.
        run(
            terminal,
            &format!("{READER} & wait $!; echo stopped''=$?"),
            "stopped=149",
        );
        terminal.ask("fg; echo read''er=$?", "continued");
        terminal.ask("third", "got third");
        terminal.send("\x04");
        terminal.expect("reader=0");
        terminal.expect("ready> ");
        run(
            terminal,
            "stty tostop; echo quietly & wait $!; echo stopped''=$?; stty -tostop",
            "stopped=150",
        );
        run(terminal, "fg; echo fore''=$?", "fore=0");
        leave(terminal, 3);
    });
}

#[test]
fn a_resized_window_is_seen() {
    play(&BASH, |terminal| {
        prompt(terminal);
        run(terminal, "stty size", "24 80");
        run(
            terminal,
            "trap 'echo new''-size: $(stty size)' WINCH; echo set''-trap",
            "set-trap",
        );
        terminal.resize(40, 132);
        // Readline runs the trap once the line it waits for is complete.
        terminal.send("\r");
        terminal.expect("new-size: 40 132");
        terminal.expect("ready> ");
        terminal.send("python3 -c 'import os, signal, time; got = []; signal.signal(signal.SIGWINCH, lambda *a: got.append(1)); print(\"wait\" + \"ing\", flush=True); exec(\"while not got or os.get_terminal_size() != (50, 10): time.sleep(0.01)\"); print(\"res\" + \"ized\")'\r");
        terminal.expect("waiting");
        terminal.resize(10, 50);
        terminal.expect("resized");
        terminal.expect("ready> ");
        run(terminal, "stty rows 30; stty size", "30 50");
        leave(terminal, 0);
    });
}

#[test]
fn a_program_sets_the_terminal_raw() {
    play(&BASH, |terminal| {
        prompt(terminal);
        terminal.send("stty raw -echo; echo now''-raw; dd bs=1 count=3 2>/dev/null | od -An -tx1; stty sane; echo now''-sane\r");
        terminal.expect("now-raw");
        terminal.send("\x03\r\x1a");
        terminal.expect("03 0d 1a");
        terminal.expect("now-sane");
        terminal.expect("ready> ");
        terminal.ask(
            "read -s -p 'sec''ret: ' secret; echo; echo \"<$secret>\"",
            "secret: ",
        );
        terminal.send("hidden\r");
        terminal.expect("<hidden>");
        terminal.expect("ready> ");
        terminal.ask("read -n1 -p 'press'': ' key; echo; echo \"key=$key\"", "press: ");
        terminal.send("k");
        terminal.expect("key=k");
        terminal.expect("ready> ");
        run(terminal, "read -t 0.05 nothing; echo late''=$?", "late=142");
        run(terminal, "stty -a | grep -o 'intr = ^C'", "intr = ^C");
        run(
            terminal,
            "script -qec 'tty; stty size' /dev/null; echo script''=$?",
            "script=0",
        );
        leave(terminal, 0);
    });
}

#[test]
fn dash_and_busybox_are_interactive_too() {
    let dialogue: fn(&mut Terminal) = |terminal| {
        prompt(terminal);
        terminal.send("sh -c 'echo start\"\"ed; exec sleep 1000'\r");
        terminal.expect("started");
        terminal.send("\x03");
        terminal.expect("ready> ");
        terminal.send("sh -c 'echo second\"\"-started; exec sleep 1000'\r");
        terminal.expect("second-started");
        terminal.send("\x1a");
        terminal.expect("ready> ");
        run(terminal, "jobs", "Stopped");
        run(terminal, "kill %1; fg; echo killed''=$?", "killed=143");
        leave(terminal, 5);
    };
    play(&["sh", "-i"], dialogue);
    play(&["busybox", "sh"], dialogue);
}

#[test]
fn a_dying_shell_hangs_up_its_jobs() {
    play(
        &[
            "sh",
            "-c",
            "bash --noprofile --norc -i; sleep 0; pgrep -cx sleep; echo left",
        ],
        |terminal| {
            prompt(terminal);
            run(
                terminal,
                "shopt -s huponexit; sleep 1000 & echo start''ed",
                "started",
            );
            terminal.send("kill -9 $$\r");
            terminal.expect("left");
            terminal.end();
        },
    );
}

/// However a guest ends, the terminal is as it was.
#[test]
fn the_terminal_is_restored() {
    type End = (&'static str, fn(&mut Terminal), i32);
    let ends: [End; 5] = [
        ("an exit in raw mode", |terminal| terminal.send("exit 4\n"), 4),
        (
            "the shell's own death",
            |terminal| terminal.send("kill -9 $$\n"),
            137,
        ),
        ("SIGTERM to uvm", |terminal| terminal.signal(Signal::SIGTERM), 143),
        ("SIGHUP to uvm", |terminal| terminal.signal(Signal::SIGHUP), 129),
        (
            "the death of uvm",
            |terminal| terminal.signal(Signal::SIGKILL),
            137,
        ),
    ];
    for (what, end, status) in ends {
        // A shell that takes its commands as they are: an interactive one would ignore SIGTERM.
        let mut terminal = guest(&[
            "sh",
            "-c",
            "stty raw -echo; echo raw; while read -r line; do eval \"$line\"; done",
        ]);
        terminal.expect("raw");
        end(&mut terminal);
        assert_eq!(terminal.end(), status, "after {what}");
        // After SIGKILL it is not uvm that restores them.
        poll_until(what, LIMIT, || terminal.settings() == terminal.first_settings);
    }
}
