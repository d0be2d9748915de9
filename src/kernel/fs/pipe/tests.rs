use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::kernel::stop::Stop;
use crate::kernel::user_memory::{KernelSink, KernelSource};
use crate::kernel::wait::testing::until_done;
use crate::platform::Grant;

fn blocked<T>(result: &SysResult<T>) -> bool {
    matches!(result, Err(Stop::Block(_)))
}

fn errno<T>(result: SysResult<T>) -> Option<Errno> {
    match result {
        Err(Stop::Errno(errno, _)) => Some(errno),
        _ => None,
    }
}

fn write(pipe: &Pipe, bytes: &[u8]) -> (SysResult<usize>, usize) {
    let mut source = KernelSource::new(bytes);
    let result = pipe.write(false, false, &mut source);
    (result, bytes.len() - source.remaining())
}

fn read(pipe: &Pipe, max: usize) -> Vec<u8> {
    let mut sink = KernelSink::new(max);
    assert!(pipe.read(true, &mut sink).is_ok());
    sink.bytes
}

#[test]
fn bytes_come_out_as_they_went_in() {
    let (r, _w) = pair();
    let pipe = &r.pipe;
    let text: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut out = Vec::new();
    let mut at = 0;
    while out.len() < text.len() {
        let (_, moved) = write(pipe, &text[at..(at + 7001).min(text.len())]);
        at += moved;
        out.extend(read(pipe, 5003));
    }
    assert!(out == text);
}

#[test]
fn a_full_pipe_takes_part_of_a_large_write_and_none_of_an_atomic_one() {
    let (r, _w) = pair();
    let (result, moved) = write(&r.pipe, &[1; DEFAULT_CAPACITY - 10]);
    assert!(matches!(result, Ok(n) if n == moved));
    let (result, moved) = write(&r.pipe, &[2; 11]);
    assert!(blocked(&result) && moved == 0);
    let (result, moved) = write(&r.pipe, &[3; PIPE_BUF + 1]);
    assert!(blocked(&result) && moved == 10);
    assert_eq!(
        errno(r.pipe.write(true, false, &mut KernelSource::new(&[0]))),
        Some(Errno::EAGAIN)
    );
    assert_eq!(read(&r.pipe, DEFAULT_CAPACITY).len(), DEFAULT_CAPACITY);
}

#[test]
fn ends_see_each_other_go() {
    let (r, w) = pair();
    assert!(blocked(&r.pipe.read(false, &mut KernelSink::new(1))));
    assert!(matches!(write(&r.pipe, b"ab").0, Ok(2)));
    let pipe = r.pipe.clone();
    drop(w);
    assert_eq!(read(&pipe, 10), b"ab");
    assert_eq!(read(&pipe, 10), b"");
    drop(r);
    let (_r, w) = pair();
    drop(_r);
    assert_eq!(errno(write(&w.pipe, b"x").0), Some(Errno::EPIPE));
}

#[test]
fn packets_keep_their_ends_and_lose_what_does_not_fit() {
    let (r, _w) = pair();
    let packet = |bytes: &[u8]| r.pipe.write(true, true, &mut KernelSource::new(bytes));
    assert!(matches!(write(&r.pipe, b"plain").0, Ok(5)));
    assert!(matches!((packet(b"abc"), packet(b"defg")), (Ok(3), Ok(4))));
    assert!(matches!(packet(&[1; PIPE_BUF + 1]), Ok(n) if n == PIPE_BUF + 1));
    assert_eq!(read(&r.pipe, 100), b"plain");
    assert_eq!(
        (read(&r.pipe, 100), read(&r.pipe, 2)),
        (b"abc".to_vec(), b"de".to_vec())
    );
    assert_eq!(
        (read(&r.pipe, 9000).len(), read(&r.pipe, 9000).len()),
        (PIPE_BUF, 1)
    );
    assert!(r.pipe.is_empty());
}

#[test]
fn transfer_copies_or_moves() {
    let (a, _a) = pair();
    let (b, _b) = pair();
    assert!(matches!(write(&a.pipe, b"hello").0, Ok(5)));
    assert!(matches!(a.pipe.transfer(&b.pipe, 4, false), Ok(4)));
    assert!(matches!(a.pipe.transfer(&b.pipe, 100, true), Ok(5)));
    assert!(blocked(&a.pipe.transfer(&b.pipe, 1, true)));
    assert_eq!(read(&b.pipe, 100), b"hellhello");
    assert_eq!(errno(a.pipe.transfer(&a.pipe, 1, true)), Some(Errno::EINVAL));
}

