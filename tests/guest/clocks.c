/* Time: clock_gettime(2), nanosleep(2), setitimer(2), timer_create(2), utimensat(2). */
#include "check.h"
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <utime.h>

static volatile sig_atomic_t hits;
static volatile int code, value, overrun;

static void on_timer(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	code = info->si_code;
	value = info->si_value.sival_int;
	overrun = info->si_overrun;
	hits++;
}

static long long now(clockid_t clock)
{
	struct timespec t;
	OK(clock_gettime(clock, &t));
	EXPECT(t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void wait_for_hits(int n)
{
	sigset_t alarm_set = sigset_of(SIGALRM), old, wait;
	sigaddset(&alarm_set, SIGUSR1);
	sigaddset(&alarm_set, SIGVTALRM);
	OK(sigprocmask(SIG_BLOCK, &alarm_set, &old));
	wait = old;
	sigdelset(&wait, SIGALRM);
	sigdelset(&wait, SIGUSR1);
	while (hits < n)
		sigsuspend(&wait);
	OK(sigprocmask(SIG_SETMASK, &old, NULL));
}

static const clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
				    CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE,
				    CLOCK_BOOTTIME, CLOCK_TAI };

CHECK(all_clocks_move_forward)
{
	for (int i = 0; i < 9; i++) {
		long long last = now(clocks[i]);
		for (int k = 0; k < 1000; k++) {
			long long t = now(clocks[i]);
			/* The wall clock may be set, so leave it out. */
			if (clocks[i] != CLOCK_REALTIME && clocks[i] != CLOCK_REALTIME_COARSE && clocks[i] != CLOCK_TAI)
				EXPECT(t >= last);
			last = t;
		}
	}
}

CHECK(system_call_and_vdso_agree)
{
	for (int i = 0; i < 9; i++) {
		struct timespec t;
		long long before = now(clocks[i]);
		OK(syscall(SYS_clock_gettime, clocks[i], &t));
		long long after = now(clocks[i]), middle = t.tv_sec * 1000000000ll + t.tv_nsec;
		EXPECT(before <= middle + 20000000 && middle <= after + 20000000);
	}
}

CHECK(clocks_are_plausible)
{
	/* After 2020 and before 2100. */
	EXPECT(now(CLOCK_REALTIME) / 1000000000 > 1577836800 && now(CLOCK_REALTIME) / 1000000000 < 4102444800);
	EXPECT(now(CLOCK_MONOTONIC) > 0);
	EXPECT(now(CLOCK_BOOTTIME) >= now(CLOCK_MONOTONIC) - 20000000);
	struct timeval tv;
	OK(gettimeofday(&tv, NULL));
	long long real = now(CLOCK_REALTIME) / 1000;
	EXPECT(llabs(real - (tv.tv_sec * 1000000ll + tv.tv_usec)) < 10000000);
	time_t t = time(NULL);
	EXPECT(llabs(t - real / 1000000) <= 10);
	struct timezone tz;
	OK(syscall(SYS_gettimeofday, NULL, &tz));
	EQ(syscall(SYS_time, &t), t);
}

CHECK(clock_errors)
{
	struct timespec t = { 0, 0 };
	ERR(clock_gettime(99, &t), EINVAL);
	ERR(clock_getres(99, &t), EINVAL);
	ERR(clock_settime(CLOCK_MONOTONIC, &t), EINVAL);
	ERR(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, BAD_PTR), EFAULT);
	struct timespec wrong = { 0, 1000000000 };
	EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, &wrong, NULL), EINVAL);
	EQ(clock_nanosleep(99, 0, &t, NULL), EINVAL);
	EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL), EINVAL);
	if (!is_root())
		ERR(clock_settime(CLOCK_REALTIME, &t), EPERM);
}

CHECK(clock_resolution)
{
	struct timespec t;
	OK(clock_getres(CLOCK_MONOTONIC, &t));
	EQ(t.tv_sec, 0);
	EQ(t.tv_nsec, 1);
	OK(clock_getres(CLOCK_MONOTONIC_COARSE, &t));
	EXPECT(t.tv_nsec >= 1000000);
	OK(clock_getres(CLOCK_REALTIME, NULL));
}

CHECK(cpu_clock_of_another_process)
{
	struct gate go = gate_new();
	CHILD(pid) gate_wait(go);
	clockid_t clock;
	EQ(clock_getcpuclockid(pid, &clock), 0);
	EXPECT(now(clock) >= 0);
	gate_open(go);
	REAP(pid);
	EQ(clock_getcpuclockid(pid, &clock), ESRCH);
}

