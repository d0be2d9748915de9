/* AF_UNIX: unix(7), socket(7), sendmsg(2), recvmsg(2). */
#include "check.h"
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strcpy(a.sun_path, path);
	return a;
}

static socklen_t length_of(const char *path)
{
	return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
}

static int bound(int type, const char *path)
{
	struct sockaddr_un a = address(path);
	int s = OK(socket(AF_UNIX, type, 0));
	OK(bind(s, (struct sockaddr *)&a, length_of(path)));
	return s;
}

static int connect_to(int type, const char *path)
{
	struct sockaddr_un a = address(path);
	int s = OK(socket(AF_UNIX, type, 0));
	if (connect(s, (struct sockaddr *)&a, length_of(path))) {
		int e = errno;
		close(s);
		errno = e;
		return -1;
	}
	return s;
}

static int listening(int type, const char *path)
{
	int s = bound(type, path);
	OK(listen(s, 8));
	return s;
}

/* Sends one byte with descriptors; flags and count as given. */
static void send_fds(int s, const int *fds, int n)
{
	char control[CMSG_SPACE(16 * sizeof(int))] = { 0 };
	struct iovec v = { "f", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	EQ(sendmsg(s, &m, 0), 1);
}

/* Receives one byte; how many descriptors came. */
static int receive_fds(int s, int *fds, size_t room, int flags, int *msg_flags)
{
	char control[CMSG_SPACE(16 * sizeof(int))] __attribute__((aligned(8))), byte;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = CMSG_LEN(room * sizeof(int)) };
	EQ(recvmsg(s, &m, flags), 1);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (msg_flags)
		*msg_flags = m.msg_flags;
	if (!c)
		return 0;
	EQ(c->cmsg_level, SOL_SOCKET);
	EQ(c->cmsg_type, SCM_RIGHTS);
	int n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(c), n * sizeof(int));
	return n;
}

static ssize_t send_text(int s, const char *text)
{
	return send(s, text, strlen(text), MSG_NOSIGNAL);
}

CHECK(socketpair_stream)
{
	int s[2];
	char buf[16];
	OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	EQ(fcntl(s[0], F_GETFD), FD_CLOEXEC);
	EQ(write(s[0], "abc", 3), 3);
	EQ(write(s[0], "def", 3), 3);
	EQ(read(s[1], buf, 16), 6);
	MEMEQ(buf, "abcdef", 6);
	EQ(write(s[1], "back", 4), 4);
	EQ(read(s[0], buf, 2), 2);
	EQ(read(s[0], buf, 16), 2);
	close(s[0]);
	EQ(read(s[1], buf, 1), 0);
}

CHECK(socketpair_datagram_keeps_boundaries)
{
	int s[2];
	char buf[16];
	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	EQ(write(s[0], "abc", 3), 3);
	EQ(write(s[0], "", 0), 0);
	EQ(write(s[0], "defgh", 5), 5);
	EQ(read(s[1], buf, 16), 3);
	EQ(read(s[1], buf, 16), 0);
	EQ(read(s[1], buf, 2), 2);
	ERR(recv(s[1], buf, 16, MSG_DONTWAIT), EAGAIN);
}

CHECK(socketpair_seqpacket)
{
	int s[2];
	char buf[16];
	OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
	EQ(write(s[0], "abc", 3), 3);
	EQ(write(s[0], "de", 2), 2);
	EQ(read(s[1], buf, 16), 3);
	EQ(read(s[1], buf, 16), 2);
	close(s[0]);
	EQ(read(s[1], buf, 16), 0);
	ERR(send_text(s[1], "x"), EPIPE);
}

CHECK(socket_creation_errors)
{
	int s[2];
	ERR(socket(AF_UNIX, 99, 0), EINVAL);
	ERR(socket(AF_UNIX, SOCK_RAW | 0x40, 0), EINVAL);
	ERR(socket(AF_UNIX, SOCK_STREAM, 77), EPROTONOSUPPORT);
	ERR(socket(99, SOCK_STREAM, 0), EAFNOSUPPORT);
	ERR(socketpair(AF_UNIX, SOCK_RDM, 0, s), ESOCKTNOSUPPORT);
	ERR(socketpair(AF_UNIX, SOCK_STREAM, 0, BAD_PTR), EFAULT);
	OK(socket(AF_UNIX, SOCK_STREAM, 1));
}

