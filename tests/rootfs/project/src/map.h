#ifndef TALLY_MAP_H
#define TALLY_MAP_H

#include <stddef.h>

#include "arena.h"

/* Names to pointers, by open addressing. */
struct map {
    struct slot *slots;
    size_t count, capacity;
};

/* Where the value of `name` is kept; a new name starts with a null pointer. */
void **map_at(struct map *map, struct arena *arena, const char *name);
/* The value of `name`, or a null pointer. */
void *map_get(const struct map *map, const char *name);

#endif
