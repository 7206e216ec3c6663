#include "schema.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "number.h"
#include "regex.h"

enum { MAX_COUNT = 4096, MAX_RULES = 1024, MAX_REFERENCES = 32 };
enum { MOST_KEY_BYTES = 32 };

typedef struct known_rule {
    const xl_json *schema; /* NULL: any JSON */
    uint32_t rule;
} known_rule;

typedef struct compiler {
    xl_automaton *automaton;
    const xl_json *root;
    known_rule *rules; /* [MAX_RULES] schemas that are rules of their own */
    uint32_t n_rules, first_rule;
    exitlm_error *error;
    exitlm_status status; /* sticky */
} compiler;

/* ---- Errors and keywords ---- */

static bool going(const compiler *c) {
    return c->status == EXITLM_OK && !c->automaton->no_memory && !c->automaton->too_large;
}

/* Where a node stands in the schema: the keys on the way to it. */
static bool find_place(const xl_json *at, const xl_json *wanted, char *place, size_t n) {
    if (at == wanted) return true;
    const size_t length = strlen(place);
    unsigned index = 0;
    for (const xl_json *item = at->first; item; item = item->next, index++) {
        if (item->key) snprintf(place + length, n - length, "/%s", item->key);
        else snprintf(place + length, n - length, "/%u", index);
        if (find_place(item, wanted, place, n)) return true;
    }
    place[length] = 0;
    return false;
}

static void wrong(compiler *c, const xl_json *at, const char *what) {
    char place[200] = "#";
    if (!going(c)) return;
    find_place(c->root, at, place, sizeof place);
    c->status = xl_fail(c->error, EXITLM_USAGE, "%s: %s", place, what);
}

/* X(keyword, of) where `of` says which types it speaks of, or what it is. */
typedef enum speaks_of {
    OBJECTS = 1,
    ARRAYS = 2,
    STRINGS = 4,
    NUMBERS = 8,
    INTEGERS = 16,
    BOOLEANS = 32,
    NULLS = 64,
    CHOICE = 128,     /* stands alone */
    ANNOTATION = 256, /* says nothing about validity */
    UNSUPPORTED = 512
} speaks_of;
enum { EVERYTHING = 127 & ~INTEGERS };

static const struct {
    const char *name;
    unsigned of;
} keywords[] = {
    {"type", 0},
    {"properties", OBJECTS},
    {"required", OBJECTS},
    {"additionalProperties", OBJECTS},
    {"items", ARRAYS},
    {"prefixItems", ARRAYS},
    {"additionalItems", ARRAYS},
    {"minItems", ARRAYS},
    {"maxItems", ARRAYS},
    {"pattern", STRINGS},
    {"format", STRINGS},
    {"minLength", STRINGS},
    {"maxLength", STRINGS},
    {"minimum", NUMBERS},
    {"maximum", NUMBERS},
    {"exclusiveMinimum", NUMBERS},
    {"exclusiveMaximum", NUMBERS},
    {"enum", CHOICE},
    {"const", CHOICE},
    {"anyOf", CHOICE},
    {"oneOf", CHOICE},
    {"allOf", CHOICE},
    {"$ref", CHOICE},
    {"not", UNSUPPORTED},
    {"if", UNSUPPORTED},
    {"then", UNSUPPORTED},
    {"else", UNSUPPORTED},
    {"patternProperties", UNSUPPORTED},
    {"propertyNames", UNSUPPORTED},
    {"minProperties", UNSUPPORTED},
    {"maxProperties", UNSUPPORTED},
    {"dependentRequired", UNSUPPORTED},
    {"dependentSchemas", UNSUPPORTED},
    {"dependencies", UNSUPPORTED},
    {"unevaluatedProperties", UNSUPPORTED},
    {"unevaluatedItems", UNSUPPORTED},
    {"contains", UNSUPPORTED},
    {"minContains", UNSUPPORTED},
    {"maxContains", UNSUPPORTED},
    {"uniqueItems", UNSUPPORTED},
    {"multipleOf", UNSUPPORTED},
    {"$dynamicRef", UNSUPPORTED},
    {"$recursiveRef", UNSUPPORTED},
    {"$anchor", UNSUPPORTED},
};

