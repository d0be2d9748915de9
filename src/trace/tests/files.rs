//! Files and memory.

use super::*;

#[test]
fn files_are_opened_by_name_with_named_flags() {
    let guest = Guest::default().with(P, b"/tmp/ref.tmp\0");
    assert_eq!(
        line("openat", &[AT_FDCWD, P, 0o1102, 0o644], 3, &guest),
        r#"openat(AT_FDCWD, "/tmp/ref.tmp", O_RDWR|O_CREAT|O_TRUNC, 0644) = 3"#
    );
    assert_eq!(
        line("openat", &[AT_FDCWD, P, 0, 0o644], -2, &guest),
        r#"openat(AT_FDCWD, "/tmp/ref.tmp", O_RDONLY) = -1 ENOENT (No such file or directory)"#
    );
    assert_eq!(
        line("open", &[0, 0], -14, &guest),
        "open(NULL, O_RDONLY) = -1 EFAULT (Bad address)"
    );
    assert_eq!(
        line("chmod", &[P, 0], 0, &guest),
        r#"chmod("/tmp/ref.tmp", 000) = 0"#
    );
    let how = guest.longs(Q, &[0x80000, 0, 0x10]);
    assert_eq!(
        line("openat2", &[AT_FDCWD, P, Q, 24], 8, &how),
        r#"openat2(AT_FDCWD, "/tmp/ref.tmp", {flags=O_RDONLY|O_CLOEXEC, resolve=RESOLVE_IN_ROOT}, 24) = 8"#
    );
}

