/*
 * Input and output ports as programs use them: permission, every form of the instructions, and the devices that are probed
 * there. As a guest only: natively these ports are the machine's.
 */
#include "../guest/check.h"
#include <linux/rtc.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

enum { POST = 0x80, DEBUG = 0xe9, COM1 = 0x3f8, CMOS = 0x70, TF = 0x100, DF = 0x400 };

static volatile sig_atomic_t signals;
static siginfo_t last;
static greg_t last_regs[NGREG];
static int skip;

/* Remember it, and go on behind the instruction. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	(void)sig;
	signals++;
	last = *info;
	memcpy(last_regs, uc->uc_mcontext.gregs, sizeof last_regs);
	uc->uc_mcontext.gregs[REG_RIP] += skip;
}

static void catch(int sig, int length)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	skip = length;
	signals = 0;
	EQ(sigaction(sig, &action, NULL), 0);
}

/* Whether reading this port is allowed: IN AL, DX has one byte. */
static int allowed(unsigned short port)
{
	catch(SIGSEGV, 1);
	__asm__ volatile("inb %%dx, %%al" : : "d"(port) : "eax");
	if (signals) {
		EQ(last.si_code, SI_KERNEL);
		EQ((long)last.si_addr, 0);
		EQ(last_regs[REG_TRAPNO], 13);
	}
	return !signals;
}

static void drop_rawio(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	EQ(syscall(SYS_capget, &header, data), 0);
	data[0].effective &= ~(1u << CAP_SYS_RAWIO);
	EQ(syscall(SYS_capset, &header, data), 0);
}

CHECK(no_port_is_allowed_at_first)
{
	EXPECT(!allowed(POST));
	EXPECT(!allowed(0));
	catch(SIGSEGV, 1);
	__asm__ volatile("cli");
	EQ(signals, 1);
}

CHECK(ioperm_checks_its_arguments)
{
	ERR(ioperm(0, 0, 1), EINVAL);
	ERR(ioperm(65535, 2, 1), EINVAL);
	ERR(ioperm(65536, 1, 1), EINVAL);
	ERR(ioperm(~0ul, 2, 1), EINVAL);
	ERR(syscall(SYS_iopl, 4), EINVAL);
	ERR(syscall(SYS_iopl, -1), EINVAL);
	EQ(ioperm(65535, 1, 1), 0);
	EQ(ioperm(0, 65536, 0), 0);
}

CHECK(ioperm_gives_exactly_what_it_says)
{
	EQ(ioperm(POST, 3, 1), 0);
	EQ(ioperm(POST + 1, 1, 0), 0);
	EXPECT(allowed(POST) && !allowed(POST + 1) && allowed(POST + 2) && !allowed(POST + 3));
	/* A word needs both its ports; IN EAX, DX has one byte too. */
	catch(SIGSEGV, 1);
	__asm__ volatile("inl %%dx, %%eax" : : "d"(POST) : "eax");
	EQ(signals, 1);
	EQ(ioperm(0, 65536, 0), 0);
	EXPECT(!allowed(POST));
}

CHECK(permission_needs_a_capability)
{
	EQ(ioperm(POST, 1, 1), 0);
	EQ(iopl(1), 0);
	drop_rawio();
	ERR(ioperm(POST, 1, 1), EPERM);
	ERR(iopl(3), EPERM);
	EXPECT(allowed(POST));
	EQ(iopl(1), 0);
	EQ(iopl(0), 0);
	ERR(iopl(1), EPERM);
	EQ(ioperm(POST, 1, 0), 0);
	EXPECT(!allowed(POST));
}

CHECK(iopl_3_gives_all)
{
	EQ(iopl(2), 0);
	EXPECT(!allowed(POST));
	EQ(iopl(3), 0);
	EXPECT(allowed(POST) && allowed(0) && allowed(0xffff));
	/* Beyond the last port there is nothing. */
	catch(SIGSEGV, 1);
	__asm__ volatile("inl %%dx, %%eax" : : "d"(0xfffd) : "eax");
	EQ(signals, 1);
	/* Interrupts are not the program's all the same. */
	catch(SIGSEGV, 1);
	__asm__ volatile("cli; sti");
	EQ(signals, 0);
	__asm__ volatile("hlt");
	EQ(signals, 1);
	EQ(iopl(0), 0);
	EXPECT(!allowed(POST));
}

