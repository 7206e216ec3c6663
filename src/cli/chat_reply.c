/* One answer: steps, and what they say, for a person or as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "files.h"
#include "reply/session.h"
#include "signals.h"
#include "text.h"

/* A time that there was no clock for is null. */
static void json_ms(ndjson *j, const char *key, double value) {
    xl_nd_double(j, key, value < 0 ? NAN : value);
}
static void json_share(ndjson *j, const char *key, uint32_t part, uint32_t whole) {
    xl_nd_double(j, key, whole ? (double)part / whole : NAN);
}

static void json_start(chat *c) {
    ndjson *j = &c->json;
    const cli_engine *e = &c->engine;
    xl_nd_object(j, NULL);
    xl_nd_string(j, "type", "start");
    xl_nd_string(j, "model", *e->info.name ? e->info.name : xl_base_name(c->call->operands[0]));
    xl_nd_string(j, "arch", e->info.architecture);
    xl_nd_uint(j, "layers", e->info.layers);
    xl_nd_array(j, "heads");
    for (uint32_t i = 0; e->heads && i < e->heads_info.n_heads; i++)
        xl_nd_uint(j, NULL, e->heads_info.head[i].layer);
    xl_nd_end(j);
    xl_nd_string(j, "mode", cli_modes[c->generate.mode]);
    xl_nd_float(j, "accuracy", c->generate.mode == EXITLM_MODE_EXIT ? c->generate.accuracy : NAN);
    xl_nd_uint(j, "threads", e->threads);
    xl_nd_string(j, "kernel", e->kernel);
    xl_nd_uint(j, "prompt_tokens", e->session->generation->prompt_n);
    xl_nd_end(j);
}

static void json_token(chat *c, const exitlm_token *t) {
    ndjson *j = &c->json;
    xl_nd_object(j, NULL);
    xl_nd_string(j, "type", "token");
    xl_nd_uint(j, "index", t->index);
    xl_nd_int(j, "id", t->id);
    xl_nd_text(j, "text", t->text, t->text_bytes);
    xl_nd_uint(j, "layer", t->layer);
    xl_nd_uint(j, "of", t->of);
    xl_nd_double(j, "depth", (double)t->layer / t->of);
    xl_nd_double(j, "work", t->work);
    xl_nd_int(j, "head", t->head);
    xl_nd_double(j, "confidence", t->confidence);
    xl_nd_bool(j, "drafted", t->drafted);
    if (t->drafted) xl_nd_int(j, "draft_head", t->draft_head);
    if (c->generate.grammar) xl_nd_bool(j, "forced", t->forced);
    json_ms(j, "ms", t->ms);
    xl_nd_end(j);
}

static void json_exits(chat *c, const exitlm_stats *s) {
    ndjson *j = &c->json;
    uint32_t n =
        c->engine.heads && c->generate.mode == EXITLM_MODE_EXIT ? c->engine.heads_info.n_heads : 0;
    xl_nd_object(j, "exits");
    for (uint32_t i = 0; i < n; i++) {
        char key[12];
        snprintf(key, sizeof key, "%u", i);
        xl_nd_uint(j, key, s->exits[i]);
    }
    xl_nd_uint(j, "-1", s->full_tokens);
    xl_nd_end(j);
}

static void json_done(chat *c, const exitlm_stats *s) {
    static const char *const reasons[] = {"stop", "length", "abort"};
    ndjson *j = &c->json;
    xl_nd_object(j, NULL);
    xl_nd_string(j, "type", "done");
    xl_nd_string(j, "reason", reasons[s->reason]);
    xl_nd_text(j, "text", s->text, s->text_bytes);
    xl_nd_uint(j, "prompt_tokens", s->prompt_tokens);
    xl_nd_uint(j, "reused_tokens", s->reused_tokens);
    xl_nd_uint(j, "completion_tokens", s->completion_tokens);
    json_ms(j, "prompt_ms", s->prompt_ms);
    json_ms(j, "decode_ms", s->decode_ms);
    json_ms(j, "tokens_per_second", s->tokens_per_second);
    xl_nd_double(j, "mean_depth", s->mean_depth);
    xl_nd_double(j, "mean_work", s->mean_work);
    xl_nd_bool(j, "certified", s->certified);
    if (!s->certified) xl_nd_string(j, "uncertified", s->uncertified);
    json_exits(c, s);
    if (c->generate.grammar) xl_nd_uint(j, "forced", s->forced_tokens);
    xl_nd_uint(j, "drafted", s->drafted);
    xl_nd_uint(j, "accepted", s->accepted);
    if (c->generate.mode == EXITLM_MODE_LOSSLESS) {
        xl_nd_uint(j, "draft_attempts", s->draft_attempts);
        json_share(j, "acceptance_rate", s->accepted, s->drafted);
        json_share(j, "mean_draft_length", s->drafted, s->draft_attempts);
    }
    if (c->generate.audit > 0) {
        xl_nd_uint(j, "audited", s->audited);
        json_share(j, "audit_disagreement", s->audit_disagreed, s->audited);
    }
    xl_nd_end(j);
}

