//! The system as a whole, and calls that belong to no other group.

/// Expands `callback! { sys [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! sys_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { sys [$($($extra)*)?]
             63 uname (buf: Out(Utsname)) -> Int, full, kernel;
             99 sysinfo (info: Out(Sysinfo)) -> Int, full, kernel;
            103 syslog (action: Enum(SYSLOG), buf: OutBuf(len), len: Int) -> Size, partial "nothing of the log is shown on a console", kernel;
            134 uselib (library: Path) -> Int, refused(ENOSYS) "a.out libraries are gone from Linux", kernel;
            156 _sysctl (args: Addr) -> Int, refused(ENOSYS) "removed from Linux 5.5; /proc/sys has it", kernel;
            163 acct (path: Path) -> Int, refused(ENOSYS) "the machine keeps no process accounting", kernel;
            167 swapon (path: Path, flags: Flags(SWAPON)) -> Int, refused(EPERM) "swap is the host's business", kernel;
            168 swapoff (path: Path) -> Int, refused(EPERM) "swap is the host's business", kernel;
            169 reboot (magic1: Enum(REBOOT_MAGIC1), magic2: Enum(REBOOT_MAGIC2), cmd: Enum(REBOOT), arg: Addr) -> Int, partial "the machine ends; starting it again is up to whoever started it", kernel;
            170 sethostname (name: InBuf(len), len: Size) -> Int, full, kernel;
            171 setdomainname (name: InBuf(len), len: Size) -> Int, full, kernel;
            174 create_module (name: Str, size: Size) -> Int, refused(ENOSYS) "removed from Linux 2.6", kernel;
            175 init_module (module_image: Addr, len: Size, param_values: Str) -> Int, refused(EPERM) "there is no kernel that could load a module", kernel;
            176 delete_module (name: Str, flags: Flags(DELETE_MODULE)) -> Int, refused(EPERM) "there is no kernel that could load a module", kernel;
            177 get_kernel_syms (table: Addr) -> Int, refused(ENOSYS) "removed from Linux 2.6", kernel;
            178 query_module (name: Str, which: Int, buf: Addr, bufsize: Size, ret: Addr) -> Int, refused(ENOSYS) "removed from Linux 2.6", kernel;
            179 quotactl (cmd: Hex, special: Path, id: Int, addr: Addr) -> Int, refused(ENOSYS) "the file systems keep no quotas", kernel;
            180 nfsservctl (cmd: Int, argp: Addr, resp: Addr) -> Int, refused(ENOSYS) "removed from Linux 3.1", kernel;
            181 getpmsg (a: Hex, b: Hex, c: Hex, d: Hex, e: Hex) -> Int, refused(ENOSYS) "Linux never implemented it", kernel;
            182 putpmsg (a: Hex, b: Hex, c: Hex, d: Hex, e: Hex) -> Int, refused(ENOSYS) "Linux never implemented it", kernel;
            183 afs_syscall (a: Hex, b: Hex, c: Hex, d: Hex, e: Hex) -> Int, refused(ENOSYS) "Linux never implemented it", kernel;
            184 tuxcall (a: Hex, b: Hex, c: Hex) -> Int, refused(ENOSYS) "Linux never implemented it", kernel;
            185 security (a: Hex, b: Hex, c: Hex) -> Int, refused(ENOSYS) "Linux never implemented it", kernel;
            212 lookup_dcookie (cookie: Hex, buf: OutBuf(len), len: Size) -> Size, refused(ENOSYS) "removed from Linux 6.7", kernel;
            236 vserver (a: Hex, b: Hex, c: Hex, d: Hex, e: Hex) -> Int, refused(ENOSYS) "Linux never implemented it", kernel;
            246 kexec_load (entry: Addr, nr_segments: Size, segments: Addr, flags: Hex) -> Int, refused(EPERM) "there is no kernel that could be replaced", kernel;
            248 add_key (kind: Str, description: Str, payload: InBuf(plen), plen: Size, keyring: Int) -> Int, refused(ENOSYS) "the kernel keeps no keyrings", kernel;
            249 request_key (kind: Str, description: Str, callout_info: Str, dest_keyring: Int) -> Int, refused(ENOSYS) "the kernel keeps no keyrings", kernel;
            250 keyctl (operation: Enum(KEYCTL), arg2: Hex, arg3: Hex, arg4: Hex, arg5: Hex) -> Int, refused(ENOSYS) "the kernel keeps no keyrings", kernel;
            298 perf_event_open (attr: Addr, pid: Pid, cpu: Int, group_fd: Fd, flags: Flags(PERF_FLAGS)) -> Fd, refused(EACCES) "performance counters are the host's, as by perf_event_paranoid", kernel;
            313 finit_module (fd: Fd, param_values: Str, flags: Flags(MODULE_INIT)) -> Int, refused(EPERM) "there is no kernel that could load a module", kernel;
            318 getrandom (buf: OutBuf(buflen), buflen: Size, flags: Flags(GETRANDOM)) -> Size, full, kernel;
            320 kexec_file_load (kernel_fd: Fd, initrd_fd: Fd, cmdline_len: Size, cmdline: Str, flags: Hex) -> Int, refused(EPERM) "there is no kernel that could be replaced", kernel;
            321 bpf (cmd: Enum(BPF), attr: Addr, size: Uint) -> Int, refused(EPERM) "the kernel runs no BPF programs for guests", kernel;
            335 uretprobe () -> Int, refused(ENOSYS) "the kernel sets no probes in guests", kernel;
            336 uprobe () -> Int, refused(ENOSYS) "the kernel sets no probes in guests", kernel;
            425 io_uring_setup (entries: Uint, params: Addr) -> Fd, refused(ENOSYS) "programs fall back to plain calls and epoll", kernel;
            426 io_uring_enter (fd: Fd, to_submit: Uint, min_complete: Uint, flags: Hex, argp: Addr, argsz: Size) -> Int, refused(ENOSYS) "programs fall back to plain calls and epoll", kernel;
            427 io_uring_register (fd: Fd, opcode: Uint, arg: Addr, nr_args: Uint) -> Int, refused(ENOSYS) "programs fall back to plain calls and epoll", kernel;
            443 quotactl_fd (fd: Fd, cmd: Hex, id: Int, addr: Addr) -> Int, refused(ENOSYS) "the file systems keep no quotas", kernel;
            444 landlock_create_ruleset (attr: Addr, size: Size, flags: Flags(LANDLOCK_CREATE)) -> Fd, refused(ENOSYS) "the kernel is built without Landlock", kernel;
            445 landlock_add_rule (ruleset_fd: Fd, rule_type: Enum(LANDLOCK_RULE), rule_attr: Addr, flags: Hex) -> Int, refused(ENOSYS) "the kernel is built without Landlock", kernel;
            446 landlock_restrict_self (ruleset_fd: Fd, flags: Hex) -> Int, refused(ENOSYS) "the kernel is built without Landlock", kernel;
            459 lsm_get_self_attr (attr: Hex, ctx: Addr, size: InOut(Uint), flags: Hex) -> Int, refused(ENOSYS) "the kernel has no security modules", kernel;
            460 lsm_set_self_attr (attr: Hex, ctx: Addr, size: Uint, flags: Hex) -> Int, refused(ENOSYS) "the kernel has no security modules", kernel;
            461 lsm_list_modules (ids: Addr, size: InOut(Uint), flags: Hex) -> Int, refused(ENOSYS) "the kernel has no security modules", kernel;
        }
    };
}