CHECK(children_begin_with_the_same)
{
	int status;
	EQ(ioperm(POST, 1, 1), 0);
	pid_t child = fork();
	if (child == 0) {
		EXPECT(allowed(POST));
		EQ(ioperm(POST, 1, 0), 0);
		EXPECT(!allowed(POST));
		_exit(0);
	}
	EQ(waitpid(child, &status, 0), child);
	EQ(status, 0);
	EXPECT(allowed(POST));
}

CHECK(exec_keeps_it)
{
	EQ(ioperm(POST, 1, 1), 0);
	outb(0x5a, POST);
	pid_t child = fork();
	if (child == 0) {
		execl("/proc/self/exe", "ports", "--read-post", NULL);
		_exit(99);
	}
	int status;
	EQ(waitpid(child, &status, 0), child);
	EXPECT(WIFEXITED(status));
	EQ(WEXITSTATUS(status), 0x5a);
}

__attribute__((constructor(101))) static void read_post(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--read-post") == 0)
		_exit(inb(POST));
}

CHECK(nobody_answers_with_ones)
{
	EQ(iopl(3), 0);
	EQ(inb(0x300), 0xff);
	EQ(inw(0x300), 0xffff);
	EQ(inl(0x300), 0xffffffffu);
	outl(0, 0x300);
	EQ(inb(DEBUG), 0xe9);
	outb('!', DEBUG);
	outb('\n', DEBUG);
}

CHECK(each_width_changes_its_part_of_rax)
{
	unsigned long rax;
	EQ(iopl(3), 0);
	outb(0x12, POST);
	rax = ~0ul;
	__asm__ volatile("inb %%dx, %%al" : "+a"(rax) : "d"(POST));
	EXPECT(rax == 0xffffffffffffff12);
	rax = ~0ul;
	__asm__ volatile("inw $0x80, %%ax" : "+a"(rax));
	EXPECT(rax == 0xffffffffffffff12);
	rax = ~0ul;
	__asm__ volatile("inl $0x80, %%eax" : "+a"(rax));
	EXPECT(rax == 0xffffff12);
	/* The second byte of a word goes to the next port. */
	outw(0x3456, POST - 1);
	EQ(inb(POST), 0x34);
}

CHECK(strings_repeat)
{
	unsigned char bytes[3000];
	void *at = bytes;
	unsigned long count = sizeof bytes;
	EQ(iopl(3), 0);
	outb(0x77, POST);
	__asm__ volatile("rep insb" : "+D"(at), "+c"(count) : "d"(POST) : "memory");
	EXPECT(at == bytes + sizeof bytes && count == 0);
	for (size_t i = 0; i < sizeof bytes; i++)
		EQ(bytes[i], 0x77);
	/* Downwards, by words, none at all. */
	unsigned short words[4] = { 0x100, 0x200, 0x300, 0x400 };
	at = words + 3;
	count = 3;
	__asm__ volatile("std; rep outsw; cld" : "+S"(at), "+c"(count) : "d"(POST - 1) : "memory");
	EXPECT(at == words && count == 0);
	EQ(inb(POST), 2);
	__asm__ volatile("rep outsw" : "+S"(at), "+c"(count) : "d"(POST - 1) : "memory");
	EXPECT(at == words);
	/* One without a prefix leaves the count alone. */
	count = 5;
	at = words;
	__asm__ volatile("outsl" : "+S"(at), "+c"(count) : "d"(POST - 3) : "memory");
	EXPECT(at == words + 2 && count == 5);
	EQ(inb(POST), 2);
}

