//! A pseudo-terminal of the host as a back-end: what programs such as minicom and screen open.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::read;
use rustix::fs::inotify;

use super::carry::{Stopped, carry_in, carry_out};
use super::{BackEnd, Line};
use crate::kernel::wait::reactor::{HostWatch, Reactor};
use crate::kernel::wait::{Events, WaitQueue};

/// The master of a pseudo-terminal. Somebody is there while the slave is open.
pub struct HostPty {
    master: HostWatch,
    /// Tells of each opening of the slave: a master without one is always ready, so that it cannot be waited for.
    openings: HostWatch,
}

impl HostPty {
    /// A new pseudo-terminal in raw mode, and the path of its slave.
    pub fn open(reactor: &Arc<Reactor>, ready: &WaitQueue) -> Result<(Box<dyn BackEnd>, String), Errno> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname_r(&master)?;
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let slave = open(path.as_str(), flags, Mode::empty())?;
        let mut settings = tcgetattr(&slave)?;
        cfmakeraw(&mut settings);
        tcsetattr(&slave, SetArg::TCSANOW, &settings)?;
        let openings = watch_openings(&path).map_err(|e| Errno::from_raw(e.raw_os_error()))?;
        // Only a slave that was open and is not tells that nobody is there.
        drop(slave);
        let master = master.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
        let pty = HostPty {
            master: reactor.watch(master, ready)?,
            openings: reactor.watch(openings, ready)?,
        };
        Ok((Box::new(pty), path))
    }
}

fn watch_openings(path: &str) -> rustix::io::Result<OwnedFd> {
    let openings = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&openings, path, inotify::WatchFlags::OPEN)?;
    Ok(openings)
}

impl BackEnd for HostPty {
    fn carry(&self, line: &Line) {
        // That there were some is all they tell.
        let mut events = [0; 4096];
        while read(self.openings.as_fd(), &mut events).is_ok_and(|n| n > 0) {}
        self.openings.arm(Events::IN);
        if self.master.poll(Events::IN).contains(Events::HUP) {
            return line.set_carrier(false);
        }
        line.set_carrier(true);
        let came = carry_in(&self.master, line);
        let went = carry_out(&self.master, line);
        if came == Stopped::Ended || went != Ok(Stopped::Waiting) {
            line.set_carrier(false);
        } else {
            self.master.arm(Events::HUP);
        }
    }
}