CHECK(not_a_socket)
{
	char c;
	struct sockaddr_un a = address("x");
	write_file("f", "");
	int fd = OK(open("f", O_RDWR));
	ERR(listen(fd, 1), ENOTSOCK);
	ERR(accept(fd, NULL, NULL), ENOTSOCK);
	ERR(bind(fd, (struct sockaddr *)&a, sizeof a), ENOTSOCK);
	ERR(connect(fd, (struct sockaddr *)&a, sizeof a), ENOTSOCK);
	ERR(send(fd, &c, 1, 0), ENOTSOCK);
	ERR(shutdown(fd, SHUT_RD), ENOTSOCK);
	ERR(send(99, &c, 1, 0), EBADF);
}

CHECK(bind_connect_accept)
{
	char buf[8];
	struct stat st;
	int l = listening(SOCK_STREAM, "s");
	OK(stat("s", &st));
	EXPECT(S_ISSOCK(st.st_mode));
	int c = OK(connect_to(SOCK_STREAM, "s"));
	int a = OK(accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	EQ(fcntl(a, F_GETFD), FD_CLOEXEC);
	EXPECT(fcntl(a, F_GETFL) & O_NONBLOCK);
	ERR(read(a, buf, 1), EAGAIN);
	EQ(write(c, "hello", 5), 5);
	EQ(read(a, buf, 8), 5);
	EQ(write(a, "yo", 2), 2);
	EQ(read(c, buf, 8), 2);
	ERR(accept4(l, NULL, NULL, 0x40000000), EINVAL);
}

CHECK(accept_blocks_until_connect)
{
	int l = listening(SOCK_STREAM, "s");
	CHILD(pid) {
		char c;
		int a = OK(accept(l, NULL, NULL));
		EQ(read(a, &c, 1), 1);
	}
	await_state(pid, 'S');
	int c = OK(connect_to(SOCK_STREAM, "s"));
	EQ(write(c, "x", 1), 1);
	REAP(pid);
}

CHECK(connect_refused)
{
	bound(SOCK_STREAM, "not-listening");
	ERR(connect_to(SOCK_STREAM, "not-listening"), ECONNREFUSED);
	ERR(connect_to(SOCK_STREAM, "none"), ENOENT);
	write_file("plain", "");
	ERR(connect_to(SOCK_STREAM, "plain"), ECONNREFUSED);
	close(listening(SOCK_STREAM, "dead"));
	ERR(connect_to(SOCK_STREAM, "dead"), ECONNREFUSED);
	listening(SOCK_STREAM, "stream");
	ERR(connect_to(SOCK_DGRAM, "stream"), EPROTOTYPE);
}

CHECK(address_in_use)
{
	struct sockaddr_un a = address("s"), other = address("t");
	int s = bound(SOCK_STREAM, "s");
	int t = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	ERR(bind(t, (struct sockaddr *)&a, length_of("s")), EADDRINUSE);
	ERR(bind(s, (struct sockaddr *)&other, length_of("t")), EINVAL);
	/* The name stays when the socket goes. */
	close(s);
	ERR(bind(t, (struct sockaddr *)&a, length_of("s")), EADDRINUSE);
	OK(unlink("s"));
	OK(bind(t, (struct sockaddr *)&a, length_of("s")));
}

CHECK(bind_errors)
{
	struct sockaddr_un a = address("none/s");
	int s = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	ERR(bind(s, (struct sockaddr *)&a, length_of("none/s")), ENOENT);
	a.sun_family = AF_INET;
	ERR(bind(s, (struct sockaddr *)&a, sizeof a), EINVAL);
	ERR(bind(s, (struct sockaddr *)&a, 1), EINVAL);
	ERR(bind(s, BAD_PTR, 20), EFAULT);
	ERR(bind(s, (struct sockaddr *)&a, 500), EINVAL);
	ERR(listen(OK(socket(AF_UNIX, SOCK_DGRAM, 0)), 1), EOPNOTSUPP);
	ERR(listen(s, 1), EINVAL);
	ERR(accept(s, NULL, NULL), EINVAL);
}

CHECK(abstract_names)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX }, got;
	socklen_t len = 2 + 1 + sprintf(a.sun_path + 1, "uvm-%d\xff", getpid()), got_len = sizeof got;
	int l = OK(socket(AF_UNIX, SOCK_STREAM, 0)), c = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	ERR(connect(c, (struct sockaddr *)&a, len), ECONNREFUSED);
	OK(bind(l, (struct sockaddr *)&a, len));
	OK(listen(l, 1));
	OK(getsockname(l, (struct sockaddr *)&got, &got_len));
	EQ(got_len, len);
	MEMEQ(&got, &a, len);
	OK(connect(c, (struct sockaddr *)&a, len));
	/* The length is part of the name. */
	int d = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	ERR(connect(d, (struct sockaddr *)&a, len + 1), ECONNREFUSED);
	ERR(bind(d, (struct sockaddr *)&a, len), EADDRINUSE);
	close(l);
	OK(bind(d, (struct sockaddr *)&a, len));
}