CHECK(short_addresses_and_other_segments)
{
	unsigned char *low = mmap((void *)0x20000, 4096, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	EXPECT(low == (void *)0x20000);
	EQ(iopl(3), 0);
	unsigned long at = 0xffffffff00020000, count = 0xffffffff00000002;
	outb(9, POST);
	__asm__ volatile("addr32 rep insb" : "+D"(at), "+c"(count) : "d"(POST) : "memory");
	EXPECT(at == 0x20002 && count == 0);
	EXPECT(low[0] == 9 && low[1] == 9 && low[2] == 0);
	/* From the thread's own block, which begins with its address. */
	unsigned long self;
	__asm__ volatile("mov %%fs:0, %0" : "=r"(self));
	at = 1;
	__asm__ volatile("fs outsb" : "+S"(at) : "d"(POST) : "memory");
	EQ(inb(POST), (int)(self >> 8 & 0xff));
	EQ((long)at, 2);
}

CHECK(bad_memory_stops_a_string)
{
	unsigned char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EQ(mprotect(pages + 4096, 4096, PROT_NONE), 0);
	EQ(iopl(3), 0);
	unsigned char *at = pages + 4090;
	unsigned long count = 100;
	outb(3, POST);
	catch(SIGSEGV, 2);
	__asm__ volatile("rep insb" : "+D"(at), "+c"(count) : "d"(POST) : "memory");
	EQ(signals, 1);
	EXPECT(at == pages + 4096 && count == 94);
	EQ(last.si_code, SEGV_ACCERR);
	EXPECT(last.si_addr == pages + 4096);
	EQ(last_regs[REG_TRAPNO], 14);
	EQ(last_regs[REG_ERR], 7);
	EQ(pages[4095], 3);
	/* A long one that reads from where nothing is. */
	EQ(munmap(pages + 4096, 4096), 0);
	at = pages;
	count = 1u << 30;
	catch(SIGSEGV, 2);
	__asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(POST) : "memory");
	EQ(signals, 1);
	EXPECT(at == pages + 4096 && count == (1u << 30) - 4096);
	EQ(last.si_code, SEGV_MAPERR);
	EXPECT(last.si_addr == pages + 4096);
	/* What is only read cannot be written, and no address is not one either. */
	catch(SIGSEGV, 1);
	__asm__ volatile("insb" : : "D"(0), "d"(POST) : "memory");
	EQ(signals, 1);
	EXPECT(last.si_addr == NULL && last.si_code == SEGV_MAPERR);
}

CHECK(a_long_string_can_be_interrupted)
{
	EQ(iopl(3), 0);
	pid_t child = fork();
	if (child == 0) {
		unsigned long count = 1ul << 30;
		unsigned char *at = mmap(NULL, count, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		EXPECT(at != MAP_FAILED);
		__asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(POST) : "memory");
		_exit(0);
	}
	EQ(kill(child, SIGTERM), 0);
	int status;
	EQ(waitpid(child, &status, 0), child);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

CHECK(single_steps_see_every_repetition)
{
	unsigned char bytes[4] = { 0 };
	void *at = bytes;
	unsigned long count = 4;
	EQ(iopl(3), 0);
	catch(SIGTRAP, 0);
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; rep insb; pushfq; andq $~0x100, (%%rsp); popfq"
			 : "+D"(at), "+c"(count) : "d"(POST) : "memory", "cc");
	EXPECT(at == bytes + 4 && count == 0);
	/* POPFQ itself takes effect one instruction later: four repetitions, PUSHFQ, ANDQ, POPFQ. */
	EQ(signals, 7);
}

/* --- the serial port, as Linux finds out what it has before it --- */

static int uart(int reg)
{
	return inb(COM1 + reg);
}

static void set_uart(int reg, int value)
{
	outb(value, COM1 + reg);
}

