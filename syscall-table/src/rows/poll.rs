//! Readiness: poll, select, epoll, and the descriptors made to be waited on.

/// Expands `callback! { poll [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! poll_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { poll [$($($extra)*)?]
              7 poll (fds: InOutArray(Pollfd, nfds), nfds: Uint, timeout: Int) -> Int, full, blocks, kernel;
             23 select (nfds: Int, readfds: FdSet(nfds), writefds: FdSet(nfds), exceptfds: FdSet(nfds), timeout: InOut(Timeval)) -> Int, full, blocks, kernel;
            213 epoll_create (size: Int) -> Fd, full, kernel;
            214 epoll_ctl_old (epfd: Hex, op: Hex, fd: Hex, event: Hex) -> Int, refused(ENOSYS) "Linux never implemented it", kernel;
            215 epoll_wait_old (epfd: Hex, events: Hex, maxevents: Hex, timeout: Hex) -> Int, refused(ENOSYS) "Linux never implemented it", kernel;
            232 epoll_wait (epfd: Fd, events: OutArray(EpollEvent, maxevents), maxevents: Int, timeout: Int) -> Int, full, blocks, kernel;
            233 epoll_ctl (epfd: Fd, op: Enum(EPOLL_CTL), fd: Fd, event: In(EpollEvent)) -> Int, full, kernel;
            270 pselect6 (nfds: Int, readfds: FdSet(nfds), writefds: FdSet(nfds), exceptfds: FdSet(nfds), timeout: InOut(Timespec), sigmask: In(SigSetArg)) -> Int, full, blocks, kernel;
            271 ppoll (fds: InOutArray(Pollfd, nfds), nfds: Uint, timeout: InOut(Timespec), sigmask: In(SigSet), sigsetsize: Size) -> Int, full, blocks, kernel;
            281 epoll_pwait (epfd: Fd, events: OutArray(EpollEvent, maxevents), maxevents: Int, timeout: Int, sigmask: In(SigSet), sigsetsize: Size) -> Int, full, blocks, kernel;
            282 signalfd (fd: Fd, mask: In(SigSet), sizemask: Size) -> Fd, full, kernel;
            283 timerfd_create (clockid: Clock, flags: Flags(TIMERFD_CREATE)) -> Fd, full, kernel;
            284 eventfd (initval: Uint) -> Fd, full, kernel;
            286 timerfd_settime (fd: Fd, flags: Flags(TIMERFD_SETTIME), new_value: In(Itimerspec), old_value: Out(Itimerspec)) -> Int, full, kernel;
            287 timerfd_gettime (fd: Fd, curr_value: Out(Itimerspec)) -> Int, full, kernel;
            289 signalfd4 (fd: Fd, mask: In(SigSet), sizemask: Size, flags: Flags(SIGNALFD)) -> Fd, full, kernel;
            290 eventfd2 (initval: Uint, flags: Flags(EVENTFD)) -> Fd, full, kernel;
            291 epoll_create1 (flags: Flags(EPOLL_CREATE)) -> Fd, full, kernel;
            441 epoll_pwait2 (epfd: Fd, events: OutArray(EpollEvent, maxevents), maxevents: Int, timeout: In(Timespec), sigmask: In(SigSet), sigsetsize: Size) -> Int, full, blocks, kernel;
        }
    };
}
