#include "format.h"

#include <stdio.h>
#include <string.h>

const char *format_value(struct arena *arena, struct value value)
{
    char text[64];

    if (value.kind == STRING)
        return value.string;
    snprintf(text, sizeof text, "%.12g", value.number);
    return arena_copy(arena, text, strlen(text));
}
