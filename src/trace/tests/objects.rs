//! What can be waited for: descriptors, terminals, sockets, futexes.

use super::*;

#[test]
fn poll_shows_what_was_asked_and_what_came() {
    let before = Guest::default().words(P, &[6, 1, 7, 4]);
    let after = Guest::default().words(P, &[6, 1, 7, 0x4_0004]);
    assert_eq!(
        changing("poll", &[P, 2, 0], &before, 1, &after),
        "poll([{fd=6, events=POLLIN}, {fd=7, events=POLLOUT}], 2, 0) = 1 ([{fd=7, revents=POLLOUT}])"
    );
    assert_eq!(
        changing("poll", &[P, 1, 1], &before, 0, &before),
        "poll([{fd=6, events=POLLIN}], 1, 1) = 0 (Timeout)"
    );
    let events = Guest::default().with(P, [4, 0, 0, 0x80, 5, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(
        line("epoll_ctl", &[12, 1, 7, P], 0, &events),
        "epoll_ctl(12, EPOLL_CTL_ADD, 7, {events=EPOLLOUT|EPOLLET, data={u32=5, u64=4294967301}}) = 0"
    );
    assert_eq!(
        line("epoll_wait", &[12, P, 4, 0], 0, &events),
        "epoll_wait(12, [], 4, 0) = 0"
    );
}

#[test]
fn select_shows_the_sets_and_the_time_left() {
    let before = Guest::default()
        .longs(P, &[0x40])
        .longs(Q, &[0x80])
        .longs(R, &[1, 0]);
    let after = Guest::default()
        .longs(P, &[0])
        .longs(Q, &[0x80])
        .longs(R, &[0, 999_997_727]);
    assert_eq!(
        changing("pselect6", &[8, P, Q, 0, R, 0], &before, 1, &after),
        "pselect6(8, [6], [7], NULL, {tv_sec=1, tv_nsec=0}, NULL) = 1 (out [7], left {tv_sec=0, \
         tv_nsec=999997727})"
    );
}

#[test]
fn socket_addresses_are_decoded() {
    let inet = Guest::default().with(P, [2, 0, 0, 9, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        line("connect", &[25, P, 16], -111, &inet),
        "connect(25, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr(\"127.0.0.1\")}, 16) = -1 \
         ECONNREFUSED (Connection refused)"
    );
    let mut inet6 = [0; 28];
    (inet6[0], inet6[3], inet6[23]) = (10, 80, 1);
    assert_eq!(
        line("bind", &[26, P, 28], 0, &Guest::default().with(P, inet6)),
        "bind(26, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, \"::1\", \
         &sin6_addr), sin6_scope_id=0}, 28) = 0"
    );
    let unix = Guest::default()
        .with(P, b"\x01\0\0abs")
        .words(Q, &[6])
        .with(R, b"\x01\0/run/s\0\0\0");
    assert_eq!(
        line("bind", &[20, P, 6], 0, &unix),
        r#"bind(20, {sa_family=AF_UNIX, sun_path=@"abs"}, 6) = 0"#
    );
    assert_eq!(
        line("bind", &[20, R, 11], 0, &unix),
        r#"bind(20, {sa_family=AF_UNIX, sun_path="/run/s"}, 11) = 0"#
    );
    assert_eq!(
        line("getsockname", &[20, P, Q], 0, &unix),
        r#"getsockname(20, {sa_family=AF_UNIX, sun_path=@"abs"}, [6]) = 0"#
    );
    assert_eq!(
        line("socket", &[16, 3, 0], 27, &inet),
        "socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) = 27"
    );
    assert_eq!(
        line("socket", &[1, 0x80001, 0], 3, &inet),
        "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3"
    );
}

#[test]
fn messages_show_descriptors_that_travel() {
    let guest = Guest::default()
        .longs(P, &[0, 0, Q, 1, R, 24, 0])
        .longs(Q, &[0x4000, 3])
        .with(0x4000, b"xyz")
        .longs(R, &[24, 0x1_0000_0001, 0x1_0000_0000]);
    assert_eq!(
        line("sendmsg", &[19, P, 0], 3, &guest),
        "sendmsg(19, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=\"xyz\", iov_len=3}], msg_iovlen=1, \
         msg_control=[{cmsg_len=24, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[0, 1]}], \
         msg_controllen=24, msg_flags=0}, 0) = 3"
    );
    let options = Guest::default().words(P, &[1, 5]).words(Q, &[4]);
    assert_eq!(
        line("setsockopt", &[17, 1, 13, P, 8], 0, &options),
        "setsockopt(17, SOL_SOCKET, SO_LINGER, {l_onoff=1, l_linger=5}, 8) = 0"
    );
    assert_eq!(
        line("getsockopt", &[17, 1, 4, P, Q], 0, &options),
        "getsockopt(17, SOL_SOCKET, SO_ERROR, [1], [4]) = 0"
    );
}

#[test]
fn futex_depends_on_its_operation() {
    let guest = Guest::default().longs(P, &[0, 1]);
    assert_eq!(
        line("futex", &[R, 129, 1], 0, &guest),
        "futex(0x3000, FUTEX_WAKE_PRIVATE, 1) = 0"
    );
    assert_eq!(
        line("futex", &[R, 0x189, 0, P, 0, 0xffff_ffff], -110, &guest),
        "futex(0x3000, FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 0, {tv_sec=0, tv_nsec=1}, \
         FUTEX_BITSET_MATCH_ANY) = -1 ETIMEDOUT (Connection timed out)"
    );
    assert_eq!(
        line("futex", &[R, 133, 1, 1, Q, 0x0400_0001], 0, &guest),
        "futex(0x3000, FUTEX_WAKE_OP_PRIVATE, 1, 1, 0x2000, FUTEX_OP_SET<<28|0<<12|FUTEX_OP_CMP_GT<<24|0x1) = 0"
    );
}

#[test]
fn ioctl_depends_on_its_request() {
    let guest = Guest::default()
        .with(P, [24, 0, 80, 0, 0, 0, 0, 0])
        .words(Q, &[0x500, 5, 0xbf, 0x8a3b, 0, 0, 0, 0, 0]);
    assert_eq!(
        line("ioctl", &[32, 0x5413, P], 0, &guest),
        "ioctl(32, TIOCGWINSZ, {ws_row=24, ws_col=80, ws_xpixel=0, ws_ypixel=0}) = 0"
    );
    assert_eq!(
        line("ioctl", &[32, 0x5401, Q], 0, &guest),
        "ioctl(32, TCGETS, {c_iflag=ICRNL|IXON, c_oflag=NL0|CR0|TAB0|BS0|VT0|FF0|OPOST|ONLCR, \
         c_cflag=B38400|CS8|CREAD, c_lflag=ISIG|ICANON|ECHO|ECHOE|ECHOK|IEXTEN|ECHOCTL|ECHOKE, ...}) = 0"
    );
    assert_eq!(
        line("ioctl", &[0, 0x5401, Q], -25, &guest),
        "ioctl(0, TCGETS, 0x2000) = -1 ENOTTY (Inappropriate ioctl for device)"
    );
    assert_eq!(line("ioctl", &[3, 0x5451, Q], 0, &guest), "ioctl(3, FIOCLEX) = 0");
    assert_eq!(
        line("ioctl", &[3, 0x1234_5678, 5], -25, &guest),
        "ioctl(3, _IOC(_IOC_NONE, 0x56, 0x78, 0x1234), 0x5) = -1 ENOTTY (Inappropriate ioctl for device)"
    );
}

#[test]
fn system_v_objects_are_decoded() {
    let guest = Guest::default()
        .with(P, [0, 0, 0xff, 0xff, 0, 0x10])
        .with(Q, b"\x01\0\0\0\0\0\0\0data");
    assert_eq!(
        line("shmget", &[0, 4096, 0o1600], 0, &guest),
        "shmget(IPC_PRIVATE, 4096, IPC_CREAT|0600) = 0"
    );
    assert_eq!(
        line("semget", &[0x1234, 2, 0o1600], 2, &guest),
        "semget(0x1234, 2, IPC_CREAT|0600) = 2"
    );
    assert_eq!(
        line("semop", &[2, P, 1], 0, &guest),
        "semop(2, [{sem_num=0, sem_op=-1, sem_flg=SEM_UNDO}], 1) = 0"
    );
    assert_eq!(
        line("msgsnd", &[0, Q, 4, 0], 0, &guest),
        r#"msgsnd(0, {mtype=1, mtext="data"}, 4, 0) = 0"#
    );
}
