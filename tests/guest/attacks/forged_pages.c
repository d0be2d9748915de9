/*
 * Threads that change doorbell pages and windows while their siblings make calls: flipped paths and buffers, forged
 * words, rings without end, results of commands that nobody did.
 */
#include "jump.h"
#include "layout.h"

enum { SLOTS = 6 };

static uint64_t page_of(int slot)
{
	return SHARED_BASE + slot * SHARED_STRIDE;
}

static char outside[256];

/*
 * Looks for the path in all windows and puts another of the same length in its place, and back. The other one leads
 * out of the guest's root, if anything did.
 */
static void *flip_paths(void *arg)
{
	static const char inside[] = "/etc/passwd";
	for (;;)
		for (int slot = 0; slot < SLOTS; slot++) {
			char *window = (char *)page_of(slot) + PAGE, *at = window;
			for (; at < window + 8192; at += 8)
				if (!memcmp(at, inside, sizeof inside))
					strcpy(at, outside);
				else if (!memcmp(at, outside, 11))
					memcpy(at, inside, sizeof inside);
		}
	return arg;
}

static void *flip_own_path(void *path)
{
	static const char *const names[] = { "/etc/passwd", "/../../../../etc/passwd", "/proc/self/root/etc/passwd", "" };
	for (unsigned i = 0;; i++)
		strcpy(path, i & 1 ? names[i / 2 % 4] : outside);
	return path;
}

static void *flip_bytes(void *arg)
{
	random_state = (uint64_t)arg;
	for (;;) {
		volatile unsigned char *at = (unsigned char *)page_of(random_below(SLOTS)) + random_below(SHARED_STRIDE);
		/* Mostly in the page and the window's beginning, where things are. */
		if (random_below(4))
			at = (unsigned char *)page_of(random_below(SLOTS)) + random_below(PAGE + 512);
		*at ^= 1 << random_below(8);
	}
	return arg;
}

static void *random_words(void *arg)
{
	random_state = (uint64_t)arg;
	for (;;) {
		static const enum part words[] = { REQ, RSP, DONE, ALIVE };
		volatile uint32_t *word = (uint32_t *)(page_of(random_below(SLOTS)) + layout[words[random_below(4)]]);
		switch (random_below(3)) {
		case 0:
			++*word;
			break;
		case 1:
			*word = random_u64();
			break;
		default:
			*word = random_below(4);
		}
	}
	return arg;
}

static void *random_requests(void *arg)
{
	random_state = (uint64_t)arg;
	for (;;) {
		enum part part = random_below(2) ? REQUEST : ANSWER;
		volatile uint64_t *word = (uint64_t *)(page_of(random_below(SLOTS)) + layout[part]) + random_below(240);
		*word = random_below(2) ? random_below(512) : random_u64();
	}
	return arg;
}

static uint64_t site;

/* Rings without end: the words go up and the supervisor is woken, by the host's own call. */
static void *ring(void *arg)
{
	void *stack = new_stack();
	for (;;)
		for (int slot = 0; slot < SLOTS; slot++) {
			volatile uint32_t *page = (uint32_t *)page_of(slot);
			volatile uint32_t *req = page + layout[REQ] / 4, *done = page + layout[DONE] / 4;
			++*req;
			++*done;
			if (site) {
				native_call(site, stack, SYS_futex, (uint64_t)req, 1, 1 << 30, 0, 0, 0);
				native_call(site, stack, SYS_futex, (uint64_t)done, 1, 1 << 30, 0, 0, 0);
			}
		}
	return arg;
}

static char path[256];

/* Ordinary calls; whatever they give, it must come from the guest's own root. */
static void *keep_calling(void *arg)
{
	char text[64];
	struct stat st;
	for (;;) {
		int fd = open(path, O_RDONLY);
		if (fd >= 0) {
			ssize_t length = read(fd, text, sizeof text);
			if (length >= 5 && !memcmp(text, "outer", 5))
				_exit(BREACH);
			close(fd);
		}
		/* What it gives may be forged as well. */
		stat(canary, &st);
		int p[2];
		if (pipe(p) == 0) {
			if (write(p[1], "abc", 3) == 3)
				(void)!read(p[0], text, 3);
			close(p[0]);
			close(p[1]);
		}
		mprotect(text - (uintptr_t)text % PAGE, PAGE, PROT_READ | PROT_WRITE);
		void *map = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		munmap(map, PAGE);
		pid_t pid = fork();
		if (pid == 0)
			_exit(0);
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
	return arg;
}

static void *(*const forgers[])(void *) = { flip_paths, flip_bytes, random_words, random_requests, ring };
enum { FORGERS = sizeof forgers / sizeof forgers[0] };

static void forge(uint64_t seed)
{
	pthread_t thread;
	strcpy(path, "/etc/passwd");
	for (int i = 0; i < 2; i++)
		pthread_create(&thread, NULL, keep_calling, NULL);
	forgers[seed % FORGERS]((void *)(seed + 1));
}

static void flip_memory(uint64_t seed)
{
	pthread_t thread;
	strcpy(path, "/etc/passwd");
	pthread_create(&thread, NULL, keep_calling, NULL);
	flip_own_path(path);
	(void)seed;
}

/* A lone thread forges its own page and then makes a call. */
static void forge_own(uint64_t seed)
{
	random_state = seed + 1;
	for (int i = 0; i < 200; i++) {
		volatile uint32_t *page = (uint32_t *)page_of(0);
		page[random_below(1024)] = random_below(2) ? random_below(64) : random_u64();
		getppid();
	}
}

int main(int argc, char **argv)
{
	bool platform = begin(argc, argv, "forged_pages");
	/* A path of the length of the other one, and one that leads upwards as far as it goes. */
	snprintf(outside, sizeof outside, "%s", strlen(canary) == 11 ? canary : "/../outside");
	try_all("flipped memory", flip_memory, 8);
	if (platform) {
		read_layout(argc, argv);
		find_sites();
		site = find_returning_site();
		try_all("forged", forge, FORGERS * 12);
		try_all("forged alone", forge_own, 64);
	}
	return end(platform);
}
