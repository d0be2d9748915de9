//! Terminals of a guest from outside: by sockets, pseudo-terminals, files and uvm's own standard streams.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use support::process::{Outcome, poll_until, run, shell_status};
use support::pty::Terminal;
use support::{UVM, rootfs, scratch, text};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A shell on ttyS0, which it gets as its controlling terminal.
const SHELL: &str = "exec sh -i </dev/ttyS0 >/dev/ttyS0 2>&1";

fn uvm(options: &[&str], command: &[&str]) -> Command {
    let mut uvm = Command::new(UVM);
    uvm.arg("run").args(options).arg(rootfs()).arg("--").args(command);
    uvm
}

fn script(options: &[&str], script: &str) -> Outcome {
    run(&mut uvm(options, &["sh", "-ec", script]), b"", LIMIT)
}

#[track_caller]
fn says(options: &[&str], script_text: &str, expected: &str) {
    let outcome = script(options, script_text);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, expected),
        "{outcome:?}"
    );
}

/// A guest that runs while the test talks to it.
struct Guest {
    uvm: Child,
    /// Lines that it writes to standard output.
    lines: Receiver<String>,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Guest {
    fn start(command: &mut Command) -> Guest {
        let mut uvm = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start uvm");
        let stdout = BufReader::new(uvm.stdout.take().expect("a pipe"));
        let stderr = BufReader::new(uvm.stderr.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Guest { uvm, lines, stderr }
    }

    #[track_caller]
    fn writes(&self, line: &str) {
        let next = self.lines.recv_timeout(LIMIT);
        assert_eq!(next.as_deref(), Ok(line), "what the guest writes");
    }

    #[track_caller]
    fn ends(&mut self, status: i32) {
        let mut ended = None;
        poll_until("the guest's end", LIMIT, || {
            ended = self.uvm.try_wait().expect("wait for uvm");
            ended.is_some()
        });
        let mut stderr = String::new();
        let _ = self.stderr.read_to_string(&mut stderr);
        assert_eq!(ended.map(shell_status), Some(status), "{stderr}");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.uvm.kill();
        let _ = self.uvm.wait();
    }
}

/// Somebody at the other end of a line.
struct Client {
    line: File,
    unread: String,
    seen: String,
}

impl Client {
    fn on(line: impl Into<OwnedFd>) -> Client {
        Client {
            line: File::from(line.into()),
            unread: String::new(),
            seen: String::new(),
        }
    }

    fn send(&mut self, keys: &str) {
        self.line.write_all(keys.as_bytes()).expect("type");
    }

    #[track_caller]
    fn expect(&mut self, wanted: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.unread.contains(wanted) {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.line.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).expect("a short time");
            let mut chunk = [0; 4096];
            let count = match poll(&mut fds, timeout) {
                Ok(1) => self.line.read(&mut chunk).unwrap_or(0),
                _ => 0,
            };
            let chunk = String::from_utf8_lossy(&chunk[..count]);
            self.seen.push_str(&chunk);
            self.unread.push_str(&chunk);
            assert!(count > 0, "{wanted:?} does not appear; what did:\n{}", self.seen);
        }
        let end = self.unread.find(wanted).unwrap_or(0) + wanted.len();
        self.unread.drain(..end);
    }

    /// Types a command and waits for its answer and the prompt.
    #[track_caller]
    fn ask(&mut self, command: &str, answer: &str) {
        self.send(&format!("{command}\r"));
        self.expect(answer);
        self.expect("ready> ");
    }

    /// A prompt that echoed input never looks like.
    #[track_caller]
    fn prompt(&mut self) {
        self.send("PS1='ready''> '\r");
        self.expect("ready> ");
    }
}

fn connect(path: &Path) -> UnixStream {
    let mut stream = None;
    poll_until("a socket to connect to", LIMIT, || {
        stream = UnixStream::connect(path).ok();
        stream.is_some()
    });
    stream.expect("connected")
}

/// The path of a socket, and the option that has uvm listen there.
fn socket(name: &str) -> (PathBuf, String) {
    let path = scratch(name).join("s");
    let option = format!("unix:{}", text(&path));
    (path, option)
}

#[test]
fn a_shell_on_a_serial_port_by_a_socket() {
    let (path, option) = socket("shell");
    let mut guest = Guest::start(&mut uvm(&["--console", &option], &["sh", "-c", SHELL]));
    let mut client = Client::on(connect(&path));
    let meta = fs::symlink_metadata(&path).expect("stat");
    assert!(meta.file_type().is_socket() && meta.permissions().mode() & 0o777 == 0o600);
    client.prompt();
    client.ask(
        "tty; test -t 0 -a -t 1 && echo both''-terminals",
        "both-terminals",
    );
    client.ask("ps -o tty= -p $$", "\r\nttyS0");
    client.ask("echo $((6 * 7))''answer", "42answer");
    client.ask("stty speed", "\r\n9600\r\n");
    client.ask("stty 115200; stty speed", "\r\n115200\r\n");
    client.ask("stty -a | grep -o ' clocal'", "\r\n clocal");
    // What is in the foreground is interrupted, and stopped.
    client.send("sh -c 'echo start\"\"ed; exec sleep 1000'\r");
    client.expect("started");
    client.send("\x03");
    client.expect("^C");
    client.expect("ready> ");
    client.ask("echo status''=$?", "status=130");
    client.send("sh -c 'echo second\"\"-started; exec sleep 1000'\r");
    client.expect("second-started");
    client.send("\x1a");
    client.expect("ready> ");
    client.ask("jobs", "Stopped");
    client.ask("kill %1; fg; echo killed''=$?", "killed=143");
    // It is there for the next one who connects, and others wait their turn.
    client.send("read line; echo again''=$line\r");
    drop(client);
    let mut second = Client::on(connect(&path));
    let mut third = Client::on(connect(&path));
    third.send("echo third''-here\r");
    second.send("text\r");
    second.expect("again=text");
    second.expect("ready> ");
    drop(second);
    third.expect("third-here");
    third.send("exit 3\r");
    guest.ends(3);
    assert!(!path.exists(), "the socket is left");
}

#[test]
fn what_is_written_before_somebody_connects_is_kept() {
    let (path, option) = socket("kept");
    let command = "stty -onlcr -F /dev/ttyS0; seq 100000 >/dev/ttyS0; echo written; read line </dev/ttyS0; echo \"$line\"";
    let mut guest = Guest::start(&mut uvm(&["--console", &option], &["sh", "-c", command]));
    guest.writes("written");
    let mut stream = connect(&path);
    // The newest, and no more than 16 KiB.
    let mut newest = vec![0; 16 << 10];
    stream.read_exact(&mut newest).expect("read");
    assert!(
        newest.ends_with(b"\n99999\n100000\n"),
        "{}",
        String::from_utf8_lossy(&newest)
    );
    // Half of a connection will do for what goes in.
    stream.write_all(b"line\n").expect("write");
    stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    guest.writes("line");
    guest.ends(0);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("read");
    assert_eq!(String::from_utf8_lossy(&rest), "line\n", "the echo");
}

#[test]
fn the_loss_of_the_carrier_hangs_up() {
    let (path, option) = socket("carrier");
    let perl = r#"
        use POSIX; $| = 1;
        $SIG{HUP} = sub { print "hang-up\n" };
        sub modem { my $bits = pack "I", 0; ioctl $_[0], 0x5415, $bits or die; sprintf "%03x", unpack "I", $bits }
        sysopen my $local, "/dev/ttyS0", O_RDWR | O_NOCTTY or die;
        print "alone ", modem($local), "\n";
        system "stty -clocal -echo </dev/ttyS0";
        close $local;
        # Waits for somebody.
        sysopen my $line, "/dev/ttyS0", O_RDWR or die;
        print "together ", modem($line), "\n";
        print "read ", scalar <$line>;
        print defined <$line> ? "more\n" : "end\n";
        print defined syswrite($line, "x") ? "written\n" : "error $!\n";
        print ioctl($line, 0x5415, my $bits = pack "I", 0) ? "answered\n" : "error $!\n";
        close $line;
        sysopen $line, "/dev/ttyS0", O_RDWR or die;
        print "read ", scalar <$line>;
    "#;
    let mut guest = Guest::start(&mut uvm(&["--console", &option], &["perl", "-e", perl]));
    guest.writes("alone 006");
    let mut client = Client::on(connect(&path));
    guest.writes("together 166");
    client.send("one\n");
    guest.writes("read one");
    drop(client);
    for line in [
        "hang-up",
        "end",
        "error Input/output error",
        "error Input/output error",
    ] {
        guest.writes(line);
    }
    let mut client = Client::on(connect(&path));
    client.send("two\n");
    guest.writes("read two");
    guest.ends(0);
}

#[test]
fn a_pseudo_terminal_of_this_machine() {
    let command = SHELL.replace("ttyS0", "hvc0");
    let mut guest = Guest::start(&mut uvm(&["--console", "hvc0=pty"], &["sh", "-c", &command]));
    let mut told = String::new();
    guest.stderr.read_line(&mut told).expect("read");
    let path = told
        .strip_prefix("uvm: console hvc0: ")
        .unwrap_or_else(|| panic!("{told}"));
    let open = || {
        let flags = nix::libc::O_NOCTTY;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path.trim_end());
        Client::on(opened.expect("open the terminal"))
    };
    let mut client = open();
    client.prompt();
    client.ask("tty; ps -o tty= -p $$", "\r\nhvc0");
    client.send("sh -c 'echo start\"\"ed; exec sleep 1000'\r");
    client.expect("started");
    client.send("\x03");
    client.expect("ready> ");
    // Whoever opens it next goes on.
    drop(client);
    let mut client = open();
    client.ask("echo 'aga''in'", "again");
    client.send("exit 4\r");
    guest.ends(4);
}