static unsigned speaks(const char *keyword) {
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strcmp(keywords[i].name, keyword) == 0) return keywords[i].of;
    return ANNOTATION; /* by the standard whatever is not known */
}

/* Looks through a schema's keywords; *of: the types that they speak of; *choice: the one that
 * stands alone, or NULL. */
static void look_through(compiler *c, const xl_json *schema, unsigned *of, const xl_json **choice) {
    *of = 0;
    *choice = NULL;
    for (const xl_json *k = schema->first; k && going(c); k = k->next) {
        const unsigned speaks_of = speaks(k->key);
        if (speaks_of == UNSUPPORTED) {
            if (strcmp(k->key, "uniqueItems") == 0 && k->number == 0) continue;
            wrong(c, k, "this keyword is not supported");
        } else if (speaks_of == CHOICE) {
            if (*choice)
                wrong(c, k,
                      "it is not supported beside another of enum, const, anyOf, "
                      "oneOf, allOf and $ref");
            *choice = k;
        } else if (strcmp(k->key, "$id") == 0 && k->kind == XL_JSON_STRING && *k->text != '#' &&
                   schema != c->root) {
            /* a $ref beneath it would begin there */
            wrong(c, k, "an $id is supported at the root alone");
        } else if (speaks_of != ANNOTATION) *of |= speaks_of;
    }
    if (*choice && *of) wrong(c, *choice, "other conditions beside it are not supported");
}

static const char *const type_names[] = {"object",  "array",   "string", "number",
                                         "integer", "boolean", "null"};

static unsigned type_bit(compiler *c, const xl_json *name) {
    for (unsigned i = 0; i < 7; i++)
        if (name->kind == XL_JSON_STRING && strcmp(type_names[i], name->text) == 0) return 1u << i;
    wrong(c, name, "a type is one of object, array, string, number, integer, boolean, null");
    return 0;
}

/* What `type` allows; without it what the other keywords speak of. */
static unsigned types_of(compiler *c, const xl_json *schema, unsigned of) {
    const xl_json *type = xl_json_get(schema, "type");
    unsigned types = 0;
    if (!type) return of ? of : EVERYTHING;
    if (type->kind != XL_JSON_ARRAY) return type_bit(c, type);
    for (const xl_json *t = type->first; t; t = t->next) types |= type_bit(c, t);
    return types & NUMBERS ? types & ~(unsigned)INTEGERS : types;
}

static uint32_t count_of(compiler *c, const xl_json *schema, const char *key, uint32_t otherwise) {
    const xl_json *value = xl_json_get(schema, key);
    if (!value) return otherwise;
    if (value->kind != XL_JSON_NUMBER || value->number < 0 || floor(value->number) != value->number)
        wrong(c, value, "a whole number from 0 on is expected");
    else if (value->number > MAX_COUNT) wrong(c, value, "more than 4096 is not supported");
    else return (uint32_t)value->number;
    return otherwise;
}

/* ---- Rules ---- */

static uint32_t state(compiler *c) { return xl_automaton_state(c->automaton); }
static void text(compiler *c, uint32_t from, const char *literal, uint32_t to) {
    xl_lay_text(c->automaton, from, literal, to);
}

/* The rule of a schema, NULL: of any JSON; it is laid later. */
static uint32_t rule_of(compiler *c, const xl_json *schema) {
    for (uint32_t i = 0; i < c->n_rules; i++)
        if (c->rules[i].schema == schema) return c->rules[i].rule;
    if (c->n_rules == MAX_RULES) {
        c->automaton->too_large = true;
        return 0;
    }
    const uint32_t rule = c->n_rules ? xl_automaton_rule(c->automaton) : c->first_rule;
    c->rules[c->n_rules++] = (known_rule){schema, rule};
    return rule;
}

static void call(compiler *c, uint32_t from, const xl_json *schema, uint32_t to) {
    xl_lay_call(c->automaton, from, rule_of(c, schema), to);
}

