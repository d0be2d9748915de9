#ifndef TALLY_AST_H
#define TALLY_AST_H

#include "list.h"
#include "value.h"

enum node_kind {
    NODE_VALUE,
    NODE_NAME,
    NODE_BINARY,
    NODE_NOT,
    NODE_CALL,
    NODE_LET,
    NODE_IF,
    NODE_WHILE,
    NODE_BLOCK,
    NODE_FUNCTION,
    NODE_RETURN,
};

struct node {
    enum node_kind kind;
    int line;
    const char *name;      /* a name, an operator or a function */
    struct value value;    /* of NODE_VALUE */
    struct list children;  /* operands, arguments, statements; condition, then and else */
    struct list parameters; /* of NODE_FUNCTION: strings */
};

struct node *ast_node(struct arena *arena, enum node_kind kind, int line, const char *name);
struct node *ast_child(const struct node *node, size_t index);
size_t ast_size(const struct node *node);

#endif
