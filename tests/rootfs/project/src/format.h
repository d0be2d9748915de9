#ifndef TALLY_FORMAT_H
#define TALLY_FORMAT_H

#include "arena.h"
#include "value.h"

/* The value as text: whole numbers without a fraction. */
const char *format_value(struct arena *arena, struct value value);

#endif
