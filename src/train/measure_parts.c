#include "measure_parts.h"

#include <math.h>
#include <string.h>

#include "calibrate.h"
#include "script.h"

void xl_measuring_show(xl_measuring *all, bool ended) {
    const xl_measure_plan *plan = all->plan;
    const xl_progress now = {.stage = XL_STAGE_MEASURE,
                             .label = plan->label,
                             .done = (double)atomic_load(&all->finished),
                             .total = (double)(plan->n_items * plan->n_settings),
                             .tokens = atomic_load(&all->tokens),
                             .conversations = plan->n_items,
                             .ended = ended};
    xl_show(plan->observer, &now);
}

bool xl_measuring_step(xl_measuring *all, bool leader) {
    if (leader) xl_measuring_show(all, false);
    if (xl_stopped(all->plan->observer)) atomic_store(&all->stop, true);
    return !atomic_load(&all->stop);
}

double xl_token_loss(const exitlm_session *s, const float *logits, const xl_softmax_stats *stats,
                     int32_t id) {
    return log(stats->sum_exp) - (logits[xl_slot(s->run.model, (uint32_t)id)] - stats->max);
}

void xl_count_token(const xl_measure_plan *plan, xl_measure_sum *sum, uint32_t index, int32_t head,
                    bool wrong, float regret) {
    const uint32_t window = index / XL_MEASURE_WINDOW,
                   last = xl_measure_windows(plan->reply_tokens) - 1,
                   w = window < last ? window : last;
    sum->tokens++;
    sum->window_tokens[w]++;
    sum->window_wrong[w] += wrong;
    if (head < 0) {
        sum->wrong_full += wrong;
    } else {
        sum->exits[head]++;
        sum->wrong[head] += wrong;
    }
    sum->regret += regret;
    sum->unwanted += regret > 0;
    sum->departed |= wrong;
    sum->common += !sum->departed;
}

float xl_token_regret(const exitlm_session *s, const float *logits, int32_t full, int32_t id,
                      const xl_sampler *sampler) {
    if (id < 0) return 1;
    float gap =
        logits[xl_slot(s->run.model, (uint32_t)full)] - logits[xl_slot(s->run.model, (uint32_t)id)];
    if (sampler)
        gap += sampler->temperature * (float)(xl_gumbel(sampler->seed, s->stair.n, full) -
                                              xl_gumbel(sampler->seed, s->stair.n, id));
    return xl_regret(gap);
}

bool xl_reply_repeats(const int32_t *reply, uint32_t n, int32_t id) {
    if (n < 3) return false;
    for (uint32_t i = 3; i < n; i++)
        if (reply[i] == id && memcmp(reply + i - 3, reply + n - 3, 3 * sizeof *reply) == 0)
            return true;
    return false;
}

uint32_t xl_measure_context(const exitlm_model *model, uint32_t wanted) {
    exitlm_model_info info;
    exitlm_model_describe(model, &info);
    const uint32_t most = info.context_tokens ? info.context_tokens : 2048;
    if (wanted) return wanted;
    return most < 1024 ? most : 1024;
}

static bool is_blank(const xl_dataset_item *item) {
    for (size_t i = 0; i < item->n; i++)
        if (item->texts[i][strspn(item->texts[i], " \t\r\n")]) return false;
    return true;
}

exitlm_status xl_measure_leave_out(const exitlm_model *model, uint32_t context, xl_dataset *set,
                                   size_t *left_out, exitlm_error *error) {
    xl_script script;
    exitlm_status status = EXITLM_OK;
    xl_script_init(&script, model);
    *left_out = 0;
    for (size_t i = set->n; i-- > 0 && status == EXITLM_OK;) {
        const int32_t *ids;
        size_t n = 0;
        if (!is_blank(&set->items[i]))
            status = xl_script_begin(&script, &set->items[i], &ids, &n, error);
        if (status != EXITLM_OK || (n > 0 && n < context)) continue;
        xl_dataset_drop(set, i);
        ++*left_out;
    }
    xl_script_free(&script);
    return status;
}
