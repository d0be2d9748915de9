#ifndef TALLY_VALUE_H
#define TALLY_VALUE_H

#include "arena.h"

enum kind { NUMBER, STRING };

struct value {
    enum kind kind;
    double number;
    const char *string;
};

struct value value_number(double number);
struct value value_string(const char *string);
int value_truth(struct value value);
/* Less than, equal to or greater than zero, numbers before strings. */
int value_compare(struct value left, struct value right);

#endif
