/*
 * The layout of a doorbell page, by `--layout N,...` in the order of `enum part`: it belongs to the one who runs this. For those who
 * forge it.
 */
#ifndef LAYOUT_H
#define LAYOUT_H
#include "attack.h"

enum part {
	REQ, RSP, DONE, ALIVE, REQUEST, REGS, EXCEPTION, SEGMENT, SEGMENTS, ANSWER, ANSWER_COUNT, COMMAND, COMMANDS, COMMAND_SIZE, ARGS,
	RESULT, PARTS
};
static uint64_t layout[PARTS];

static const char *option(int argc, char **argv, const char *name, const char *otherwise)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], name))
			return argv[i + 1];
	return otherwise;
}

static void read_layout(int argc, char **argv)
{
	const char *text = option(argc, argv, "--layout", "");
	for (int i = 0; i < PARTS; i++) {
		char *rest;
		layout[i] = strtoul(text, &rest, 0);
		NEED(*rest == (i + 1 < PARTS ? ',' : 0));
		text = rest + 1;
	}
}
#endif
