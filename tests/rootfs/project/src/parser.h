#ifndef TALLY_PARSER_H
#define TALLY_PARSER_H

#include "ast.h"

/* The program as one block; a mistake in it ends tally. */
struct node *parse(struct arena *arena, const char *source);

#endif
