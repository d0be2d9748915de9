#include "eval.h"

#include <string.h>

#include "builtins.h"
#include "error.h"
#include "format.h"
#include "map.h"

enum { MOST_ARGUMENTS = 16, DEEPEST_CALL = 5000 };

struct scope {
    struct arena *arena;
    struct map *functions;
    struct map variables;
    int returned, depth;
    struct value result;
};

static struct value eval(struct scope *scope, const struct node *node);

static struct value binary(struct scope *scope, const struct node *node)
{
    const char *sign = node->name;
    struct value left = eval(scope, ast_child(node, 0));

    if (strcmp(sign, "&&") == 0 && !value_truth(left))
        return left;
    if (strcmp(sign, "||") == 0 && value_truth(left))
        return left;
    struct value right = eval(scope, ast_child(node, 1));
    int order = value_compare(left, right);
    switch (sign[0]) {
    case '&':
    case '|': return right;
    case '=': return value_number(order == 0);
    case '!': return value_number(order != 0);
    case '<': return value_number(sign[1] ? order <= 0 : order < 0);
    case '>': return value_number(sign[1] ? order >= 0 : order > 0);
    }
    if (sign[0] == '+' && (left.kind == STRING || right.kind == STRING)) {
        const char *start = format_value(scope->arena, left), *end = format_value(scope->arena, right);
        char *joined = arena_alloc(scope->arena, strlen(start) + strlen(end) + 1);
        return value_string(strcat(strcpy(joined, start), end));
    }
    if (left.kind == STRING || right.kind == STRING)
        fail(node->line, "%s needs numbers", sign);
    switch (sign[0]) {
    case '+': return value_number(left.number + right.number);
    case '-': return value_number(left.number - right.number);
    case '*': return value_number(left.number * right.number);
    }
    if (right.number == 0)
        fail(node->line, "division by zero");
    if (sign[0] == '/')
        return value_number(left.number / right.number);
    return value_number((double)((long long)left.number % (long long)right.number));
}

static struct value call(struct scope *scope, const struct node *node)
{
    struct value arguments[MOST_ARGUMENTS], result;
    size_t count = node->children.length;

    if (count > MOST_ARGUMENTS)
        fail(node->line, "too many arguments");
    for (size_t i = 0; i < count; i++)
        arguments[i] = eval(scope, ast_child(node, i));
    const struct node *function = map_get(scope->functions, node->name);
    if (!function) {
        if (!builtin_call(scope->arena, node->line, node->name, arguments, count, &result))
            fail(node->line, "no function %s", node->name);
        return result;
    }
    if (count != function->parameters.length)
        fail(node->line, "%s takes %zu arguments", node->name, function->parameters.length);
    struct scope inner = {.arena = scope->arena, .functions = scope->functions, .depth = scope->depth + 1};
    if (inner.depth > DEEPEST_CALL)
        fail(node->line, "calls nest too deep");
    for (size_t i = 0; i < count; i++) {
        struct value *kept = arena_alloc(scope->arena, sizeof *kept);
        *kept = arguments[i];
        *map_at(&inner.variables, scope->arena, function->parameters.items[i]) = kept;
    }
    eval(&inner, ast_child(function, 0));
    return inner.result;
}

static struct value let(struct scope *scope, const struct node *node)
{
    struct value value = eval(scope, ast_child(node, 0));
    struct value **kept = (struct value **)map_at(&scope->variables, scope->arena, node->name);

    if (!*kept)
        *kept = arena_alloc(scope->arena, sizeof **kept);
    **kept = value;
    return value;
}

static struct value eval(struct scope *scope, const struct node *node)
{
    struct value result = value_number(0);
    const struct value *variable;

    switch (node->kind) {
    case NODE_VALUE: return node->value;
    case NODE_NAME:
        variable = map_get(&scope->variables, node->name);
        if (!variable)
            fail(node->line, "no variable %s", node->name);
        return *variable;
    case NODE_BINARY: return binary(scope, node);
    case NODE_NOT: return value_number(!value_truth(eval(scope, ast_child(node, 0))));
    case NODE_CALL: return call(scope, node);
    case NODE_LET: return let(scope, node);
    case NODE_IF:
        if (value_truth(eval(scope, ast_child(node, 0))))
            result = eval(scope, ast_child(node, 1));
        else if (node->children.length == 3)
            result = eval(scope, ast_child(node, 2));
        break;
    case NODE_WHILE:
        while (!scope->returned && value_truth(eval(scope, ast_child(node, 0))))
            result = eval(scope, ast_child(node, 1));
        break;
    case NODE_BLOCK:
        for (size_t i = 0; i < node->children.length && !scope->returned; i++)
            result = eval(scope, ast_child(node, i));
        break;
    case NODE_FUNCTION: *map_at(scope->functions, scope->arena, node->name) = (void *)node; break;
    case NODE_RETURN:
        scope->result = eval(scope, ast_child(node, 0));
        scope->returned = 1;
        break;
    }
    return result;
}

void eval_program(struct arena *arena, const struct node *program)
{
    struct map functions = {0};
    struct scope scope = {.arena = arena, .functions = &functions};

    eval(&scope, program);
}
