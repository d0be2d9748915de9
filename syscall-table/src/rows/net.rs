//! Sockets.

/// Expands `callback! { net [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! net_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { net [$($($extra)*)?]
             41 socket (domain: Enum(AF), kind: Flags(SOCK), protocol: By(domain)) -> Fd, refused(ENOSYS) "not implemented yet", kernel;
             42 connect (sockfd: Fd, addr: InSockAddr(addrlen), addrlen: Int) -> Int, refused(ENOSYS) "not implemented yet", blocks, kernel;
             43 accept (sockfd: Fd, addr: OutSockAddr(addrlen), addrlen: InOut(Int)) -> Fd, refused(ENOSYS) "not implemented yet", blocks, kernel;
             44 sendto (sockfd: Fd, buf: InBuf(len), len: Size, flags: Flags(MSG), dest_addr: InSockAddr(addrlen), addrlen: Int) -> Size, refused(ENOSYS) "not implemented yet", blocks, kernel;
             45 recvfrom (sockfd: Fd, buf: OutBuf(len), len: Size, flags: Flags(MSG), src_addr: OutSockAddr(addrlen), addrlen: InOut(Int)) -> Size, refused(ENOSYS) "not implemented yet", blocks, kernel;
             46 sendmsg (sockfd: Fd, msg: In(Msghdr), flags: Flags(MSG)) -> Size, refused(ENOSYS) "not implemented yet", blocks, kernel;
             47 recvmsg (sockfd: Fd, msg: InOut(Msghdr), flags: Flags(MSG)) -> Size, refused(ENOSYS) "not implemented yet", blocks, kernel;
             48 shutdown (sockfd: Fd, how: Enum(SHUT)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
             49 bind (sockfd: Fd, addr: InSockAddr(addrlen), addrlen: Int) -> Int, refused(ENOSYS) "not implemented yet", kernel;
             50 listen (sockfd: Fd, backlog: Int) -> Int, refused(ENOSYS) "not implemented yet", kernel;
             51 getsockname (sockfd: Fd, addr: OutSockAddr(addrlen), addrlen: InOut(Int)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
             52 getpeername (sockfd: Fd, addr: OutSockAddr(addrlen), addrlen: InOut(Int)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
             53 socketpair (domain: Enum(AF), kind: Flags(SOCK), protocol: By(domain), sv: Out(FdPair)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
             54 setsockopt (sockfd: Fd, level: Enum(SOL), optname: By(level), optval: InBuf(optlen), optlen: Int) -> Int, refused(ENOSYS) "not implemented yet", kernel;
             55 getsockopt (sockfd: Fd, level: Enum(SOL), optname: By(level), optval: OutBufAt(optlen), optlen: InOut(Int)) -> Int, refused(ENOSYS) "not implemented yet", kernel;
            288 accept4 (sockfd: Fd, addr: OutSockAddr(addrlen), addrlen: InOut(Int), flags: Flags(SOCK_FLAGS)) -> Fd, refused(ENOSYS) "not implemented yet", blocks, kernel;
            299 recvmmsg (sockfd: Fd, msgvec: InOutArray(Mmsghdr, vlen), vlen: Uint, flags: Flags(MSG), timeout: InOut(Timespec)) -> Int, refused(ENOSYS) "not implemented yet", blocks, kernel;
            307 sendmmsg (sockfd: Fd, msgvec: InOutArray(Mmsghdr, vlen), vlen: Uint, flags: Flags(MSG)) -> Int, refused(ENOSYS) "not implemented yet", blocks, kernel;
        }
    };
}