#[test]
fn buffers_are_cut_and_only_what_was_filled_is_shown() {
    let text = b"hello\n\x1b[1mworld, this is a long text for the trace";
    let guest = Guest::default().with(P, text);
    let long = r#"write(3, "hello\n\33[1mworld, this is a long "..., 50) = 50"#;
    assert_eq!(line("write", &[3, P, 50], 50, &guest), long);
    assert_eq!(
        line("read", &[3, P, 10], 10, &guest),
        r#"read(3, "hello\n\33[1m", 10) = 10"#
    );
    assert_eq!(line("read", &[3, P, 10], 0, &guest), r#"read(3, "", 10) = 0"#);
    assert_eq!(
        line("read", &[3, P, 10], -9, &guest),
        "read(3, 0x1000, 10) = -1 EBADF (Bad file descriptor)"
    );
    assert_eq!(
        line("getcwd", &[Q, 99], 5, &guest.with(Q, b"/tmp\0")),
        r#"getcwd("/tmp", 99) = 5"#
    );
}

#[test]
fn vectors_show_their_buffers() {
    let guest = Guest::default()
        .longs(P, &[Q, 4, R, 10])
        .with(Q, b"hell")
        .with(R, b"o\n\x1b[1mabcd");
    let expected = r#"readv(3, [{iov_base="hell", iov_len=4}, {iov_base="o\n\33[", iov_len=10}], 2) = 8"#;
    assert_eq!(line("readv", &[3, P, 2], 8, &guest), expected);
    let preadv2 = r#"pwritev2(3, [{iov_base="hell", iov_len=4}], 1, -1, RWF_NOWAIT) = 4"#;
    assert_eq!(line("pwritev2", &[3, P, 1, u64::MAX, 0, 8], 4, &guest), preadv2);
}

#[test]
fn stat_shows_the_kind_and_the_size_or_the_device() {
    let stat = |mode: u32, rdev: u64, size: u64| {
        let mut bytes = [0; 144];
        bytes[24..28].copy_from_slice(&mode.to_le_bytes());
        bytes[40..48].copy_from_slice(&rdev.to_le_bytes());
        bytes[48..56].copy_from_slice(&size.to_le_bytes());
        Guest::default().with(P, b"\0").with(Q, bytes)
    };
    assert_eq!(
        line("newfstatat", &[3, P, Q, 0x1000], 0, &stat(0o100_644, 0, 50)),
        r#"newfstatat(3, "", {st_mode=S_IFREG|0644, st_size=50, ...}, AT_EMPTY_PATH) = 0"#
    );
    assert_eq!(
        line("fstat", &[3, Q], 0, &stat(0o020_666, 0x103, 0)),
        "fstat(3, {st_mode=S_IFCHR|0666, st_rdev=makedev(0x1, 0x3), ...}) = 0"
    );
    assert_eq!(
        line("fstat", &[3, Q], 0, &stat(0o041_777, 0, 4096)),
        "fstat(3, {st_mode=S_IFDIR|S_ISVTX|0777, st_size=4096, ...}) = 0"
    );
}

#[test]
fn fcntl_depends_on_its_command() {
    let lock = Guest::default().longs(P, &[1, 0, 10, 0]);
    let none = Guest::default();
    assert_eq!(
        line("fcntl", &[3, 3, 99], 0x8002, &none),
        "fcntl(3, F_GETFL) = 0x8002 (flags O_RDWR|O_LARGEFILE)"
    );
    assert_eq!(
        line("fcntl", &[3, 4, 0xc00], 0, &none),
        "fcntl(3, F_SETFL, O_RDONLY|O_APPEND|O_NONBLOCK) = 0"
    );
    assert_eq!(
        line("fcntl", &[3, 1], 1, &none),
        "fcntl(3, F_GETFD) = 0x1 (flags FD_CLOEXEC)"
    );
    assert_eq!(
        line("fcntl", &[3, 1030, 20], 20, &none),
        "fcntl(3, F_DUPFD_CLOEXEC, 20) = 20"
    );
    assert_eq!(
        line("fcntl", &[9, 1034], 2, &none),
        "fcntl(9, F_GET_SEALS) = 0x2 (seals F_SEAL_SHRINK)"
    );
    assert_eq!(
        line("fcntl", &[3, 6, P], 0, &lock),
        "fcntl(3, F_SETLK, {l_type=F_WRLCK, l_whence=SEEK_SET, l_start=0, l_len=10}) = 0"
    );
    assert_eq!(
        line("fcntl", &[3, 5, P], 0, &lock),
        "fcntl(3, F_GETLK, {l_type=F_WRLCK, l_whence=SEEK_SET, l_start=0, l_len=10, l_pid=0}) = 0"
    );
}

#[test]
fn sendfile_shows_how_the_offset_moved() {
    let (before, after) = (Guest::default().longs(P, &[2]), Guest::default().longs(P, &[6]));
    assert_eq!(
        changing("sendfile", &[7, 3, P, 4], &before, 4, &after),
        "sendfile(7, 3, [2] => [6], 4) = 4"
    );
    assert_eq!(
        line("sendfile", &[7, 3, 0, 4], 4, &after),
        "sendfile(7, 3, NULL, 4) = 4"
    );
    assert_eq!(
        line("splice", &[3, P, 7, 0, 3, 1], 3, &after),
        "splice(3, [6], 7, NULL, 3, SPLICE_F_MOVE) = 3"
    );
}

#[test]
fn file_times_may_be_names() {
    let guest = Guest::default().longs(P, &[1, 2, 0, 0x3fff_ffff]).with(Q, b"f\0");
    assert_eq!(
        line("utimensat", &[AT_FDCWD, Q, P, 0], 0, &guest),
        r#"utimensat(AT_FDCWD, "f", [{tv_sec=1, tv_nsec=2}, UTIME_NOW], 0) = 0"#
    );
}

#[test]
fn mappings_are_in_flags_and_addresses() {
    let none = Guest::default();
    assert_eq!(
        line("mmap", &[0, 8192, 3, 0x22, u64::MAX, 0], 0x7f79_0280_5000, &none),
        "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f7902805000"
    );
    assert_eq!(
        line("mmap", &[0x1000, 4096, 5, 0x812, 3, 0x26000], 0x1000, &none),
        "mmap(0x1000, 4096, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, 0x26000) = 0x1000"
    );
    assert_eq!(
        line("mremap", &[0x1000, 8192, 16384, 1, 7], -14, &none),
        "mremap(0x1000, 8192, 16384, MREMAP_MAYMOVE) = -1 EFAULT (Bad address)"
    );
    assert_eq!(line("brk", &[0], 0x5555_0000, &none), "brk(NULL) = 0x55550000");
    let pages = Guest::default().with(P, [1, 0]);
    assert_eq!(
        line("mincore", &[0x4000, 8192, P], 0, &pages),
        "mincore(0x4000, 8192, [1, 0]) = 0"
    );
}
