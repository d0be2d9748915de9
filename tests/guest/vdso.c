/* vdso(7): clocks and CPU numbers without a system call. */
#include "check.h"
#include <elf.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>

static const clockid_t clocks[] = { CLOCK_REALTIME,	   CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
				    CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME,  CLOCK_TAI };
enum { CLOCKS = sizeof clocks / sizeof *clocks, OFTEN = 2000 };
/* One tick of a host with 100 in a second: a coarse clock may be behind by that. */
static const long long COARSE = 10000000;

typedef int gettime_fn(clockid_t, struct timespec *);
typedef int gettimeofday_fn(struct timeval *, struct timezone *);
typedef time_t time_fn(time_t *);
typedef int getcpu_fn(unsigned *, unsigned *, void *);

/* The function by this name and of this version, as dynamic linkers find it; NULL for none. */
static void *find(const char *name, const char *version)
{
	uintptr_t base = getauxval(AT_SYSINFO_EHDR);
	if (!base)
		return NULL;
	const Elf64_Ehdr *elf = (void *)base;
	EXPECT(!memcmp(elf->e_ident, ELFMAG, SELFMAG));
	const Elf64_Phdr *ph = (void *)(base + elf->e_phoff);
	uintptr_t bias = 0;
	const Elf64_Dyn *dynamic = NULL;
	for (int i = 0; i < elf->e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD)
			bias = base + ph[i].p_offset - ph[i].p_vaddr;
		if (ph[i].p_type == PT_DYNAMIC)
			dynamic = (void *)(base + ph[i].p_offset);
	}
	EXPECT(dynamic);
	const char *strings = NULL;
	const Elf64_Sym *symbols = NULL;
	const uint32_t *hash = NULL;
	const uint16_t *versions = NULL;
	const Elf64_Verdef *defined = NULL;
	for (; dynamic->d_tag != DT_NULL; dynamic++) {
		void *at = (void *)(bias + dynamic->d_un.d_ptr);
		switch (dynamic->d_tag) {
		case DT_STRTAB:
			strings = at;
			break;
		case DT_SYMTAB:
			symbols = at;
			break;
		case DT_HASH:
			hash = at;
			break;
		case DT_VERSYM:
			versions = at;
			break;
		case DT_VERDEF:
			defined = at;
			break;
		}
	}
	EXPECT(strings && symbols && versions && defined);
	int wanted = -1;
	for (const Elf64_Verdef *d = defined;; d = (void *)((char *)d + d->vd_next)) {
		const Elf64_Verdaux *aux = (void *)((char *)d + d->vd_aux);
		if (!(d->vd_flags & VER_FLG_BASE) && !strcmp(strings + aux->vda_name, version))
			wanted = d->vd_ndx;
		if (!d->vd_next)
			break;
	}
	EXPECT(wanted >= 0);
	/* Newer kernels have only the GNU hash; their symbols end where the strings begin. */
	uint32_t count = hash ? hash[1] : (uint32_t)(((char *)strings - (char *)symbols) / sizeof *symbols);
	for (uint32_t i = 0; i < count; i++) {
		const Elf64_Sym *s = symbols + i;
		if (s->st_shndx != SHN_UNDEF && ELF64_ST_TYPE(s->st_info) == STT_FUNC &&
		    (versions[i] & 0x7fff) == wanted && !strcmp(strings + s->st_name, name))
			return (void *)(bias + s->st_value);
	}
	return NULL;
}

static void *symbol(const char *name)
{
	void *at = find(name, "LINUX_2.6");
	if (!at)
		SKIP("needs a vDSO with %s", name);
	return at;
}

