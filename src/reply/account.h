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
typedef enum xl_way { XL_PLAIN, XL_BY_LOOKUP, XL_BY_EXITS } xl_way;
/* Cells of chances: drafts of a lookup by the length of the n-gram, which is the cell; behind them
 * drafts by exits, by how far the head's uncertainty lies under its threshold. */
enum { XL_N_GRAM = 4, XL_SURE = XL_N_GRAM + 1, XL_CELLS = XL_SURE + 6 };

/* Work, in passes through all layers or the output matrix. */
typedef struct xl_spent {
    double one[XL_WORKS];  /* by one row */
    double more[XL_WORKS]; /* by rows that came along */
} xl_spent;

/* Counts, which decay. */
typedef struct xl_chance {
    double right, drafted;
} xl_chance;

/* What is believed of prices and chances. Chances: of drafts up to the first wrong one of a
 * round. */
typedef struct xl_belief {
    double row[XL_WORKS]; /* of one more row, in passes of one row */
    struct {
        xl_spent spent;
        double rounds, drafts;
        xl_chance chance;
    } exits; /* what rounds by exits have done */
    xl_chance cell[XL_CELLS];
} xl_belief;

typedef struct xl_account {
    union {
        xl_belief now;
        double beliefs[sizeof(xl_belief) / sizeof(double)];
    };
    double ms[XL_WORKS]; /* of a pass of one row; 0: not measured */
    double share;        /* of the layers in the multiply-adds of a token */
    double spare;        /* tokens that drafts may lose */
} xl_account;

void xl_account_start(xl_account *account, double share);
/* A new reply may not lose what another has won, and pays a part of what another has lost. */
void xl_account_reply(xl_account *account);
/* Work of one kind has taken so long. */
void xl_account_price(xl_account *account, int work, double one, double more, double ms);
/* In tokens of the full model. */
double xl_account_cost(const xl_account *account, const xl_spent *spent);
/* Tokens for the cost of one, of k drafts after an n-gram of this length; 0: they may not be
 * wrong. */
double xl_account_lookup(const xl_account *account, uint32_t gram, uint32_t k);
/* The cell of a draft by exits; `share`: of the threshold. */
uint32_t xl_account_cell(float share);
double xl_account_chance(const xl_account *account, uint32_t cell);
/* Whether a head is worth asking for a draft. `draft`: the work that there is because of one; `lost`:
 * that which is for nothing where the head declines; all_right: the chance that the drafts before
 * are right. */
bool xl_account_asks(const xl_account *account, double all_right, const xl_spent *draft,
                     const xl_spent *lost);
/* Whether what it says pays. all_right: the chance that it and the `drafts` before it are right. */
bool xl_account_pays(const xl_account *account, double all_right, uint32_t drafts,
                     const xl_spent *draft);
/* Opens a round: the way that is expected to win most. `lookup`: what that promises, 0 where
 * there is nothing to look up. */
xl_way xl_account_choose(xl_account *account, double lookup, bool exits);
/* Closes it. `cell`: of each draft. */
void xl_account_close(xl_account *account, xl_way way, const xl_spent *spent, double tokens,
                      const uint32_t *cell, uint32_t drafts, uint32_t right);

#endif
