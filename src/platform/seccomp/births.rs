//! Clones of host processes that are under way, and *strays*: stubs that nobody knows.
//!
//! A stub that may clone can say that its clone has failed, and have made one all the same, which would run on unseen. So when a
//! clone that was allowed comes to nothing, the children that nobody has entered are looked at: each is either one of another
//! clone under way, which enters it, or a stray. Which of them it is is clear once all clones are over that were under way.

use std::collections::BTreeSet;
use std::sync::Mutex;

use libc::pid_t;
use nix::unistd::{Pid, getpgid};

use super::process::{Processes, lock};
use crate::platform::native::stat;

/// The clones under way.
#[derive(Default)]
pub(super) struct Births(Mutex<UnderWay>);

#[derive(Default)]
struct UnderWay {
    next: u64,
    numbers: BTreeSet<u64>,
    /// Who may be a stray, and the number below which all clones must be over before that is known.
    suspects: Vec<(pid_t, u64)>,
}

impl UnderWay {
    fn begin(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.numbers.insert(number);
        number
    }

    fn suspect(&mut self, pids: Vec<pid_t>) {
        let until = self.next;
        self.suspects.extend(pids.into_iter().map(|pid| (pid, until)));
    }

    /// That clone is over. Who is a stray unless somebody has entered it.
    fn end(&mut self, number: u64) -> Vec<pid_t> {
        self.numbers.remove(&number);
        let first = self.numbers.first().copied().unwrap_or(u64::MAX);
        let (clear, open) = self.suspects.iter().partition(|(_, until)| *until <= first);
        self.suspects = open;
        let clear: Vec<(pid_t, u64)> = clear;
        clear.into_iter().map(|(pid, _)| pid).collect()
    }
}

impl Births {
    /// It has ended: its number may become another's.
    pub(super) fn forget(&self, pid: pid_t) {
        lock(&self.0).suspects.retain(|(suspect, _)| *suspect != pid);
    }
}

/// A clone of a host process under way, until its child has been entered.
pub(super) struct Birth<'p> {
    processes: &'p Processes,
    number: u64,
}

impl<'p> Birth<'p> {
    pub(super) fn begin(processes: &'p Processes) -> Birth<'p> {
        let number = lock(&processes.births.0).begin();
        Birth { processes, number }
    }

    /// The clone that the stub `maker` was allowed came to nothing, as it says.
    pub(super) fn in_vain(&self, maker: pid_t) {
        let Ok(group) = getpgid(Some(Pid::from_raw(maker))) else {
            return;
        };
        let mut children = stat::children_in_group(group.as_raw());
        children.retain(|pid| !self.processes.knows(*pid));
        lock(&self.processes.births.0).suspect(children);
    }
}

impl Drop for Birth<'_> {
    fn drop(&mut self) {
        let clear = lock(&self.processes.births.0).end(self.number);
        clear.into_iter().for_each(|pid| self.processes.kill_stray(pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_is_known_when_all_are_over_that_were_under_way() {
        let mut births = UnderWay::default();
        let (other, vain) = (births.begin(), births.begin());
        births.suspect(vec![7]);
        let later = births.begin();
        assert!(births.end(vain).is_empty());
        assert_eq!(births.end(other), [7]);
        births.suspect(vec![8]);
        assert_eq!(births.end(later), [8]);
        assert!(births.suspects.is_empty());
    }
}
