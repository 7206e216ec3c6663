/* Chat completions in OpenAI's shape, in a component for `wasmtime serve`: the engine and its model
 * in one file, a fresh copy of which answers each request. The model is loaded when the component
 * is built (build.mjs runs `initialize` and keeps the memory), or, where it was not, by the
 * first request, from the folder that --dir opens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/ndjson.h"
#include "exitlm.h"
#include "http.h"

enum {
    MAX_BODY_BYTES = 64 << 10,
    CONTEXT_TOKENS = 1024,
    MAX_OUTPUT_TOKENS = 256,
    MAX_MESSAGES = 64,
    CHUNK_BYTES = 1 << 16
};

/* A component has one model and answers one request: no more than one of each is ever there. */
static exitlm_model *model;
static exitlm_session *session;
static exitlm_heads *heads;
static const char *model_name = "model";

static const char *setting(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

/* ---- Loading ---- */

static void load_heads(const char *path) {
    FILE *in = fopen(path, "rb");
    if (!in) return; /* a model may have none */
    exitlm_error error;
    char *bytes = NULL;
    size_t n = 0, got = 1;
    while (got) {
        char *grown = realloc(bytes, n + CHUNK_BYTES);
        if (!grown) break;
        bytes = grown;
        got = fread(bytes + n, 1, CHUNK_BYTES, in);
        n += got;
    }
    fclose(in);
    if (exitlm_heads_create(&heads, bytes, n, NULL, &error) != EXITLM_OK)
        fprintf(stderr, "exitlm: %s: %s\n", path, error.message);
    free(bytes);
}

static bool load_model(const char *path, exitlm_error *error) {
    static uint8_t chunk[CHUNK_BYTES];
    exitlm_loader *loader = NULL;
    exitlm_load_options options = {.heads = heads};
    FILE *in = fopen(path, "rb");
    if (!in) {
        snprintf(error->message, sizeof error->message,
                 "%s cannot be opened: is its folder given by --dir?", path);
        return false;
    }
    exitlm_status status = exitlm_loader_create(&loader, &options, error);
    for (size_t n; status == EXITLM_OK && (n = fread(chunk, 1, sizeof chunk, in)) > 0;)
        status = exitlm_loader_push(loader, chunk, n, error);
    fclose(in);
    if (status == EXITLM_OK) status = exitlm_loader_finish(loader, &model, error);
    if (status != EXITLM_OK) exitlm_loader_free(loader);
    return status == EXITLM_OK;
}

static bool load(exitlm_error *error) {
    if (session) return true;
    const char *path = setting("EXITLM_MODEL", "models/model.gguf");
    char *beside = malloc(strlen(path) + sizeof ".exits.gguf");
    if (!beside) return false;
    strcpy(beside, path);
    char *end = strrchr(beside, '.');
    strcpy(end ? end : beside + strlen(beside), ".exits.gguf");
    load_heads(setting("EXITLM_HEADS", beside));
    free(beside);
    if (!model && !load_model(path, error)) return false;
    exitlm_model_info info;
    exitlm_model_describe(model, &info);
    uint32_t most = info.context_tokens && info.context_tokens < CONTEXT_TOKENS
                        ? info.context_tokens
                        : CONTEXT_TOKENS;
    exitlm_session_options options = {.context_tokens = most, .kv_type = EXITLM_KV_Q8};
    const char *name = strrchr(path, '/');
    char *own = strdup(name ? name + 1 : path);
    if (own) {
        end = strrchr(own, '.');
        if (end) *end = 0;
        model_name = own;
    }
    return exitlm_session_create(&session, model, &options, error) == EXITLM_OK;
}

/* Run while the component is built; what it leaves in memory is what each request finds. */
__attribute__((export_name("initialize"))) void initialize(void) {
    exitlm_error error = {.message = "no memory"};
    if (load(&error)) return;
    fprintf(stderr, "exitlm: %s\n", error.message);
    __builtin_trap();
}

/* ---- Replies ---- */

typedef struct text {
    char *bytes;
    size_t n;
    FILE *out;
} text;

static bool text_open(text *t) {
    *t = (text){0};
    t->out = open_memstream(&t->bytes, &t->n);
    return t->out != NULL;
}

static void send(http_exchange *x, uint16_t status, text *t, const char *retry_after) {
    fclose(t->out);
    http_begin(x, status, "application/json", retry_after);
    http_write(x, t->bytes, t->n);
    free(t->bytes);
}

static void refuse(http_exchange *x, uint16_t status, const char *code, const char *message) {
    text t;
    if (!text_open(&t)) return;
    ndjson j = xl_nd_to(t.out);
    xl_nd_put(&j, "{ error={ message=%s type=%s param=%s code=%s } }", message,
              status >= 500 ? "server_error" : "invalid_request_error", (const char *)NULL, code);
    send(x, status, &t, NULL);
}

static void put_base(ndjson *j, const char *object) {
    xl_nd_put(j, "{ id=chatcmpl-exitlm object=%s created=%u model=%s choices=[ { index=%u", object,
              0u, model_name, 0u);
}

/* An object's inside. */
static void put_exit(ndjson *j, const exitlm_token *token) {
    xl_nd_put(j, "layer=%u of=%u depth=%f work=%f head=%d confidence=%f }", token->layer, token->of,
              (double)((float)token->layer / (float)token->of), (double)token->work, token->head,
              (double)token->confidence);
}

/* Ends the choice and the object. */
static void put_end(ndjson *j, const exitlm_stats *done) {
    const char *reason = !done ? NULL : done->reason == EXITLM_REASON_LENGTH ? "length" : "stop";
    xl_nd_put(j, "finish_reason=%s } ]", reason);
    if (done)
        xl_nd_put(j, "usage={ prompt_tokens=%u completion_tokens=%u total_tokens=%u }",
                  done->prompt_tokens, done->completion_tokens,
                  done->prompt_tokens + done->completion_tokens);
    xl_nd_put(j, "}");
}

/* One server-sent event; token NULL: the last one. */
static bool send_event(http_exchange *x, const exitlm_token *token, const exitlm_stats *done) {
    text t;
    if (!text_open(&t)) return false;
    fputs("data: ", t.out);
    ndjson j = xl_nd_to(t.out);
    put_base(&j, "chat.completion.chunk");
    xl_nd_put(&j, "delta={");
    if (token) {
        xl_nd_put(&j, "content=%.*s exit={", (int)token->text_bytes, token->text);
        put_exit(&j, token);
    }
    xl_nd_put(&j, "}");
    put_end(&j, done);
    fputs(done ? "\ndata: [DONE]\n\n" : "\n", t.out);
    fclose(t.out);
    bool there = http_write(x, t.bytes, t.n);
    free(t.bytes);
    return there;
}

static void answer_streamed(http_exchange *x) {
    exitlm_error error;
    exitlm_event event;
    http_begin(x, 200, "text/event-stream", NULL);
    bool there = true;
    while (there && exitlm_session_step(session, &event, &error) == EXITLM_OK) {
        if (event.type == EXITLM_EVENT_TOKEN) there = send_event(x, &event.token, NULL);
        if (event.type == EXITLM_EVENT_DONE) {
            send_event(x, NULL, &event.stats);
            return;
        }
    }
}

static void answer_whole(http_exchange *x) {
    exitlm_error error;
    exitlm_event event;
    exitlm_status status;
    text t;
    if (!text_open(&t)) return;
    ndjson j = xl_nd_to(t.out);
    put_base(&j, "chat.completion");
    xl_nd_put(&j, "message={ role=assistant exit={ tokens=[");
    do {
        status = exitlm_session_step(session, &event, &error);
        if (status != EXITLM_OK || event.type != EXITLM_EVENT_TOKEN) continue;
        xl_nd_put(&j, "{");
        put_exit(&j, &event.token);
    } while (status == EXITLM_OK && event.type != EXITLM_EVENT_DONE);
    xl_nd_put(&j, "]");
    if (status != EXITLM_OK) {
        fclose(t.out);
        free(t.bytes);
        refuse(x, 500, "failed", error.message);
        return;
    }
    xl_nd_put(&j, "meanDepth=%g } content=%.*s }", event.stats.mean_depth,
              (int)event.stats.text_bytes, event.stats.text);
    put_end(&j, &event.stats);
    send(x, 200, &t, NULL);
}

/* ---- Requests ---- */

/* The messages of a request, or 0 and what is wrong. */
static size_t read_messages(const xl_json *request, exitlm_message messages[MAX_MESSAGES],
                            const char **wrong) {
    const xl_json *list = xl_json_get(request, "messages");
    size_t n = 0;
    *wrong = "messages: a list of 1 to 64 objects with role (system, user, assistant) and content, "
             "a text, was expected";
    if (!list || list->kind != XL_JSON_ARRAY) return 0;
    for (const xl_json *m = list->first; m; m = m->next) {
        const char *role = xl_json_string(m, "role"), *content = xl_json_string(m, "content");
        if (!role || !content || n == MAX_MESSAGES) return 0;
        if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 &&
            strcmp(role, "assistant") != 0)
            return 0;
        messages[n++] = (exitlm_message){.role = role, .content = content};
    }
    return n;
}