#[test]
fn a_file_takes_what_is_written() {
    let file = scratch("file").join("out");
    fs::write(&file, "what was there before").expect("write");
    let option = format!("file:{}", text(&file));
    let command = "echo serial >/dev/ttyS0; echo console >/dev/console; cat /sys/class/tty/console/active; \
        head -c 300000 /dev/zero | tr '\\0' x >/dev/ttyS0; \
        python3 -c 'import os, termios; termios.tcdrain(os.open(\"/dev/ttyS0\", os.O_RDWR))'";
    says(&["--console", &option], command, "ttyS0\n");
    let written = fs::read_to_string(&file).expect("read");
    assert!(written == format!("serial\r\nconsole\r\n{}", "x".repeat(300_000)));
    // A file that takes nothing more hurts nobody.
    says(
        &["--console", "file:/dev/full"],
        "seq 10000 >/dev/ttyS0; echo on",
        "on\n",
    );
}

#[test]
fn a_port_with_nothing_attached() {
    let python = r#"
import fcntl, os, struct, termios
f = os.open("/dev/ttyS0", os.O_RDWR | os.O_NOCTTY)
os.write(f, b"x" * 100000)
termios.tcdrain(f)
kind, line, port, irq, flags, fifo, divisor, base = struct.unpack("8I", fcntl.ioctl(f, 0x541e, bytes(72))[:32])
print(kind, line, hex(port), irq, fifo, base)
modem = lambda: hex(struct.unpack("I", fcntl.ioctl(f, 0x5415, bytes(4)))[0])
print(modem())
fcntl.ioctl(f, 0x5417, struct.pack("I", 2))
print(modem())
fcntl.ioctl(f, 0x541f, fcntl.ioctl(f, 0x541e, bytes(72)))
def refused(change):
    try:
        fcntl.ioctl(f, 0x541f, change(bytearray(fcntl.ioctl(f, 0x541e, bytes(72)))))
    except OSError as error:
        print(error.strerror)
def port(s):
    s[8:12] = struct.pack("I", 0x2f8)
    return bytes(s)
refused(port)
os.setuid(65534)
refused(port)
termios.tcsendbreak(f, 0)
print(struct.unpack("i", fcntl.ioctl(f, termios.TIOCOUTQ, bytes(4)))[0], os.ttyname(f))
os.set_blocking(f, False)
try:
    os.read(f, 1)
except BlockingIOError:
    print("nothing")
"#;
    let told =
        "4 0 0x3f8 4 16 115200\n0x6\n0x4\nInvalid argument\nOperation not permitted\n0 /dev/ttyS0\nnothing\n";
    let outcome = run(&mut uvm(&[], &["python3", "-c", python]), b"", LIMIT);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, told),
        "{outcome:?}"
    );
    let command = "stty -F /dev/ttyS0 speed; grep -c '^serial .*/dev/ttyS .* 4 ' /proc/tty/drivers; tail -n 1 /proc/tty/driver/serial; \
        cat /sys/class/tty/ttyS0/dev /sys/class/tty/ttyS0/type; readlink /sys/dev/char/4:64; (: >/dev/hvc0) 2>&1 | grep -o 'No such device'";
    let told = "9600\n1\n0: uart:16550A port:000003F8 irq:4 tx:0 rx:0\n4:64\n4\n\
        ../../devices/platform/serial8250/tty/ttyS0\nNo such device\n";
    says(&[], command, told);
}

