#include "lexer.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

static void skip_blanks(struct lexer *lexer)
{
    for (;; lexer->at++) {
        if (*lexer->at == '#')
            lexer->at += strcspn(lexer->at, "\n");
        if (*lexer->at == '\n')
            lexer->line++;
        else if (!isspace((unsigned char)*lexer->at))
            return;
    }
}

static size_t sign_length(const char *at)
{
    static const char *const pairs[] = {"==", "!=", "<=", ">=", "&&", "||"};

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strncmp(at, pairs[i], 2) == 0)
            return 2;
    return 1;
}

void lexer_next(struct lexer *lexer)
{
    struct token *token = &lexer->token;
    size_t length;

    skip_blanks(lexer);
    *token = (struct token){.line = lexer->line};
    if (!*lexer->at) {
        token->kind = TOKEN_END;
        token->text = "the end";
    } else if (isdigit((unsigned char)*lexer->at)) {
        char *end;
        token->kind = TOKEN_NUMBER;
        token->number = strtod(lexer->at, &end);
        token->text = "a number";
        lexer->at = end;
    } else if (*lexer->at == '"') {
        length = strcspn(lexer->at + 1, "\"\n");
        if (lexer->at[1 + length] != '"')
            fail(lexer->line, "a string is not closed");
        token->kind = TOKEN_STRING;
        token->text = arena_copy(lexer->arena, lexer->at + 1, length);
        lexer->at += length + 2;
    } else if (isalpha((unsigned char)*lexer->at)) {
        for (length = 1; isalnum((unsigned char)lexer->at[length]) || lexer->at[length] == '_'; length++)
            ;
        token->kind = TOKEN_NAME;
        token->text = arena_copy(lexer->arena, lexer->at, length);
        lexer->at += length;
    } else {
        length = sign_length(lexer->at);
        token->kind = TOKEN_SIGN;
        token->text = arena_copy(lexer->arena, lexer->at, length);
        lexer->at += length;
    }
}

void lexer_start(struct lexer *lexer, struct arena *arena, const char *source)
{
    *lexer = (struct lexer){.arena = arena, .at = source, .line = 1};
    lexer_next(lexer);
}

int lexer_is(const struct lexer *lexer, const char *text)
{
    enum token_kind kind = lexer->token.kind;

    return (kind == TOKEN_NAME || kind == TOKEN_SIGN) && strcmp(lexer->token.text, text) == 0;
}

int lexer_accept(struct lexer *lexer, const char *text)
{
    int is = lexer_is(lexer, text);

    if (is)
        lexer_next(lexer);
    return is;
}

void lexer_expect(struct lexer *lexer, const char *text)
{
    if (!lexer_accept(lexer, text))
        fail(lexer->token.line, "expected %s before %s", text, lexer->token.text);
}