/* "#/a/b" among the schema's own nodes, or NULL. */
static const xl_json *at_pointer(const xl_json *root, const char *pointer) {
    if (*pointer++ != '#') return NULL;
    while (root && *pointer == '/') {
        char key[256];
        size_t n = 0;
        for (pointer++; *pointer && *pointer != '/' && n + 1 < sizeof key; pointer++) {
            char byte = *pointer;
            if (byte == '~' && (pointer[1] == '0' || pointer[1] == '1'))
                byte = *++pointer == '0' ? '~' : '/';
            key[n++] = byte;
        }
        key[n] = 0;
        if (root->kind == XL_JSON_ARRAY) {
            uint32_t index = 0;
            for (const char *digit = key; *digit; digit++)
                if (*digit >= '0' && *digit <= '9' && index < MAX_COUNT)
                    index = index * 10 + (uint32_t)(*digit - '0');
                else return NULL;
            for (root = root->first; root && index; index--) root = root->next;
        } else root = xl_json_get(root, key);
    }
    return *pointer ? NULL : root;
}

static const xl_json *target_of(compiler *c, const xl_json *reference) {
    const xl_json *target =
        reference->kind == XL_JSON_STRING ? at_pointer(c->root, reference->text) : NULL;
    if (!target) wrong(c, reference, "a $ref is \"#\" or \"#/…\", to a place in this schema");
    return target;
}

/* ---- Values as they stand ---- */

/* As JSON's string, in the form of lay_character. */
static uint32_t lay_quoted(compiler *c, uint32_t from, const char *bytes) {
    uint32_t next = state(c);
    text(c, from, "\"", next);
    for (; *bytes; bytes++) {
        from = next;
        next = state(c);
        const uint8_t byte = (uint8_t)*bytes;
        if (byte >= 0x80) {
            xl_lay_bytes(c->automaton, from, byte, byte, next);
            continue;
        }
        const xl_charset one = {.range = {{byte, byte}}, .n = 1};
        xl_lay_charset(c->automaton, from, &one, XL_IN_JSON, next);
    }
    from = state(c);
    text(c, next, "\"", from);
    return from;
}

static void lay_value(compiler *c, uint32_t from, const xl_json *value, uint32_t to);

static void lay_items(compiler *c, uint32_t from, const xl_json *value, uint32_t to) {
    const bool object = value->kind == XL_JSON_OBJECT;
    uint32_t at = state(c);
    text(c, from, object ? "{" : "[", at);
    for (const xl_json *item = value->first; item && going(c); item = item->next) {
        uint32_t next = at;
        if (object) {
            at = lay_quoted(c, at, item->key);
            text(c, at, ": ", next = state(c));
        }
        lay_value(c, next, item, at = state(c));
        if (item->next) {
            text(c, at, ", ", next = state(c));
            at = next;
        }
    }
    text(c, at, object ? "}" : "]", to);
}

static void lay_value(compiler *c, uint32_t from, const xl_json *value, uint32_t to) {
    switch (value->kind) {
    case XL_JSON_NULL: text(c, from, "null", to); return;
    case XL_JSON_BOOL: text(c, from, value->number != 0 ? "true" : "false", to); return;
    case XL_JSON_NUMBER: text(c, from, value->text, to); return;
    case XL_JSON_STRING: xl_lay_nothing(c->automaton, lay_quoted(c, from, value->text), to); return;
    default: lay_items(c, from, value, to);
    }
}

static bool is_equal(const xl_json *a, const xl_json *b) {
    if (a->kind != b->kind || a->number != b->number) return false;
    if (a->kind == XL_JSON_STRING) return strcmp(a->text, b->text) == 0;
    const xl_json *x = a->first, *y = b->first;
    for (; x && y; x = x->next, y = y->next)
        if ((x->key && strcmp(x->key, y->key) != 0) || !is_equal(x, y)) return false;
    return !x && !y;
}

static unsigned type_of_value(const xl_json *value) {
    static const unsigned types[] = {NULLS, BOOLEANS, NUMBERS, STRINGS, ARRAYS, OBJECTS};
    if (value->kind == XL_JSON_NUMBER && floor(value->number) == value->number)
        return NUMBERS | INTEGERS;
    return types[value->kind];
}

