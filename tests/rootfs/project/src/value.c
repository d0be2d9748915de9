#include "value.h"

#include <string.h>

struct value value_number(double number)
{
    return (struct value){.kind = NUMBER, .number = number};
}

struct value value_string(const char *string)
{
    return (struct value){.kind = STRING, .string = string};
}

int value_truth(struct value value)
{
    return value.kind == NUMBER ? value.number != 0 : value.string[0] != '\0';
}

int value_compare(struct value left, struct value right)
{
    if (left.kind != right.kind)
        return left.kind == NUMBER ? -1 : 1;
    if (left.kind == STRING)
        return strcmp(left.string, right.string);
    return (left.number > right.number) - (left.number < right.number);
}