#[test]
fn capacity_is_in_pages_and_bounded() {
    let (r, _w) = pair();
    let user = Creds::of_user(1000, 1000, &[]);
    assert_eq!(r.pipe.set_capacity(5000, &user), Ok(8192));
    assert_eq!(r.pipe.set_capacity(1 << 21, &user), Err(Errno::EPERM));
    assert_eq!(r.pipe.set_capacity(1 << 32, &user), Err(Errno::EINVAL));
    assert!(matches!(write(&r.pipe, &[0; 8192]).0, Ok(8192)));
    assert_eq!(r.pipe.set_capacity(1, &user), Err(Errno::EBUSY));
}

#[test]
fn threads_that_write_and_read_lose_nothing_and_wake_each_other() {
    const WRITERS: usize = 2;
    const BYTES: usize = 300_000;
    let (r, w) = pair();
    let pipe = &*r.pipe;
    let received = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    for chunk in vec![1; BYTES].chunks(9000) {
                        let mut source = KernelSource::new(chunk);
                        let sent = until_done(|| pipe.write(false, false, &mut source));
                        assert!(sent.is_ok() && source.remaining() == 0);
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let mut sink = KernelSink::new(7000);
                    match until_done(|| pipe.read(false, &mut sink)) {
                        Ok(0) => break,
                        got => received.fetch_add(got.unwrap_or(0), Ordering::SeqCst),
                    };
                }
            });
        }
        for writer in writers {
            assert!(writer.join().is_ok());
        }
        // The readers wait by now, or soon, for nothing but this.
        drop(w);
    });
    assert_eq!(received.into_inner(), WRITERS * BYTES);
}

/// What a thread was granted that is in a call until it is told otherwise.
#[derive(Default)]
struct Busy {
    is_busy: AtomicBool,
    then: std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Grant for Busy {
    fn begin(&self) {}
    fn lend_position(&self, _: u64) {}
    fn take_position(&self) -> Option<u64> {
        None
    }
    fn position(&self) -> Option<u64> {
        None
    }
    fn end(&self) -> Option<u64> {
        None
    }
    fn is_alive(&self) -> bool {
        true
    }
    fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::SeqCst)
    }
    fn when_quiet(&self, then: Box<dyn FnOnce() + Send>) {
        *self.then.lock().expect("nothing panics with it") = Some(then);
    }
    fn kill(&self) {}
}

#[test]
fn a_hosted_pipe_is_taken_back_when_nobody_uses_it() {
    let (r, _w) = pair();
    let pipe = &r.pipe;
    assert!(matches!(write(pipe, b"before").0, Ok(6)));
    let all = HostPipes::default();
    assert!(pipe.host(&all) && !pipe.host(&all));
    assert!(matches!(write(pipe, b" and after").0, Ok(10)));
    assert_eq!((pipe.len(), read(pipe, 6)), (16, b"before".to_vec()));
    // What fits of a large write goes; then it waits, and so must the kernel.
    let (result, moved) = write(pipe, &[b'x'; DEFAULT_CAPACITY + 1]);
    assert!(blocked(&result) && moved > 0 && !pipe.is_hosted());
    assert_eq!((read(pipe, 10), pipe.len()), (b" and after".to_vec(), moved));
    assert!(pipe.host(&all) && pipe.reclaim().is_ok() && !pipe.host(&all));
    assert_eq!(read(pipe, 2 * DEFAULT_CAPACITY), vec![b'x'; moved]);
}

#[test]
fn bytes_stay_with_the_host_while_a_thread_may_be_in_a_call() {
    let (r, w) = pair();
    let pipe = Arc::clone(&r.pipe);
    assert!(pipe.host(&HostPipes::default()));
    let (ticket, grant) = (Ticket::new(1, 0, true), Arc::new(Busy::default()));
    let host = pipe.lend(false, true, &ticket).expect("it is hosted");
    ticket.begin(Arc::clone(&grant) as Arc<dyn Grant>);
    grant.is_busy.store(true, Ordering::SeqCst);
    assert!(blocked(&pipe.reclaim()) && !pipe.is_hosted());
    assert!(pipe.lend(true, true, &ticket).is_none());
    // The thread goes on meanwhile, and the kernel too.
    assert_eq!(nix::unistd::write(&*host, b"one "), Ok(4));
    assert!(matches!(write(&pipe, b"two ").0, Ok(4)));
    drop(w);
    assert_eq!((pipe.len(), read(&pipe, 4)), (8, b"one ".to_vec()));
    assert_eq!(nix::unistd::write(&*host, b"three"), Ok(5));
    grant.is_busy.store(false, Ordering::SeqCst);
    let then = grant.then.lock().expect("nothing panics with it").take();
    then.expect("it was asked")();
    assert!(pipe.reclaim().is_ok());
    assert_eq!(
        (read(&pipe, 100), read(&pipe, 1)),
        (b"two three".to_vec(), vec![])
    );
}
