/* What drafts cost and win: whether a round drafts, and how. Pure: it knows prices and chances
 * from what it is told, and neither a model nor a clock.
 *
 * Work is counted in passes of one row, of the layers and of the output matrix, and in rows that
 * ride along. What such a row costs is measured; so what a way of drafting has done is valued at
 * the prices of now. Whatever is expected, drafting goes on only while `spare` lasts: tokens
 * that drafts have won, and a small share of all. So drafts that are wrong cost little, whatever
 * was hoped of them. What is not used is forgotten little by little, and so tried again. */
#ifndef XL_ACCOUNT_H
#define XL_ACCOUNT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { XL_LAYERS, XL_OUTPUT, XL_WORKS };
enum { XL_N_GRAM = 4, XL_CHANCES = 6 };
typedef enum xl_way { XL_PLAIN, XL_BY_LOOKUP, XL_BY_EXITS, XL_BY_VOCABULARY, XL_WAYS } xl_way;

/* Work, in passes through all layers or the output matrix. */
typedef struct xl_spent {
    double one[XL_WORKS];  /* by one row */
    double more[XL_WORKS]; /* by rows that came along */
} xl_spent;

/* Counts, which decay. */
typedef struct xl_chance {
    double right, drafted;
} xl_chance;

/* What a way has done; `chance`: of its drafts, up to the first wrong one of a round. */
typedef struct xl_book {
    xl_spent spent;
    double rounds, drafts;
    xl_chance chance;
} xl_book;

/* What is believed of prices and chances. */
typedef struct xl_belief {
    double row[XL_WORKS]; /* of one more row, in passes of one row */
    xl_book book[XL_WAYS];
    xl_chance lookup[XL_N_GRAM + 1]; /* by the length of the n-gram */
    xl_chance vocabulary[XL_CHANCES];
} xl_belief;

typedef struct xl_account {
    union {
        xl_belief now;
        double beliefs[sizeof(xl_belief) / sizeof(double)];
    };
    double ms[XL_WORKS]; /* of a pass of one row; 0: not measured */
    double share;        /* of the layers in the multiply-adds of a token */
    double spare;        /* tokens that drafts may lose */
    uint32_t length;     /* drafts of the round by exits, at most */
} xl_account;

void xl_account_start(xl_account *account, double share);
/* A new reply may not lose what another has won. */
void xl_account_reply(xl_account *account);
/* Work of one kind has taken so long. */
void xl_account_price(xl_account *account, int work, double one, double more, double ms);
/* In tokens of the full model. */
double xl_account_cost(const xl_account *account, const xl_spent *spent);
/* Tokens for the cost of one, of k drafts after an n-gram of this length; 0: they may not be
 * wrong. */
double xl_account_lookup(const xl_account *account, uint32_t gram, uint32_t k);
/* The cell of a draft of the vocabulary exit, by the mass of what is not listed over its own. */
uint32_t xl_account_cell(float unlisted);
double xl_account_chance(const xl_account *account, uint32_t cell);
/* Opens a round: the way that is expected to win most. `lookup`: what that promises, 0 where
 * there is nothing to look up. */
xl_way xl_account_choose(xl_account *account, double lookup, bool exits, bool vocabulary);
/* Closes it. `cell`: of each draft, the n-gram's length or the vocabulary exit's cell. */
void xl_account_close(xl_account *account, xl_way way, const xl_spent *spent, double tokens,
                      const uint32_t *cell, uint32_t drafts, uint32_t right);

#endif