CHECK(com1_is_a_16550a)
{
	enum { IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, MSR = 6, SCR = 7 };
	EQ(ioperm(COM1, 8, 1), 0);
	int ier = uart(IER);
	set_uart(IER, 0);
	EQ(uart(IER) & 0xf, 0);
	set_uart(IER, 0xf);
	EQ(uart(IER) & 0xf, 0xf);
	set_uart(IER, ier);
	int mcr = uart(MCR), lcr = uart(LCR);
	set_uart(MCR, 0x1a);
	EQ(uart(MSR) & 0xf0, 0x90);
	set_uart(MCR, mcr);
	set_uart(LCR, 0xbf);
	set_uart(2, 0);
	set_uart(LCR, 0);
	set_uart(FCR, 1);
	EQ(uart(IIR) >> 6, 3);
	/* It is none of those that have more: no EFR, no FIFO of 64 bytes, no bits above the four of IER. */
	set_uart(LCR, 0x80);
	EXPECT(uart(2) != 0);
	set_uart(LCR, 0xbf);
	EXPECT(uart(2) != 0);
	set_uart(LCR, 0);
	set_uart(FCR, 0x21);
	EQ(uart(IIR) >> 5, 6);
	set_uart(FCR, 1);
	set_uart(LCR, 0x80);
	set_uart(FCR, 0x21);
	EQ(uart(IIR) >> 5, 6);
	set_uart(FCR, 1);
	set_uart(LCR, 0);
	set_uart(IER, 0x40);
	EQ(uart(IER), 0);
	set_uart(LCR, lcr);
	set_uart(FCR, 0);
	/* Without FIFOs it shows none, and the scratch register is memory. */
	EQ(uart(IIR) >> 6, 0);
	set_uart(SCR, 0xa5);
	EQ(uart(SCR), 0xa5);
}

CHECK(com1_has_a_divisor)
{
	EQ(ioperm(COM1, 8, 1), 0);
	set_uart(3, 0x83);
	set_uart(0, 0x01);
	set_uart(1, 0xc2);
	EXPECT(uart(0) == 0x01 && uart(1) == 0xc2);
	set_uart(3, 3);
	EQ(uart(1), 0);
}

CHECK(com1_loops)
{
	EQ(ioperm(COM1, 8, 1), 0);
	set_uart(4, 0x10);
	set_uart(2, 7);
	for (int i = 0; i < 16; i++) {
		EXPECT(uart(5) & 0x20);
		set_uart(0, 'a' + i);
	}
	set_uart(0, 'z');
	EQ(uart(5) & 3, 3);
	for (int i = 0; i < 16; i++) {
		EQ(uart(5) & 3, 1);
		EQ(uart(0), 'a' + i);
	}
	EQ(uart(5) & 1, 0);
}

/* --- the clock --- */

static int cmos(int reg)
{
	outb(reg, CMOS);
	return inb(CMOS + 1);
}

static int decimal(int reg)
{
	int value = cmos(reg);
	return (value >> 4) * 10 + (value & 15);
}

CHECK(cmos_has_the_time)
{
	struct tm tm = { 0 };
	EQ(ioperm(CMOS, 2, 1), 0);
	EQ(cmos(0xd), 0x80);
	EQ(cmos(0xb), 2);
	time_t now;
	int weekday;
	/* Unless a second passed meanwhile, all of it belongs together. */
	do {
		now = time(NULL);
		tm.tm_sec = decimal(0);
		tm.tm_min = decimal(2);
		tm.tm_hour = decimal(4);
		weekday = decimal(6) - 1;
		tm.tm_mday = decimal(7);
		tm.tm_mon = decimal(8) - 1;
		tm.tm_year = decimal(9) + decimal(0x32) * 100 - 1900;
	} while (decimal(0) != tm.tm_sec);
	time_t told = timegm(&tm);
	EQ(tm.tm_wday, weekday);
	EXPECT(told >= now - 1 && told <= time(NULL) + 1);
}

CHECK(cmos_remembers)
{
	EQ(ioperm(CMOS, 2, 1), 0);
	outb(0x40, CMOS);
	outb(0x99, CMOS + 1);
	EQ(cmos(0x40), 0x99);
}