CHECK(autobind)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t len = sizeof a;
	int s = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	OK(bind(s, (struct sockaddr *)&a, 2));
	OK(getsockname(s, (struct sockaddr *)&a, &len));
	EQ(len, 2 + 6);
	EQ(a.sun_path[0], 0);
}

CHECK(socket_names)
{
	struct sockaddr_un a;
	socklen_t len = sizeof a;
	int l = listening(SOCK_STREAM, "s");
	int c = OK(connect_to(SOCK_STREAM, "s")), s = OK(accept(l, (struct sockaddr *)&a, &len));
	/* The client has no name. */
	EQ(len, 2);
	EQ(a.sun_family, AF_UNIX);
	len = sizeof a;
	OK(getpeername(c, (struct sockaddr *)&a, &len));
	EQ(len, length_of("s"));
	STREQ(a.sun_path, "s");
	len = sizeof a;
	OK(getsockname(s, (struct sockaddr *)&a, &len));
	STREQ(a.sun_path, "s");
	len = sizeof a;
	ERR(getpeername(l, (struct sockaddr *)&a, &len), ENOTCONN);
	/* A short buffer gets a cut name and the true length. */
	memset(&a, 0x55, sizeof a);
	len = 2;
	OK(getpeername(c, (struct sockaddr *)&a, &len));
	EQ(len, length_of("s"));
	EQ(a.sun_path[0], 0x55);
}

CHECK(backlog_fills)
{
	int l = bound(SOCK_STREAM, "s");
	OK(listen(l, 1));
	struct sockaddr_un a = address("s");
	int made = 0, s;
	for (;;) {
		s = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
		if (connect(s, (struct sockaddr *)&a, length_of("s")))
			break;
		made++;
		EXPECT(made < 10);
	}
	EQ(errno, EAGAIN);
	EQ(made, 2);
	OK(accept(l, NULL, NULL));
	OK(connect(s, (struct sockaddr *)&a, length_of("s")));
}

CHECK(connect_twice)
{
	struct sockaddr_un a = address("s");
	listening(SOCK_STREAM, "s");
	int c = OK(connect_to(SOCK_STREAM, "s"));
	ERR(connect(c, (struct sockaddr *)&a, length_of("s")), EISCONN);
}

CHECK(data_before_accept)
{
	char buf[8];
	int l = listening(SOCK_STREAM, "s");
	int c = OK(connect_to(SOCK_STREAM, "s"));
	EQ(write(c, "early", 5), 5);
	close(c);
	int s = OK(accept(l, NULL, NULL));
	EQ(read(s, buf, 8), 5);
	EQ(read(s, buf, 8), 0);
}

CHECK(close_with_unread_data_resets)
{
	char c;
	int s[2];
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	EQ(write(s[0], "unread", 6), 6);
	close(s[1]);
	ERR(read(s[0], &c, 1), ECONNRESET);
	EQ(read(s[0], &c, 1), 0);
	ERR(send_text(s[0], "x"), EPIPE);
}

CHECK(epipe_and_sigpipe)
{
	int s[2];
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	close(s[1]);
	ERR(send_text(s[0], "x"), EPIPE);
	CHILD(pid) write(s[0], "x", 1);
	EQ(wait_exit(pid), 128 + SIGPIPE);
}

CHECK(shutdown_halves)
{
	int s[2];
	char c;
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	EQ(write(s[0], "x", 1), 1);
	OK(shutdown(s[0], SHUT_WR));
	ERR(send_text(s[0], "y"), EPIPE);
	EQ(read(s[1], &c, 1), 1);
	EQ(read(s[1], &c, 1), 0);
	EQ(write(s[1], "b", 1), 1);
	EQ(read(s[0], &c, 1), 1);
	OK(shutdown(s[0], SHUT_RD));
	EQ(read(s[0], &c, 1), 0);
	ERR(send_text(s[1], "z"), EPIPE);
	ERR(shutdown(s[0], 9), EINVAL);
	/* Unlike TCP, no ENOTCONN here. */
	OK(shutdown(OK(socket(AF_UNIX, SOCK_STREAM, 0)), SHUT_RD));
}