/* ---- Strings ---- */

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date",
     "\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|"
     "30)|02-(?:0[1-9]|1\\d|2[0-8]))|"
     "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29"},
    {"time",
     "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-](?:0\\d|1[0-4]):[0-5]\\d)"},
    {"uuid", "[\\da-fA-F]{8}(?:-[\\da-fA-F]{4}){3}-[\\da-fA-F]{12}"},
    {"email",
     "[A-Za-z0-9](?:[A-Za-z0-9_+-]|\\.[A-Za-z0-9]){0,48}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-"
     "Za-z0-9])?(?:\\.[A-Za-z](?:[A-Za-z0-9-]{0,20}[A-Za-z0-9])){1,3}"},
};

static const char *pattern_of_format(const char *name) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0) return formats[i].pattern;
    return NULL;
}

static void lay_pattern(compiler *c, uint32_t from, const char *pattern, uint32_t to) {
    if (!going(c)) return;
    c->status =
        xl_lay_regex(c->automaton, from, pattern, strlen(pattern), 0, XL_IN_JSON, to, c->error);
}

static void lay_format(compiler *c, uint32_t from, const xl_json *format, uint32_t to) {
    const char *name = format->kind == XL_JSON_STRING ? format->text : "";
    const bool both = strcmp(name, "date-time") == 0;
    const char *pattern = pattern_of_format(both ? "date" : name);
    if (!pattern) {
        wrong(c, format, "the formats are date, time, date-time, uuid and email");
        return;
    }
    uint32_t middle = to;
    if (both) middle = state(c);
    lay_pattern(c, from, pattern, middle);
    if (!both) return;
    from = middle;
    text(c, from, "T", middle = state(c));
    lay_pattern(c, middle, pattern_of_format("time"), to);
}

/* Any character of a JSON string. */
static void lay_character(compiler *c, uint32_t from, uint32_t to) {
    /* of the control characters only those that a text has */
    const xl_charset any = {.range = {{'\t', '\n'}, {0x20, 0xd7ff}, {0xe000, 0x10ffff}}, .n = 3};
    xl_lay_charset(c->automaton, from, &any, XL_IN_JSON, to);
}

/* `least` to `most` of what `lay` lays (most NO_LIMIT: any number); `between`, or NULL, stands
 * between two. */
#define NO_LIMIT UINT32_MAX
typedef void lay_fn(compiler *c, uint32_t from, const void *what, uint32_t to);

static void lay_repeated(compiler *c, uint32_t from, uint32_t least, uint32_t most,
                         const char *between, lay_fn *lay, const void *what, uint32_t to) {
    const uint32_t chain = most == NO_LIMIT ? (least ? least : 1) : most;
    for (uint32_t i = 0; i < chain && going(c); i++) {
        if (i >= least) xl_lay_nothing(c->automaton, from, to);
        if (i > 0 && between) {
            const uint32_t next = state(c);
            text(c, from, between, next);
            from = next;
        }
        const uint32_t next = state(c);
        lay(c, from, what, next);
        from = next;
    }
    xl_lay_nothing(c->automaton, from, to);
    if (most != NO_LIMIT) return;
    uint32_t more = from;
    if (between) text(c, from, between, more = state(c));
    lay(c, more, what, from);
}

static void lay_any_character(compiler *c, uint32_t from, const void *what, uint32_t to) {
    (void)what;
    lay_character(c, from, to);
}

static void lay_string(compiler *c, uint32_t from, const xl_json *schema, uint32_t to) {
    const xl_json *pattern = xl_json_get(schema, "pattern"),
                  *format = xl_json_get(schema, "format");
    const xl_json *least = xl_json_get(schema, "minLength"),
                  *most = xl_json_get(schema, "maxLength");
    const uint32_t inside = state(c), behind = state(c);
    text(c, from, "\"", inside);
    text(c, behind, "\"", to);
    if ((pattern || format) && (least || most))
        wrong(c, least ? least : most, "a length beside pattern or format is not supported");
    else if (pattern && format) wrong(c, pattern, "pattern beside format is not supported");
    else if (pattern && pattern->kind != XL_JSON_STRING) wrong(c, pattern, "a text is expected");
    else if (pattern) lay_pattern(c, inside, pattern->text, behind);
    else if (format) lay_format(c, inside, format, behind);
    else {
        const uint32_t few = count_of(c, schema, "minLength", 0),
                       many = count_of(c, schema, "maxLength", NO_LIMIT);
        if (many < few) wrong(c, most, "it is below minLength");
        lay_repeated(c, inside, few, many, NULL, lay_any_character, NULL, behind);
    }
}

