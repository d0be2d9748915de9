//! The host's text files about a process's memory: proc_pid_maps(5), proc_pid_smaps(5), proc_pid_statm(5).

use nix::sys::stat::makedev;

use crate::platform::{Mapping, MappingUsage, PAGE_SIZE, Prot, SpaceSize, USER_END};

/// The guest's mappings in the text of /proc/PID/maps.
pub(in crate::platform) fn mappings(text: &str) -> Vec<Mapping> {
    text.lines().filter_map(mapping).filter(is_guest).collect()
}

fn is_guest(mapping: &Mapping) -> bool {
    mapping.start < USER_END
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let perms = fields.next()?.as_bytes();
    let offset = hex(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode: u64 = fields.next()?.parse().ok()?;
    let mut prot = Prot::empty();
    prot.set(Prot::READ, perms.first() == Some(&b'r'));
    prot.set(Prot::WRITE, perms.get(1) == Some(&b'w'));
    prot.set(Prot::EXEC, perms.get(2) == Some(&b'x'));
    let file = (inode != 0).then_some((makedev(hex(major)?, hex(minor)?), inode));
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        prot,
        shared: perms.get(3) == Some(&b's'),
        offset: if file.is_some() { offset } else { 0 },
        file,
    })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The counters of each guest mapping that is not the platform's `own`, in the text of /proc/PID/smaps.
pub(in crate::platform) fn usage(text: &str, own: impl Fn(&Mapping) -> bool) -> Vec<MappingUsage> {
    let mut out: Vec<MappingUsage> = Vec::new();
    let mut skip = true;
    for line in text.lines() {
        // A mapping's first line begins with a lower-case hexadecimal address, a counter's with a capital letter.
        if line.starts_with(|c: char| c.is_ascii_digit() || c.is_ascii_lowercase()) {
            skip = !mapping(line).is_some_and(|m| is_guest(&m) && !own(&m));
            if !skip {
                out.push(MappingUsage::default());
            }
        } else if let Some(last) = out.last_mut().filter(|_| !skip) {
            counter(last, line);
        }
    }
    out
}

fn counter(usage: &mut MappingUsage, line: &str) {
    let Some((name, rest)) = line.split_once(':') else {
        return;
    };
    let field = match name {
        "Rss" => &mut usage.rss,
        "Pss" => &mut usage.pss,
        "Shared_Clean" => &mut usage.shared_clean,
        "Shared_Dirty" => &mut usage.shared_dirty,
        "Private_Clean" => &mut usage.private_clean,
        "Private_Dirty" => &mut usage.private_dirty,
        "Referenced" => &mut usage.referenced,
        "Anonymous" => &mut usage.anonymous,
        "Swap" => &mut usage.swap,
        _ => return,
    };
    let kib: u64 = rest
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    *field = kib * 1024;
}

/// What the platform itself has in every address space, in bytes, as [`SpaceSize`] counts.
pub(in crate::platform) type Own = SpaceSize;

/// The text of /proc/PID/statm, less what is the platform's.
pub(in crate::platform) fn size(text: &str, own: &Own) -> Option<SpaceSize> {
    let mut fields = text.split_whitespace().map(|n| n.parse::<u64>().ok());
    let mut next = || Some(fields.next().flatten()? * PAGE_SIZE);
    let (total, resident, shared) = (next()?, next()?, next()?);
    let _text = next()?;
    let _lib = next()?;
    let data = next()?;
    Some(SpaceSize {
        total: total.saturating_sub(own.total),
        resident: resident.saturating_sub(own.resident),
        shared: shared.saturating_sub(own.shared),
        data: data.saturating_sub(own.data),
    })
}

/// The largest `total` and `resident` in the text of /proc/PID/status, less what is the platform's.
pub(in crate::platform) fn peak(text: &str, own: &Own) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    };
    let (total, resident) = (field("VmPeak:")?, field("VmHWM:")?);
    Some((
        total.saturating_sub(own.total),
        resident.saturating_sub(own.resident),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-00401000 r-xp 00002000 fe:01 1234                      /some where/x\n\
7f0000000000-7f0000002000 rw-s 00000000 00:01 77                 /dev/zero (deleted)\n\
7fffffffe000-7ffffffff000 r-xp 00000000 00:01 5                  /memfd:uvm-stub (deleted)\n\
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0          [vsyscall]\n";

    #[test]
    fn guest_mappings_only() {
        let maps = mappings(MAPS);
        assert_eq!(maps.len(), 2);
        assert_eq!(maps[0].file, Some((makedev(0xfe, 1), 1234)));
        assert_eq!((maps[0].offset, maps[0].prot), (0x2000, Prot::READ | Prot::EXEC));
        assert_eq!((maps[1].file, maps[1].shared), (Some((makedev(0, 1), 77)), true));
    }

    #[test]
    fn peaks_are_less_the_platforms_own() {
        let own = Own {
            total: 2048,
            resident: 1 << 20,
            ..Own::default()
        };
        let text = "Name:\tx\nVmPeak:\t    8 kB\nVmSize:\t  4 kB\nVmHWM:\t   6 kB\n";
        assert_eq!(peak(text, &own), Some((6144, 0)));
        assert_eq!(peak("Name:\tx\n", &own), None);
    }

    #[test]
    fn usage_follows_the_mappings() {
        let text: String = MAPS
            .lines()
            .enumerate()
            .map(|(i, l)| format!("{l}\nSize: 4 kB\nRss:   {i} kB\nVmFlags: rd ex\n"))
            .collect();
        let got = usage(&text, |_| false);
        assert_eq!(got.iter().map(|u| u.rss).collect::<Vec<_>>(), [0, 1024]);
    }
}
