//! What hostile guests and sudden ends leave behind: nothing, and a supervisor that stands.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{LIMIT, assert_told, assert_writes, guest, scratch};
use crate::support::process::{Outcome, Process, poll_until, run, shell_status, signal, tree};
use crate::support::{UVM, rootfs};

/// A guest that has written `started`, with a directory of its own for temporary files.
struct Running {
    child: Child,
    temporary: std::path::PathBuf,
    processes: BTreeSet<Process>,
}

impl Running {
    fn start(options: &[&str], script: &str) -> Self {
        let temporary = scratch("tmpdir");
        let mut child = Command::new(UVM)
            .arg("run")
            .args(options)
            .arg(rootfs())
            .args(["--", "sh", "-c", script])
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start uvm");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe"))
            .read_line(&mut line)
            .expect("read");
        assert_eq!(line, "started\n");
        let processes = tree(Pid::from_raw(child.id().cast_signed()));
        Running {
            child,
            temporary,
            processes,
        }
    }

    /// Waits for uvm's end, and for that of everything it had started.
    fn end(mut self) -> i32 {
        let status = shell_status(self.child.wait().expect("wait for uvm"));
        poll_until("all processes are gone", LIMIT, || {
            !self.processes.iter().any(|process| process.lives())
        });
        assert_eq!(
            fs::read_dir(&self.temporary).expect("read").count(),
            0,
            "a temporary file is left"
        );
        status
    }
}

/// Names that uvm could have left where temporary things go.
fn leftovers() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in ["/tmp", "/var/tmp", "/dev/shm", "/run"] {
        for entry in Path::new(directory).read_dir().into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("uvm") && name != "uvm-test" && name != "uvm" {
                found.insert(format!("{directory}/{name}"));
            }
        }
    }
    found
}

#[test]
fn a_killed_supervisor_takes_everything_with_it() {
    let before = leftovers();
    for script in [
        "sleep 1000 & setsid sleep 1000 & (while :; do :; done) & echo started; wait",
        "echo started; kill -STOP $$",
        "cat </dev/tty & python3 -c 'import threading, time; [threading.Thread(target=time.sleep, args=(1000,)).start() for _ in range(20)]; print(\"started\", flush=True)'",
    ] {
        let running = Running::start(&[], script);
        assert!(running.processes.len() > 1, "{:?}", running.processes);
        signal(running.child.id(), Signal::SIGKILL);
        assert_eq!(running.end(), 137, "{script}");
    }
    assert_eq!(before, leftovers());
}

#[test]
fn signals_to_uvm_end_the_guest() {
    for (number, status) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
        (Signal::SIGINT, 130),
    ] {
        let running = Running::start(&[], "sleep 1000 & echo started; wait");
        signal(running.child.id(), number);
        assert_eq!(running.end(), status, "{number}");
    }
}

#[test]
fn children_end_with_the_first_process() {
    let running = Running::start(
        &[],
        "for i in 1 2 3; do setsid sleep 1000 & done; trap '' TERM; nohup sleep 1000 2>/dev/null & echo started; exit 5",
    );
    assert_eq!(running.end(), 5);
}

#[test]
fn zombies_keep_no_descriptors_of_uvm_open() {
    const ZOMBIES: usize = 200;
    let script = format!(
        r#"exec python3 -c 'import os, time
pids = [os.fork() or os._exit(0) for _ in range({ZOMBIES})]
[os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) for pid in pids]
print("started", flush=True)
time.sleep(1000)'"#
    );
    for platform in ["seccomp", "ptrace"] {
        let running = Running::start(&["--platform", platform], &script);
        let descriptors = format!("/proc/{}/fd", running.child.id());
        poll_until("what the zombies had is closed", LIMIT, || {
            fs::read_dir(&descriptors).expect("read").count() < ZOMBIES / 2
        });
        signal(running.child.id(), Signal::SIGTERM);
        assert_eq!(running.end(), 143, "{platform}");
    }
}

#[test]
fn a_guest_that_forks_without_end() {
    let running = Running::start(
        &["--timeout", "3"],
        "echo started; f() { f | f & }; f; wait; while :; do wait; sleep 1; done",
    );
    assert_eq!(running.end(), 124);
    assert_eq!(
        guest(&["--timeout", "2"], "while :; do (while :; do :; done) & done").status,
        124
    );
}