CHECK(unconnected_io)
{
	char c;
	int s = OK(socket(AF_UNIX, SOCK_STREAM, 0)), d = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	ERR(send_text(s, "x"), ENOTCONN);
	ERR(read(s, &c, 1), EINVAL);
	ERR(send_text(d, "x"), ENOTCONN);
	ERR(recv(d, &c, 1, MSG_DONTWAIT), EAGAIN);
}

CHECK(datagrams_with_addresses)
{
	struct sockaddr_un from, a = address("server");
	socklen_t len = sizeof from;
	char buf[16];
	int server = bound(SOCK_DGRAM, "server"), client = bound(SOCK_DGRAM, "client");
	EQ(sendto(client, "ping", 4, 0, (struct sockaddr *)&a, length_of("server")), 4);
	EQ(recvfrom(server, buf, 16, 0, (struct sockaddr *)&from, &len), 4);
	EQ(len, length_of("client"));
	STREQ(from.sun_path, "client");
	EQ(sendto(server, "pong", 4, 0, (struct sockaddr *)&from, len), 4);
	EQ(read(client, buf, 16), 4);
	a = address("none");
	ERR(sendto(client, "x", 1, 0, (struct sockaddr *)&a, length_of("none")), ENOENT);
	int anonymous = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	a = address("server");
	EQ(sendto(anonymous, "x", 1, 0, (struct sockaddr *)&a, length_of("server")), 1);
	len = sizeof from;
	EQ(recvfrom(server, buf, 16, 0, (struct sockaddr *)&from, &len), 1);
	EQ(len, 0);
}

CHECK(connected_datagram_filters)
{
	struct sockaddr_un a = address("a");
	int x = bound(SOCK_DGRAM, "a"), y = bound(SOCK_DGRAM, "b"), z = bound(SOCK_DGRAM, "c");
	struct sockaddr_un b = address("b");
	OK(connect(x, (struct sockaddr *)&b, length_of("b")));
	/* a talks to b only: c may not send to it. */
	ERR(sendto(z, "x", 1, 0, (struct sockaddr *)&a, length_of("a")), EPERM);
	EQ(sendto(y, "x", 1, 0, (struct sockaddr *)&a, length_of("a")), 1);
	EQ(send_text(x, "y"), 1);
	close(y);
	ERR(send_text(x, "y"), ECONNREFUSED);
}

CHECK(msg_peek_and_trunc)
{
	int s[2];
	char buf[16];
	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	EQ(write(s[0], "0123456789", 10), 10);
	EQ(recv(s[1], buf, 4, MSG_PEEK), 4);
	EQ(recv(s[1], buf, 4, MSG_PEEK | MSG_TRUNC), 10);
	struct iovec v = { buf, 4 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	EQ(recvmsg(s[1], &m, 0), 4);
	EQ(m.msg_flags & MSG_TRUNC, MSG_TRUNC);
	ERR(recv(s[1], buf, 4, MSG_DONTWAIT), EAGAIN);
	int t[2];
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, t));
	EQ(write(t[0], "abc", 3), 3);
	EQ(recv(t[1], buf, 16, MSG_PEEK), 3);
	EQ(recv(t[1], buf, 16, 0), 3);
}

CHECK(msg_waitall)
{
	int s[2];
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	CHILD(pid) {
		char buf[6];
		EQ(recv(s[1], buf, 6, MSG_WAITALL), 6);
		MEMEQ(buf, "abcdef", 6);
	}
	EQ(write(s[0], "abc", 3), 3);
	await_state(pid, 'S');
	EQ(write(s[0], "def", 3), 3);
	REAP(pid);
}

