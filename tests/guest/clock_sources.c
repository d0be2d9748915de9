/* All sources of time tell the same one: the vDSO, system calls, /proc, file times, timeouts, the time stamp counter. */
#include "check.h"
#include <linux/futex.h>
#include <mqueue.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <x86intrin.h>

#define MS 1000000ll
#define SECOND 1000000000ll

static long long ns(struct timespec t)
{
	return t.tv_sec * SECOND + t.tv_nsec;
}

static struct timespec spec(long long nanos)
{
	return (struct timespec){ nanos / SECOND, nanos % SECOND };
}

static long long now(clockid_t clock)
{
	struct timespec t;
	OK(clock_gettime(clock, &t));
	return ns(t);
}

static long long raw_now(clockid_t clock)
{
	struct timespec t;
	OK(syscall(SYS_clock_gettime, clock, &t));
	return ns(t);
}

CHECK(vdso_and_system_calls_take_turns)
{
	static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW };
	for (int i = 0; i < 3; i++) {
		for (int k = 0; k < 200; k++) {
			long long before = now(clocks[i]), middle = raw_now(clocks[i]), after = now(clocks[i]);
			EXPECT(before <= middle + 20 * MS && middle <= after + 20 * MS);
		}
	}
}

CHECK(wall_clocks_agree)
{
	struct timeval tv;
	long long before = now(CLOCK_REALTIME);
	OK(gettimeofday(&tv, NULL));
	time_t seconds = time(NULL);
	long long after = raw_now(CLOCK_REALTIME);
	long long micros = tv.tv_sec * 1000000ll + tv.tv_usec;
	EXPECT(before / 1000 - 20000 <= micros && micros <= after / 1000 + 20000);
	EXPECT(before / SECOND - 1 <= seconds && seconds <= after / SECOND + 1);
}

CHECK(uptime_and_boot_time)
{
	char line[256];
	double up = -1;
	long long boot = -1;
	long long before = now(CLOCK_BOOTTIME);
	FILE *f = fopen("/proc/uptime", "r");
	EXPECT(f && fscanf(f, "%lf", &up) == 1);
	fclose(f);
	struct sysinfo info;
	OK(sysinfo(&info));
	long long after = now(CLOCK_BOOTTIME);
	EXPECT(up * 1e9 >= before - 20 * MS && up * 1e9 <= after + 20 * MS);
	EXPECT(info.uptime >= before / SECOND - 1 && info.uptime <= after / SECOND + 1);
	f = fopen("/proc/stat", "r");
	EXPECT(f != NULL);
	while (fgets(line, sizeof line, f))
		sscanf(line, "btime %lld", &boot);
	fclose(f);
	EXPECT(llabs((now(CLOCK_REALTIME) - now(CLOCK_BOOTTIME)) / SECOND - boot) <= 2);
}

CHECK(file_times)
{
	char path[] = "/tmp/clock_sources-XXXXXX";
	long long before = now(CLOCK_REALTIME);
	int fd = mkstemp(path);
	OK(fd);
	EQ(write(fd, "x", 1), 1);
	long long after = now(CLOCK_REALTIME);
	struct stat st;
	OK(fstat(fd, &st));
	/* The kernel's own clock for that has ticks. */
	EXPECT(before - 20 * MS <= ns(st.st_mtim) && ns(st.st_mtim) <= after);
	OK(futimens(fd, NULL));
	long long later = now(CLOCK_REALTIME);
	OK(fstat(fd, &st));
	EXPECT(after - 20 * MS <= ns(st.st_mtim) && ns(st.st_mtim) <= later);
	OK(unlink(path));
}

/* Waits that nothing but the time ends. */
enum { POLL, PPOLL, SELECT, EPOLL, NANOSLEEP, ABSOLUTE, WALL, TIMERFD, FUTEX, FUTEX_WALL, SEM, SEMOP, MQ, SIGNAL, ALARM,
       WAITS };

static void on_alarm(int sig)
{
	(void)sig;
}

