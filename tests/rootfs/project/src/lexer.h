#ifndef TALLY_LEXER_H
#define TALLY_LEXER_H

#include "arena.h"

enum token_kind { TOKEN_END, TOKEN_NUMBER, TOKEN_STRING, TOKEN_NAME, TOKEN_SIGN };

struct token {
    enum token_kind kind;
    int line;
    double number;
    const char *text; /* of a string, a name or a sign */
};

struct lexer {
    struct arena *arena;
    const char *at;
    int line;
    struct token token; /* the one looked at */
};

void lexer_start(struct lexer *lexer, struct arena *arena, const char *source);
void lexer_next(struct lexer *lexer);
/* Whether the token is this sign or word. */
int lexer_is(const struct lexer *lexer, const char *text);
/* The same, and go on to the next token if so. */
int lexer_accept(struct lexer *lexer, const char *text);
void lexer_expect(struct lexer *lexer, const char *text);

#endif
