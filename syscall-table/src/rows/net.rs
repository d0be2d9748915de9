//! Sockets.

/// Expands `callback! { net [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! net_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { net [$($($extra)*)?]
             41 socket (domain: Enum(AF), kind: Flags(SOCK), protocol: By(domain)) -> Fd, partial "AF_UNIX, AF_INET and AF_INET6 inside the guest, NETLINK_ROUTE; others give EAFNOSUPPORT, raw ones EPERM", kernel;
             42 connect (sockfd: Fd, addr: InSockAddr(addrlen), addrlen: Int) -> Int, full, blocks, kernel;
             43 accept (sockfd: Fd, addr: OutSockAddr(addrlen), addrlen: InOut(Int)) -> Fd, full, blocks, kernel;
             44 sendto (sockfd: Fd, buf: InBuf(len), len: Size, flags: Flags(MSG), dest_addr: InSockAddr(addrlen), addrlen: Int) -> Size, full, blocks, kernel;
             45 recvfrom (sockfd: Fd, buf: OutBuf(len), len: Size, flags: Flags(MSG), src_addr: OutSockAddr(addrlen), addrlen: InOut(Int)) -> Size, full, blocks, kernel;
             46 sendmsg (sockfd: Fd, msg: In(Msghdr), flags: Flags(MSG)) -> Size, full, blocks, kernel, checked;
             47 recvmsg (sockfd: Fd, msg: InOut(Msghdr), flags: Flags(MSG)) -> Size, full, blocks, kernel;
             48 shutdown (sockfd: Fd, how: Enum(SHUT)) -> Int, full, kernel;
             49 bind (sockfd: Fd, addr: InSockAddr(addrlen), addrlen: Int) -> Int, full, kernel;
             50 listen (sockfd: Fd, backlog: Int) -> Int, full, kernel;
             51 getsockname (sockfd: Fd, addr: OutSockAddr(addrlen), addrlen: InOut(Int)) -> Int, full, kernel;
             52 getpeername (sockfd: Fd, addr: OutSockAddr(addrlen), addrlen: InOut(Int)) -> Int, full, kernel;
             53 socketpair (domain: Enum(AF), kind: Flags(SOCK), protocol: By(domain), sv: Out(FdPair)) -> Int, partial "AF_UNIX only, as on Linux; other families give EOPNOTSUPP or EAFNOSUPPORT", kernel;
             54 setsockopt (sockfd: Fd, level: Enum(SOL), optname: By(level), optval: InBuf(optlen), optlen: Int) -> Int, full, kernel;
             55 getsockopt (sockfd: Fd, level: Enum(SOL), optname: By(level), optval: OutBufAt(optlen), optlen: InOut(Int)) -> Int, full, kernel;
            288 accept4 (sockfd: Fd, addr: OutSockAddr(addrlen), addrlen: InOut(Int), flags: Flags(SOCK_FLAGS)) -> Fd, full, blocks, kernel;
            299 recvmmsg (sockfd: Fd, msgvec: InOutArray(Mmsghdr, vlen), vlen: Uint, flags: Flags(MSG), timeout: InOut(Timespec)) -> Int, full, blocks, kernel;
            307 sendmmsg (sockfd: Fd, msgvec: InOutArray(Mmsghdr, vlen), vlen: Uint, flags: Flags(MSG)) -> Int, full, blocks, kernel;
        }
    };
}
