//! The two ends of a terminal as open files, and the drivers that open them.

use std::sync::Arc;

use super::{PTS_MAJOR, State, Tty, ioctl, job};
use crate::kernel::fs::walk::{WalkCx, WalkFlags};
use crate::kernel::fs::{Driver, File, FileOps, OpenFlags, Path, minor};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{self, Capability, Task};
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};

/// Most bytes moved at once.
const CHUNK: usize = 4096;
/// Most bytes written in one run of a handler, where what is at the other end takes them at once.
const SHARE: usize = 256 << 10;
/// VTIME counts tenths of a second.
const VTIME_NANOS: u64 = 100_000_000;

/// What programs hold.
pub struct Slave {
    tty: Arc<Tty>,
    /// How often the terminal was hung up before.
    hang_ups: u64,
}

/// What a terminal emulator holds.
pub struct Master {
    tty: Arc<Tty>,
}

impl Slave {
    /// Open the slave; it closes when this drops.
    pub fn new(tty: &Arc<Tty>) -> Slave {
        let hang_ups = {
            let mut state = tty.state.lock();
            state.slaves += 1;
            state.used = true;
            if state.slaves == 1 {
                tty.start_up(&state);
            }
            state.hang_ups
        };
        if tty.line.is_some() {
            // What has come in may be taken now.
            tty.master_queue.notify(Events::WRITE);
        }
        Slave {
            tty: tty.clone(),
            hang_ups,
        }
    }

    /// Whether it was cut off.
    fn is_hung_up(&self, state: &State) -> bool {
        state.hung_up || state.hang_ups != self.hang_ups
    }

    /// How a read that found nothing waits, by VMIN and VTIME (termios(3)). None: it returns what there is.
    /// `generation` is the queue's from before it looked.
    fn wait_for_input(&self, reader: Option<&Arc<Task>>, generation: u64) -> Option<WaitFor> {
        let mut state = self.tty.state.lock();
        let termios = state.discipline.termios;
        let events = Events::READ | Events::HUP;
        let wait = WaitFor::default().and_since(&self.tty.slave_queue, events, generation);
        let (min, time) = (termios.cc[libc::VMIN], termios.cc[libc::VTIME]);
        if termios.local(libc::ICANON) || time == 0 && min > 0 {
            return Some(wait);
        }
        let reader = reader?;
        if time == 0 {
            return None;
        }
        if min > 0 && state.discipline.readable_bytes() == 0 {
            // The timer between bytes starts with the first one.
            state.read_deadline = None;
            return Some(wait);
        }
        let now = reader.kernel.clock.now();
        let deadline = match state.read_deadline {
            Some((tid, deadline)) if tid == reader.tid() => deadline,
            _ => now.after(u64::from(time) * VTIME_NANOS),
        };
        if now >= deadline {
            state.read_deadline = None;
            return None;
        }
        state.read_deadline = Some((reader.tid(), deadline));
        Some(wait.until(Some(deadline)))
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        let last = {
            let mut state = self.tty.state.lock();
            if state.hang_ups != self.hang_ups {
                return;
            }
            state.slaves -= 1;
            if state.slaves == 0 {
                self.tty.shut_down(&mut state);
            }
            state.slaves == 0
        };
        if last {
            self.tty.master_queue.notify(Events::READ | Events::HUP);
        }
    }
}

impl FileOps for Slave {
    fn read(&self, file: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        let reader = task::current();
        if let Some(task) = &reader {
            job::check_foreground(task, &self.tty, libc::SIGTTIN)?;
        }
        let want = to.remaining();
        if want == 0 {
            return Ok(0);
        }
        let generation = self.tty.slave_queue.generation();
        {
            let mut state = self.tty.state.lock();
            if state.is_telling {
                let told = WaitFor::default().and_since(&self.tty.slave_queue, Events::HUP, generation);
                return Err(told.into());
            }
            if self.is_hung_up(&state) {
                return Ok(0);
            }
            let min = usize::from(state.discipline.termios.cc[libc::VMIN]).min(want);
            if state.discipline.readable(min) {
                let bytes = state.discipline.read(want.min(CHUNK));
                state.read_deadline = None;
                drop(state);
                self.tty.master_queue.notify(Events::WRITE);
                return Ok(to.put(&bytes)?);
            }
        }
        if file.nonblocking() {
            return Err(Errno::EAGAIN.into());
        }
        match self.wait_for_input(reader.as_ref(), generation) {
            Some(wait) => Err(wait.into()),
            None => {
                let bytes = self.tty.state.lock().discipline.read(want.min(CHUNK));
                Ok(to.put(&bytes)?)
            }
        }
    }

