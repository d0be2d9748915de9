#ifndef TALLY_EVAL_H
#define TALLY_EVAL_H

#include "ast.h"

void eval_program(struct arena *arena, const struct node *program);

#endif