CHECK(scatter_gather_messages)
{
	int s[2];
	char a[2], b[4];
	OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
	struct iovec out[] = { { "ab", 2 }, { "cde", 3 } }, in[] = { { a, 2 }, { b, 4 } };
	struct msghdr m = { .msg_iov = out, .msg_iovlen = 2 };
	EQ(sendmsg(s[0], &m, 0), 5);
	m.msg_iov = in;
	EQ(recvmsg(s[1], &m, 0), 5);
	MEMEQ(a, "ab", 2);
	MEMEQ(b, "cde", 3);
	m.msg_iovlen = 1025;
	ERR(sendmsg(s[0], &m, 0), EMSGSIZE);
}

CHECK(descriptor_passing)
{
	int s[2], got[2], n;
	char buf[8];
	struct stat a, b;
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	write_file("f", "content");
	int fd = OK(open("f", O_RDONLY));
	EQ(read(fd, buf, 3), 3);
	send_fds(s[0], &fd, 1);
	n = receive_fds(s[1], got, 2, 0, NULL);
	EQ(n, 1);
	NE(got[0], fd);
	OK(fstat(fd, &a));
	OK(fstat(got[0], &b));
	EQ(a.st_ino, b.st_ino);
	/* The same open file: the offset is shared. */
	EQ(read(got[0], buf, 8), 4);
	EQ(fcntl(got[0], F_GETFD), 0);
}

CHECK(descriptor_passing_several_and_cloexec)
{
	int s[2], p[2], got[4];
	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	OK(pipe(p));
	int fds[3] = { p[0], p[1], s[0] };
	send_fds(s[0], fds, 3);
	EQ(receive_fds(s[1], got, 4, MSG_CMSG_CLOEXEC, NULL), 3);
	for (int i = 0; i < 3; i++)
		EQ(fcntl(got[i], F_GETFD), FD_CLOEXEC);
	char c;
	EQ(write(got[1], "x", 1), 1);
	EQ(read(p[0], &c, 1), 1);
}

CHECK(descriptor_passing_keeps_files_alive)
{
	int s[2], p[2], got[2];
	char c;
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	OK(pipe(p));
	send_fds(s[0], &p[1], 1);
	close(p[1]);
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	/* The writer is in flight: no end of file yet. */
	ERR(read(p[0], &c, 1), EAGAIN);
	EQ(receive_fds(s[1], got, 2, 0, NULL), 1);
	close(got[0]);
	EQ(read(p[0], &c, 1), 0);
}

CHECK(descriptors_in_flight_die_with_the_socket)
{
	int s[2], p[2];
	char c;
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	OK(pipe(p));
	send_fds(s[0], &p[1], 1);
	close(p[1]);
	close(s[0]);
	close(s[1]);
	EQ(read(p[0], &c, 1), 0);
}

CHECK(descriptor_passing_truncated)
{
	int s[2], got[4], flags;
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	int fds[3] = { 0, 0, 0 };
	send_fds(s[0], fds, 3);
	EQ(receive_fds(s[1], got, 1, 0, &flags), 1);
	EQ(flags & MSG_CTRUNC, MSG_CTRUNC);
	send_fds(s[0], fds, 1);
	char c;
	EQ(read(s[1], &c, 1), 1);
}

CHECK(descriptor_passing_bad_fd)
{
	int s[2], bad = 99;
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	struct iovec v = { "f", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof bad) };
	memcpy(CMSG_DATA(c), &bad, sizeof bad);
	ERR(sendmsg(s[0], &m, 0), EBADF);
	c->cmsg_len = 3;
	ERR(sendmsg(s[0], &m, 0), EINVAL);
}

CHECK(descriptors_split_the_stream)
{
	int s[2], got[2], zero = 0;
	char buf[8];
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	EQ(write(s[0], "ab", 2), 2);
	send_fds(s[0], &zero, 1);
	EQ(write(s[0], "cd", 2), 2);
	EQ(recv(s[1], buf, 1, 0), 1);
	EQ(receive_fds(s[1], got, 2, 0, NULL), 0);
	EQ(receive_fds(s[1], got, 2, 0, NULL), 1);
	EQ(read(s[1], buf, 8), 2);
}

CHECK(peer_credentials)
{
	struct ucred cred;
	socklen_t len = sizeof cred;
	int l = listening(SOCK_STREAM, "s");
	struct gate done = gate_new();
	CHILD(pid) {
		int c = OK(connect_to(SOCK_STREAM, "s"));
		OK(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cred, &len));
		EQ(cred.pid, getppid());
		gate_wait(done);
	}
	int a = OK(accept(l, NULL, NULL));
	OK(getsockopt(a, SOL_SOCKET, SO_PEERCRED, &cred, &len));
	EQ(len, sizeof cred);
	EQ(cred.pid, pid);
	EQ(cred.uid, geteuid());
	EQ(cred.gid, getegid());
	gate_open(done);
	REAP(pid);
}

