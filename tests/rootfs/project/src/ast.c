#include "ast.h"

struct node *ast_node(struct arena *arena, enum node_kind kind, int line, const char *name)
{
    struct node *node = arena_alloc(arena, sizeof *node);

    node->kind = kind;
    node->line = line;
    node->name = name;
    return node;
}

struct node *ast_child(const struct node *node, size_t index)
{
    return node->children.items[index];
}

size_t ast_size(const struct node *node)
{
    size_t size = 1;

    for (size_t i = 0; i < node->children.length; i++)
        size += ast_size(ast_child(node, i));
    return size;
}
