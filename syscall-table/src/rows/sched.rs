//! Scheduling: policies, priorities, affinity, barriers.

/// Expands `callback! { sched [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! sched_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { sched [$($($extra)*)?]
             24 sched_yield () -> Int, refused(ENOSYS) "not implemented yet", native;
            140 getpriority (which: Enum(PRIO), who: Int) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            141 setpriority (which: Enum(PRIO), who: Int, prio: Int) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            142 sched_setparam (pid: Pid, param: In(SchedParam)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            143 sched_getparam (pid: Pid, param: Out(SchedParam)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            144 sched_setscheduler (pid: Pid, policy: Flags(SCHED), param: In(SchedParam)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            145 sched_getscheduler (pid: Pid) -> Enum(SCHED), refused(ENOSYS) "not implemented yet", kernel;
            146 sched_get_priority_max (policy: Flags(SCHED)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            147 sched_get_priority_min (policy: Flags(SCHED)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            148 sched_rr_get_interval (pid: Pid, tp: Out(Timespec)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            203 sched_setaffinity (pid: Pid, cpusetsize: Size, mask: InCpuSet(cpusetsize)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            204 sched_getaffinity (pid: Pid, cpusetsize: Size, mask: OutCpuSet(cpusetsize)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            251 ioprio_set (which: Enum(IOPRIO), who: Int, ioprio: Hex) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            252 ioprio_get (which: Enum(IOPRIO), who: Int) -> Hex, refused(ENOSYS) "not implemented yet", kernel;
            309 getcpu (cpu: Out(Uint), node: Out(Uint), tcache: Addr) -> Int, refused(ENOSYS) "not implemented yet", guest;
            314 sched_setattr (pid: Pid, attr: In(SchedAttr), flags: Hex) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            315 sched_getattr (pid: Pid, attr: Out(SchedAttr), size: Uint, flags: Hex) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            324 membarrier (cmd: Enum(MEMBARRIER), flags: Flags(MEMBARRIER_FLAGS), cpu_id: Int) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            334 rseq (area: Addr, len: Size, flags: Flags(RSEQ), sig: Hex) -> Int, refused(ENOSYS) "glibc runs without restartable sequences", kernel;
        }
    };
}