static void wait_by(int kind, long long nanos)
{
	struct timespec rel = spec(nanos), mono = spec(now(CLOCK_MONOTONIC) + nanos),
			wall = spec(now(CLOCK_REALTIME) + nanos);
	int word = 0, fd;
	switch (kind) {
	case POLL:
		EQ(poll(NULL, 0, nanos / MS), 0);
		break;
	case PPOLL:
		EQ(ppoll(NULL, 0, &rel, NULL), 0);
		break;
	case SELECT: {
		struct timeval tv = { nanos / SECOND, nanos % SECOND / 1000 };
		EQ(select(0, NULL, NULL, NULL, &tv), 0);
		break;
	}
	case EPOLL: {
		struct epoll_event event;
		OK(fd = epoll_create1(0));
		EQ(epoll_wait(fd, &event, 1, nanos / MS), 0);
		OK(close(fd));
		break;
	}
	case NANOSLEEP:
		OK(nanosleep(&rel, NULL));
		break;
	case ABSOLUTE:
		EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &mono, NULL), 0);
		break;
	case WALL:
		EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &wall, NULL), 0);
		break;
	case TIMERFD: {
		struct itimerspec timer = { .it_value = mono };
		unsigned long long count;
		OK(fd = timerfd_create(CLOCK_MONOTONIC, 0));
		OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &timer, NULL));
		EQ(read(fd, &count, 8), 8);
		EQ(count, 1);
		OK(close(fd));
		break;
	}
	case FUTEX:
		ERR(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &rel, NULL, 0), ETIMEDOUT);
		break;
	case FUTEX_WALL:
		ERR(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &wall, NULL, ~0),
		    ETIMEDOUT);
		break;
	case SEM: {
		sem_t sem;
		OK(sem_init(&sem, 0, 0));
		ERR(sem_timedwait(&sem, &wall), ETIMEDOUT);
		break;
	}
	case SEMOP: {
		struct sembuf down = { 0, -1, 0 };
		int id = semget(IPC_PRIVATE, 1, 0600);
		OK(id);
		ERR(semtimedop(id, &down, 1, &rel), EAGAIN);
		OK(semctl(id, 0, IPC_RMID));
		break;
	}
	case MQ: {
		char name[64], buf[16];
		struct mq_attr attr = { .mq_maxmsg = 1, .mq_msgsize = sizeof buf };
		snprintf(name, sizeof name, "/clock_sources-%d", getpid());
		mqd_t queue = mq_open(name, O_RDWR | O_CREAT, 0600, &attr);
		OK(queue);
		ERR(mq_timedreceive(queue, buf, sizeof buf, NULL, &wall), ETIMEDOUT);
		OK(mq_unlink(name));
		break;
	}
	case SIGNAL: {
		sigset_t set = sigset_of(SIGUSR2);
		OK(sigprocmask(SIG_BLOCK, &set, NULL));
		ERR(sigtimedwait(&set, NULL, &rel), EAGAIN);
		break;
	}
	case ALARM: {
		struct sigaction act = { .sa_handler = on_alarm };
		struct itimerval timer = { .it_value = { nanos / SECOND, nanos % SECOND / 1000 } };
		sigset_t set = sigset_of(SIGALRM), old;
		OK(sigaction(SIGALRM, &act, NULL));
		OK(sigprocmask(SIG_BLOCK, &set, &old));
		OK(setitimer(ITIMER_REAL, &timer, NULL));
		ERR(sigsuspend(&old), EINTR);
		OK(sigprocmask(SIG_SETMASK, &old, NULL));
		break;
	}
	}
}

/* None ends early, by whatever clock one looks. */
CHECK(waits_last_as_long_as_they_say)
{
	for (int kind = 0; kind < WAITS; kind++) {
		long long mono = now(CLOCK_MONOTONIC), wall = raw_now(CLOCK_REALTIME), boot = raw_now(CLOCK_BOOTTIME);
		wait_by(kind, 30 * MS);
		EXPECT(now(CLOCK_MONOTONIC) - mono >= 30 * MS);
		EXPECT(now(CLOCK_BOOTTIME) - boot >= 30 * MS);
		/* By less than anybody sets it by. */
		EXPECT(raw_now(CLOCK_REALTIME) - wall >= 29 * MS);
	}
}

/* The pair of readings that nothing came between, out of many. */
static void read_both(long long *clock, unsigned long long *counter)
{
	unsigned long long best = -1;
	for (int i = 0; i < 200; i++) {
		unsigned aux;
		unsigned long long before = __rdtsc();
		long long t = now(CLOCK_MONOTONIC);
		unsigned long long after = i % 2 ? __rdtscp(&aux) : __rdtsc();
		if (after - before < best) {
			best = after - before;
			*clock = t;
			*counter = before;
		}
	}
}

/* Whoever measures the counter's speed twice gets the same. */
CHECK(time_stamp_counter)
{
	long long clock[3] = { 0 };
	unsigned long long counter[3] = { 0 };
	for (int i = 0; i < 3; i++) {
		if (i)
			wait_by(NANOSLEEP, 50 * i * MS);
		read_both(&clock[i], &counter[i]);
	}
	EXPECT(counter[1] > counter[0] && counter[2] > counter[1]);
	double first = (counter[1] - counter[0]) / (double)(clock[1] - clock[0]),
	       second = (counter[2] - counter[1]) / (double)(clock[2] - clock[1]);
	EXPECT(first / second > 0.9 && first / second < 1.1);
}

/* A child and an executed program see the parent's time. */
CHECK(children_see_the_same_time)
{
	long long before = now(CLOCK_MONOTONIC);
	int fds[2];
	OK(pipe(fds));
	CHILD(pid)
	{
		wait_by(NANOSLEEP, 10 * MS);
		long long theirs = now(CLOCK_MONOTONIC);
		EXPECT(__rdtsc() != 0);
		EQ(write(fds[1], &theirs, sizeof theirs), sizeof theirs);
	}
	long long theirs;
	EQ(read(fds[0], &theirs, sizeof theirs), sizeof theirs);
	EXPECT(theirs - before >= 10 * MS && theirs <= now(CLOCK_MONOTONIC));
	REAP(pid);
}
