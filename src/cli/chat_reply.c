/* One answer: steps, and what they say, for a person or as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "files.h"
#include "reply/session.h"
#include "signals.h"
#include "text.h"

/* Not finite, which JSON says as null: a time that there was no clock for, a share of nothing. */
static double time_or_null(double value) { return value < 0 ? NAN : value; }
static double share(uint32_t part, uint32_t whole) { return whole ? (double)part / whole : NAN; }

static void json_start(chat *c) {
    ndjson *j = &c->json;
    const cli_engine *e = &c->engine;
    xl_nd_put(j, "{ type=start model=%s arch=%s layers=%u heads=[",
              *e->info.name ? e->info.name : xl_base_name(c->call->operands[0]),
              e->info.architecture, e->info.layers);
    for (uint32_t i = 0; i < (e->heads ? e->heads_info.n_heads : 0); i++)
        xl_nd_put(j, "%u", e->heads_info.head[i].layer);
    xl_nd_put(j, "] mode=%s accuracy=%f threads=%u kernel=%s prompt_tokens=%u }",
              cli_modes[c->generate.mode],
              c->generate.mode == EXITLM_MODE_EXIT ? c->generate.accuracy : NAN, e->threads,
              e->kernel, e->session->generation->prompt_n);
}

static void json_logprobs(chat *c, const exitlm_token *t) {
    ndjson *j = &c->json;
    xl_nd_put(j, "logprob=%f top=[", t->logprob);
    for (uint32_t i = 0; i < t->n_top; i++) {
        char text[XL_MAX_SPOKEN_BYTES];
        size_t n = 0;
        exitlm_detokenize(c->engine.model, &t->top[i].id, 1, text, sizeof text, &n, NULL);
        xl_nd_put(j, "{ id=%d text=%.*s logprob=%f }", t->top[i].id,
                  (int)(n < sizeof text ? n : sizeof text), text, t->top[i].logprob);
    }
    xl_nd_put(j, "]");
}

static void json_token(chat *c, const exitlm_token *t) {
    ndjson *j = &c->json;
    xl_nd_put(j,
              "{ type=token index=%u id=%d text=%.*s layer=%u of=%u depth=%g work=%g head=%d "
              "confidence=%g drafted?%d",
              t->index, t->id, (int)t->text_bytes, t->text, t->layer, t->of,
              (double)t->layer / t->of, t->work, t->head, t->confidence, t->drafted);
    if (t->drafted) xl_nd_put(j, "draft_head=%d", t->draft_head);
    if (c->generate.audit > 0) xl_nd_put(j, "disagreed?%d", t->disagreed);
    if (c->generate.grammar) xl_nd_put(j, "forced?%d", t->forced);
    if (c->generate.logprobs) json_logprobs(c, t);
    xl_nd_put(j, "ms=%g }", time_or_null(t->ms));
}

static void json_exits(chat *c, const exitlm_stats *s) {
    ndjson *j = &c->json;
    uint32_t n =
        c->engine.heads && c->generate.mode == EXITLM_MODE_EXIT ? c->engine.heads_info.n_heads : 0;
    xl_nd_put(j, "exits={");
    for (uint32_t i = 0; i < n; i++) {
        char key[12];
        snprintf(key, sizeof key, "%u", i);
        xl_nd_put(j, "%s=%u", key, s->exits[i]);
    }
    xl_nd_put(j, "-1=%u }", s->full_tokens);
}

static void json_done(chat *c, const exitlm_stats *s) {
    static const char *const reasons[] = {"stop", "length", "abort"};
    const char *reason = reasons[s->reason];
    size_t text_bytes = s->text_bytes;
    const char *said = c->options->tools ? s->text : NULL;
    if (said) {
        const char *call = strstr(said, "<tool_call>");
        if (call) text_bytes = (size_t)(call - said) - (call > said && call[-1] == '\n');
        if (s->reason == EXITLM_REASON_STOP && chat_tool_calls(c, said, false)) reason = "tool";
    }
    ndjson *j = &c->json;
    xl_nd_put(j,
              "{ type=done reason=%s text=%.*s prompt_tokens=%u reused_tokens=%u "
              "completion_tokens=%u prompt_ms=%g decode_ms=%g tokens_per_second=%g mean_depth=%g "
              "mean_work=%g certified?%d",
              reason, (int)text_bytes, s->text, s->prompt_tokens, s->reused_tokens,
              s->completion_tokens, time_or_null(s->prompt_ms), time_or_null(s->decode_ms),
              time_or_null(s->tokens_per_second), s->mean_depth, s->mean_work, s->certified);
    if (!s->certified) xl_nd_put(j, "uncertified=%s", s->uncertified);
    if (said) chat_tool_calls(c, said, true);
    json_exits(c, s);
    if (c->generate.grammar) xl_nd_put(j, "forced=%u", s->forced_tokens);
    xl_nd_put(j, "drafted=%u accepted=%u", s->drafted, s->accepted);
    if (c->generate.mode == EXITLM_MODE_LOSSLESS)
        xl_nd_put(j, "draft_attempts=%u acceptance_rate=%g mean_draft_length=%g", s->draft_attempts,
                  share(s->accepted, s->drafted), share(s->drafted, s->draft_attempts));
    if (c->generate.audit > 0)
        xl_nd_put(j, "audited=%u audit_disagreement=%g", s->audited,
                  share(s->audit_disagreed, s->audited));
    xl_nd_put(j, "}");
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
    *reply = xl_format("%s", event.stats.text);
    return *reply ? CLI_OK : cli_no_memory("the conversation");
}
