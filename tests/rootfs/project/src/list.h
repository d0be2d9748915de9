#ifndef TALLY_LIST_H
#define TALLY_LIST_H

#include <stddef.h>

#include "arena.h"

/* An array of pointers that grows in an arena. */
struct list {
    void **items;
    size_t length, capacity;
};

void list_push(struct list *list, struct arena *arena, void *item);

#endif