/* ---- Numbers ---- */

static double limit_of(compiler *c, const xl_json *schema, const char *key, double otherwise,
                       bool *given) {
    const xl_json *value = xl_json_get(schema, key);
    *given = value != NULL;
    if (!value) return otherwise;
    if (value->kind != XL_JSON_NUMBER) wrong(c, value, "a number is expected");
    return value->number;
}

static void lay_number(compiler *c, uint32_t from, const xl_json *schema, bool whole, uint32_t to) {
    bool low_open, high_open, low_given, high_given;
    double low = limit_of(c, schema, "minimum", -XL_MAX_NUMBER, &low_given),
           high = limit_of(c, schema, "maximum", XL_MAX_NUMBER, &high_given);
    const double above = limit_of(c, schema, "exclusiveMinimum", low, &low_open),
                 below = limit_of(c, schema, "exclusiveMaximum", high, &high_open);
    low_open &= above >= low;
    high_open &= below <= high;
    const xl_interval within = {.low = low_open ? above : low,
                                .high = high_open ? below : high,
                                .low_open = low_open,
                                .high_open = high_open};
    if (!xl_lay_numbers(c->automaton, from, &within, whole, to))
        wrong(c, schema, "no number lies within its limits (15 digits are possible)");
}

/* ---- Arrays ---- */

static void lay_item(compiler *c, uint32_t from, const void *schema, uint32_t to) {
    call(c, from, schema, to);
}

/* A list of schemas, and that of the items behind it, or NULL. */
static void lay_tuple(compiler *c, uint32_t from, const xl_json *schema, const xl_json *places,
                      const xl_json *items, uint32_t to) {
    uint32_t n = 0;
    if (places->kind != XL_JSON_ARRAY || !places->first) {
        wrong(c, places, "a list of schemas is expected");
        return;
    }
    for (const xl_json *place = places->first; place; place = place->next, n++) {
        uint32_t next = from;
        if (n > 0) text(c, from, ", ", next = state(c));
        call(c, next, place, from = state(c));
    }
    const uint32_t least = count_of(c, schema, "minItems", n),
                   most = count_of(c, schema, "maxItems", items ? NO_LIMIT : n);
    if (most < n) wrong(c, schema, "maxItems is below the number of places");
    else if (!items && least > n) wrong(c, schema, "minItems asks for more, and items is missing");
    else if (most < least) wrong(c, schema, "maxItems is below minItems");
    else if (!items) xl_lay_nothing(c->automaton, from, to);
    else {
        const uint32_t few = least > n ? least - n : 0,
                       many = most == NO_LIMIT ? NO_LIMIT : most - n;
        const uint32_t more = state(c);
        if (few == 0) xl_lay_nothing(c->automaton, from, to);
        text(c, from, ", ", more);
        if (many > 0) lay_repeated(c, more, few ? few : 1, many, ", ", lay_item, items, to);
    }
}

static void lay_array(compiler *c, uint32_t from, const xl_json *schema, uint32_t to) {
    const uint32_t inside = state(c), behind = state(c);
    text(c, from, "[", inside);
    text(c, behind, "]", to);
    const xl_json *places = xl_json_get(schema, "prefixItems"),
                  *items = xl_json_get(schema, "items");
    if (!places && items && items->kind == XL_JSON_ARRAY) { /* before 2020-12 */
        places = items;
        items = xl_json_get(schema, "additionalItems");
    }
    if (places) {
        lay_tuple(c, inside, schema, places, items, behind);
        return;
    }
    const uint32_t least = count_of(c, schema, "minItems", 0),
                   most = count_of(c, schema, "maxItems", NO_LIMIT);
    if (most < least) wrong(c, schema, "maxItems is below minItems");
    lay_repeated(c, inside, least, most, ", ", lay_item, items, behind);
}

/* ---- Objects ---- */

/* A key that is none of `properties`: the names are a tree of letters, and at each of its places
 * a letter that none of them has leaves it. `prefix` [depth] begins some of them. */
