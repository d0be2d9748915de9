#include "list.h"

#include <string.h>

void list_push(struct list *list, struct arena *arena, void *item)
{
    if (list->length == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 4;
        void **items = arena_alloc(arena, capacity * sizeof *items);
        if (list->length)
            memcpy(items, list->items, list->length * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->length++] = item;
}
