//! Memory that comes with a call, and goes with its answer.

use libc::pid_t;

use super::*;
use crate::platform::native::remote;
use crate::platform::seccomp::marshal::with_present;
use crate::platform::{ForkKind, Space};

/// What a call with a result that is no call's number returns.
const RESULT: u64 = 1000;
const EFAULT: u64 = -14i64 as u64;

/// What happened in a test's guest, which panics in its handler would not tell.
type Report = Arc<Mutex<Option<std::thread::Result<u64>>>>;

/// Make call `number` in a guest whose first data is `data`. `handler` sees it; the result is what the guest got, and
/// `after` sees its memory then.
fn call(
    may_copy: bool,
    (number, args): (i64, [u64; 3]),
    data: &[u8],
    handler: impl Fn(&mut dyn Thread) + Send + 'static,
    after: impl Fn(&dyn Space) + Send + 'static,
) -> u64 {
    let (platform, mut thread) = guest(may_copy);
    assert_eq!(thread.space().write(DATA, data), data.len());
    let regs = thread.regs_mut();
    regs.rax = number as u64;
    (regs.rdi, regs.rsi, regs.rdx) = args.into();
    let report = Report::default();
    let told = Arc::clone(&report);
    let mut calls = 0;
    run(&platform, thread, move |thread, trap| {
        calls += 1;
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert_eq!(trap, Trap::Syscall);
            if calls == 1 {
                handler(thread);
                thread.regs_mut().rax = RESULT;
                return None;
            }
            after(&**thread.space());
            Some(thread.regs().orig_rax)
        }));
        match seen.transpose() {
            None => Next::Resume,
            Some(end) => {
                *told.lock().unwrap() = Some(end);
                Next::Exit
            }
        }
    });
    let told = report.lock().unwrap().take();
    told.unwrap().unwrap_or_else(|e| std::panic::resume_unwind(e))
}

fn stub() -> pid_t {
    with_present(|host| host.unwrap().process.pid)
}

fn read(space: &dyn Space, addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let got = space.read(addr, &mut bytes);
    bytes.truncate(got);
    bytes
}

/// What is in guest memory itself.
fn behind(addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let got = remote::read(stub(), addr, &mut bytes);
    bytes.truncate(got);
    bytes
}

#[test]
fn what_a_call_reads_comes_with_it() {
    let write = (libc::SYS_write, [1, DATA, 5]);
    let handler = |t: &mut dyn Thread| {
        assert_eq!(remote::write(stub(), DATA, b"later"), 5);
        assert_eq!(read(&**t.space(), DATA, 5), b"hello");
        assert_eq!(read(&**t.space(), DATA + 1, 3), b"ell");
        // Not all of it came with the call.
        assert_eq!(read(&**t.space(), DATA, 6), b"later ");
    };
    assert_eq!(call(true, write, b"hello world", handler, |_| {}), RESULT);
}

#[test]
fn what_a_call_writes_goes_with_the_answer() {
    for may_copy in [true, false] {
        let get = (libc::SYS_read, [0, DATA + 10, 4096]);
        let handler = |t: &mut dyn Thread| {
            assert_eq!(t.space().write(DATA + 10, b"abc"), 3);
            assert_eq!(t.space().write(DATA + 13, b"def"), 3);
            assert_eq!(t.space().write(DATA + 20, b"x"), 1);
            assert_eq!(behind(DATA + 10, 3), b"---");
            assert_eq!(read(&**t.space(), DATA + 11, 4), b"bcde");
        };
        let after = |s: &dyn Space| assert_eq!(read(s, DATA + 8, 14), b"--abcdef----x-");
        assert_eq!(call(may_copy, get, &[b'-'; 64], handler, after), RESULT);
    }
}

#[test]
fn reads_across_the_edge_of_what_was_written_see_it() {
    for may_copy in [true, false] {
        let get = (libc::SYS_read, [0, DATA + 10, 100]);
        let handler = |t: &mut dyn Thread| {
            assert_eq!(t.space().write(DATA + 10, b"abc"), 3);
            assert_eq!(read(&**t.space(), DATA + 8, 7), b"--abc--");
            assert_eq!(t.space().write(DATA + 12, b"cd"), 2);
            let mut bytes = [0; 6];
            assert_eq!(t.space().peek(DATA + 9, &mut bytes), 6);
            assert_eq!(&bytes, b"-abcd-");
            assert_eq!(t.space().write(DATA + 8, b"12345"), 5);
        };
        let after = |s: &dyn Space| assert_eq!(read(s, DATA + 8, 7), b"12345d-");
        assert_eq!(call(may_copy, get, &[b'-'; 200], handler, after), RESULT);
    }
}

