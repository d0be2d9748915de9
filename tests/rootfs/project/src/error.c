#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void fail(int line, const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    fputs("tally: ", stderr);
    if (line > 0)
        fprintf(stderr, "line %d: ", line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}
