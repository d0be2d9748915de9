#include "map.h"

#include <stdint.h>
#include <string.h>

struct slot {
    const char *name;
    void *value;
};

static uint64_t hash(const char *name)
{
    uint64_t value = 14695981039346656037u;

    for (; *name; name++)
        value = (value ^ (unsigned char)*name) * 1099511628211u;
    return value;
}

static struct slot *find(struct slot *slots, size_t capacity, const char *name)
{
    size_t at = hash(name) & (capacity - 1);

    while (slots[at].name && strcmp(slots[at].name, name) != 0)
        at = (at + 1) & (capacity - 1);
    return &slots[at];
}

static void grow(struct map *map, struct arena *arena)
{
    size_t capacity = map->capacity ? map->capacity * 2 : 8;
    struct slot *slots = arena_alloc(arena, capacity * sizeof *slots);

    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i].name)
            *find(slots, capacity, map->slots[i].name) = map->slots[i];
    map->slots = slots;
    map->capacity = capacity;
}

void **map_at(struct map *map, struct arena *arena, const char *name)
{
    if (4 * (map->count + 1) > 3 * map->capacity)
        grow(map, arena);
    struct slot *slot = find(map->slots, map->capacity, name);
    if (!slot->name) {
        slot->name = name;
        map->count++;
    }
    return &slot->value;
}

void *map_get(const struct map *map, const char *name)
{
    return map->capacity ? find(map->slots, map->capacity, name)->value : NULL;
}