static void show_token(chat *c, const exitlm_token *t) {
    if (t->text_bytes == 0) return;
    if (c->options->show_depth) cli_depth_view_colour(&c->view, t);
    if (c->terminal) cli_print_safe(stdout, t->text, t->text_bytes, true);
    else fwrite(t->text, 1, t->text_bytes, stdout);
    fflush(stdout);
}

static void show_done(chat *c, const exitlm_stats *s) {
    cli_depth_view_plain(&c->view);
    printf("\n");
    if (c->options->show_depth) cli_depth_view_histogram(&c->view, s);
    fflush(stdout);
    if (c->generate.audit > 0)
        fprintf(stderr, "audit: %u exits verified, %u of them disagree with the full model\n",
                s->audited, s->audit_disagreed);
    if (!c->verbose) return;
    fprintf(stderr, "[%u tokens%s", s->completion_tokens,
            s->reason == EXITLM_REASON_ABORT ? ", stopped" : "");
    if (s->tokens_per_second > 0) fprintf(stderr, ", %.0f tokens/s", s->tokens_per_second);
    if (s->prompt_ms >= 0) fprintf(stderr, ", first after %.0f ms", s->prompt_ms);
    if (c->generate.mode == EXITLM_MODE_EXIT) fprintf(stderr, ", mean depth %.2f", s->mean_depth);
    if (s->reason == EXITLM_REASON_LENGTH) fprintf(stderr, ", cut at the limit");
    fprintf(stderr, "]\n");
}

static char *copy_text(const char *text, size_t n_bytes) {
    char *copy = malloc(n_bytes + 1);
    if (!copy) return NULL;
    memcpy(copy, text, n_bytes);
    copy[n_bytes] = 0;
    return copy;
}

static int run_steps(chat *c, exitlm_event *event) {
    exitlm_error error;
    do {
        if (cli_interrupted()) exitlm_session_stop(c->engine.session);
        if (exitlm_session_step(c->engine.session, event, &error) != EXITLM_OK) {
            if (!c->options->json) cli_depth_view_plain(&c->view);
            return cli_report(&error, NULL);
        }
        if (event->type != EXITLM_EVENT_TOKEN) continue;
        if (c->options->json) json_token(c, &event->token);
        else show_token(c, &event->token);
    } while (event->type != EXITLM_EVENT_DONE);
    return CLI_OK;
}

int chat_reply(chat *c, const exitlm_message *messages, size_t n_messages, const char *text,
               char **reply) {
    exitlm_error error;
    exitlm_event event;
    exitlm_session *session = c->engine.session;
    if (reply) *reply = NULL;
    cli_interrupt_clear();
    exitlm_status started =
        messages ? exitlm_session_chat(session, messages, n_messages, &c->generate, &error)
                 : exitlm_session_text(session, text, strlen(text), true, &c->generate, &error);
    if (started != EXITLM_OK) return cli_report(&error, NULL);
    if (c->options->json) json_start(c);
    int status = run_steps(c, &event);
    if (status != CLI_OK) return status;
    if (c->options->json) json_done(c, &event.stats);
    else show_done(c, &event.stats);
    if (!reply) return CLI_OK;
    *reply = copy_text(event.stats.text, event.stats.text_bytes);
    return *reply ? CLI_OK : cli_no_memory("the conversation");
}
