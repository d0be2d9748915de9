#include "buffer.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

void buffer_add(struct buffer *buffer, const char *text, size_t length)
{
    if (buffer->length + length + 1 > buffer->capacity) {
        size_t capacity = buffer->capacity ? buffer->capacity * 2 : 64;
        while (capacity < buffer->length + length + 1)
            capacity *= 2;
        char *data = realloc(buffer->data, capacity);
        if (!data)
            fail(0, "out of memory");
        buffer->data = data;
        buffer->capacity = capacity;
    }
    memcpy(buffer->data + buffer->length, text, length);
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
}

void buffer_add_file(struct buffer *buffer, FILE *file)
{
    char chunk[512];
    size_t count;

    buffer_add(buffer, "", 0);
    while ((count = fread(chunk, 1, sizeof chunk, file)) > 0)
        buffer_add(buffer, chunk, count);
    if (ferror(file))
        fail(0, "cannot read the program");
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