static void lay_other_key(compiler *c, uint32_t from, const xl_json *properties, const char *prefix,
                          uint32_t depth, uint32_t to) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    const xl_json *names = properties ? properties->first : NULL;
    uint32_t elsewhere = 0;    /* where all letters that leave the names meet */
    bool is_name = depth == 0; /* or no key yet */
    for (const xl_json *p = names; p; p = p->next)
        is_name |= strncmp(p->key, prefix, depth) == 0 && p->key[depth] == 0;
    if (!is_name) xl_lay_nothing(c->automaton, from, to);
    if (depth == MOST_KEY_BYTES || !going(c)) return;
    for (size_t i = 0; letters[i]; i++) {
        char longer[MOST_KEY_BYTES + 1];
        bool shared = false;
        memcpy(longer, prefix, depth);
        longer[depth] = letters[i];
        for (const xl_json *p = names; p; p = p->next)
            shared |= strncmp(p->key, longer, depth + 1) == 0;
        const bool again = !shared && elsewhere;
        const uint32_t next = again ? elsewhere : state(c);
        xl_lay_bytes(c->automaton, from, (uint8_t)letters[i], (uint8_t)letters[i], next);
        if (again) continue;
        if (!shared) elsewhere = next;
        if (shared) lay_other_key(c, next, properties, longer, depth + 1, to);
        else lay_pattern(c, next, "[A-Za-z0-9_-]{0,31}", to);
    }
}

static bool is_required(const xl_json *schema, const char *key) {
    const xl_json *required = xl_json_get(schema, "required");
    for (const xl_json *name = required ? required->first : NULL; name; name = name->next)
        if (name->kind == XL_JSON_STRING && strcmp(name->text, key) == 0) return true;
    return false;
}

/* One member more: at[0] is reached with no member so far, at[1] with some; they move on. */
static void lay_member(compiler *c, uint32_t at[2], const char *key, const xl_json *value,
                       bool required) {
    const uint32_t first = state(c), after = state(c), none = state(c);
    xl_lay_nothing(c->automaton, at[0], first);
    text(c, at[1], ", ", first);
    uint32_t named = lay_quoted(c, first, key), ready = state(c);
    text(c, named, ": ", ready);
    call(c, ready, value, after);
    if (!required) {
        xl_lay_nothing(c->automaton, at[1], after);
        xl_lay_nothing(c->automaton, at[0], none);
    }
    at[0] = none;
    at[1] = after;
}

static void lay_other_members(compiler *c, uint32_t at[2], const xl_json *properties,
                              const xl_json *others, uint32_t to) {
    const uint32_t key = state(c), named = state(c), valued = state(c);
    uint32_t quoted = state(c);
    xl_lay_nothing(c->automaton, at[0], key);
    text(c, at[1], ", ", key);
    text(c, key, "\"", quoted);
    lay_other_key(c, quoted, properties, "", 0, named);
    text(c, named, "\": ", valued);
    call(c, valued, others, at[1]);
    xl_lay_nothing(c->automaton, at[1], to);
}

static void lay_object(compiler *c, uint32_t from, const xl_json *schema, uint32_t to) {
    const xl_json *others = xl_json_get(schema, "additionalProperties"),
                  *required = xl_json_get(schema, "required");
    const xl_json *properties = xl_json_get(schema, "properties");
    const bool plain = others && others->kind == XL_JSON_BOOL,
               others_allowed = others ? !(plain && others->number == 0) : !properties;
    const xl_json *other = plain ? NULL : others; /* the schema of other members, NULL: any JSON */
    if ((properties && properties->kind != XL_JSON_OBJECT) ||
        (required && required->kind != XL_JSON_ARRAY)) {
        wrong(c, schema, "properties is an object, and required a list of names");
        return;
    }
    uint32_t at[2] = {state(c), state(c)};
    const uint32_t behind = state(c);
    text(c, from, "{", at[0]);
    text(c, behind, "}", to);
    for (const xl_json *p = properties ? properties->first : NULL; p && going(c); p = p->next)
        lay_member(c, at, p->key, p, is_required(schema, p->key));
    for (const xl_json *name = required ? required->first : NULL; name && going(c);
         name = name->next) {
        if (name->kind != XL_JSON_STRING) wrong(c, name, "a name is expected");
        else if (xl_json_get(properties, name->text)) continue;
        else if (!others_allowed && others) wrong(c, name, "additionalProperties forbids it");
        else lay_member(c, at, name->text, other, true);
    }
    xl_lay_nothing(c->automaton, at[0], behind);
    xl_lay_nothing(c->automaton, at[1], behind);
    /* a required name that is no property might come a second time, and does no harm */
    if (others_allowed) lay_other_members(c, at, properties, other, behind);
}