static bool receive_cred(int s, struct ucred *cred)
{
	char control[CMSG_SPACE(sizeof *cred)] __attribute__((aligned(8))), byte;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	EQ(recvmsg(s, &m, 0), 1);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_type != SCM_CREDENTIALS)
		return false;
	memcpy(cred, CMSG_DATA(c), sizeof *cred);
	return true;
}

CHECK(passed_credentials)
{
	struct ucred cred = { 0 };
	int s[2], on = 1;
	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	EQ(write(s[0], "x", 1), 1);
	EXPECT(!receive_cred(s[1], &cred));
	OK(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
	CHILD(pid) EQ(write(s[0], "y", 1), 1);
	EXPECT(receive_cred(s[1], &cred));
	EQ(cred.pid, pid);
	EQ(cred.uid, getuid());
	EQ(cred.gid, getgid());
	REAP(pid);
}

CHECK(forged_credentials)
{
	struct ucred cred = { .pid = 1, .uid = getuid(), .gid = getgid() };
	char control[CMSG_SPACE(sizeof cred)] = { 0 };
	int s[2];
	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	struct iovec v = { "f", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS, .cmsg_len = CMSG_LEN(sizeof cred) };
	CHILD(pid) {
		if (is_root())
			OK(setresuid(1001, 1001, 1001));
		memcpy(CMSG_DATA(c), &cred, sizeof cred);
		ERR(sendmsg(s[0], &m, 0), EPERM);
		cred.pid = getpid();
		cred.uid = 4242;
		memcpy(CMSG_DATA(c), &cred, sizeof cred);
		ERR(sendmsg(s[0], &m, 0), EPERM);
	}
	REAP(pid);
}

CHECK(socket_options)
{
	int s[2], v = -1;
	socklen_t len = sizeof v;
	OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
	OK(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &v, &len));
	EQ(v, SOCK_SEQPACKET);
	OK(getsockopt(s[0], SOL_SOCKET, SO_DOMAIN, &v, &len));
	EQ(v, AF_UNIX);
	OK(getsockopt(s[0], SOL_SOCKET, SO_ERROR, &v, &len));
	EQ(v, 0);
	OK(getsockopt(s[0], SOL_SOCKET, SO_ACCEPTCONN, &v, &len));
	EQ(v, 0);
	OK(getsockopt(listening(SOCK_STREAM, "l"), SOL_SOCKET, SO_ACCEPTCONN, &v, &len));
	EQ(v, 1);
	v = 20000;
	OK(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, sizeof v));
	OK(getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, &len));
	EQ(v, 40000);
	ERR(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, 2), EINVAL);
	ERR(setsockopt(s[0], SOL_SOCKET, 9999, &v, sizeof v), ENOPROTOOPT);
	ERR(getsockopt(s[0], SOL_SOCKET, 9999, &v, &len), ENOPROTOOPT);
	ERR(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, BAD_PTR, sizeof v), EFAULT);
	v = 1;
	OK(setsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, &v, sizeof v));
	OK(getsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, &v, &len));
	EQ(v, 1);
}

CHECK(receive_timeout)
{
	int s[2];
	char c;
	struct timeval tv = { 0, 10000 }, got;
	socklen_t len = sizeof got;
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	OK(getsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	EQ(got.tv_sec, 0);
	EXPECT(got.tv_usec > 0);
	ERR(read(s[0], &c, 1), EAGAIN);
}

CHECK(stream_buffer_fills)
{
	int s[2];
	static char buf[65536];
	size_t sent = 0, got = 0;
	ssize_t n;
	OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
	while ((n = write(s[0], buf, sizeof buf)) > 0)
		sent += n;
	EQ(errno, EAGAIN);
	EXPECT(sent >= 65536);
	struct pollfd p = { .fd = s[0], .events = POLLOUT };
	EQ(poll(&p, 1, 0), 0);
	while ((n = read(s[1], buf, sizeof buf)) > 0)
		got += n;
	EQ(got, sent);
	EQ(poll(&p, 1, 0), 1);
}

CHECK(blocking_send_of_a_lot)
{
	int s[2];
	static char out[1 << 20], in[1 << 20];
	for (size_t i = 0; i < sizeof out; i++)
		out[i] = i * 13 + (i >> 9);
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	CHILD(pid) EQ(send(s[0], out, sizeof out, 0), sizeof out);
	size_t have = 0;
	while (have < sizeof in)
		have += OK(read(s[1], in + have, 7000));
	MEMEQ(in, out, sizeof in);
	REAP(pid);
}

CHECK(datagram_too_large)
{
	int s[2];
	static char big[4 << 20];
	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	ERR(send(s[0], big, sizeof big, 0), EMSGSIZE);
}

CHECK(datagram_queue_limit)
{
	int s[2], n = 0;
	OK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s));
	while (write(s[0], "x", 1) == 1)
		EXPECT(++n < 100000);
	EQ(errno, EAGAIN);
	EXPECT(n >= 10);
}

