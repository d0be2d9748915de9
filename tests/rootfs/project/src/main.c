#include <stdio.h>
#include <string.h>

#include "buffer.h"
#include "error.h"
#include "eval.h"
#include "parser.h"

int main(int argc, char **argv)
{
    struct arena arena = {0};
    struct buffer source = {0};

    if (argc == 3 && strcmp(argv[1], "-e") == 0) {
        buffer_add(&source, argv[2], strlen(argv[2]));
    } else if (argc == 2) {
        FILE *file = fopen(argv[1], "r");
        if (!file)
            fail(0, "cannot open %s", argv[1]);
        buffer_add_file(&source, file);
        fclose(file);
    } else if (argc == 1) {
        buffer_add_file(&source, stdin);
    } else {
        fail(0, "usage: tally [FILE | -e PROGRAM]");
    }
    struct node *program = parse(&arena, source.data);
    eval_program(&arena, program);
    arena_free(&arena);
    buffer_free(&source);
    if (fflush(stdout) != 0 || ferror(stdout))
        fail(0, "cannot write");
    return 0;
}
