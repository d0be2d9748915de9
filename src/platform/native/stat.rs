//! CPU time of a host thread from /proc.

use std::fs::File;
use std::os::unix::fs::FileExt;

use libc::pid_t;

/// A tick of utime and stime (USER_HZ), in ns.
const TICK: u64 = 10_000_000;

/// Longest text of these files that is read: /proc/TID/stat has some 50 numbers and a name.
const LONGEST: usize = 2048;

/// User and system time in nanoseconds: the scheduler's exact sum, split as the coarser tick counters are.
pub(in crate::platform) fn cpu_time(process: pid_t, thread: pid_t) -> Option<(u64, u64)> {
    let total = schedule(process, thread, 0);
    if let Some(total) = total.filter(|total| *total < TICK) {
        // There is nothing to split by yet; most threads end so young.
        return Some((total, 0));
    }
    let (user, system) = ticks(&read(process, thread, "stat")?)?;
    let total = total.unwrap_or_else(|| user.saturating_add(system).saturating_mul(TICK));
    let share = u128::from(user) * u128::from(total) / u128::from((user + system).max(1));
    let user = if user + system == 0 { total } else { share as u64 };
    Some((user, total - user))
}

/// How long a thread has waited for a CPU so far, in ns.
pub(in crate::platform) fn waited(process: pid_t, thread: pid_t) -> Option<u64> {
    schedule(process, thread, 1)
}

/// A number of /proc/TID/schedstat: time on a CPU, time waiting for one (both in ns), time slices.
fn schedule(process: pid_t, thread: pid_t, field: usize) -> Option<u64> {
    let text = read(process, thread, "schedstat")?;
    text.split_whitespace().nth(field)?.parse().ok()
}

/// Whether a thread sleeps until something wakes it.
pub(in crate::platform) fn sleeps(process: pid_t, thread: pid_t) -> bool {
    read(process, thread, "stat").is_some_and(|stat| state(&stat) == Some("S"))
}

/// Children of this process in that process group.
pub(in crate::platform) fn children_in_group(group: pid_t) -> Vec<pid_t> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let own = std::process::id().to_string();
    pids.filter(|pid: &pid_t| {
        let stat = read(*pid, *pid, "stat").unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let mut fields = fields.split_whitespace().skip(1);
        fields.next() == Some(&*own) && fields.next() == Some(&*group.to_string())
    })
    .collect()
}

/// What a file of a thread in /proc says, read in one piece.
fn read(process: pid_t, thread: pid_t, name: &str) -> Option<String> {
    let file = File::open(format!("/proc/{process}/task/{thread}/{name}")).ok()?;
    let mut bytes = [0; LONGEST];
    let len = file.read_at(&mut bytes, 0).ok()?;
    String::from_utf8(bytes.get(..len)?.to_vec()).ok()
}

fn state(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().next()
}

/// utime and stime of /proc/TID/stat in ticks of 10 ms (USER_HZ).
fn ticks(stat: &str) -> Option<(u64, u64)> {
    // The name in parentheses may itself hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_an_odd_name() {
        let stat = "12 (a) b (c)) S 1 1 1 0 -1 4194560 1 2 3 4 77 88 0 0 20 0";
        assert_eq!(ticks(stat), Some((77, 88)));
        assert_eq!(ticks("12 (x"), None);
        assert_eq!((state(stat), state("12 (x")), (Some("S"), None));
    }
}