#[test]
fn strings_end_where_memory_ends() {
    for may_copy in [true, false] {
        let mut data = vec![b'a'; 0x2000];
        let open = (libc::SYS_open, [DATA_END - 20, 0, 0]);
        let handler = |t: &mut dyn Thread| {
            assert_eq!(read(&**t.space(), DATA_END - 20, 256), [b'a'; 20]);
        };
        assert_eq!(call(may_copy, open, &data, handler, |_| {}), RESULT);

        data[0x1fff] = 0;
        let handler = |t: &mut dyn Thread| {
            assert_eq!(remote::write(stub(), DATA_END - 20, b"later"), 5);
            assert_eq!(read(&**t.space(), DATA_END - 20, 20), b"aaaaaaaaaaaaaaaaaaa\0");
        };
        assert_eq!(call(may_copy, open, &data, handler, |_| {}), RESULT);
        // Over a page's end in the middle, and longer than the first step.
        let open = (libc::SYS_open, [DATA + 0xff0, 0, 0]);
        data[0x1100] = 0;
        let handler = |t: &mut dyn Thread| {
            assert_eq!(remote::write(stub(), DATA + 0xff0, b"later"), 5);
            assert_eq!(read(&**t.space(), DATA + 0xff0, 16), [b'a'; 16]);
            assert_eq!(read(&**t.space(), DATA + 0x1000, 64), [b'a'; 64]);
        };
        assert_eq!(call(may_copy, open, &data, handler, |_| {}), RESULT);
    }
}

#[test]
fn buffers_end_where_memory_ends() {
    for may_copy in [true, false] {
        let get = (libc::SYS_read, [0, DATA_END - 6, 4096]);
        let handler = |t: &mut dyn Thread| {
            assert_eq!(t.space().write(DATA_END - 6, b"abcdefgh"), 6);
            assert_eq!(t.space().write(DATA_END, b"a"), 0);
            assert_eq!(read(&**t.space(), DATA_END - 6, 8), b"abcdef");
        };
        let after = |s: &dyn Space| assert_eq!(read(s, DATA_END - 8, 8), b"\0\0abcdef");
        assert_eq!(call(may_copy, get, b"", handler, after), RESULT);

        let put = (libc::SYS_write, [1, DATA_END - 6, 4096]);
        let handler = |t: &mut dyn Thread| assert_eq!(read(&**t.space(), DATA_END - 6, 8).len(), 6);
        assert_eq!(call(may_copy, put, b"", handler, |_| {}), RESULT);

        let far = (libc::SYS_read, [0, u64::MAX - 5, u64::MAX]);
        let handler = |t: &mut dyn Thread| assert_eq!(t.space().write(u64::MAX - 5, b"abcdefgh"), 0);
        assert_eq!(call(may_copy, far, b"", handler, |_| {}), RESULT);
    }
}

#[test]
fn arguments_that_overlap_are_one_memory() {
    for may_copy in [true, false] {
        let stat = (libc::SYS_stat, [DATA, DATA + 2, 0]);
        let handler = |t: &mut dyn Thread| {
            assert_eq!(read(&**t.space(), DATA, 8), b"/a/name\0");
            assert_eq!(t.space().write(DATA + 2, &[7; 144]), 144);
            assert_eq!(read(&**t.space(), DATA, 8), [b'/', b'a', 7, 7, 7, 7, 7, 7]);
            assert_eq!(t.space().write(DATA, b"xyz"), 3);
            assert_eq!(read(&**t.space(), DATA, 4), *b"xyz\x07");
        };
        let after = |s: &dyn Space| {
            assert_eq!(read(s, DATA, 4), *b"xyz\x07");
            assert_eq!(read(s, DATA + 144, 3), [7, 7, 0]);
        };
        assert_eq!(call(may_copy, stat, b"/a/name\0", handler, after), RESULT);
    }
}

