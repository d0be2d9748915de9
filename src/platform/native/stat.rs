//! CPU time of a host thread from /proc.

use std::fs;

use libc::pid_t;

/// User and system time in nanoseconds: the scheduler's exact sum, split as the coarser tick counters are.
pub(in crate::platform) fn cpu_time(process: pid_t, thread: pid_t) -> Option<(u64, u64)> {
    let dir = format!("/proc/{process}/task/{thread}");
    let stat = fs::read_to_string(format!("{dir}/stat")).ok()?;
    let (user, system) = ticks(&stat)?;
    let total = fs::read_to_string(format!("{dir}/schedstat"))
        .ok()
        .and_then(|s| s.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or_else(|| user.saturating_add(system).saturating_mul(10_000_000));
    let share = u128::from(user) * u128::from(total) / u128::from((user + system).max(1));
    let user = if user + system == 0 { total } else { share as u64 };
    Some((user, total - user))
}

/// Whether a thread sleeps until something wakes it.
pub(in crate::platform) fn sleeps(process: pid_t, thread: pid_t) -> bool {
    fs::read_to_string(format!("/proc/{process}/task/{thread}/stat"))
        .is_ok_and(|stat| state(&stat) == Some("S"))
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