CHECK(nanosleep_lasts)
{
	struct timespec nap = { 0, 5000000 }, zero = { 0, 0 };
	long long before = now(CLOCK_MONOTONIC);
	OK(nanosleep(&nap, NULL));
	EXPECT(now(CLOCK_MONOTONIC) - before >= 5000000);
	OK(nanosleep(&zero, NULL));
	struct timespec wrong = { 0, -1 }, negative = { -1, 0 };
	ERR(nanosleep(&wrong, NULL), EINVAL);
	ERR(nanosleep(&negative, NULL), EINVAL);
	ERR(nanosleep(BAD_PTR, NULL), EFAULT);
}

CHECK(clock_nanosleep_absolute)
{
	long long at = now(CLOCK_MONOTONIC) + 5000000;
	struct timespec t = { at / 1000000000, at % 1000000000 };
	EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0);
	EXPECT(now(CLOCK_MONOTONIC) >= at);
	EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0);
	struct timespec past = { 1, 0 };
	EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &past, NULL), 0);
}

CHECK(alarm_fires_and_reports_the_rest)
{
	on_siginfo(SIGALRM, on_timer, 0);
	EQ(alarm(100), 0);
	unsigned rest = alarm(1);
	EXPECT(rest == 99 || rest == 100);
	wait_for_hits(1);
	EQ(alarm(0), 0);
}

CHECK(setitimer_real)
{
	struct itimerval one = { .it_value = { 0, 2000 } }, old;
	on_siginfo(SIGALRM, on_timer, 0);
	OK(setitimer(ITIMER_REAL, &one, NULL));
	wait_for_hits(1);
	EQ(code, SI_KERNEL);
	OK(getitimer(ITIMER_REAL, &old));
	EQ(old.it_value.tv_sec + old.it_value.tv_usec, 0);
	struct itimerval wrong = { .it_value = { 0, 1000000 } };
	ERR(setitimer(ITIMER_REAL, &wrong, NULL), EINVAL);
	ERR(setitimer(99, &one, NULL), EINVAL);
	ERR(getitimer(ITIMER_REAL, BAD_PTR), EFAULT);
}

CHECK(setitimer_interval)
{
	struct itimerval every = { { 0, 2000 }, { 0, 2000 } }, off = { 0 }, old;
	on_siginfo(SIGALRM, on_timer, 0);
	OK(setitimer(ITIMER_REAL, &every, NULL));
	wait_for_hits(5);
	OK(setitimer(ITIMER_REAL, &off, &old));
	EQ(old.it_interval.tv_usec, 2000);
	EXPECT(old.it_value.tv_usec <= 2000);
}

CHECK(setitimer_is_not_inherited)
{
	struct itimerval later = { .it_value = { 100, 0 } }, got;
	OK(setitimer(ITIMER_REAL, &later, NULL));
	CHILD(pid) {
		OK(getitimer(ITIMER_REAL, &got));
		EQ(got.it_value.tv_sec, 0);
	}
	REAP(pid);
	OK(getitimer(ITIMER_REAL, &got));
	EXPECT(got.it_value.tv_sec > 50);
	EXPECT(alarm(0) > 50);
}

CHECK(setitimer_virtual_and_prof)
{
	struct itimerval one = { .it_value = { 0, 10000 } };
	on_siginfo(SIGVTALRM, on_timer, 0);
	on_siginfo(SIGPROF, on_timer, 0);
	OK(setitimer(ITIMER_VIRTUAL, &one, NULL));
	while (hits < 1)
		;
	OK(setitimer(ITIMER_PROF, &one, NULL));
	while (hits < 2)
		;
}

CHECK(timer_create_signal)
{
	timer_t timer;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77 };
	struct itimerspec its = { .it_value = { 0, 2000000 } }, got;
	on_siginfo(SIGUSR1, on_timer, 0);
	OK(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	OK(timer_gettime(timer, &got));
	EQ(got.it_value.tv_nsec, 0);
	OK(timer_settime(timer, 0, &its, NULL));
	wait_for_hits(1);
	EQ(code, SI_TIMER);
	EQ(value, 77);
	OK(timer_gettime(timer, &got));
	EQ(got.it_value.tv_sec + got.it_value.tv_nsec, 0);
	OK(timer_delete(timer));
	ERR(syscall(SYS_timer_delete, 12345), EINVAL);
}

CHECK(timer_create_default_is_sigalrm)
{
	int id = -1;
	struct itimerspec its = { .it_value = { 0, 1000000 } };
	on_siginfo(SIGALRM, on_timer, 0);
	OK(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &id));
	OK(syscall(SYS_timer_settime, id, 0, &its, NULL));
	wait_for_hits(1);
	EQ(code, SI_TIMER);
	EQ(value, id);
}