#[test]
fn a_child_has_what_the_call_wrote_before() {
    for may_copy in [true, false] {
        let get = (libc::SYS_read, [0, DATA, 8]);
        let handler = |t: &mut dyn Thread| {
            assert_eq!(t.space().write(DATA, b"abc"), 3);
            let child = t.fork(ForkKind::Copy).unwrap();
            assert_eq!(read(&**child.space(), DATA, 4), b"abc\0");
            assert_eq!(t.space().write(DATA, b"d"), 1);
            assert_eq!(read(&**child.space(), DATA, 4), b"abc\0");
        };
        let after = |s: &dyn Space| assert_eq!(read(s, DATA, 4), b"dbc\0");
        assert_eq!(call(may_copy, get, b"", handler, after), RESULT);
    }
}

#[test]
fn memory_that_goes_meanwhile_is_a_bad_address() {
    for may_copy in [true, false] {
        let get = (libc::SYS_read, [0, DATA + 0x1000, 8]);
        let handler = |t: &mut dyn Thread| {
            let mut other = t.fork(ForkKind::Thread).unwrap();
            assert_eq!(t.space().write(DATA + 0x1000, b"kept"), 4);
            let (addr, len) = (DATA + 0x1000, 0x1000);
            // The fork has ended the segments of this call: what it wrote is in place.
            other.memory(&[MemOp::Unmap { addr, len }]).unwrap();
            assert_eq!(t.space().write(DATA + 0x1000, b"lost"), 0);
        };
        assert_eq!(call(may_copy, get, b"", handler, |_| {}), RESULT);
    }
}

#[test]
fn what_cannot_be_put_back_fails_the_call() {
    // The second thread is made by the first call; the second call writes, and the thread takes the memory away.
    for may_copy in [true, false] {
        let (platform, mut thread) = guest(may_copy);
        let regs = thread.regs_mut();
        (regs.rax, regs.rsi, regs.rdx) = (libc::SYS_read as u64, DATA + 0x1000, 8);
        let result = Arc::new(Mutex::new(0));
        let told = Arc::clone(&result);
        let mut other = None;
        let mut calls = 0;
        run(&platform, thread, move |thread, _| {
            calls += 1;
            thread.regs_mut().rax = libc::SYS_read as u64;
            if calls == 1 {
                other = thread.fork(ForkKind::Thread).ok();
                return Next::Resume;
            }
            if calls == 2 {
                let (addr, len) = (DATA + 0x1000, 0x1000);
                let written = thread.space().write(addr, b"lost");
                let unmapped = other.as_mut().map(|o| o.memory(&[MemOp::Unmap { addr, len }]));
                if written == 4 && unmapped == Some(Ok(0)) {
                    return Next::Resume;
                }
            }
            *told.lock().unwrap() = thread.regs().orig_rax;
            other = None;
            Next::Exit
        });
        assert_eq!(*result.lock().unwrap(), EFAULT);
    }
}

#[test]
fn a_window_that_changes_is_memory_that_changes() {
    for may_copy in [true, false] {
        let get = (libc::SYS_read, [0, DATA, 16]);
        let handler = |t: &mut dyn Thread| {
            let host = with_present(|host| Arc::clone(host.unwrap()));
            assert_eq!(t.space().write(DATA, b"written"), 7);
            host.door().write_window(0, &[b'!'; 0x8000]);
            assert_eq!(read(&**t.space(), DATA, 7), b"!!!!!!!");
        };
        let after = |s: &dyn Space| assert_eq!(read(s, DATA, 9), b"!!!!!!!--");
        assert_eq!(call(may_copy, get, &[b'-'; 16], handler, after), RESULT);
    }
}

#[test]
fn many_scattered_writes_arrive() {
    for may_copy in [true, false] {
        let get = (libc::SYS_read, [0, DATA, 4096]);
        let handler = |t: &mut dyn Thread| {
            for i in 0..100 {
                assert_eq!(t.space().write(DATA + i * 3, &[i as u8]), 1);
            }
        };
        let after = |s: &dyn Space| {
            let bytes = read(s, DATA, 300);
            assert!(bytes.iter().enumerate().all(|(at, b)| match at % 3 {
                0 => *b == (at / 3) as u8,
                _ => *b == 0xee,
            }));
        };
        assert_eq!(call(may_copy, get, &[0xee; 300], handler, after), RESULT);
    }
}