#[test]
fn standard_streams() {
    // They are the command's by the terminal.
    let command = "tty; read line; echo \"got $line\"; ps -o tty= -p $$; cat /sys/class/tty/console/active; echo error >&2";
    let outcome = run(
        &mut uvm(&["--console", "stdio"], &["sh", "-c", command]),
        b"text\n",
        LIMIT,
    );
    assert_eq!(outcome.status, 0, "{outcome:?}");
    // When the echo comes is not certain.
    let without_echo = outcome.stdout.replacen("text\r\n", "", 1);
    assert_eq!(
        without_echo, "/dev/ttyS0\r\ngot text\r\nttyS0\r\nttyS0\r\n",
        "{outcome:?}"
    );
    assert_eq!(outcome.stderr, "error\n");
    let mut terminal = Terminal::start(&uvm(&["--console", "hvc0=stdio"], &["sh", "-i"]), true);
    terminal.send("PS1='ready''> '\r");
    terminal.expect("ready> ");
    terminal.ask("tty; stty size", "/dev/hvc0\r\n24 80");
    terminal.ask("sh -c 'echo start\"\"ed; exec sleep 1000'", "started");
    terminal.send("\x03");
    terminal.expect("ready> ");
    terminal.send("exit 5\r");
    assert_eq!(terminal.end(), 5);
    assert_eq!(terminal.settings(), terminal.first_settings);
}

