/* AF_INET and AF_INET6 on the loopback interface: ip(7), ipv6(7), tcp(7), udp(7). */
#include "check.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <netdb.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <linux/sockios.h>

static struct sockaddr_in v4(const char *ip, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static struct sockaddr_in6 v6(const char *ip, int port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	inet_pton(AF_INET6, ip, &a.sin6_addr);
	return a;
}

#define ADDR(a) (struct sockaddr *)&(a), sizeof(a)

static int port_of(int s)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	OK(getsockname(s, (struct sockaddr *)&a, &n));
	return ntohs(((struct sockaddr_in *)&a)->sin_port);
}

/* A listening socket at a free port of 127.0.0.1. */
static int listening(int *port)
{
	struct sockaddr_in a = v4("127.0.0.1", 0);
	int s = OK(socket(AF_INET, SOCK_STREAM, 0));
	OK(bind(s, ADDR(a)));
	OK(listen(s, 8));
	*port = port_of(s);
	return s;
}

static int connect_to(int port)
{
	struct sockaddr_in a = v4("127.0.0.1", port);
	int s = OK(socket(AF_INET, SOCK_STREAM, 0));
	OK(connect(s, ADDR(a)));
	return s;
}

/* Two ends of a stream. */
static void stream(int s[2])
{
	int port, l = listening(&port);
	s[0] = connect_to(port);
	s[1] = OK(accept(l, NULL, NULL));
	close(l);
}

static int udp(int *port)
{
	struct sockaddr_in a = v4("127.0.0.1", 0);
	int s = OK(socket(AF_INET, SOCK_DGRAM, 0));
	OK(bind(s, ADDR(a)));
	*port = port_of(s);
	return s;
}

static int events(int s)
{
	struct pollfd p = { s, POLLIN | POLLOUT | POLLRDHUP, 0 };
	OK(poll(&p, 1, 0));
	return p.revents;
}

/* Waits: on Linux the other end learns of things a little later. */
static void await_events(int s, int wanted)
{
	struct pollfd p = { s, wanted, 0 };
	EQ(poll(&p, 1, -1), 1);
}

static int option(int s, int level, int name)
{
	int value = -1;
	socklen_t n = sizeof value;
	OK(getsockopt(s, level, name, &value, &n));
	return value;
}

static void set(int s, int level, int name, int value)
{
	OK(setsockopt(s, level, name, &value, sizeof value));
}