static double number(const xl_json *request, const char *key, double fallback) {
    const xl_json *value = xl_json_get(request, key);
    return value && value->kind == XL_JSON_NUMBER ? value->number : fallback;
}

static bool flag(const xl_json *request, const char *key) {
    const xl_json *value = xl_json_get(request, key);
    return value && value->kind == XL_JSON_BOOL && value->number != 0;
}

static bool read_options(const xl_json *request, exitlm_generate_options *o, const char **wrong) {
    const char *mode = xl_json_string(request, "mode");
    exitlm_generate_defaults(o);
    o->mode = heads ? EXITLM_MODE_EXIT : EXITLM_MODE_FULL;
    if (mode) {
        if (strcmp(mode, "full") == 0) o->mode = EXITLM_MODE_FULL;
        else if (strcmp(mode, "exit") == 0) o->mode = EXITLM_MODE_EXIT;
        else if (strcmp(mode, "lossless") == 0) o->mode = EXITLM_MODE_LOSSLESS;
        else return *wrong = "mode: full, exit or lossless was expected", false;
    }
    double most = number(request, "max_tokens", MAX_OUTPUT_TOKENS),
           seed = number(request, "seed", 0);
    if (!(most >= 1 && most <= MAX_OUTPUT_TOKENS))
        return *wrong = "max_tokens: 1 to 256 was expected", false;
    if (!(seed >= 0 && seed <= 9007199254740992.0))
        return *wrong = "seed: a whole number from 0 to 2^53 was expected", false;
    o->max_tokens = (uint32_t)most;
    o->seed = (uint64_t)seed;
    o->accuracy = (float)number(request, "accuracy", 0);
    o->temperature = (float)number(request, "temperature", 0);
    o->top_p = (float)number(request, "top_p", 0);
    return true;
}