/* --- the interval timer, as Linux measures its processor by it --- */

CHECK(pit_counts_at_the_gate)
{
	struct timespec from, to;
	EQ(ioperm(0x40, 4, 1), 0);
	EQ(ioperm(0x61, 1, 1), 0);
	outb((inb(0x61) & ~2) | 1, 0x61);
	outb(0xb0, 0x43);
	outb(0x9c, 0x42);
	outb(0x2e, 0x42);
	clock_gettime(CLOCK_MONOTONIC, &from);
	while (!(inb(0x61) & 0x20))
		;
	clock_gettime(CLOCK_MONOTONIC, &to);
	/* 11,932 ticks are 10 ms. */
	long nanos = (to.tv_sec - from.tv_sec) * 1000000000l + to.tv_nsec - from.tv_nsec;
	EXPECT(nanos > 8000000);
}

/* --- the ports as a file --- */

CHECK(dev_port_is_the_same_bus)
{
	unsigned char bytes[4];
	struct stat st;
	EQ(stat("/dev/port", &st), 0);
	EQ(st.st_mode, S_IFCHR | 0640);
	EQ((long)st.st_rdev, 0x104);
	int fd = open("/dev/port", O_RDWR);
	EXPECT(fd >= 0);
	EQ(pwrite(fd, "\x42", 1, POST), 1);
	EQ(ioperm(POST, 1, 1), 0);
	EQ(inb(POST), 0x42);
	EQ(lseek(fd, POST - 1, SEEK_SET), POST - 1);
	EQ(read(fd, bytes, 3), 3);
	EQ(bytes[0], 0xff);
	EQ(bytes[1], 0x42);
	EQ(lseek(fd, 0, SEEK_CUR), POST + 2);
	ERR(lseek(fd, 0, SEEK_END), EINVAL);
	/* The file ends with the ports. */
	EQ(pread(fd, bytes, 4, 65534), 2);
	EQ(pread(fd, bytes, 4, 65536), 0);
	EQ(pread(fd, bytes, 4, 1l << 40), 0);
	EQ(pwrite(fd, bytes, 4, 65536), 0);
	ERR(pread(fd, NULL, 4, POST), EFAULT);
	ERR(pwrite(fd, NULL, 4, POST), EFAULT);
	close(fd);
	drop_rawio();
	ERR(open("/dev/port", O_RDONLY), EPERM);
}

CHECK(proc_ioports_lists_them)
{
	char text[4096];
	int fd = open("/proc/ioports", O_RDONLY);
	ssize_t n = read(fd, text, sizeof text - 1);
	EXPECT(n > 0);
	text[n] = 0;
	EXPECT(strstr(text, "03f8-03ff : serial\n") && strstr(text, "0070-0071 : rtc0\n"));
}

/* --- the hardware clock as a device --- */

static int open_rtc(void)
{
	int fd = open("/dev/rtc", O_RDONLY);
	EXPECT(fd >= 0);
	return fd;
}

static time_t rtc_time(int fd)
{
	struct rtc_time rt;
	EQ(ioctl(fd, RTC_RD_TIME, &rt), 0);
	struct tm tm = { rt.tm_sec, rt.tm_min, rt.tm_hour, rt.tm_mday, rt.tm_mon, rt.tm_year, 0, 0, 0, 0, NULL };
	time_t time = timegm(&tm);
	EQ(tm.tm_wday, rt.tm_wday);
	EQ(tm.tm_yday, rt.tm_yday);
	return time;
}

CHECK(rtc0_has_the_time)
{
	int fd = open_rtc();
	time_t before = time(NULL), told = rtc_time(fd);
	EXPECT(told >= before - 1 && told <= time(NULL) + 1);
	ERR(open("/dev/rtc0", O_RDONLY), EBUSY);
	close(fd);
	close(open_rtc());
}

