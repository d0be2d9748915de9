#ifndef TALLY_BUFFER_H
#define TALLY_BUFFER_H

#include <stddef.h>
#include <stdio.h>

/* A growing string, always ended by a zero byte once something was added. */
struct buffer {
    char *data;
    size_t length, capacity;
};

void buffer_add(struct buffer *buffer, const char *text, size_t length);
void buffer_add_file(struct buffer *buffer, FILE *file);
void buffer_free(struct buffer *buffer);

#endif