static void chat(http_exchange *x) {
    size_t n_bytes;
    bool too_long;
    const char *wrong = NULL;
    char *body = http_read_body(x, MAX_BODY_BYTES, &n_bytes, &too_long);
    if (!body && too_long)
        return refuse(x, 413, "request_too_large",
                      "the request's body: at most 65536 bytes are taken");
    xl_json *request = body ? xl_json_parse(body, n_bytes, NULL, NULL) : NULL;
    free(body);
    if (!request) return refuse(x, 400, "invalid_json", "the request's body is not JSON");
    exitlm_message messages[MAX_MESSAGES];
    exitlm_generate_options options;
    exitlm_error error;
    size_t n = read_messages(request, messages, &wrong);
    const char *name = xl_json_string(request, "model");
    bool stream = flag(request, "stream");
    if (n == 0 || !read_options(request, &options, &wrong)) refuse(x, 400, "invalid_value", wrong);
    else if (name && strcmp(name, model_name) != 0)
        refuse(x, 404, "model_not_found", "there is no such model here; GET /v1/models names it");
    else {
        exitlm_status status = exitlm_session_chat(session, messages, n, &options, &error);
        if (status == EXITLM_CONTEXT_FULL) refuse(x, 400, "context_length_exceeded", error.message);
        else if (status != EXITLM_OK)
            refuse(x, status == EXITLM_USAGE ? 400 : 500,
                   status == EXITLM_USAGE ? "invalid_value" : "failed", error.message);
        else if (stream) answer_streamed(x);
        else answer_whole(x);
    }
    xl_json_free(request);
}

static void list_models(http_exchange *x) {
    text t;
    if (!text_open(&t)) return;
    ndjson j = xl_nd_to(t.out);
    xl_nd_put(&j, "{ object=list data=[ { id=%s object=model created=%u owned_by=exitlm } ] }",
              model_name, 0u);
    send(x, 200, &t, NULL);
}

static void answer(http_exchange *x) {
    exitlm_error error = {.message = "no memory"};
    char *path = http_path(x);
    http_method method = http_method_of(x);
    if (path) path[strcspn(path, "?")] = 0;
    bool models = path && strcmp(path, "/v1/models") == 0,
         completions = path && strcmp(path, "/v1/chat/completions") == 0;
    free(path);
    if (!models && !completions)
        refuse(x, 404, "not_found", "there is POST /v1/chat/completions and GET /v1/models");
    else if (method != (models ? HTTP_GET : HTTP_POST))
        refuse(x, 405, "method_not_allowed", models ? "GET was expected" : "POST was expected");
    else if (!load(&error)) refuse(x, 500, "failed", error.message);
    else if (models) list_models(x);
    else chat(x);
}

__attribute__((export_name("wasi:http/incoming-handler@0.2.0#handle"))) void
handle(int32_t request, int32_t outparam) {
    http_exchange x = {.request = request, .outparam = outparam};
    answer(&x);
    http_close(&x);
}