CHECK(timer_of_the_real_time_is_set_again)
{
	int id;
	struct itimerspec off = { 0 }, relative = { .it_value = { 1000, 0 } }, its = { 0 };
	on_siginfo(SIGALRM, on_timer, 0);
	OK(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &id));
	OK(syscall(SYS_timer_settime, id, 0, &relative, NULL));
	OK(syscall(SYS_timer_settime, id, 0, &off, NULL));
	OK(clock_gettime(CLOCK_REALTIME, &its.it_value));
	OK(syscall(SYS_timer_settime, id, TIMER_ABSTIME, &its, NULL));
	wait_for_hits(1);
}

CHECK(timer_overruns)
{
	timer_t timer;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec its = { { 0, 1000000 }, { 0, 1000000 } }, off = { 0 };
	on_siginfo(SIGUSR1, on_timer, 0);
	block_signal(SIGUSR1);
	OK(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	OK(timer_settime(timer, 0, &its, NULL));
	long long until = now(CLOCK_MONOTONIC) + 30000000;
	while (now(CLOCK_MONOTONIC) < until)
		;
	EQ(hits, 0);
	sigset_t set = sigset_of(SIGUSR1);
	siginfo_t info;
	/* One signal is queued, the other expirations are counted. */
	EQ(sigwaitinfo(&set, &info), SIGUSR1);
	EXPECT(info.si_overrun >= 10);
	EXPECT(OK(timer_getoverrun(timer)) >= 10);
	OK(timer_settime(timer, 0, &off, NULL));
}

CHECK(timer_to_this_thread)
{
	int id;
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	struct itimerspec its = { .it_value = { 0, 1000000 } };
	ev._sigev_un._tid = getpid();
	on_siginfo(SIGUSR1, on_timer, 0);
	OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id));
	OK(syscall(SYS_timer_settime, id, 0, &its, NULL));
	wait_for_hits(1);
	ev._sigev_un._tid = 0x3fffffff;
	ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id), EINVAL);
}

CHECK(timer_without_notification)
{
	timer_t timer;
	struct sigevent ev = { .sigev_notify = SIGEV_NONE };
	struct itimerspec its = { { 0, 0 }, { 1000, 0 } }, got;
	OK(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	OK(timer_settime(timer, 0, &its, NULL));
	OK(timer_gettime(timer, &got));
	EXPECT(got.it_value.tv_sec >= 900);
	OK(timer_settime(timer, TIMER_ABSTIME, &its, &got));
	EXPECT(got.it_value.tv_sec >= 900);
}

CHECK(timer_errors)
{
	int id;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = 99 };
	struct itimerspec its = { .it_value = { 0, 1000000000 } };
	ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id), EINVAL);
	ev.sigev_signo = SIGUSR1;
	ev.sigev_notify = 99;
	ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id), EINVAL);
	ERR(syscall(SYS_timer_create, 99, NULL, &id), EINVAL);
	ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, BAD_PTR), EFAULT);
	OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &id));
	ERR(syscall(SYS_timer_settime, id, 0, &its, NULL), EINVAL);
	ERR(syscall(SYS_timer_settime, id, 0, NULL, NULL), EINVAL);
	ERR(syscall(SYS_timer_gettime, 12345, &its), EINVAL);
	ERR(syscall(SYS_timer_getoverrun, 12345), EINVAL);
}

CHECK(timers_do_not_survive_fork)
{
	int id;
	struct itimerspec its;
	OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &id));
	CHILD(pid) ERR(syscall(SYS_timer_gettime, id, &its), EINVAL);
	REAP(pid);
	OK(syscall(SYS_timer_gettime, id, &its));
}

static struct stat stat_of(const char *path)
{
	struct stat st;
	OK(lstat(path, &st));
	return st;
}

CHECK(utimensat_sets_times)
{
	write_file("f", "");
	struct timespec t[2] = { { 1000000000, 123456789 }, { 1500000000, 987654321 } };
	OK(utimensat(AT_FDCWD, "f", t, 0));
	struct stat st = stat_of("f");
	EQ(st.st_atim.tv_sec, 1000000000);
	EQ(st.st_atim.tv_nsec, 123456789);
	EQ(st.st_mtim.tv_sec, 1500000000);
	EQ(st.st_mtim.tv_nsec, 987654321);
	EXPECT(st.st_ctim.tv_sec > 1500000000);
}

