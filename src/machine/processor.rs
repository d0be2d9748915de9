//! The processor of a guest: which one it is shown, and how many CPUs it has.

use std::thread::available_parallelism;

use anyhow::{Result, anyhow};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::Options;
use crate::cpu::{Choice, Model};
use crate::platform::host;

/// With `--cpus`, use no more of the host's than that. The guest, and whatever serves it, inherits it.
pub(super) fn confine(options: &Options) {
    let this = Pid::from_raw(0);
    let (Some(cpus), Ok(own)) = (options.cpus, sched_getaffinity(this)) else {
        return;
    };
    let mut some = CpuSet::new();
    let all = (0..CpuSet::count()).filter(|cpu| own.is_set(*cpu) == Ok(true));
    for cpu in all.take(cpus as usize) {
        let _ = some.set(cpu);
    }
    // A host that does not allow it schedules as it likes.
    let _ = sched_setaffinity(this, &some);
}

/// The guest's processor, and whether the host can show it by the CPUID instruction as well.
pub(super) fn choose(options: &Options) -> Result<(Model, bool)> {
    let all = available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let cpus = options.cpus.unwrap_or(all);
    let faults = host::can_fault_cpuid();
    let here = |choice: &Choice| {
        let model = Model::here(choice, cpus, options.emulate_missing);
        model.map_err(|error| anyhow!("--cpu: {error}"))
    };
    let model = here(&options.cpu)?;
    if !faults && (!options.cpu.is_host() || options.cpus.is_some()) {
        tracing::warn!("this host cannot have CPUID fault: the guest sees the host's processor");
        return Ok((here(&Choice::default())?, false));
    }
    Ok((model, faults))
}
