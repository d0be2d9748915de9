#ifndef TALLY_BUILTINS_H
#define TALLY_BUILTINS_H

#include "arena.h"
#include "value.h"

/* Call the builtin function `name`; 0 if there is none of that name. */
int builtin_call(struct arena *arena, int line, const char *name, const struct value *arguments, size_t count,
                 struct value *result);

#endif