CHECK(sendmmsg_recvmmsg)
{
	int s[2];
	char buf[4][8];
	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	struct iovec v[4] = { { "a", 1 }, { "bb", 2 }, { "ccc", 3 }, { "dddd", 4 } };
	struct mmsghdr m[4] = { 0 };
	for (int i = 0; i < 4; i++)
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &v[i], .msg_iovlen = 1 };
	EQ(sendmmsg(s[0], m, 4, 0), 4);
	EQ(m[2].msg_len, 3);
	for (int i = 0; i < 4; i++) {
		v[i] = (struct iovec){ buf[i], 8 };
		m[i].msg_len = 0;
	}
	EQ(recvmmsg(s[1], m, 2, 0, NULL), 2);
	EQ(m[1].msg_len, 2);
	EQ(recvmmsg(s[1], m, 4, MSG_DONTWAIT, NULL), 2);
	EQ(m[0].msg_len, 3);
	EQ(m[1].msg_len, 4);
	ERR(recvmmsg(s[1], m, 4, MSG_DONTWAIT, NULL), EAGAIN);
}

CHECK(socket_ioctls)
{
	int s[2], n = -1;
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	EQ(write(s[0], "12345", 5), 5);
	OK(ioctl(s[1], FIONREAD, &n));
	EQ(n, 5);
	struct stat st;
	OK(fstat(s[0], &st));
	EXPECT(S_ISSOCK(st.st_mode));
	ERR(lseek(s[0], 0, SEEK_SET), ESPIPE);
	char path[64], target[64] = { 0 };
	snprintf(path, sizeof path, "/proc/self/fd/%d", s[0]);
	OK(readlink(path, target, sizeof target - 1));
	MEMEQ(target, "socket:[", 8);
	ERR(open(path, O_RDWR), ENXIO);
}

CHECK(socket_file_permissions)
{
	need_root();
	listening(SOCK_STREAM, "s");
	OK(chmod("s", 0600));
	CHILD(pid) {
		OK(setresuid(1001, 1001, 1001));
		ERR(connect_to(SOCK_STREAM, "s"), EACCES);
	}
	REAP(pid);
	OK(chmod("s", 0666));
	CHILD(allowed) {
		OK(setresuid(1001, 1001, 1001));
		OK(connect_to(SOCK_STREAM, "s"));
	}
	REAP(allowed);
}

CHECK(poll_states)
{
	int l = listening(SOCK_STREAM, "s");
	struct pollfd p = { .fd = l, .events = POLLIN | POLLOUT };
	EQ(poll(&p, 1, 0), 0);
	int c = OK(connect_to(SOCK_STREAM, "s"));
	EQ(poll(&p, 1, 0), 1);
	EQ(p.revents, POLLIN);
	p.fd = c;
	EQ(poll(&p, 1, 0), 1);
	EQ(p.revents, POLLOUT);
	close(OK(accept(l, NULL, NULL)));
	EQ(poll(&p, 1, 0), 1);
	EXPECT(p.revents & POLLHUP);
	EXPECT(p.revents & POLLIN);
}

CHECK(empty_vector_sends_nothing)
{
	int s[2];
	char c;
	struct iovec none = { "", 0 };
	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	EQ(writev(s[0], &none, 1), 0);
	EQ(writev(s[0], &none, 0), 0);
	ERR(recv(s[1], &c, 1, MSG_DONTWAIT), EAGAIN);
	EQ(write(s[0], "", 0), 0);
	EQ(recv(s[1], &c, 1, MSG_DONTWAIT), 0);
}