CHECK(creation)
{
	int s[2];
	OK(socket(AF_INET, SOCK_STREAM, IPPROTO_TCP));
	OK(socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP));
	ERR(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
	ERR(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
	ERR(socket(AF_INET, SOCK_RDM, 0), ESOCKTNOSUPPORT);
	ERR(socket(AF_INET, SOCK_STREAM, -1), EINVAL);
	ERR(socket(AF_INET, SOCK_STREAM, 5000), EINVAL);
	ERR(socketpair(AF_INET, SOCK_STREAM, 0, s), EOPNOTSUPP);
}

CHECK(names)
{
	int port, l = listening(&port), c = connect_to(port);
	struct sockaddr_in a, b;
	socklen_t n = sizeof a;
	NE(port, 0);
	int s = OK(accept4(l, (struct sockaddr *)&a, &n, SOCK_CLOEXEC | SOCK_NONBLOCK));
	EQ(n, sizeof a);
	EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
	EQ(fcntl(s, F_GETFL), O_RDWR | O_NONBLOCK);
	OK(getsockname(c, (struct sockaddr *)&b, &n));
	MEMEQ(&a, &b, 8);
	EQ(a.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	OK(getpeername(c, (struct sockaddr *)&b, &n));
	EQ(ntohs(b.sin_port), port);
	OK(getpeername(s, (struct sockaddr *)&b, &n));
	MEMEQ(&a, &b, 8);
	ERR(getpeername(l, (struct sockaddr *)&b, &n), ENOTCONN);
	OK(getsockname(s, (struct sockaddr *)&b, &n));
	EQ(ntohs(b.sin_port), port);
	EQ(events(l), 0);
}

CHECK(unbound_socket)
{
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	char c;
	int s = OK(socket(AF_INET, SOCK_STREAM, 0));
	OK(getsockname(s, (struct sockaddr *)&a, &n));
	EQ(a.sin_port, 0);
	EQ(a.sin_addr.s_addr, 0);
	ERR(getpeername(s, (struct sockaddr *)&a, &n), ENOTCONN);
	ERR(recv(s, &c, 1, 0), ENOTCONN);
	ERR(send(s, "x", 1, MSG_NOSIGNAL), EPIPE);
	EQ(events(s), POLLOUT | POLLHUP);
	ERR(shutdown(s, SHUT_RDWR), ENOTCONN);
	EQ(events(s), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	ERR(accept(s, NULL, NULL), EINVAL);
	OK(listen(s, 1));
	NE(port_of(s), 0);
	EQ(option(s, SOL_SOCKET, SO_ACCEPTCONN), 1);
	ERR(recv(s, &c, 1, 0), ENOTCONN);
	ERR(send(s, "x", 1, MSG_NOSIGNAL), EPIPE);
}

CHECK(address_errors)
{
	struct sockaddr_in a = v4("127.0.0.1", 0), outside = v4("192.0.2.1", 0);
	struct sockaddr_in6 b = v6("::1", 0);
	int s = OK(socket(AF_INET, SOCK_STREAM, 0));
	ERR(bind(s, (struct sockaddr *)&a, 15), EINVAL);
	ERR(bind(s, ADDR(b)), EAFNOSUPPORT);
	ERR(bind(s, ADDR(outside)), EADDRNOTAVAIL);
	ERR(connect(s, (struct sockaddr *)&a, 15), EINVAL);
	ERR(connect(s, ADDR(b)), EAFNOSUPPORT);
	ERR(bind(s, BAD_PTR, 16), EFAULT);
	OK(bind(s, ADDR(a)));
	ERR(bind(s, ADDR(a)), EINVAL);
	int t = OK(socket(AF_INET6, SOCK_STREAM, 0));
	ERR(bind(t, (struct sockaddr *)&b, 23), EINVAL);
	ERR(bind(t, ADDR(a)), EINVAL);
}

CHECK(addresses_in_use)
{
	int port, l = listening(&port);
	struct sockaddr_in same = v4("127.0.0.1", port), all = v4("0.0.0.0", port), other = v4("127.0.0.2", port);
	int s = OK(socket(AF_INET, SOCK_STREAM, 0));
	ERR(bind(s, ADDR(same)), EADDRINUSE);
	ERR(bind(s, ADDR(all)), EADDRINUSE);
	set(s, SOL_SOCKET, SO_REUSEADDR, 1);
	ERR(bind(s, ADDR(same)), EADDRINUSE);
	OK(bind(s, ADDR(other)));
	OK(listen(s, 1));
	/* UDP has ports of its own. */
	int u = OK(socket(AF_INET, SOCK_DGRAM, 0));
	OK(bind(u, ADDR(same)));
	close(l);
	s = OK(socket(AF_INET, SOCK_STREAM, 0));
	OK(bind(s, ADDR(same)));
}

CHECK(reused_addresses)
{
	struct sockaddr_in a = v4("127.0.0.1", 0);
	int s = OK(socket(AF_INET, SOCK_STREAM, 0)), t = OK(socket(AF_INET, SOCK_STREAM, 0));
	set(s, SOL_SOCKET, SO_REUSEADDR, 1);
	set(t, SOL_SOCKET, SO_REUSEADDR, 1);
	OK(bind(s, ADDR(a)));
	a.sin_port = htons(port_of(s));
	OK(bind(t, ADDR(a)));
	OK(listen(s, 1));
	ERR(listen(t, 1), EADDRINUSE);
	int u = OK(socket(AF_INET, SOCK_STREAM, 0)), v = OK(socket(AF_INET, SOCK_STREAM, 0));
	a = v4("127.0.0.1", 0);
	set(u, SOL_SOCKET, SO_REUSEPORT, 1);
	set(v, SOL_SOCKET, SO_REUSEPORT, 1);
	OK(bind(u, ADDR(a)));
	a.sin_port = htons(port_of(u));
	OK(bind(v, ADDR(a)));
	OK(listen(u, 1));
	OK(listen(v, 1));
}

CHECK(a_stream_glues_and_ends)
{
	int s[2];
	char buf[16];
	stream(s);
	EQ(write(s[0], "abc", 3), 3);
	EQ(write(s[0], "def", 3), 3);
	EQ(recv(s[1], buf, 6, MSG_WAITALL), 6);
	MEMEQ(buf, "abcdef", 6);
	EQ(write(s[1], "back", 4), 4);
	EQ(recv(s[0], buf, 2, 0), 2);
	EQ(recv(s[0], buf, 16, MSG_PEEK), 2);
	EQ(recv(s[0], buf, 16, 0), 2);
	ERR(recv(s[0], buf, 1, MSG_DONTWAIT), EAGAIN);
	EQ(write(s[0], "tail", 4), 4);
	close(s[0]);
	EQ(recv(s[1], buf, 4, MSG_WAITALL), 4);
	EQ(read(s[1], buf, 1), 0);
	EQ(read(s[1], buf, 1), 0);
}

CHECK(halves)
{
	int s[2];
	char c;
	stream(s);
	OK(shutdown(s[0], SHUT_WR));
	ERR(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
	await_events(s[1], POLLIN);
	EQ(events(s[1]), POLLIN | POLLOUT | POLLRDHUP);
	EQ(read(s[1], &c, 1), 0);
	EQ(write(s[1], "y", 1), 1);
	EQ(read(s[0], &c, 1), 1);
	OK(shutdown(s[1], SHUT_WR));
	await_events(s[0], POLLIN);
	EQ(events(s[0]), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
	EQ(read(s[0], &c, 1), 0);
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	ERR(getpeername(s[0], (struct sockaddr *)&a, &n), ENOTCONN);
	ERR(shutdown(s[0], SHUT_RD), ENOTCONN);
}

CHECK(shut_for_reading)
{
	int s[2];
	char c;
	stream(s);
	OK(shutdown(s[0], SHUT_RD));
	EQ(read(s[0], &c, 1), 0);
	EQ(events(s[0]), POLLIN | POLLOUT | POLLRDHUP);
	EQ(write(s[1], "x", 1), 1);
	await_events(s[0], POLLIN);
	EQ(write(s[0], "x", 1), 1);
	EQ(read(s[1], &c, 1), 1);
}

CHECK(unread_data_resets)
{
	int s[2];
	char c;
	stream(s);
	EQ(write(s[0], "unread", 6), 6);
	await_events(s[1], POLLIN);
	close(s[1]);
	await_events(s[0], POLLIN);
	EQ(events(s[0]), POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP);
	ERR(read(s[0], &c, 1), ECONNRESET);
	EQ(read(s[0], &c, 1), 0);
	ERR(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
}

CHECK(writing_to_one_that_is_gone)
{
	int s[2];
	char c;
	stream(s);
	close(s[1]);
	await_events(s[0], POLLIN);
	EQ(write(s[0], "x", 1), 1);
	await_events(s[0], POLLERR);
	EQ(read(s[0], &c, 1), 0);
	ERR(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
	EQ(option(s[0], SOL_SOCKET, SO_ERROR), 0);
}

static volatile sig_atomic_t pipes;

static void on_pipe(int sig)
{
	(void)sig;
	pipes++;
}

CHECK(broken_pipe_raises_a_signal)
{
	int s[2];
	on_signal_flags(SIGPIPE, on_pipe, 0);
	stream(s);
	OK(shutdown(s[0], SHUT_WR));
	ERR(write(s[0], "x", 1), EPIPE);
	EQ(pipes, 1);
}

CHECK(no_linger_resets)
{
	int s[2];
	char c;
	struct linger l = { 1, 0 }, back;
	socklen_t n = sizeof back;
	stream(s);
	OK(setsockopt(s[1], SOL_SOCKET, SO_LINGER, &l, sizeof l));
	OK(getsockopt(s[1], SOL_SOCKET, SO_LINGER, &back, &n));
	EQ(back.l_onoff, 1);
	close(s[1]);
	await_events(s[0], POLLIN);
	EQ(option(s[0], SOL_SOCKET, SO_ERROR), ECONNRESET);
	EQ(read(s[0], &c, 1), 0);
}

CHECK(refused)
{
	int port, l = listening(&port);
	struct sockaddr_in a = v4("127.0.0.1", port);
	close(l);
	int s = OK(socket(AF_INET, SOCK_STREAM, 0));
	ERR(connect(s, ADDR(a)), ECONNREFUSED);
	/* It can be tried again. */
	ERR(connect(s, ADDR(a)), ECONNREFUSED);
	s = OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	ERR(connect(s, ADDR(a)), EINPROGRESS);
	await_events(s, POLLOUT);
	EQ(events(s), POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP);
	EQ(option(s, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
	EQ(option(s, SOL_SOCKET, SO_ERROR), 0);
	s = OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	ERR(connect(s, ADDR(a)), EINPROGRESS);
	await_events(s, POLLOUT);
	ERR(connect(s, ADDR(a)), ECONNREFUSED);
}

CHECK(connecting_without_waiting)
{
	int port, l = listening(&port);
	struct sockaddr_in a = v4("127.0.0.1", port);
	int s = OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	ERR(connect(s, ADDR(a)), EINPROGRESS);
	await_events(s, POLLOUT);
	EQ(option(s, SOL_SOCKET, SO_ERROR), 0);
	OK(connect(s, ADDR(a)));
	ERR(connect(s, ADDR(a)), EISCONN);
	ERR(connect(l, ADDR(a)), EISCONN);
	OK(accept(l, NULL, NULL));
}

CHECK(accepting_without_waiting)
{
	int port, l = listening(&port);
	OK(fcntl(l, F_SETFL, O_NONBLOCK));
	ERR(accept(l, NULL, NULL), EAGAIN);
	int c = connect_to(port);
	await_events(l, POLLIN);
	EQ(events(l), POLLIN);
	int s = OK(accept(l, NULL, NULL));
	/* That is not inherited. */
	EQ(fcntl(s, F_GETFL), O_RDWR);
	EQ(write(c, "x", 1), 1);
	char byte;
	EQ(read(s, &byte, 1), 1);
}

CHECK(without_a_descriptor_a_connection_waits)
{
	int port, l = listening(&port);
	int c = connect_to(port);
	int free = OK(dup(c));
	OK(close(free));
	struct rlimit old, low;
	OK(getrlimit(RLIMIT_NOFILE, &old));
	low = (struct rlimit){ free, old.rlim_max };
	OK(setrlimit(RLIMIT_NOFILE, &low));
	ERR(accept(l, NULL, NULL), EMFILE);
	OK(setrlimit(RLIMIT_NOFILE, &old));
	int s = OK(accept(l, NULL, NULL));
	EQ(write(c, "x", 1), 1);
	char byte;
	EQ(read(s, &byte, 1), 1);
}

CHECK(a_blocked_accept_and_read)
{
	int port, l = listening(&port);
	char c;
	CHILD(pid) {
		int s = connect_to(port);
		EQ(read(s, &c, 1), 1);
		EQ(write(s, &c, 1), 1);
	}
	int s = OK(accept(l, NULL, NULL));
	await_state(pid, 'S');
	EQ(write(s, "q", 1), 1);
	EQ(read(s, &c, 1), 1);
	EQ(c, 'q');
	EQ(read(s, &c, 1), 0);
	REAP(pid);
}

CHECK(a_full_backlog_waits)
{
	int port, l = listening(&port);
	struct sockaddr_in a = v4("127.0.0.1", port);
	OK(listen(l, 0));
	int first = connect_to(port);
	int s = OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	ERR(connect(s, ADDR(a)), EINPROGRESS);
	ERR(connect(s, ADDR(a)), EALREADY);
	EQ(events(s), 0);
	OK(accept(l, NULL, NULL));
	await_events(s, POLLOUT);
	OK(connect(s, ADDR(a)));
	OK(accept(l, NULL, NULL));
	close(first);
}

CHECK(closing_a_listener_ends_who_waits)
{
	int port, l = listening(&port), s = connect_to(port);
	char c;
	close(l);
	await_events(s, POLLIN);
	ERR(read(s, &c, 1), ECONNRESET);
}

CHECK(much_data)
{
	enum { SIZE = 8 << 20 };
	int s[2];
	stream(s);
	unsigned char *buf = OK(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	CHILD(pid) {
		for (int i = 0; i < SIZE; i++)
			buf[i] = i * 7 ^ i >> 11;
		EQ(write(s[0], buf, SIZE), SIZE);
	}
	EQ(recv(s[1], buf, SIZE, MSG_WAITALL), SIZE);
	for (int i = 0; i < SIZE; i++)
		if (buf[i] != (unsigned char)(i * 7 ^ i >> 11))
			FAIL("byte %d differs", i);
	REAP(pid);
}

CHECK(a_full_buffer_refuses_until_it_is_read)
{
	int s[2];
	char buf[1 << 16] = { 0 };
	long sent = 0, n;
	stream(s);
	OK(fcntl(s[0], F_SETFL, O_NONBLOCK));
	while ((n = write(s[0], buf, sizeof buf)) > 0)
		sent += n;
	EQ(errno, EAGAIN);
	EQ(events(s[0]) & POLLOUT, 0);
	EXPECT(sent > 65536);
	for (long got = 0; got < sent; got += n)
		n = OK(read(s[1], buf, sizeof buf));
	await_events(s[0], POLLOUT);
}

CHECK(timeouts)
{
	int s[2];
	char c;
	struct timeval tv = { 0, 1000 }, back;
	socklen_t n = sizeof back;
	stream(s);
	OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	OK(getsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &back, &n));
	EXPECT(back.tv_usec >= 1000);
	ERR(read(s[0], &c, 1), EAGAIN);
}

static char plenty[16 << 20];

/* One that reads too little to wake the sender, and the rest when the sender has given up. */
static void send_until_the_time_is_up(int s[2])
{
	int told[2];
	struct timeval tv = { 0, 300000 };
	OK(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
	OK(pipe(told));
	CHILD(pid) {
		long sent, got = 1 << 16, n;
		close(s[0]);
		await_state(getppid(), 'S');
		EQ(recv(s[1], plenty, got, MSG_WAITALL), got);
		EQ(read(told[0], &sent, sizeof sent), sizeof sent);
		while ((n = OK(read(s[1], plenty, sizeof plenty))) > 0)
			got += n;
		EQ(got, sent);
	}
	close(s[1]);
	long sent = OK(send(s[0], plenty, sizeof plenty, 0));
	EXPECT(sent < (long)sizeof plenty);
	close(s[0]);
	EQ(write(told[1], &sent, sizeof sent), sizeof sent);
	REAP(pid);
}

CHECK(a_send_that_runs_out_of_time_tells_all_that_it_sent)
{
	int s[2];
	stream(s);
	send_until_the_time_is_up(s);
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	send_until_the_time_is_up(s);
}

static void send_until_nobody_reads(int s[2])
{
	CHILD(pid) {
		close(s[0]);
		await_state(getppid(), 'S');
	}
	close(s[1]);
	pipes = 0;
	ssize_t sent = OK(send(s[0], plenty, sizeof plenty, 0));
	EXPECT(sent > 0 && sent < (ssize_t)sizeof plenty);
	EQ(pipes, 0);
	REAP(pid);
}

CHECK(a_send_whose_end_goes_away_tells_what_it_sent_and_raises_no_signal)
{
	int s[2];
	on_signal_flags(SIGPIPE, on_pipe, 0);
	stream(s);
	send_until_nobody_reads(s);
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	send_until_nobody_reads(s);
}

CHECK(waiting_bytes)
{
	int s[2], n;
	stream(s);
	EQ(write(s[0], "12345", 5), 5);
	await_events(s[1], POLLIN);
	OK(ioctl(s[1], FIONREAD, &n));
	EQ(n, 5);
	OK(ioctl(s[1], SIOCATMARK, &n));
	EQ(n, 0);
	int port, l = listening(&port);
	ERR(ioctl(l, FIONREAD, &n), EINVAL);
	ERR(ioctl(l, SIOCOUTQ, &n), EINVAL);
}

CHECK(options_are_given_back)
{
	int s = OK(socket(AF_INET, SOCK_STREAM, 0)), u = OK(socket(AF_INET, SOCK_DGRAM, 0));
	char name[16] = "";
	socklen_t n = sizeof name;
	EQ(option(s, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	EQ(option(s, SOL_SOCKET, SO_DOMAIN), AF_INET);
	EQ(option(s, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	EQ(option(u, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
	EQ(option(s, SOL_SOCKET, SO_REUSEADDR), 0);
	set(s, SOL_SOCKET, SO_REUSEADDR, 5);
	EQ(option(s, SOL_SOCKET, SO_REUSEADDR), 1);
	set(s, SOL_SOCKET, SO_REUSEPORT, 1);
	EQ(option(s, SOL_SOCKET, SO_REUSEPORT), 1);
	set(s, SOL_SOCKET, SO_KEEPALIVE, 1);
	EQ(option(s, SOL_SOCKET, SO_KEEPALIVE), 1);
	set(s, SOL_SOCKET, SO_RCVBUF, 20000);
	EQ(option(s, SOL_SOCKET, SO_RCVBUF), 40000);
	set(s, SOL_SOCKET, SO_SNDBUF, 20000);
	EQ(option(s, SOL_SOCKET, SO_SNDBUF), 40000);
	EQ(option(s, IPPROTO_TCP, TCP_NODELAY), 0);
	set(s, IPPROTO_TCP, TCP_NODELAY, 1);
	EQ(option(s, IPPROTO_TCP, TCP_NODELAY), 1);
	set(s, IPPROTO_TCP, TCP_USER_TIMEOUT, 1234);
	EQ(option(s, IPPROTO_TCP, TCP_USER_TIMEOUT), 1234);
	set(s, IPPROTO_TCP, TCP_KEEPIDLE, 30);
	EQ(option(s, IPPROTO_TCP, TCP_KEEPIDLE), 30);
	set(s, IPPROTO_IP, IP_TOS, 0x10);
	EQ(option(s, IPPROTO_IP, IP_TOS), 0x10);
	set(u, IPPROTO_IP, IP_TTL, 9);
	EQ(option(u, IPPROTO_IP, IP_TTL), 9);
	set(u, SOL_SOCKET, SO_BROADCAST, 1);
	EQ(option(u, SOL_SOCKET, SO_BROADCAST), 1);
	OK(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name, &n));
	ERR(setsockopt(s, IPPROTO_TCP, 9999, &n, sizeof n), ENOPROTOOPT);
	ERR(setsockopt(s, IPPROTO_IP, 9999, &n, sizeof n), ENOPROTOOPT);
	ERR(setsockopt(s, SOL_SOCKET, 9999, &n, sizeof n), ENOPROTOOPT);
	ERR(getsockopt(s, SOL_SOCKET, 9999, &n, &n), ENOPROTOOPT);
	ERR(setsockopt(u, IPPROTO_TCP, TCP_NODELAY, &n, sizeof n), ENOPROTOOPT);
	ERR(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &n, 1), EINVAL);
	struct linger l;
	n = sizeof l;
	OK(getsockopt(s, SOL_SOCKET, SO_LINGER, &l, &n));
	EQ(l.l_onoff, 0);
}

CHECK(information)
{
	int s[2];
	struct tcp_info info;
	socklen_t n = 104;
	stream(s);
	OK(getsockopt(s[0], IPPROTO_TCP, TCP_INFO, &info, &n));
	EQ(n, 104);
	EQ(info.tcpi_state, TCP_ESTABLISHED);
	OK(shutdown(s[0], SHUT_WR));
	await_events(s[1], POLLIN);
	OK(getsockopt(s[1], IPPROTO_TCP, TCP_INFO, &info, &n));
	EQ(info.tcpi_state, TCP_CLOSE_WAIT);
}

CHECK(disconnecting_a_stream)
{
	int s[2];
	struct sockaddr a = { .sa_family = AF_UNSPEC };
	char c;
	stream(s);
	OK(connect(s[0], &a, sizeof a));
	await_events(s[1], POLLIN);
	ERR(read(s[1], &c, 1), ECONNRESET);
	int port, l = listening(&port);
	struct sockaddr_in again = v4("127.0.0.1", port);
	OK(connect(s[0], ADDR(again)));
	OK(accept(l, NULL, NULL));
}

CHECK(datagrams)
{
	int p, q, a = udp(&p), b = udp(&q);
	struct sockaddr_in to = v4("127.0.0.1", q), from;
	socklen_t n = sizeof from;
	char buf[16];
	EQ(sendto(a, "hello", 5, 0, ADDR(to)), 5);
	EQ(sendto(a, "", 0, 0, ADDR(to)), 0);
	EQ(sendto(a, "world", 5, 0, ADDR(to)), 5);
	EQ(recvfrom(b, buf, 16, MSG_PEEK, (struct sockaddr *)&from, &n), 5);
	EQ(recvfrom(b, buf, 16, 0, (struct sockaddr *)&from, &n), 5);
	EQ(n, sizeof from);
	EQ(ntohs(from.sin_port), p);
	EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	EQ(recv(b, buf, 16, 0), 0);
	EQ(recv(b, buf, 2, MSG_TRUNC), 5);
	ERR(recv(b, buf, 2, MSG_DONTWAIT), EAGAIN);
	ERR(send(a, "x", 1, 0), EDESTADDRREQ);
	to.sin_port = 0;
	ERR(sendto(a, "x", 1, 0, ADDR(to)), EINVAL);
	ERR(listen(a, 1), EOPNOTSUPP);
	ERR(accept(a, NULL, NULL), EOPNOTSUPP);
	static char big[70000];
	to.sin_port = htons(q);
	ERR(sendto(a, big, 65508, 0, ADDR(to)), EMSGSIZE);
	EQ(sendto(a, big, 65507, 0, ADDR(to)), 65507);
	EQ(recv(b, big, sizeof big, 0), 65507);
}

CHECK(connected_datagrams)
{
	int p, q, r, a = udp(&p), b = udp(&q), c = udp(&r);
	struct sockaddr_in to_a = v4("127.0.0.1", p), to_b = v4("127.0.0.1", q), name;
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	socklen_t n = sizeof name;
	char buf[8];
	OK(connect(b, ADDR(to_a)));
	EQ(sendto(c, "no", 2, 0, ADDR(to_b)), 2);
	EQ(sendto(a, "yes", 3, 0, ADDR(to_b)), 3);
	EQ(recv(b, buf, 8, 0), 3);
	EQ(write(b, "back", 4), 4);
	EQ(read(a, buf, 8), 4);
	OK(getpeername(b, (struct sockaddr *)&name, &n));
	EQ(ntohs(name.sin_port), p);
	OK(connect(b, &none, sizeof none));
	ERR(getpeername(b, (struct sockaddr *)&name, &n), ENOTCONN);
	ERR(send(b, "x", 1, 0), EDESTADDRREQ);
}

CHECK(refused_datagrams)
{
	int p, a = udp(&p);
	struct sockaddr_in to = v4("127.0.0.1", p);
	char c;
	close(a);
	int s = OK(socket(AF_INET, SOCK_DGRAM, 0));
	EQ(sendto(s, "x", 1, 0, ADDR(to)), 1);
	OK(connect(s, ADDR(to)));
	EQ(send(s, "x", 1, 0), 1);
	await_events(s, POLLIN);
	EQ(events(s) & POLLERR, POLLERR);
	ERR(recv(s, &c, 1, 0), ECONNREFUSED);
	ERR(recv(s, &c, 1, MSG_DONTWAIT), EAGAIN);
	EQ(send(s, "x", 1, 0), 1);
	ERR(send(s, "x", 1, 0), ECONNREFUSED);
}

CHECK(datagram_buffers_are_bounded)
{
	int p, a = udp(&p), b = OK(socket(AF_INET, SOCK_DGRAM, 0)), got = 0;
	static char buf[10000];
	struct sockaddr_in to = v4("127.0.0.1", p);
	for (int i = 0; i < 1000; i++)
		EQ(sendto(b, buf, sizeof buf, 0, ADDR(to)), (int)sizeof buf);
	while (recv(a, buf, sizeof buf, MSG_DONTWAIT) > 0)
		got++;
	EXPECT(got > 0 && got < 100);
}

CHECK(shut_datagrams)
{
	int p, a = udp(&p);
	struct sockaddr_in to = v4("127.0.0.1", p);
	char c;
	ERR(shutdown(a, SHUT_RD), ENOTCONN);
	EQ(recv(a, &c, 1, 0), 0);
	OK(connect(a, ADDR(to)));
	OK(shutdown(a, SHUT_WR));
	ERR(send(a, "x", 1, 0), EPIPE);
}

CHECK(packet_information)
{
	struct sockaddr_in any = v4("0.0.0.0", 0);
	int s = OK(socket(AF_INET, SOCK_DGRAM, 0)), p;
	OK(bind(s, ADDR(any)));
	p = port_of(s);
	set(s, IPPROTO_IP, IP_PKTINFO, 1);
	struct sockaddr_in to = v4("127.0.0.5", p);
	int c = OK(socket(AF_INET, SOCK_DGRAM, 0));
	EQ(sendto(c, "x", 1, 0, ADDR(to)), 1);
	char control[128] __attribute__((aligned(8))), byte;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	EQ(recvmsg(s, &m, 0), 1);
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	EXPECT(h && h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO);
	struct in_pktinfo *info = (void *)CMSG_DATA(h);
	EQ(info->ipi_ifindex, 1);
	EQ(info->ipi_addr.s_addr, to.sin_addr.s_addr);
}

CHECK(many_messages)
{
	int p, a = udp(&p), b = OK(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in to = v4("127.0.0.1", p), from[3];
	char text[3][4] = { "a", "bb", "ccc" };
	struct iovec v[3];
	struct mmsghdr m[3] = { 0 };
	for (int i = 0; i < 3; i++) {
		v[i] = (struct iovec){ text[i], i + 1 };
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &v[i], .msg_iovlen = 1, .msg_name = &to, .msg_namelen = sizeof to };
	}
	EQ(sendmmsg(b, m, 3, 0), 3);
	for (int i = 0; i < 3; i++) {
		v[i].iov_len = 4;
		m[i].msg_hdr.msg_name = &from[i];
		m[i].msg_hdr.msg_namelen = sizeof from[i];
	}
	EQ(recvmmsg(a, m, 3, 0, NULL), 3);
	for (int i = 0; i < 3; i++) {
		EQ(m[i].msg_len, i + 1);
		EQ(m[i].msg_hdr.msg_namelen, sizeof from[i]);
		EQ(ntohs(from[i].sin_port), port_of(b));
	}
}

CHECK(ipv6_streams)
{
	struct sockaddr_in6 a = v6("::1", 0), name;
	socklen_t n = sizeof name;
	int l = OK(socket(AF_INET6, SOCK_STREAM, 0)), c = OK(socket(AF_INET6, SOCK_STREAM, 0));
	OK(bind(l, ADDR(a)));
	OK(listen(l, 1));
	a.sin6_port = htons(port_of(l));
	OK(connect(c, ADDR(a)));
	int s = OK(accept(l, (struct sockaddr *)&name, &n));
	EQ(n, sizeof name);
	MEMEQ(&name.sin6_addr, &a.sin6_addr, 16);
	EQ(ntohs(name.sin6_port), port_of(c));
	char byte;
	EQ(write(c, "6", 1), 1);
	EQ(read(s, &byte, 1), 1);
}

CHECK(ipv6_takes_ipv4)
{
	struct sockaddr_in6 any = v6("::", 0), name;
	socklen_t n = sizeof name;
	int l = OK(socket(AF_INET6, SOCK_STREAM, 0)), s = OK(socket(AF_INET, SOCK_STREAM, 0));
	EQ(option(l, IPPROTO_IPV6, IPV6_V6ONLY), 0);
	OK(bind(l, ADDR(any)));
	OK(listen(l, 2));
	struct sockaddr_in busy = v4("0.0.0.0", port_of(l));
	ERR(bind(s, ADDR(busy)), EADDRINUSE);
	int c = connect_to(port_of(l));
	OK(accept(l, (struct sockaddr *)&name, &n));
	struct sockaddr_in6 mapped = v6("::ffff:127.0.0.1", port_of(c));
	MEMEQ(&name.sin6_addr, &mapped.sin6_addr, 16);
	EQ(name.sin6_port, mapped.sin6_port);
	/* And the other way round. */
	int port, l4 = listening(&port), c6 = OK(socket(AF_INET6, SOCK_STREAM, 0));
	struct sockaddr_in6 to = v6("::ffff:127.0.0.1", port);
	OK(connect(c6, ADDR(to)));
	struct sockaddr_in from;
	n = sizeof from;
	OK(accept(l4, (struct sockaddr *)&from, &n));
	EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
}

CHECK(ipv6_only)
{
	struct sockaddr_in6 any = v6("::", 0), mapped = v6("::ffff:127.0.0.1", 0);
	int l = OK(socket(AF_INET6, SOCK_STREAM, 0)), s = OK(socket(AF_INET, SOCK_STREAM, 0));
	set(l, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	ERR(bind(l, ADDR(mapped)), EINVAL);
	OK(bind(l, ADDR(any)));
	OK(listen(l, 1));
	struct sockaddr_in a = v4("0.0.0.0", port_of(l));
	OK(bind(s, ADDR(a)));
	OK(listen(s, 1));
	mapped.sin6_port = htons(port_of(l));
	int c = OK(socket(AF_INET6, SOCK_STREAM, 0));
	set(c, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	ERR(connect(c, ADDR(mapped)), ENETUNREACH);
	int v = 0;
	ERR(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &v, sizeof v), EINVAL);
}

CHECK(ipv6_datagrams)
{
	struct sockaddr_in6 any = v6("::", 0), from;
	socklen_t n = sizeof from;
	int s = OK(socket(AF_INET6, SOCK_DGRAM, 0)), c = OK(socket(AF_INET, SOCK_DGRAM, 0)), d = OK(socket(AF_INET6, SOCK_DGRAM, 0));
	char byte;
	OK(bind(s, ADDR(any)));
	struct sockaddr_in to4 = v4("127.0.0.1", port_of(s));
	struct sockaddr_in6 to6 = v6("::1", port_of(s)), mapped = v6("::ffff:127.0.0.1", 0);
	EQ(sendto(c, "4", 1, 0, ADDR(to4)), 1);
	EQ(recvfrom(s, &byte, 1, 0, (struct sockaddr *)&from, &n), 1);
	MEMEQ(&from.sin6_addr, &mapped.sin6_addr, 16);
	EQ(sendto(s, "b", 1, 0, ADDR(from)), 1);
	EQ(recv(c, &byte, 1, 0), 1);
	EQ(sendto(d, "6", 1, 0, ADDR(to6)), 1);
	EQ(recvfrom(s, &byte, 1, 0, (struct sockaddr *)&from, &n), 1);
	MEMEQ(&from.sin6_addr, &to6.sin6_addr, 16);
	EQ(option(d, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 64);
}

CHECK(the_interface)
{
	int s = OK(socket(AF_INET, SOCK_DGRAM, 0));
	struct ifreq r = { 0 };
	strcpy(r.ifr_name, "lo");
	OK(ioctl(s, SIOCGIFFLAGS, &r));
	EQ(r.ifr_flags & (IFF_UP | IFF_LOOPBACK | IFF_RUNNING), IFF_UP | IFF_LOOPBACK | IFF_RUNNING);
	OK(ioctl(s, SIOCGIFADDR, &r));
	EQ(((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	OK(ioctl(s, SIOCGIFNETMASK, &r));
	EQ(((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr, htonl(0xff000000));
	OK(ioctl(s, SIOCGIFMTU, &r));
	EQ(r.ifr_mtu, 65536);
	OK(ioctl(s, SIOCGIFHWADDR, &r));
	EQ(r.ifr_hwaddr.sa_family, 772);
	EQ(if_nametoindex("lo"), 1);
	char name[IF_NAMESIZE];
	STREQ(if_indextoname(1, name), "lo");
	strcpy(r.ifr_name, "none0");
	ERR(ioctl(s, SIOCGIFFLAGS, &r), ENODEV);
	char room[40 * 16];
	struct ifconf c = { .ifc_len = sizeof room, .ifc_buf = room };
	OK(ioctl(s, SIOCGIFCONF, &c));
	EXPECT(c.ifc_len >= 40 && c.ifc_len % 40 == 0);
	EXPECT(!strcmp(c.ifc_req[0].ifr_name, "lo"));
	ERR(ioctl(s, SIOCGIFCONF, BAD_PTR), EFAULT);
}

CHECK(shown_in_proc)
{
	int port, l = listening(&port);
	char text[1 << 16], wanted[64];
	struct stat st;
	read_file("/proc/net/tcp", text, sizeof text);
	snprintf(wanted, sizeof wanted, "0100007F:%04X 00000000:0000 0A", port);
	char *line = strstr(text, wanted);
	EXPECT(line);
	OK(fstat(l, &st));
	snprintf(wanted, sizeof wanted, " %lu ", (unsigned long)st.st_ino);
	EXPECT(strstr(line, wanted));
	close(l);
	EXPECT(read_file("/proc/net/tcp6", text, sizeof text) > 0);
	EXPECT(read_file("/proc/net/udp", text, sizeof text) > 0);
	read_file("/proc/net/dev", text, sizeof text);
	EXPECT(strstr(text, "    lo:"));
}

CHECK(edge_triggered)
{
	int s[2], e = OK(epoll_create1(0));
	stream(s);
	struct epoll_event want = { .events = EPOLLIN | EPOLLET | EPOLLRDHUP }, got;
	OK(epoll_ctl(e, EPOLL_CTL_ADD, s[1], &want));
	EQ(epoll_wait(e, &got, 1, 0), 0);
	EQ(write(s[0], "x", 1), 1);
	EQ(epoll_wait(e, &got, 1, -1), 1);
	EQ(epoll_wait(e, &got, 1, 0), 0);
	close(s[0]);
	EQ(epoll_wait(e, &got, 1, -1), 1);
	EQ(got.events, EPOLLIN | EPOLLRDHUP);
}

CHECK(interfaces_by_netlink)
{
	struct ifaddrs *all;
	bool link = false, four = false, six = false;
	OK(getifaddrs(&all));
	for (struct ifaddrs *i = all; i; i = i->ifa_next) {
		if (strcmp(i->ifa_name, "lo") || !i->ifa_addr)
			continue;
		EXPECT(i->ifa_flags & IFF_LOOPBACK);
		struct sockaddr_in6 one = v6("::1", 0);
		link |= i->ifa_addr->sa_family == AF_PACKET;
		four |= i->ifa_addr->sa_family == AF_INET &&
			((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
		six |= i->ifa_addr->sa_family == AF_INET6 &&
		       !memcmp(&((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr, &one.sin6_addr, 16);
	}
	EXPECT(link && four && six);
	freeifaddrs(all);
	struct if_nameindex *names = if_nameindex();
	EXPECT(names && names[0].if_index == 1 && !strcmp(names[0].if_name, "lo"));
	struct addrinfo hints = { .ai_flags = AI_NUMERICSERV | AI_NUMERICHOST, .ai_socktype = SOCK_STREAM }, *found;
	EQ(getaddrinfo("::1", "80", &hints, &found), 0);
	EQ(found->ai_family, AF_INET6);
	freeaddrinfo(found);
}

CHECK(netlink_sockets)
{
	struct sockaddr_nl a = { .nl_family = AF_NETLINK };
	socklen_t n = sizeof a;
	char buf[64];
	ERR(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE), ESOCKTNOSUPPORT);
	int s = OK(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	ERR(bind(s, (struct sockaddr *)&a, 4), EINVAL);
	OK(bind(s, ADDR(a)));
	OK(getsockname(s, (struct sockaddr *)&a, &n));
	EQ(n, sizeof a);
	EQ(a.nl_pid, getpid());
	ERR(recv(s, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
	EQ(events(s), POLLOUT);
	struct {
		struct nlmsghdr head;
		char body[16];
	} request = { { sizeof request, 18, NLM_F_REQUEST, 5, 0 }, "" };
	EQ(send(s, &request, sizeof request, 0), (int)sizeof request);
	EQ(events(s), POLLIN | POLLOUT);
	EXPECT(recv(s, buf, sizeof buf, 0) >= 36);
	struct nlmsghdr *head = (void *)buf;
	EQ(head->nlmsg_type, NLMSG_ERROR);
	EQ(head->nlmsg_seq, 5);
}