/* ---- Choices ---- */

static void lay_schema(compiler *c, uint32_t from, const xl_json *schema, uint32_t to);

/* The schema behind its references. */
static const xl_json *resolved(compiler *c, const xl_json *schema) {
    for (int i = 0; i < MAX_REFERENCES; i++) {
        const xl_json *reference = xl_json_get(schema, "$ref");
        if (!reference) return schema;
        schema = target_of(c, reference);
        if (!schema) return NULL;
    }
    return schema;
}

/* The values of enum or const: one, or a list. */
static const xl_json *values_of(const xl_json *schema, bool *list) {
    const xl_json *values = xl_json_get(schema, "enum");
    *list = values != NULL;
    return values ? values->first : xl_json_get(schema, "const");
}

static unsigned types_that_may_be(compiler *c, const xl_json *schema) {
    bool list;
    const xl_json *value = values_of(schema, &list);
    unsigned types = 0, of;
    const xl_json *choice;
    for (; value; value = list ? value->next : NULL) types |= type_of_value(value);
    if (types) return types;
    look_through(c, schema, &of, &choice);
    types = choice ? (unsigned)EVERYTHING : types_of(c, schema, of);
    return types & NUMBERS ? types | INTEGERS : types;
}

static bool values_differ(const xl_json *a, const xl_json *b) {
    bool a_list, b_list;
    const xl_json *x = values_of(a, &a_list), *first = values_of(b, &b_list);
    if (!x || !first) return false;
    for (; x; x = a_list ? x->next : NULL)
        for (const xl_json *y = first; y; y = b_list ? y->next : NULL)
            if (is_equal(x, y)) return false;
    return true;
}

/* By types, by enumerated values, or by a member that both demand and that tells them apart. */
static bool are_disjoint(compiler *c, const xl_json *a, const xl_json *b, unsigned nesting) {
    a = resolved(c, a);
    b = resolved(c, b);
    if (!a || !b || a->kind != XL_JSON_OBJECT || b->kind != XL_JSON_OBJECT || nesting > 4)
        return false;
    if (values_differ(a, b)) return true;
    const unsigned common = types_that_may_be(c, a) & types_that_may_be(c, b);
    if (!common) return true;
    if (common != OBJECTS) return false;
    const xl_json *properties = xl_json_get(a, "properties");
    for (const xl_json *p = properties ? properties->first : NULL; p; p = p->next) {
        const xl_json *other = xl_json_get(xl_json_get(b, "properties"), p->key);
        if (other && is_required(a, p->key) && is_required(b, p->key) &&
            are_disjoint(c, p, other, nesting + 1))
            return true;
    }
    return false;
}

static void check_disjoint(compiler *c, const xl_json *list) {
    for (const xl_json *a = list->first; a; a = a->next)
        for (const xl_json *b = a->next; b && going(c); b = b->next)
            if (!are_disjoint(c, a, b, 0))
                wrong(c, b,
                      "it is not told from an earlier alternative of oneOf by type, enum, "
                      "const or a required member: use anyOf");
}

static void lay_enum(compiler *c, uint32_t from, const xl_json *schema, uint32_t to) {
    bool list;
    const unsigned types = types_of(c, schema, 0);
    const xl_json *value = values_of(schema, &list);
    const bool any = xl_json_get(schema, "type") == NULL;
    unsigned laid = 0;
    for (; value && going(c); value = list ? value->next : NULL) {
        if (!any && !(type_of_value(value) & types)) continue;
        lay_value(c, from, value, to);
        laid++;
    }
    if (!laid) wrong(c, schema, "none of its values is of its type");
}

