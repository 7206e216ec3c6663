/* The shortest complete use of the library from C: MODEL and a question, the answer on standard
 * output.
 *
 *   example MODEL QUESTION
 */
#include <exitlm.h>
#include <stdio.h>

static int fail(const exitlm_error *error) {
    fprintf(stderr, "example: %s\n", error->message);
    return 1;
}

static exitlm_status load(const char *path, exitlm_model **model, exitlm_error *error) {
    static unsigned char bytes[1 << 16];
    exitlm_loader *loader = NULL;
    exitlm_status status = exitlm_loader_create(&loader, NULL, error);
    FILE *file = fopen(path, "rb");
    size_t n;
    while (status == EXITLM_OK && file && (n = fread(bytes, 1, sizeof bytes, file)) > 0)
        status = exitlm_loader_push(loader, bytes, n, error);
    if (file) fclose(file);
    /* also where nothing could be read */
    if (status == EXITLM_OK) status = exitlm_loader_finish(loader, model, error);
    if (status != EXITLM_OK) exitlm_loader_free(loader);
    return status;
}

int main(int argc, char **argv) {
    exitlm_error error = {EXITLM_OK, ""};
    exitlm_model *model = NULL;
    exitlm_session *session = NULL;
    int result = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: example MODEL QUESTION\n");
        return 2;
    }
    if (load(argv[1], &model, &error) != EXITLM_OK) return fail(&error);

    exitlm_generate_options options;
    exitlm_generate_defaults(&options);
    options.max_tokens = 40;
    exitlm_message message = {"user", argv[2]};
    exitlm_status status = exitlm_session_create(&session, model, NULL, &error);
    if (status == EXITLM_OK) status = exitlm_session_chat(session, &message, 1, &options, &error);
    exitlm_event event;
    while (status == EXITLM_OK) {
        status = exitlm_session_step(session, &event, &error);
        if (status != EXITLM_OK || event.type == EXITLM_EVENT_DONE) break;
        if (event.type == EXITLM_EVENT_TOKEN)
            fwrite(event.token.text, 1, event.token.text_bytes, stdout);
    }
    if (status == EXITLM_OK) printf("\n");
    else result = fail(&error);
    exitlm_session_free(session);
    exitlm_model_free(model);
    return result;
}
