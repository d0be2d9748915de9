//! Memory: mappings, protection, advice, NUMA policy, memory of other processes.

/// Expands `callback! { mm [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! mm_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { mm [$($($extra)*)?]
              9 mmap (addr: Addr, length: Size, prot: Flags(PROT), flags: Flags(MAP), fd: Fd, offset: Hex) -> Addr, full, native, checked;
             10 mprotect (addr: Addr, len: Size, prot: Flags(PROT)) -> Int, full, native, always;
             11 munmap (addr: Addr, length: Size) -> Int, full, native, always;
             12 brk (addr: Addr) -> Addr, full, kernel;
             25 mremap (old_address: Addr, old_size: Size, new_size: Size, flags: Flags(MREMAP), new_address: Addr) -> Addr, full, native, always;
             26 msync (addr: Addr, length: Size, flags: Flags(MSYNC)) -> Int, full, kernel, always;
             27 mincore (addr: Addr, length: Size, vec: OutPageVec(length)) -> Int, full, kernel, always;
             28 madvise (addr: Addr, length: Size, advice: Enum(MADV)) -> Int, full, native, checked;
            149 mlock (addr: Addr, len: Size) -> Int, full, kernel, always;
            150 munlock (addr: Addr, len: Size) -> Int, full, kernel, always;
            151 mlockall (flags: Flags(MLOCKALL)) -> Int, full, kernel;
            152 munlockall () -> Int, full, kernel;
            216 remap_file_pages (addr: Addr, size: Size, prot: Flags(PROT), pgoff: Size, flags: Flags(MAP)) -> Int, refused(ENOSYS) "non-linear mappings are gone from Linux; mmap does it", kernel;
            237 mbind (addr: Addr, len: Size, mode: Flags(MPOL), nodemask: Addr, maxnode: Size, flags: Flags(MPOL_BIND_FLAGS)) -> Int, refused(ENOSYS) "the machine has one memory node", kernel;
            238 set_mempolicy (mode: Flags(MPOL), nodemask: Addr, maxnode: Size) -> Int, refused(ENOSYS) "the machine has one memory node", kernel;
            239 get_mempolicy (mode: Out(Int), nodemask: Addr, maxnode: Size, addr: Addr, flags: Flags(MPOL_GET)) -> Int, refused(ENOSYS) "the machine has one memory node", kernel;
            256 migrate_pages (pid: Pid, maxnode: Size, old_nodes: Addr, new_nodes: Addr) -> Int, refused(ENOSYS) "the machine has one memory node", kernel;
            279 move_pages (pid: Pid, count: Size, pages: Addr, nodes: Addr, status: Addr, flags: Flags(MPOL_BIND_FLAGS)) -> Int, refused(ENOSYS) "the machine has one memory node", kernel;
            310 process_vm_readv (pid: Pid, local_iov: OutIovec(liovcnt), liovcnt: Size, remote_iov: InArray(Iovec, riovcnt), riovcnt: Size, flags: Hex) -> Size, full, kernel;
            311 process_vm_writev (pid: Pid, local_iov: InIovec(liovcnt), liovcnt: Size, remote_iov: InArray(Iovec, riovcnt), riovcnt: Size, flags: Hex) -> Size, full, kernel;
            319 memfd_create (name: Str, flags: Flags(MEMFD)) -> Fd, partial "no huge pages", kernel;
            323 userfaultfd (flags: Flags(USERFAULTFD)) -> Fd, refused(ENOSYS) "page faults are the host's business", kernel;
            325 mlock2 (addr: Addr, len: Size, flags: Flags(MLOCK)) -> Int, full, kernel, always;
            329 pkey_mprotect (addr: Addr, len: Size, prot: Flags(PROT), pkey: Int) -> Int, full, kernel;
            330 pkey_alloc (flags: Hex, access_rights: Flags(PKEY_RIGHTS)) -> Int, full, kernel;
            331 pkey_free (pkey: Int) -> Int, full, kernel;
            440 process_madvise (pidfd: Fd, iov: InArray(Iovec, vlen), vlen: Size, advice: Enum(MADV), flags: Hex) -> Size, partial "advice about other processes is checked and not passed to the host", kernel;
            447 memfd_secret (flags: Flags(MEMFD_SECRET)) -> Fd, refused(ENOSYS) "secret memory is off, as by secretmem.enable=0", kernel;
            448 process_mrelease (pidfd: Fd, flags: Hex) -> Int, full, kernel;
            450 set_mempolicy_home_node (start: Addr, len: Size, home_node: Size, flags: Hex) -> Int, refused(ENOSYS) "the machine has one memory node", kernel;
            453 map_shadow_stack (addr: Addr, size: Size, flags: Flags(SHADOW_STACK)) -> Addr, refused(EOPNOTSUPP) "the processor offers no user shadow stacks", kernel;
            462 mseal (addr: Addr, len: Size, flags: Hex) -> Int, refused(ENOSYS) "mappings are the host's; sealing them would need every call to be checked against it", kernel;
        }
    };
}