static void lay_choice(compiler *c, uint32_t from, const xl_json *schema, const xl_json *choice,
                       uint32_t to) {
    if (strcmp(choice->key, "$ref") == 0) {
        const xl_json *target = target_of(c, choice);
        if (target) call(c, from, target, to);
        return;
    }
    if (strcmp(choice->key, "const") == 0) {
        lay_enum(c, from, schema, to);
        return;
    }
    if (choice->kind != XL_JSON_ARRAY || !choice->first) {
        wrong(c, choice, "a list with something in it is expected");
        return;
    }
    if (strcmp(choice->key, "enum") == 0) {
        lay_enum(c, from, schema, to);
        return;
    }
    if (xl_json_get(schema, "type")) {
        wrong(c, choice, "type beside it is not supported: write it into each alternative");
        return;
    }
    if (strcmp(choice->key, "oneOf") == 0) check_disjoint(c, choice);
    if (strcmp(choice->key, "allOf") == 0 && choice->first->next)
        wrong(c, choice, "more than one schema in it is not supported");
    for (const xl_json *one = choice->first; one && going(c); one = one->next)
        lay_schema(c, from, one, to);
}

/* ---- Schemas ---- */

static void lay_types(compiler *c, uint32_t from, const xl_json *schema, unsigned types,
                      uint32_t to) {
    if (types & OBJECTS) lay_object(c, from, schema, to);
    if (types & ARRAYS) lay_array(c, from, schema, to);
    if (types & STRINGS) lay_string(c, from, schema, to);
    if (types & (NUMBERS | INTEGERS)) lay_number(c, from, schema, !(types & NUMBERS), to);
    if (types & BOOLEANS) {
        text(c, from, "true", to);
        text(c, from, "false", to);
    }
    if (types & NULLS) text(c, from, "null", to);
}

static void lay_schema(compiler *c, uint32_t from, const xl_json *schema, uint32_t to) {
    unsigned of;
    const xl_json *choice;
    if (!going(c)) return;
    if (schema && schema->kind == XL_JSON_BOOL) {
        if (schema->number != 0) call(c, from, NULL, to); /* of `false` there is no text */
        return;
    }
    if (!schema) {
        lay_types(c, from, NULL, EVERYTHING, to);
        return;
    }
    if (schema->kind != XL_JSON_OBJECT) {
        wrong(c, schema, "a schema is an object, true or false");
        return;
    }
    look_through(c, schema, &of, &choice);
    if (!going(c)) return;
    if (choice) {
        lay_choice(c, from, schema, choice, to);
        return;
    }
    const unsigned types = types_of(c, schema, of);
    if (types == EVERYTHING && !of) call(c, from, NULL, to);
    else lay_types(c, from, schema, types, to);
}

static void lay_rules(compiler *c) {
    rule_of(c, c->root);
    for (uint32_t i = 0; i < c->n_rules && going(c); i++) {
        const xl_rule rule = c->automaton->rules[c->rules[i].rule];
        lay_schema(c, rule.start, c->rules[i].schema, rule.end);
    }
}

exitlm_status xl_lay_schema_tree(xl_automaton *automaton, const xl_json *schema, uint32_t rule,
                                 exitlm_error *error) {
    const exitlm_allocator *allocator = &automaton->allocator;
    compiler c = {.automaton = automaton, .root = schema, .first_rule = rule, .error = error};
    c.rules = xl_calloc(allocator, MAX_RULES, sizeof *c.rules);
    if (c.rules) lay_rules(&c);
    else automaton->no_memory = true;
    xl_free(allocator, c.rules, MAX_RULES, sizeof *c.rules);
    return c.status;
}

exitlm_status xl_lay_schema(xl_automaton *automaton, const char *json, size_t n_bytes,
                            exitlm_error *error) {
    exitlm_error why;
    xl_json *root = xl_json_parse(json, n_bytes, &automaton->allocator, &why);
    if (!root) return xl_fail(error, why.status, "schema: not JSON (%s)", why.message);
    exitlm_error inner;
    const exitlm_status status = xl_lay_schema_tree(automaton, root, 0, &inner);
    if (status != EXITLM_OK) xl_fail(error, status, "schema: %s", inner.message);
    xl_json_free(root);
    return status;
}
