//! /proc/sys: the settings that programs read.

use std::sync::Weak;

use super::super::pseudo::{Entry, PseudoDir, PseudoFile};
use super::super::{FileType, inotify};
use crate::kernel::Kernel;
use crate::kernel::stop::Errno;
use crate::kernel::task::PID_MAX;

type Make = fn(&Kernel) -> String;

/// Every setting by its path below /proc/sys.
const SETTINGS: &[(&str, Make)] = &[
    ("fs/aio-max-nr", |_| "65536".to_owned()),
    ("fs/file-max", |_| "9223372036854775807".to_owned()),
    ("fs/file-nr", |_| "0\t0\t9223372036854775807".to_owned()),
    ("fs/inotify/max_queued_events", |_| {
        inotify::MAX_QUEUED.to_string()
    }),
    ("fs/inotify/max_user_instances", |_| {
        inotify::MAX_INSTANCES.to_string()
    }),
    ("fs/inotify/max_user_watches", |_| {
        inotify::MAX_WATCHES.to_string()
    }),
    ("fs/nr_open", |_| "1048576".to_owned()),
    ("fs/overflowgid", |_| "65534".to_owned()),
    ("fs/overflowuid", |_| "65534".to_owned()),
    ("fs/pipe-max-size", |_| "1048576".to_owned()),
    ("fs/protected_hardlinks", |_| "1".to_owned()),
    ("fs/protected_symlinks", |_| "1".to_owned()),
    ("fs/suid_dumpable", |_| "0".to_owned()),
    ("kernel/cap_last_cap", |_| "40".to_owned()),
    ("kernel/core_pattern", |_| "core".to_owned()),
    ("kernel/core_uses_pid", |_| "0".to_owned()),
    ("kernel/domainname", |k| {
        String::from_utf8_lossy(&k.uts.lock().domainname).into_owned()
    }),
    ("kernel/hostname", |k| {
        String::from_utf8_lossy(&k.uts.lock().nodename).into_owned()
    }),
    ("kernel/msgmax", |_| "8192".to_owned()),
    ("kernel/msgmnb", |_| "16384".to_owned()),
    ("kernel/msgmni", |_| "32000".to_owned()),
    ("kernel/ngroups_max", |_| "65536".to_owned()),
    ("kernel/osrelease", |_| crate::kernel::sys::RELEASE.to_owned()),
    ("kernel/ostype", |_| "Linux".to_owned()),
    ("kernel/overflowgid", |_| "65534".to_owned()),
    ("kernel/overflowuid", |_| "65534".to_owned()),
    ("kernel/perf_event_paranoid", |_| "3".to_owned()),
    ("kernel/pid_max", |_| PID_MAX.to_string()),
    ("kernel/pty/max", |_| "4096".to_owned()),
    ("kernel/pty/nr", |k| k.terminals.indexes().len().to_string()),
    ("kernel/random/boot_id", |k| k.hardware.boot_id.clone()),
    ("kernel/random/entropy_avail", |_| "256".to_owned()),
    ("kernel/random/poolsize", |_| "256".to_owned()),
    ("kernel/random/uuid", |k| k.random.uuid()),
    ("kernel/randomize_va_space", |_| "2".to_owned()),
    ("kernel/sem", |_| "32000\t1024000000\t500\t32000".to_owned()),
    ("kernel/shmall", |_| "18446744073692774399".to_owned()),
    ("kernel/shmmax", |_| "18446744073692774399".to_owned()),
    ("kernel/shmmni", |_| "4096".to_owned()),
    ("kernel/threads-max", |_| PID_MAX.to_string()),
    ("kernel/version", |_| crate::kernel::sys::VERSION.to_owned()),
    ("net/core/rmem_default", |_| "212992".to_owned()),
    ("net/core/rmem_max", |_| "212992".to_owned()),
    ("net/core/somaxconn", |_| "4096".to_owned()),
    ("net/core/wmem_default", |_| "212992".to_owned()),
    ("net/core/wmem_max", |_| "212992".to_owned()),
    ("net/ipv4/conf/all/forwarding", |_| "0".to_owned()),
    ("net/ipv4/ip_forward", |_| "0".to_owned()),
    ("net/ipv4/ip_local_port_range", |_| {
        let range = crate::kernel::net::EPHEMERAL;
        format!("{}\t{}", range.start(), range.end())
    }),
    ("net/ipv4/ip_unprivileged_port_start", |_| "1024".to_owned()),
    ("net/ipv4/ping_group_range", |_| "1\t0".to_owned()),
    ("net/ipv4/tcp_congestion_control", |_| "cubic".to_owned()),
    ("net/ipv4/tcp_max_syn_backlog", |_| "4096".to_owned()),
    ("net/ipv4/tcp_rmem", |_| "4096\t131072\t6291456".to_owned()),
    ("net/ipv4/tcp_wmem", |_| "4096\t16384\t4194304".to_owned()),
    ("net/ipv6/bindv6only", |_| "0".to_owned()),
    ("net/ipv6/conf/all/disable_ipv6", |_| "0".to_owned()),
    ("net/ipv6/conf/default/disable_ipv6", |_| "0".to_owned()),
    ("net/ipv6/conf/lo/disable_ipv6", |_| "0".to_owned()),
    ("net/unix/max_dgram_qlen", |_| "512".to_owned()),
    ("vm/max_map_count", |_| "65530".to_owned()),
    ("vm/mmap_min_addr", |_| "65536".to_owned()),
    ("vm/overcommit_memory", |_| "0".to_owned()),
    ("vm/overcommit_ratio", |_| "50".to_owned()),
    ("vm/swappiness", |_| "60".to_owned()),
];

/// The directory of all settings that begin with a prefix.
pub(super) struct Dir {
    kernel: Weak<Kernel>,
    prefix: String,
}

impl Dir {
    pub(super) fn root(kernel: &Weak<Kernel>) -> Dir {
        Dir {
            kernel: kernel.clone(),
            prefix: String::new(),
        }
    }

    /// Names below the prefix: the next component, and whether it is the last.
    fn below(&self) -> impl Iterator<Item = (&'static str, bool, Make)> {
        SETTINGS.iter().filter_map(|(path, make)| {
            let rest = path.strip_prefix(self.prefix.as_str())?;
            let name = rest.split('/').next()?;
            Some((name, name.len() == rest.len(), *make))
        })
    }
}

impl PseudoDir for Dir {
    fn list(&self) -> Vec<(String, FileType)> {
        let mut list: Vec<_> = self
            .below()
            .map(|(name, last, _)| {
                (
                    name.to_owned(),
                    if last {
                        FileType::Regular
                    } else {
                        FileType::Directory
                    },
                )
            })
            .collect();
        list.dedup();
        list
    }

    fn find(&self, name: &str) -> Option<Entry> {
        let (_, last, make) = self.below().find(|(known, ..)| *known == name)?;
        if last {
            Some(Entry::file(Setting {
                kernel: self.kernel.clone(),
                make,
            }))
        } else {
            Some(Entry::dir(Dir {
                kernel: self.kernel.clone(),
                prefix: format!("{}{name}/", self.prefix),
            }))
        }
    }
}

/// One setting. All are read-only, as in an unprivileged container.
struct Setting {
    kernel: Weak<Kernel>,
    make: Make,
}

impl PseudoFile for Setting {
    fn text(&self) -> Result<Vec<u8>, Errno> {
        let kernel = self.kernel.upgrade().ok_or(Errno::EIO)?;
        Ok(((self.make)(&kernel) + "\n").into_bytes())
    }
}
