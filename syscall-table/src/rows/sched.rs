//! Scheduling: policies, priorities, affinity, barriers.

/// Expands `callback! { sched [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! sched_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { sched [$($($extra)*)?]
             24 sched_yield () -> Int, full, native, always;
            140 getpriority (which: Enum(PRIO), who: Int) -> Int, full, kernel;
            141 setpriority (which: Enum(PRIO), who: Int, prio: Int) -> Int, partial "kept as data: the host schedules", kernel;
            142 sched_setparam (pid: Pid, param: In(SchedParam)) -> Int, partial "kept as data: the host schedules", kernel;
            143 sched_getparam (pid: Pid, param: Out(SchedParam)) -> Int, full, kernel;
            144 sched_setscheduler (pid: Pid, policy: Flags(SCHED), param: In(SchedParam)) -> Int, partial "kept as data: the host schedules", kernel;
            145 sched_getscheduler (pid: Pid) -> Enum(SCHED), full, kernel;
            146 sched_get_priority_max (policy: Flags(SCHED)) -> Int, full, kernel;
            147 sched_get_priority_min (policy: Flags(SCHED)) -> Int, full, kernel;
            148 sched_rr_get_interval (pid: Pid, tp: Out(Timespec)) -> Int, full, kernel;
            203 sched_setaffinity (pid: Pid, cpusetsize: Size, mask: InCpuSet(cpusetsize)) -> Int, partial "another thread than the caller moves when it next execs or clones", kernel;
            204 sched_getaffinity (pid: Pid, cpusetsize: Size, mask: OutCpuSet(cpusetsize)) -> Int, full, kernel;
            251 ioprio_set (which: Enum(IOPRIO), who: Int, ioprio: Hex) -> Int, partial "kept as data: the host schedules", kernel;
            252 ioprio_get (which: Enum(IOPRIO), who: Int) -> Hex, full, kernel;
            309 getcpu (cpu: Out(Uint), node: Out(Uint), tcache: Addr) -> Int, full, guest;
            314 sched_setattr (pid: Pid, attr: In(SchedAttr), flags: Hex) -> Int, partial "kept as data: the host schedules", kernel;
            315 sched_getattr (pid: Pid, attr: Out(SchedAttr), size: Uint, flags: Hex) -> Int, full, kernel;
            324 membarrier (cmd: Enum(MEMBARRIER), flags: Flags(MEMBARRIER_FLAGS), cpu_id: Int) -> Int, partial "a query answers that no command is there", kernel, checked;
            334 rseq (area: Addr, len: Size, flags: Flags(RSEQ), sig: Hex) -> Int, refused(ENOSYS) "glibc runs without restartable sequences", kernel;
        }
    };
}