#[test]
fn a_guest_with_a_thousand_threads() {
    let program = r#"
        #include <pthread.h>
        #include <stdio.h>
        static pthread_barrier_t met, gate;
        static void *body(void *one) { pthread_barrier_wait(&met); pthread_barrier_wait(&gate); return one; }
        int main(void) {
            pthread_t threads[1000]; pthread_attr_t small; int one = 1, sum = 0;
            pthread_barrier_init(&met, 0, 1001); pthread_barrier_init(&gate, 0, 1001);
            pthread_attr_init(&small); pthread_attr_setstacksize(&small, 65536);
            for (int i = 0; i < 1000; i++) if (pthread_create(&threads[i], &small, body, &one)) return 1;
            pthread_barrier_wait(&met); printf("met\n"); pthread_barrier_wait(&gate);
            for (int i = 0; i < 1000; i++) { void *result; pthread_join(threads[i], &result); sum += *(int *)result; }
            printf("%d\n", sum);
        }"#;
    let outcome = guest(
        &[],
        &format!("cd /tmp && cat >t.c <<'end'\n{program}\nend\ngcc -o t t.c && ./t"),
    );
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, "met\n1000\n"),
        "{outcome:?}"
    );
}

/// Every syscall with wild arguments, each in a child of its own: the guest goes on.
#[test]
fn wild_arguments_for_every_syscall() {
    let program = r#"
import ctypes, os, random, signal, sys
SEED = 20240607; random.seed(SEED); libc = ctypes.CDLL(None, use_errno=True); ran = 0
values = [0, 1, 2, 3, -1, 7, 4096, 0xfff, 1 << 31, 1 << 32, 1 << 47, (1 << 47) - 1, 0x7fffffffffff, -4096, 1 << 63, (1 << 64) - 1, 0xdeadbeef000, -100]
for number in list(range(470)) + [1000, 0x40000000, -1]:
    for attempt in range(3):
        pid = os.fork()
        if pid == 0:
            os.setsid(); signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1); args = [ctypes.c_long(ctypes.c_long(random.Random(SEED * 7919 + number * 31 + attempt * 6 + i).choice(values)).value) for i in range(6)]
            if number in (62, 200, 129, 234, 297, 424): args[0] = ctypes.c_long(2147483646)  # kill and its kin: not everybody
            if number == 169: args[0] = ctypes.c_long(1)
            libc.syscall(ctypes.c_long(number), *args); os._exit(0)
        os.waitpid(pid, os.WUNTRACED); 
        try: os.kill(pid, signal.SIGKILL); os.kill(pid, signal.SIGCONT)
        except OSError: pass
        ran += 1
while True:
    try: os.waitpid(-1, os.WNOHANG) or sys.exit(print(ran) or 0)
    except ChildProcessError: break
print(ran)
"#;
    let file = scratch("wild").join("wild.py");
    fs::write(&file, program).expect("write");
    let outcome = guest(
        &[
            "--timeout",
            "55",
            "-v",
            &format!("{}:/wild.py:ro", file.display()),
        ],
        "python3 /wild.py; echo $?",
    );
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, "1419\n0\n"),
        "{outcome:?}"
    );
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
}

/// uvm in a shell that has been told so, with a guest that writes a line.
fn after(preparation: &str) -> Outcome {
    let script = format!("{preparation}\nexec \"$0\" run / -- /bin/echo hello");
    let mut command = Command::new("bash");
    command.args(["-c", &script, UVM]);
    run(&mut command, b"", LIMIT)
}

#[test]
fn low_limits_are_raised_or_named() {
    // Of writable memory the program itself needs 1 MiB before it can do anything.
    for limit in ["n 32", "v 200000", "f 0", "d 2000", "s 512"] {
        assert_writes(&after(&format!("ulimit -S{limit}")), "hello\n");
        let (option, _) = limit.split_once(' ').expect("an option and a value");
        assert_told(
            &after(&format!("ulimit -S{limit}; ulimit -H{limit}")),
            125,
            &["the limit on", &format!("'ulimit -{option}'"), "is needed"],
        );
    }
}

#[test]
fn odd_surroundings() {
    for preparation in [
        "unset HOME PATH TMPDIR",
        "exec 0<&-",
        "trap '' PIPE XFSZ CHLD HUP USR1 URG",
        "umask 777",
        "ulimit -c 0 -l 0 -q 0 -e 0 -r 0",
        "d=$(mktemp -d); cd \"$d\"; rmdir \"$d\"",
    ] {
        assert_writes(&after(preparation), "hello\n");
    }
}

/// Signals of a real-time kind are counted per user. A guest must not need any to be stopped.
#[test]
fn without_queued_signals() {
    let script = "ulimit -i 0; exec \"$0\" run / -- /bin/sh -c \
        'while :; do :; done & sleep 0.1; kill $!; wait $!; echo $?' 2>/dev/null";
    let mut command = Command::new("bash");
    command.args(["-c", script, UVM]);
    assert_writes(&run(&mut command, b"", LIMIT), "143\n");
}