CHECK(rtc0_is_set_without_the_system_clock)
{
	int fd = open_rtc();
	time_t now = time(NULL);
	struct rtc_time rt = { .tm_year = 130, .tm_mon = 5, .tm_mday = 15, .tm_hour = 12 };
	EQ(ioctl(fd, RTC_SET_TIME, &rt), 0);
	EXPECT(rtc_time(fd) - 1907755200 < 3);
	EXPECT(time(NULL) - now < 5);
	rt.tm_mday = 31;
	ERR(ioctl(fd, RTC_SET_TIME, &rt), EINVAL);
	ERR(ioctl(fd, RTC_SET_TIME, NULL), EFAULT);
	ERR(ioctl(fd, RTC_RD_TIME, NULL), EFAULT);
	ERR(ioctl(fd, RTC_VL_READ, &rt), ENOTTY);
	/* And the clock's ports show what was set. */
	EQ(ioperm(CMOS, 2, 1), 0);
	EQ(cmos(9), 0x30);
}

CHECK(rtc0_tells_of_seconds)
{
	unsigned long data = 0;
	int fd = open_rtc();
	struct pollfd p = { .fd = fd, .events = POLLIN };
	EQ(ioctl(fd, RTC_UIE_ON), 0);
	time_t before = rtc_time(fd);
	EQ(poll(&p, 1, 5000), 1);
	EXPECT(rtc_time(fd) > before);
	EQ(read(fd, &data, sizeof data), sizeof data);
	EQ(data & 0xff, 0x90);
	EXPECT(data >> 8 >= 1);
	EQ(read(fd, &data, sizeof data), sizeof data);
	EQ(data & 0xff, 0x90);
	EQ(ioctl(fd, RTC_UIE_OFF), 0);
	EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	ERR(read(fd, &data, sizeof data), EAGAIN);
	ERR(read(fd, &data, 3), EINVAL);
	EQ(poll(&p, 1, 0), 0);
}

CHECK(rtc0_has_an_alarm)
{
	unsigned long data = 0;
	int fd = open_rtc();
	struct rtc_wkalrm alarm = { .enabled = 1 };
	EQ(ioctl(fd, RTC_RD_TIME, &alarm.time), 0);
	ERR(ioctl(fd, RTC_WKALM_SET, &alarm), ETIME);
	time_t then = rtc_time(fd) + 2;
	struct tm *tm = gmtime(&then);
	alarm.time = (struct rtc_time){ tm->tm_sec, tm->tm_min, tm->tm_hour, tm->tm_mday, tm->tm_mon, tm->tm_year, 0, 0, 0 };
	EQ(ioctl(fd, RTC_WKALM_SET, &alarm), 0);
	EQ(read(fd, &data, sizeof data), sizeof data);
	EQ(data, 0x1a0);
	EXPECT(rtc_time(fd) >= then);
	EQ(ioctl(fd, RTC_WKALM_RD, &alarm), 0);
	EQ(alarm.enabled, 0);
	EQ(alarm.time.tm_sec, tm->tm_sec);
}

CHECK(rtc0_needs_privileges_to_be_set_and_to_hurry)
{
	unsigned long frequency = 0;
	struct rtc_time rt;
	int fd = open_rtc();
	EQ(ioctl(fd, RTC_RD_TIME, &rt), 0);
	EQ(ioctl(fd, RTC_IRQP_SET, 1024), 0);
	EQ(ioctl(fd, RTC_IRQP_READ, &frequency), 0);
	EQ((long)frequency, 1024);
	ERR(ioctl(fd, RTC_IRQP_SET, 100), EINVAL);
	EQ(setresuid(1000, 1000, 1000), 0);
	ERR(ioctl(fd, RTC_SET_TIME, &rt), EACCES);
	ERR(ioctl(fd, RTC_PIE_ON), EACCES);
	ERR(ioctl(fd, RTC_IRQP_SET, 128), EACCES);
	EQ(ioctl(fd, RTC_IRQP_SET, 64), 0);
	EQ(ioctl(fd, RTC_PIE_ON), 0);
	EQ(read(fd, &frequency, 8), 8);
	EQ(frequency & 0xff, 0xc0);
}