CHECK(utimensat_now_and_omit)
{
	write_file("f", "");
	struct timespec t[2] = { { 1000, 0 }, { 2000, 0 } };
	OK(utimensat(AT_FDCWD, "f", t, 0));
	t[0] = (struct timespec){ 0, UTIME_OMIT };
	t[1] = (struct timespec){ 0, UTIME_NOW };
	OK(utimensat(AT_FDCWD, "f", t, 0));
	struct stat st = stat_of("f");
	EQ(st.st_atim.tv_sec, 1000);
	EXPECT(st.st_mtim.tv_sec > 1577836800);
	OK(utimensat(AT_FDCWD, "f", NULL, 0));
	EXPECT(stat_of("f").st_atim.tv_sec > 1577836800);
}

CHECK(utimensat_symlink_and_fd)
{
	write_file("f", "");
	OK(symlink("f", "l"));
	struct timespec t[2] = { { 1000, 0 }, { 2000, 0 } };
	OK(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW));
	EQ(stat_of("l").st_mtim.tv_sec, 2000);
	NE(stat_of("f").st_mtim.tv_sec, 2000);
	t[1].tv_sec = 3000;
	OK(futimens(OK(open("f", O_RDONLY)), t));
	EQ(stat_of("f").st_mtim.tv_sec, 3000);
}

CHECK(utimensat_errors)
{
	write_file("f", "");
	struct timespec t[2] = { { 1, 1000000000 }, { 1, 0 } };
	ERR(utimensat(AT_FDCWD, "f", t, 0), EINVAL);
	ERR(utimensat(AT_FDCWD, "none", NULL, 0), ENOENT);
	ERR(utimensat(AT_FDCWD, "f", NULL, 0x40000000), EINVAL);
	t[0].tv_nsec = t[1].tv_nsec = UTIME_OMIT;
	/* Both omitted: nothing is even looked up. */
	OK(utimensat(AT_FDCWD, "none", t, 0));
}

CHECK(utime_and_utimes)
{
	write_file("f", "");
	struct utimbuf u = { 5000, 6000 };
	OK(utime("f", &u));
	EQ(stat_of("f").st_atim.tv_sec, 5000);
	struct timeval tv[2] = { { 7000, 5 }, { 8000, 6 } };
	OK(utimes("f", tv));
	EQ(stat_of("f").st_mtim.tv_sec, 8000);
	EQ(stat_of("f").st_mtim.tv_nsec, 6000);
	tv[0].tv_usec = 1000000;
	ERR(utimes("f", tv), EINVAL);
}

CHECK(times_follow_operations)
{
	struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
	char c;
	write_file("f", "abc");
	OK(utimensat(AT_FDCWD, "f", old, 0));
	int fd = OK(open("f", O_RDWR));
	EQ(write(fd, "x", 1), 1);
	EXPECT(stat_of("f").st_mtim.tv_sec > 1000);
	OK(utimensat(AT_FDCWD, "f", old, 0));
	EQ(read(fd, &c, 1), 1);
	EXPECT(stat_of("f").st_mtim.tv_sec == 1000);
	OK(ftruncate(fd, 10));
	EXPECT(stat_of("f").st_mtim.tv_sec > 1000);
	OK(mkdir("d", 0755));
	OK(utimensat(AT_FDCWD, "d", old, 0));
	OK(close(OK(open("d/x", O_WRONLY | O_CREAT, 0600))));
	EXPECT(stat_of("d").st_mtim.tv_sec > 1000);
	OK(utimensat(AT_FDCWD, "d", old, 0));
	OK(unlink("d/x"));
	EXPECT(stat_of("d").st_mtim.tv_sec > 1000);
}

CHECK(utimensat_permissions)
{
	need_root();
	struct timespec t[2] = { { 1000, 0 }, { 2000, 0 } };
	write_file("f", "");
	OK(chmod("f", 0666));
	CHILD(pid) {
		OK(setresuid(1001, 1001, 1001));
		/* Whoever may write may set the times to now, but only the owner to something else. */
		OK(utimensat(AT_FDCWD, "f", NULL, 0));
		ERR(utimensat(AT_FDCWD, "f", t, 0), EPERM);
	}
	REAP(pid);
	OK(chmod("f", 0644));
	CHILD(other) {
		OK(setresuid(1001, 1001, 1001));
		ERR(utimensat(AT_FDCWD, "f", NULL, 0), EACCES);
	}
	REAP(other);
}

CHECK(process_times)
{
	struct tms a, b;
	OK(times(&a));
	long long until = now(CLOCK_PROCESS_CPUTIME_ID) + 40000000;
	while (now(CLOCK_PROCESS_CPUTIME_ID) < until)
		;
	OK(times(&b));
	EXPECT(b.tms_utime + b.tms_stime > a.tms_utime + a.tms_stime);
	EQ(b.tms_cutime, 0);
}