    fn write(&self, file: &File, _: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let tostop = self.tty.state.lock().discipline.termios.local(libc::TOSTOP);
        if tostop && let Some(task) = task::current() {
            job::check_foreground(&task, &self.tty, libc::SIGTTOU)?;
        }
        let mut total = 0;
        while from.remaining() > 0 {
            let mut bytes = vec![0; from.remaining().min(CHUNK)];
            let taken = match from.take(&mut bytes) {
                Err(_) if total > 0 => break,
                taken => taken?,
            };
            let mut state = self.tty.state.lock();
            if self.is_hung_up(&state) {
                drop(state);
                from.untake(taken);
                return if total > 0 {
                    Ok(total)
                } else {
                    Err(Errno::EIO.into())
                };
            }
            let done = state.discipline.write(&bytes[..taken]);
            let wait = WaitFor::queue(&self.tty.slave_queue, Events::WRITE | Events::HUP);
            drop(state);
            from.untake(taken - done);
            total += done;
            self.tty.output_came();
            if done < taken {
                // A line takes output at once, so look again before waiting.
                let room = self.tty.state.lock().discipline.output_room() >= CHUNK;
                if room {
                    continue;
                }
                return match total {
                    _ if !file.nonblocking() => Err(wait.into()),
                    0 => Err(Errno::EAGAIN.into()),
                    total => Ok(total),
                };
            }
            if taken < bytes.len() {
                // The memory ends there.
                break;
            }
            if total >= SHARE && from.remaining() > 0 && !file.nonblocking() {
                return Err(WaitFor::nothing().into());
            }
            if total >= SHARE {
                break;
            }
        }
        Ok(total)
    }

    fn poll(&self, _: &File) -> Events {
        let state = self.tty.state.lock();
        let mut events = Events::empty();
        let hung_up = self.is_hung_up(&state);
        let termios = state.discipline.termios;
        let min = if termios.cc[libc::VTIME] == 0 {
            usize::from(termios.cc[libc::VMIN])
        } else {
            1
        };
        events.set(Events::READ, state.discipline.readable(min) || hung_up);
        events.set(Events::WRITE, state.discipline.output_room() > 256 || hung_up);
        events.set(Events::HUP, hung_up);
        events
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.tty.slave_queue.clone(), interest | Events::HUP)]
    }

    fn ioctl(&self, cx: &mut SyscallCx<'_>, _: &Arc<File>, request: u32, arg: u64) -> SysResult<u64> {
        if self.is_hung_up(&self.tty.state.lock()) {
            return Err(ioctl::after_hang_up(request).into());
        }
        ioctl::slave(cx, &self.tty, request, arg)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.tty.hang_up();
        if let Some(kernel) = self.tty.kernel.upgrade() {
            kernel.terminals.remove_pty(self.tty.index);
        }
    }
}

impl FileOps for Master {
    fn read(&self, file: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let bytes = {
            let mut state = self.tty.state.lock();
            let mut bytes = Vec::new();
            if state.packet && state.packet_status != 0 {
                bytes.push(std::mem::take(&mut state.packet_status));
            } else {
                let room = to.remaining().min(CHUNK) - usize::from(state.packet);
                let output = state.discipline.take_output(room);
                if output.is_empty() {
                    if state.used && state.slaves == 0 {
                        return Err(Errno::EIO.into());
                    }
                    if file.nonblocking() {
                        return Err(Errno::EAGAIN.into());
                    }
                    return Err(WaitFor::queue(&self.tty.master_queue, Events::READ | Events::HUP).into());
                }
                if state.packet {
                    bytes.push(0);
                }
                bytes.extend(output);
            }
            bytes
        };
        self.tty.slave_queue.notify(Events::WRITE);
        Ok(to.put(&bytes)?)
    }

    fn write(&self, file: &File, _: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let mut total = 0;
        while from.remaining() > 0 {
            let wait = {
                let state = self.tty.state.lock();
                let full = state.discipline.is_full();
                full.then(|| WaitFor::queue(&self.tty.master_queue, Events::WRITE))
            };
            if let Some(wait) = wait {
                return match total {
                    0 if file.nonblocking() => Err(Errno::EAGAIN.into()),
                    0 => Err(wait.into()),
                    total => Ok(total),
                };
            }
            // Small pieces, so that a full line discipline is noticed.
            let mut bytes = [0; 256];
            let want = from.remaining().min(bytes.len());
            let taken = from.take(&mut bytes[..want])?;
            self.tty.input(&bytes[..taken]);
            total += taken;
        }
        Ok(total)
    }

