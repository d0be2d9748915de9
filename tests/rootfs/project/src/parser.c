#include "parser.h"

#include "error.h"
#include "lexer.h"

struct parser {
    struct arena *arena;
    struct lexer lexer;
};

static struct node *expression(struct parser *parser, size_t level);
static struct node *block(struct parser *parser);

static struct node *node(struct parser *parser, enum node_kind kind, const char *name)
{
    return ast_node(parser->arena, kind, parser->lexer.token.line, name);
}

static void add(struct parser *parser, struct node *parent, struct node *child)
{
    list_push(&parent->children, parser->arena, child);
}

static const char *name(struct parser *parser)
{
    const char *text = parser->lexer.token.text;

    if (parser->lexer.token.kind != TOKEN_NAME)
        fail(parser->lexer.token.line, "expected a name before %s", text);
    lexer_next(&parser->lexer);
    return text;
}

static struct node *call(struct parser *parser, struct node *callee)
{
    callee->kind = NODE_CALL;
    if (lexer_accept(&parser->lexer, ")"))
        return callee;
    do
        add(parser, callee, expression(parser, 0));
    while (lexer_accept(&parser->lexer, ","));
    lexer_expect(&parser->lexer, ")");
    return callee;
}

static struct node *primary(struct parser *parser)
{
    struct token token = parser->lexer.token;
    struct node *result = node(parser, NODE_VALUE, token.text);

    if (lexer_accept(&parser->lexer, "(")) {
        result = expression(parser, 0);
        lexer_expect(&parser->lexer, ")");
    } else if (lexer_accept(&parser->lexer, "!")) {
        result->kind = NODE_NOT;
        add(parser, result, primary(parser));
    } else if (lexer_accept(&parser->lexer, "-")) {
        struct node *zero = node(parser, NODE_VALUE, "0");
        zero->value = value_number(0);
        result->kind = NODE_BINARY;
        add(parser, result, zero);
        add(parser, result, primary(parser));
    } else if (token.kind == TOKEN_NUMBER || token.kind == TOKEN_STRING) {
        lexer_next(&parser->lexer);
        result->value = token.kind == TOKEN_NUMBER ? value_number(token.number) : value_string(token.text);
    } else {
        name(parser);
        result->kind = NODE_NAME;
        if (lexer_accept(&parser->lexer, "("))
            result = call(parser, result);
    }
    return result;
}

static struct node *expression(struct parser *parser, size_t level)
{
    static const char *const levels[][6] = {
        {"||"}, {"&&"}, {"==", "!=", "<=", ">=", "<", ">"}, {"+", "-"}, {"*", "/", "%"},
    };

    if (level == sizeof levels / sizeof *levels)
        return primary(parser);
    struct node *left = expression(parser, level + 1);
    for (size_t i = 0; i < 6 && levels[level][i]; i++) {
        struct node *binary = node(parser, NODE_BINARY, levels[level][i]);
        if (!lexer_accept(&parser->lexer, levels[level][i]))
            continue;
        add(parser, binary, left);
        add(parser, binary, expression(parser, level + 1));
        left = binary;
        i = (size_t)-1; /* the operators of a level bind from the left: look at all of them again */
    }
    return left;
}

static struct node *function(struct parser *parser)
{
    struct node *result = node(parser, NODE_FUNCTION, NULL);

    result->name = name(parser);
    lexer_expect(&parser->lexer, "(");
    while (!lexer_accept(&parser->lexer, ")")) {
        list_push(&result->parameters, parser->arena, (void *)name(parser));
        if (!lexer_is(&parser->lexer, ")"))
            lexer_expect(&parser->lexer, ",");
    }
    add(parser, result, block(parser));
    return result;
}

static struct node *statement(struct parser *parser)
{
    struct lexer *lexer = &parser->lexer;
    struct node *result = node(parser, NODE_BLOCK, NULL);

    if (lexer_accept(lexer, "let")) {
        result->kind = NODE_LET;
        result->name = name(parser);
        lexer_expect(lexer, "=");
        add(parser, result, expression(parser, 0));
    } else if (lexer_accept(lexer, "if")) {
        result->kind = NODE_IF;
        add(parser, result, expression(parser, 0));
        add(parser, result, block(parser));
        if (lexer_accept(lexer, "else"))
            add(parser, result, lexer_is(lexer, "if") ? statement(parser) : block(parser));
        return result;
    } else if (lexer_accept(lexer, "while")) {
        result->kind = NODE_WHILE;
        add(parser, result, expression(parser, 0));
        add(parser, result, block(parser));
        return result;
    } else if (lexer_accept(lexer, "function")) {
        return function(parser);
    } else if (lexer_accept(lexer, "return")) {
        result->kind = NODE_RETURN;
        add(parser, result, expression(parser, 0));
    } else {
        result = expression(parser, 0);
    }
    lexer_expect(lexer, ";");
    return result;
}

static struct node *block(struct parser *parser)
{
    struct node *result = node(parser, NODE_BLOCK, NULL);

    lexer_expect(&parser->lexer, "{");
    while (!lexer_accept(&parser->lexer, "}"))
        add(parser, result, statement(parser));
    return result;
}

struct node *parse(struct arena *arena, const char *source)
{
    struct parser parser = {.arena = arena};

    lexer_start(&parser.lexer, arena, source);
    struct node *program = node(&parser, NODE_BLOCK, NULL);
    while (parser.lexer.token.kind != TOKEN_END)
        add(&parser, program, statement(&parser));
    return program;
}
