#ifndef TALLY_ARENA_H
#define TALLY_ARENA_H

#include <stddef.h>

/* Memory that is freed all at once. */
struct arena {
    struct block *blocks;
};

void *arena_alloc(struct arena *arena, size_t size);
char *arena_copy(struct arena *arena, const char *text, size_t length);
void arena_free(struct arena *arena);

#endif