    fn poll(&self, _: &File) -> Events {
        let state = self.tty.state.lock();
        let mut events = Events::empty();
        let hung_up = state.used && state.slaves == 0;
        let status = state.packet && state.packet_status != 0;
        let data = state.discipline.output_len() > 0 && !state.discipline.stopped;
        events.set(Events::READ, data || status);
        events.set(Events::PRI, status);
        events.set(Events::WRITE, !state.discipline.is_full());
        events.set(Events::HUP, hung_up);
        events
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.tty.master_queue.clone(), interest | Events::HUP)]
    }

    fn ioctl(&self, cx: &mut SyscallCx<'_>, _: &Arc<File>, request: u32, arg: u64) -> SysResult<u64> {
        if request == ioctl::TIOCGPTPEER {
            return open_peer(cx, &self.tty, arg);
        }
        ioctl::master(cx, &self.tty, request, arg)
    }

    fn fdinfo(&self, _: &File) -> String {
        format!("tty-index:\t{}\n", self.tty.index)
    }
}

/// Open a slave the way open(2) does: a session leader without a terminal gets it.
pub(super) fn open_slave(
    cx: &SyscallCx<'_>,
    tty: &Arc<Tty>,
    flags: OpenFlags,
) -> SysResult<Arc<dyn FileOps>> {
    {
        let state = tty.state.lock();
        if state.locked || state.hung_up {
            return Err(Errno::EIO.into());
        }
        if state.exclusive && !cx.task.creds().capable(Capability::SysAdmin) {
            return Err(Errno::EBUSY.into());
        }
    }
    if !flags.contains(OpenFlags::NONBLOCK) {
        tty.wait_for_carrier()?;
    }
    let slave = Slave::new(tty);
    if !flags.contains(OpenFlags::NOCTTY) && flags.readable() {
        // Not being able to is no error of open(2).
        let _ = job::acquire(cx.task, tty, false);
    }
    Ok(Arc::new(slave))
}

/// TIOCGPTPEER: the slave as a new descriptor, found where devpts is mounted.
fn open_peer(cx: &SyscallCx<'_>, tty: &Arc<Tty>, flags: u64) -> SysResult<u64> {
    let flags = OpenFlags::from_bits_truncate(u32::try_from(flags).map_err(|_| Errno::EINVAL)?);
    let name = format!("/dev/pts/{}", tty.index);
    let path = WalkCx::of(cx.task).lookup(None, name.as_bytes(), WalkFlags::empty())?;
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    cx.task.files().check_room(limit)?;
    let ops = open_slave(cx, tty, flags)?;
    let inode = path.inode().clone();
    let file = File::at_path(ops, path, inode, flags);
    let fd = cx
        .task
        .files()
        .insert(file, flags.contains(OpenFlags::CLOEXEC), 0, limit)?;
    Ok(u64::try_from(fd.0).map_err(|_| Errno::EMFILE)?)
}

/// /dev/ptmx: each open makes a pseudo-terminal.
pub struct PtmxDriver;

impl Driver for PtmxDriver {
    fn open(&self, cx: &mut SyscallCx<'_>, _: &Path, _: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let tty = cx.kernel.terminals.new_pty(cx.kernel, cx.task.creds().fsuid)?;
        Ok(Arc::new(Master { tty }))
    }
}

/// /dev/pts/N.
pub struct PtsDriver;

impl Driver for PtsDriver {
    fn open(&self, cx: &mut SyscallCx<'_>, path: &Path, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let rdev = path.inode().metadata()?.rdev;
        debug_assert_eq!(crate::kernel::fs::major(rdev), PTS_MAJOR);
        let tty = cx.kernel.terminals.pty(minor(rdev)).ok_or(Errno::EIO)?;
        open_slave(cx, &tty, flags)
    }
}

/// /dev/tty: the caller's controlling terminal.
pub struct ControllingDriver;

impl Driver for ControllingDriver {
    fn open(&self, cx: &mut SyscallCx<'_>, _: &Path, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let (_, sid) = job::place(cx.task);
        let tty = cx.kernel.terminals.of_session(sid).ok_or(Errno::ENXIO)?;
        open_slave(cx, &tty, flags | OpenFlags::NOCTTY)
    }
}

/// /dev/console.
pub struct ConsoleDriver;

impl Driver for ConsoleDriver {
    fn open(&self, cx: &mut SyscallCx<'_>, _: &Path, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let tty = cx.kernel.terminals.console().ok_or(Errno::ENXIO)?;
        // It never becomes the controlling terminal by being opened.
        open_slave(cx, &tty, flags | OpenFlags::NOCTTY)
    }
}

/// Terminals that are on a line: /dev/ttyS0, /dev/hvc0.
pub struct LineDriver;

impl Driver for LineDriver {
    fn open(&self, cx: &mut SyscallCx<'_>, path: &Path, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let rdev = path.inode().metadata()?.rdev;
        let mut terminals = cx.kernel.terminals.fixed().into_iter();
        let tty = terminals.find(|tty| tty.dev() == rdev).ok_or(Errno::ENODEV)?;
        open_slave(cx, &tty, flags)
    }
}
