#include "builtins.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "format.h"

static struct value print(struct arena *arena, const struct value *arguments, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%s%s", i ? " " : "", format_value(arena, arguments[i]));
    putchar('\n');
    return value_number((double)count);
}

static struct value length(struct arena *arena, const struct value *arguments, size_t count)
{
    (void)count;
    return value_number((double)strlen(format_value(arena, arguments[0])));
}

static struct value environment(struct arena *arena, const struct value *arguments, size_t count)
{
    (void)count;
    const char *text = getenv(format_value(arena, arguments[0]));
    return value_string(text ? text : "");
}

static struct value piece(struct arena *arena, const struct value *arguments, size_t count)
{
    (void)count;
    const char *text = format_value(arena, arguments[0]);
    size_t size = strlen(text), from = (size_t)arguments[1].number, to = (size_t)arguments[2].number;

    to = to > size ? size : to;
    from = from > to ? to : from;
    return value_string(arena_copy(arena, text + from, to - from));
}

static const struct builtin {
    const char *name;
    size_t least, most;
    struct value (*call)(struct arena *arena, const struct value *arguments, size_t count);
} builtins[] = {
    {"print", 0, 100, print},
    {"length", 1, 1, length},
    {"environment", 1, 1, environment},
    {"piece", 3, 3, piece},
};

int builtin_call(struct arena *arena, int line, const char *name, const struct value *arguments, size_t count,
                 struct value *result)
{
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++) {
        if (strcmp(builtins[i].name, name) != 0)
            continue;
        if (count < builtins[i].least || count > builtins[i].most)
            fail(line, "%s does not take %zu arguments", name, count);
        *result = builtins[i].call(arena, arguments, count);
        return 1;
    }
    return 0;
}
