/* The text that bench works on: ordinary prose, so that exits and drafts meet what they meet in
 * use. */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "train/dialog.h"

static const char passage[] =
    "The harbour town of Ellerby lies at the mouth of a slow brown river. In winter the fog comes "
    "in from the sea before breakfast and "
    "stays until the lamps are lit, and people who meet in the street know each other by their "
    "footsteps. There are two bakeries, one "
    "school, a library that opens on three days a week, and a yard where wooden boats are still "
    "repaired by hand. The yard belongs to "
    "Marta Lindqvist, who inherited it from her uncle when she was twenty-six and had never held "
    "an adze. She learned quickly. The first "
    "boat she finished alone was a small blue dinghy with a patched sail, and the fisherman who "
    "ordered it paid her in herring for a year. "
    "On Saturdays the children come to watch. They ask why the planks are steamed, how long the "
    "tar has to dry, and whether a boat can "
    "be afraid of the water. Marta answers every question as if it had been asked by an engineer. "
    "Steam makes the wood soft enough to bend "
    "without breaking. The tar needs two dry days and one night. And a boat, she says, is never "
    "afraid, but it remembers each storm, and "
    "that is why an old one creaks. In spring the river rises and brings branches, bottles and "
    "once a whole garden shed, which drifted "
    "past the church with a cat sitting on its roof. The mayor sent two men with a rope. The cat "
    "would not be rescued until somebody "
    "thought of opening a tin of sardines. Since then the town has kept a tin in the fire station, "
    "and it is replaced every year at the "
    "feast of Saint Nicholas, with a short speech. Visitors often think that nothing happens here. "
    "They walk along the quay, count the gulls "
    "and look at their watches. But if they stay for a week they begin to notice how much is going "
    "on: the tide table pinned to the door "
    "of the inn is wrong by eleven minutes and everybody knows it; the organist practises the same "
    "difficult bar each evening; the light "
    "on the point blinks four times instead of three when the keeper has baked bread and wants "
    "company. ";

static const char request[] = "Read this text, then continue it in the same style, at length.\n\n";

/* Ids of the request and the first n_bytes of the passage, repeated as needed. */
static int prompt_ids(const cli_engine *engine, size_t n_bytes, bool chat, int32_t **ids,
                      size_t *n) {
    size_t head = strlen(request), length = 0;
    char *content = malloc(head + n_bytes + 1), *text = NULL;
    exitlm_error error;
    int status = content ? CLI_OK : cli_no_memory("the bench's text");
    if (status == CLI_OK) {
        if (!chat) head = 0;
        memcpy(content, request, head);
        for (size_t i = 0; i < n_bytes; i++) content[head + i] = passage[i % (sizeof passage - 1)];
        content[head + n_bytes] = 0;
        if (!chat)
            status = cli_tokenize(engine->model, content, n_bytes, EXITLM_ADD_SPECIAL, ids, n);
    }
    const exitlm_message message = {"user", content};
    if (chat && status == CLI_OK)
        status = cli_done(
            xl_text_of_messages(engine->model, &message, 1, true, &text, &length, &error), &error);
    if (chat && status == CLI_OK)
        status = cli_tokenize(engine->model, text, length,
                              EXITLM_PARSE_SPECIAL | EXITLM_ADD_SPECIAL, ids, n);
    free(text);
    free(content);
    return status;
}

int bench_prompt(const cli_engine *engine, uint32_t wanted, int32_t **ids, uint32_t *n_ids) {
    bool chat = engine->info.template_family[0] != 0;
    /* low: a length that fits; high: one that may not */
    size_t n, low = 0, high = (size_t)wanted * 8 + 64;
    int status = prompt_ids(engine, 0, chat, ids, &n);
    if (status == CLI_OK && n > wanted) chat = false;
    while (status == CLI_OK && high - low > 1) {
        free(*ids);
        *ids = NULL;
        size_t middle = low + (high - low) / 2;
        status = prompt_ids(engine, middle, chat, ids, &n);
        if (n <= wanted) low = middle;
        else high = middle;
    }
    if (status == CLI_OK) {
        free(*ids);
        *ids = NULL;
        status = prompt_ids(engine, low, chat, ids, &n);
    }
    if (status != CLI_OK) return status;
    *n_ids = (uint32_t)(n < wanted ? n : wanted);
    return *n_ids ? CLI_OK : cli_fail("the bench's text has no tokens with this model");
}
