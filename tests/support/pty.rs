//! A terminal with a command on it, and a person's part of the dialogue: type, and wait for what should appear.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

use super::process::{shell_status, signal};

/// How long anything on the terminal may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// Kept open, so that the settings can be looked at after the command.
    line: OwnedFd,
    path: PathBuf,
    /// The settings (termios(3)) before the command was started.
    pub(crate) first_settings: Termios,
    /// What has appeared and was not yet expected.
    unread: String,
    /// Everything that has appeared, for messages.
    seen: String,
    pid: u32,
    ended: Receiver<i32>,
}

impl Terminal {
    /// Starts the command as the leader of a new session on a new terminal of 24 by 80.
    ///
    /// With `controlling` unset the command itself makes the terminal its controlling one.
    pub(crate) fn start(command: &Command, controlling: bool) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).expect("open a terminal");
        let first_settings = tcgetattr(&pty.slave).expect("read the settings of the terminal");
        let path = nix::unistd::ttyname(&pty.slave).expect("the terminal has a name");
        let slave = || Stdio::from(pty.slave.try_clone().expect("duplicate the terminal"));
        let mut session = Command::new("setsid");
        if controlling {
            session.arg("--ctty");
        }
        let mut child = session
            .arg("--wait")
            .arg(command.get_program())
            .args(command.get_args())
            .env("TERM", "xterm")
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .expect("start setsid");
        let pid = child.id();
        let (status, ended) = mpsc::channel();
        thread::spawn(move || status.send(shell_status(child.wait().expect("wait for the command"))));

        let keyboard = File::from(pty.master);
        let mut output = keyboard.try_clone().expect("duplicate the terminal");
        let (sender, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal {
            keyboard,
            screen,
            line: pty.slave,
            path,
            first_settings,
            unread: String::new(),
            seen: String::new(),
            pid,
            ended,
        }
    }

    /// Types this.
    pub(crate) fn send(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("type on the terminal");
    }

    /// Waits until this text appears, and returns what appeared before it.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.unread.find(text) {
                let before = self.unread[..at].to_owned();
                self.unread.drain(..at + text.len());
                return before;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(chunk) = self.screen.recv_timeout(left) else {
                panic!(
                    "{text:?} does not appear on the terminal; what did:\n{}",
                    self.seen
                )
            };
            let chunk = String::from_utf8_lossy(&chunk);
            self.seen.push_str(&chunk);
            self.unread.push_str(&chunk);
        }
    }

    /// Types a line and waits for its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str, answer: &str) {
        self.send(&format!("{line}\r"));
        self.expect(answer);
    }

    /// Gives the terminal another size, as its window being pulled at a corner does.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let resized = Command::new("stty")
            .arg("-F")
            .arg(&self.path)
            .args(["rows", &rows.to_string(), "columns", &columns.to_string()])
            .status()
            .expect("run stty");
        assert!(resized.success(), "stty cannot resize the terminal");
    }

    /// The settings (termios(3)) of the terminal as they are now.
    pub(crate) fn settings(&self) -> Termios {
        tcgetattr(&self.line).expect("read the settings of the terminal")
    }

    /// Sends a signal to the command.
    pub(crate) fn signal(&self, number: Signal) {
        signal(self.pid, number);
    }

    /// The process of the command.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the command's end; its exit status, or 128 and the signal.
    #[track_caller]
    pub(crate) fn end(&mut self) -> i32 {
        let status = self.ended.recv_timeout(LIMIT);
        while let Ok(chunk) = self.screen.try_recv() {
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        status.unwrap_or_else(|_| panic!("the command does not end; the terminal shows:\n{}", self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The leader of a session is the leader of a group of its number; most often it has long ended.
        let _ = killpg(Pid::from_raw(self.pid.cast_signed()), Signal::SIGKILL);
    }
}