/// getty and login of this machine, where it has them.
#[test]
fn a_login_prompt() {
    if !Path::new("/sbin/agetty").exists() {
        return;
    }
    let (path, option) = socket("getty");
    let mut uvm = Command::new(UVM);
    uvm.args([
        "run",
        "--console",
        &option,
        "/",
        "/sbin/agetty",
        "-L",
        "ttyS0",
        "115200",
        "vt100",
    ]);
    let guest = Guest::start(&mut uvm);
    let mut client = Client::on(connect(&path));
    client.expect("login: ");
    client.send("nobody-of-that-name\r");
    if nix::unistd::geteuid().is_root() {
        client.expect("Password: ");
    }
    drop(guest);
}

#[test]
fn bad_arguments() {
    let place = scratch("bad");
    let file = place.join("file");
    fs::write(&file, "contents").expect("write");
    let listened = place.join("listened");
    let _listener = UnixListener::bind(&listened).expect("bind");
    let long = format!("unix:{}/{}", text(&place), "x".repeat(200));
    let unix = |path: &Path| format!("unix:{}", text(path));
    for (options, message) in [
        (
            vec!["com1"],
            "--console 'com1': give stdio, pty, file:PATH or unix:PATH, after ttyS0= or hvc0= if wanted",
        ),
        (vec!["ttyS1=pty"], "--console 'ttyS1=pty': give"),
        (vec!["pty", "stdio"], "run: --console: ttyS0 is given twice"),
        (
            vec!["stdio", "hvc0=stdio"],
            "run: --console: only one can have stdio",
        ),
        (vec![&unix(&file)], "it exists, and is no socket"),
        (vec![&unix(&listened)], "another process listens at it"),
        (vec![&unix(&place.join("none/s"))], "No such file or directory"),
        (vec![&long], "longer than the 107 bytes"),
        (vec![&format!("file:{}", text(&place))], "Is a directory"),
        (
            vec![&format!("file:{}/none/f", text(&place))],
            "No such file or directory",
        ),
    ] {
        let options: Vec<_> = options.iter().flat_map(|option| ["--console", option]).collect();
        let outcome = script(&options, "echo started");
        assert!(
            outcome.status == 125 && outcome.stdout.is_empty() && outcome.stderr.lines().count() == 1,
            "{options:?}: {outcome:?}"
        );
        assert!(outcome.stderr.contains(message), "{options:?}: {outcome:?}");
    }
    assert_eq!(fs::read_to_string(&file).expect("read"), "contents");
    // A socket that was left behind is no hindrance.
    let left = place.join("left");
    drop(UnixListener::bind(&left).expect("bind"));
    says(&["--console", &unix(&left)], "echo started", "started\n");
    assert!(!left.exists());
}

#[test]
fn bad_clients() {
    let (path, option) = socket("hostile");
    let mut guest = Guest::start(&mut uvm(
        &["--console", &option],
        &[
            "sh",
            "-c",
            "echo up; seq 300000 >/dev/ttyS0; echo out; exec sh -i </dev/ttyS0 >/dev/ttyS0 2>&1",
        ],
    ));
    // One who does not read: the writer waits, and nobody else.
    let silent = connect(&path);
    guest.writes("up");
    drop(silent);
    guest.writes("out");
    // Those who leave at once.
    for _ in 0..1000 {
        let stream = connect(&path);
        if stream.set_nonblocking(true).is_ok() {
            // There may be room for it or not.
            let _ = (&stream).write(&[b'x'; 100]);
        }
    }
    // One who types without end at somebody who does not read.
    let mut client = Client::on(connect(&path));
    client.send("\x15PS1='ready''> '; sh -c 'echo deaf\"\"ness; exec sleep 1000'\r");
    client.expect("deafness");
    drop(client);
    let mut flood = connect(&path);
    for _ in 0..2000 {
        flood
            .write_all(&[b'y'; 4096])
            .expect("it takes all, and throws away what it has no room for");
    }
    drop(flood);
    // The line is as it was: what was typed is thrown away by the interrupt.
    let mut client = Client::on(connect(&path));
    client.send("\x03");
    client.expect("ready> ");
    client.ask("echo still''-here", "still-here");
    client.send("exit 6\r");
    guest.ends(6);
}