static long long nanos(struct timespec t)
{
	EXPECT(t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static long long by_call(clockid_t clock)
{
	struct timespec t;
	OK(syscall(SYS_clock_gettime, clock, &t));
	return nanos(t);
}

static long long by_vdso(gettime_fn *gettime, clockid_t clock)
{
	struct timespec t;
	EQ(gettime(clock, &t), 0);
	return nanos(t);
}

static bool is_coarse(clockid_t clock)
{
	return clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE;
}

CHECK(has_the_functions_that_libraries_look_for)
{
	static const char *names[] = { "__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu",
				       "__vdso_clock_getres",  "clock_gettime",	      "gettimeofday", "time",
				       "getcpu",	       "clock_getres" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		EXPECT(symbol(names[i]));
	EXPECT(symbol("__vdso_time") == symbol("time"));
}

CHECK(is_shown_in_maps)
{
	char *maps = malloc(1 << 16), line[64];
	read_file("/proc/self/maps", maps, 1 << 16);
	snprintf(line, sizeof line, "%lx-", getauxval(AT_SYSINFO_EHDR));
	char *at = strstr(maps, line);
	EXPECT(at);
	char *end = strchr(at, '\n');
	EXPECT(end && !strncmp(end - 6, "[vdso]", 6));
	EXPECT(!strncmp(strchr(at, ' '), " r-xp 00000000 00:00 0 ", 23));
	EXPECT(strstr(maps, "[vvar]"));
}

CHECK(agrees_with_the_system_call)
{
	gettime_fn *gettime = symbol("__vdso_clock_gettime");
	for (int c = 0; c < CLOCKS; c++) {
		long long slack = is_coarse(clocks[c]) ? COARSE : 0;
		for (int i = 0; i < OFTEN / 10; i++) {
			long long before = by_call(clocks[c]);
			long long between = by_vdso(gettime, clocks[c]);
			long long after = by_call(clocks[c]);
			CMP(before, <=, between + slack);
			CMP(between, <=, after + slack);
			CMP(after, <, before + 5000000000);
		}
	}
}

CHECK(moves_forward)
{
	gettime_fn *gettime = symbol("__vdso_clock_gettime");
	long long first = by_vdso(gettime, CLOCK_MONOTONIC), last = first;
	for (int i = 0; i < OFTEN * 10; i++) {
		long long now = by_vdso(gettime, CLOCK_MONOTONIC);
		CMP(now, >=, last);
		last = now;
	}
	CMP(last, >, first);
}

CHECK(other_clocks_are_system_calls)
{
	gettime_fn *gettime = symbol("__vdso_clock_gettime");
	struct timespec t;
	static const clockid_t none[] = { 10, 12, 64, INT_MAX };
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		EQ(gettime(none[i], &t), -EINVAL);
	long long before = by_call(CLOCK_PROCESS_CPUTIME_ID);
	CMP(by_vdso(gettime, CLOCK_PROCESS_CPUTIME_ID), >=, before);
	CMP(by_vdso(gettime, CLOCK_THREAD_CPUTIME_ID), >, 0);
	clockid_t own;
	EQ(clock_getcpuclockid(0, &own), 0);
	CMP(by_vdso(gettime, own), >, 0);
}

CHECK(resolutions_agree)
{
	gettime_fn *getres = symbol("__vdso_clock_getres");
	for (int c = 0; c < CLOCKS; c++) {
		struct timespec by, called;
		EQ(getres(clocks[c], &by), 0);
		OK(syscall(SYS_clock_getres, clocks[c], &called));
		EQ(nanos(by), nanos(called));
		EQ(getres(clocks[c], NULL), 0);
	}
	EQ(getres(77, NULL), -EINVAL);
}

CHECK(time_of_day)
{
	gettimeofday_fn *gettimeofday_ = symbol("__vdso_gettimeofday");
	time_fn *time_ = symbol("__vdso_time");
	for (int i = 0; i < OFTEN; i++) {
		struct timeval tv;
		struct timezone tz = { 77, 77 };
		long long before = by_call(CLOCK_REALTIME) / 1000;
		EQ(gettimeofday_(&tv, &tz), 0);
		long long after = by_call(CLOCK_REALTIME) / 1000;
		EXPECT(tv.tv_usec >= 0 && tv.tv_usec < 1000000);
		long long between = tv.tv_sec * 1000000ll + tv.tv_usec;
		CMP(before, <=, between);
		CMP(between, <=, after);
		EXPECT(tz.tz_minuteswest == 0 && tz.tz_dsttime == 0);
	}
	EQ(gettimeofday_(NULL, NULL), 0);
	time_t kept = 0;
	long long before = by_call(CLOCK_REALTIME_COARSE) / 1000000000;
	time_t got = time_(&kept);
	EQ(got, kept);
	CMP(before - 1, <=, got);
	CMP(time_(NULL), >=, got);
	CMP(got, <=, by_call(CLOCK_REALTIME) / 1000000000);
}

CHECK(cpu_is_one_that_it_may_run_on)
{
	getcpu_fn *getcpu_ = symbol("__vdso_getcpu");
	cpu_set_t set;
	OK(sched_getaffinity(0, sizeof set, &set));
	unsigned cpu = -1, node = -1;
	for (int i = 0; i < OFTEN; i++) {
		EQ(getcpu_(&cpu, &node, NULL), 0);
		EXPECT(CPU_ISSET(cpu, &set));
	}
	EQ(getcpu_(NULL, NULL, NULL), 0);
	for (int c = 0; c < CPU_SETSIZE; c++) {
		if (!CPU_ISSET(c, &set))
			continue;
		cpu_set_t one;
		CPU_ZERO(&one);
		CPU_SET(c, &one);
		OK(sched_setaffinity(0, sizeof one, &one));
		EQ(getcpu_(&cpu, &node, NULL), 0);
		EQ(cpu, c);
	}
}

static sigjmp_buf escape;

static void on_fault(int sig)
{
	siglongjmp(escape, sig);
}

CHECK(a_bad_pointer_is_a_fault)
{
	gettime_fn *gettime = symbol("__vdso_clock_gettime");
	signal(SIGSEGV, on_fault);
	int sig = sigsetjmp(escape, 1);
	if (!sig)
		gettime(CLOCK_MONOTONIC, (void *)8);
	/* A kernel that reads its clocks by a system call says EFAULT. */
	EXPECT(sig == SIGSEGV || sig == 0);
	CMP(by_vdso(gettime, CLOCK_MONOTONIC), >, 0);
}

CHECK(its_data_cannot_be_written_for_others)
{
	char *page = (char *)getauxval(AT_SYSINFO_EHDR) - 4096;
	CHILD(pid)
	{
		signal(SIGSEGV, on_fault);
		if (!sigsetjmp(escape, 1)) {
			*(volatile char *)page = 1;
			FAIL("written");
		}
		/* A copy of one's own harms nobody else. */
		if (mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0)
			memset(page, 0, 4096);
	}
	REAP(pid);
	struct timespec t;
	long long before = by_call(CLOCK_MONOTONIC);
	OK(clock_gettime(CLOCK_MONOTONIC, &t));
	CMP(nanos(t), >=, before);
}

static volatile long long latest;

static void *race(void *arg)
{
	gettime_fn *gettime = arg;
	for (int i = 0; i < OFTEN * 2; i++) {
		long long seen = __atomic_load_n(&latest, __ATOMIC_SEQ_CST);
		long long now = i % 64 ? by_vdso(gettime, CLOCK_MONOTONIC) : by_call(CLOCK_MONOTONIC);
		CMP(now, >=, seen);
		while (seen < now && !__atomic_compare_exchange_n(&latest, &seen, now, false, __ATOMIC_SEQ_CST,
								  __ATOMIC_SEQ_CST))
			;
	}
	return NULL;
}

CHECK(threads_never_see_time_go_back)
{
	pthread_t threads[4];
	void *gettime = symbol("__vdso_clock_gettime");
	for (int i = 0; i < 4; i++)
		EQ(pthread_create(&threads[i], NULL, race, gettime), 0);
	for (int i = 0; i < 4; i++)
		EQ(pthread_join(threads[i], NULL), 0);
}

CHECK(forked_children_have_it)
{
	gettime_fn *gettime = symbol("__vdso_clock_gettime");
	long long before = by_vdso(gettime, CLOCK_MONOTONIC);
	for (int i = 0; i < 8; i++) {
		CHILD(pid) CMP(by_vdso(gettime, CLOCK_MONOTONIC), >, before);
		REAP(pid);
	}
}

static volatile sig_atomic_t hits;

static void on_alarm(int sig)
{
	struct timespec t;
	(void)sig;
	OK(clock_gettime(CLOCK_MONOTONIC, &t));
	hits++;
}

/* Wherever in it a signal comes, it goes on afterwards as if nothing had been. */
CHECK(signals_may_interrupt_it)
{
	gettime_fn *gettime = symbol("__vdso_clock_gettime");
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { 0 };
	signal(SIGALRM, on_alarm);
	OK(setitimer(ITIMER_REAL, &often, NULL));
	long long last = 0;
	while (hits < 200) {
		long long now = by_vdso(gettime, CLOCK_MONOTONIC);
		CMP(now, >=, last);
		last = now;
	}
	OK(setitimer(ITIMER_REAL, &never, NULL));
}

CHECK(a_forbidden_time_stamp_counter_is_a_fault_or_nothing)
{
	gettime_fn *gettime = symbol("__vdso_clock_gettime");
	CHILD(pid)
	{
		OK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
		signal(SIGSEGV, on_fault);
		struct timespec t;
		if (!sigsetjmp(escape, 1))
			gettime(CLOCK_MONOTONIC, &t);
		OK(prctl(PR_SET_TSC, PR_TSC_ENABLE));
		CMP(by_vdso(gettime, CLOCK_MONOTONIC), >, 0);
	}
	REAP(pid);
}

/* Natively the clock would be the host's. */
static void need_machine(void)
{
	char first[PATH_MAX] = "", own[PATH_MAX] = "";
	if (readlink("/proc/1/exe", first, sizeof first - 1) < 0 || readlink("/proc/self/exe", own, sizeof own - 1) < 0 ||
	    strcmp(first, own))
		SKIP("needs a machine of its own");
}

/* As where the host's clock source cannot be read by it: the call that it makes instead must not get the guest's time. */
CHECK(the_hosts_function_makes_no_system_call)
{
	need_machine();
	gettime_fn *host = *(gettime_fn **)(getauxval(AT_SYSINFO_EHDR) - 4096);
	struct timespec t;
	for (int i = 0; host && i < 20; i++) {
		EQ(host(CLOCK_MONOTONIC, &t), 0);
		EQ(host(CLOCK_PROCESS_CPUTIME_ID, &t), -ENOSYS);
	}
}

CHECK(setting_the_clock_shows_at_once_everywhere)
{
	gettime_fn *gettime = symbol("__vdso_clock_gettime");
	need_machine();
	struct gate set = gate_new(), seen = gate_new();
	long long monotonic = by_vdso(gettime, CLOCK_MONOTONIC);
	static const time_t times[] = { 1, 86400, 2000000000, 4102444800, 5 };
	CHILD(pid) for (int i = 0; i < 5; i++)
	{
		gate_wait(set);
		struct timespec t;
		EQ(gettime(CLOCK_REALTIME, &t), 0);
		EXPECT(t.tv_sec >= times[i] && t.tv_sec < times[i] + 60);
		EQ(time(NULL) / 100, times[i] / 100);
		gate_open(seen);
	}
	long long was = by_call(CLOCK_REALTIME);
	for (int i = 0; i < 5; i++) {
		struct timespec t = { times[i], 999999999 };
		OK(clock_settime(CLOCK_REALTIME, &t));
		EQ(gettime(CLOCK_REALTIME, &t), 0);
		EXPECT(t.tv_sec >= times[i] && t.tv_sec < times[i] + 60);
		CMP(by_call(CLOCK_REALTIME), >=, nanos(t));
		CMP(by_vdso(gettime, CLOCK_REALTIME), >=, nanos(t));
		gate_open(set);
		gate_wait(seen);
	}
	REAP(pid);
	struct timespec back = { was / 1000000000, was % 1000000000 };
	OK(clock_settime(CLOCK_REALTIME, &back));
	CMP(by_vdso(gettime, CLOCK_MONOTONIC), >, monotonic);
}
