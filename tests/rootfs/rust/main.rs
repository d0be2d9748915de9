//! Threads, channels, locks, a child process and files: what Rust's standard library needs of a kernel.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc, Barrier, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, panic, thread};

/// Many threads add to one number under a lock and one without.
fn counters(threads: u64, rounds: u64) -> (u64, u64) {
    let locked = Arc::new(Mutex::new(0));
    let atomic = Arc::new(AtomicU64::new(0));
    let start = Arc::new(Barrier::new(threads as usize));
    let handles: Vec<_> = (0..threads)
        .map(|_| {
            let (locked, atomic, start) = (locked.clone(), atomic.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                for _ in 0..rounds {
                    *locked.lock().unwrap() += 1;
                    atomic.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
    let total = *locked.lock().unwrap();
    (total, atomic.load(Ordering::Relaxed))
}

/// Two threads take turns with a condition variable.
fn turns(rounds: u32) -> u32 {
    let state = Arc::new((Mutex::new(0u32), Condvar::new()));
    let other = state.clone();
    let odd = thread::spawn(move || {
        for _ in 0..rounds {
            let mut turn = other.1.wait_while(other.0.lock().unwrap(), |turn| *turn % 2 == 0).unwrap();
            *turn += 1;
            other.1.notify_one();
        }
    });
    for _ in 0..rounds {
        let mut turn = state.1.wait_while(state.0.lock().unwrap(), |turn| *turn % 2 == 1).unwrap();
        *turn += 1;
        state.1.notify_one();
    }
    odd.join().unwrap();
    let turn = *state.0.lock().unwrap();
    turn
}

fn main() {
    println!("counters {:?}", counters(8, 5_000));
    println!("turns {}", turns(500));

    let (sender, receiver) = mpsc::channel();
    for worker in 0..50u64 {
        let sender = sender.clone();
        thread::spawn(move || sender.send(worker * worker).unwrap());
    }
    drop(sender);
    println!("channel {}", receiver.iter().sum::<u64>());

    let mut child = Command::new("tr").arg("a-z").arg("A-Z").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through a child").unwrap();
    let output = child.wait_with_output().unwrap();
    println!("child {} {}", String::from_utf8_lossy(&output.stdout), output.status);

    let (mut near, mut far) = UnixStream::pair().unwrap();
    let echo = thread::spawn(move || {
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        text
    });
    near.write_all(b"between threads").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    println!("socket {}", echo.join().unwrap());

    let path = env::temp_dir().join("rust-workers.txt");
    fs::write(&path, "line\n".repeat(1000)).unwrap();
    println!("file {}", fs::read_to_string(&path).unwrap().lines().count());
    fs::remove_file(&path).unwrap();

    let before = Instant::now();
    thread::park_timeout(Duration::from_millis(5));
    println!("clock moves {}", before.elapsed() > Duration::ZERO);

    let panicked = panic::catch_unwind(|| panic!("on purpose")).is_err();
    println!("unwinding {panicked}");
    println!("cpus {}", thread::available_parallelism().unwrap().get() > 0);
}
