#ifndef TALLY_ERROR_H
#define TALLY_ERROR_H

/* Print "tally: line N: message" and leave with status 1; line 0 leaves the line out. */
_Noreturn void fail(int line, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
