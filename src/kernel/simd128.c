/* Baseline SIMD128. Its one multiply-and-add, i32x4.dot_i16x8, adds the products of neighbouring
 * int16; so the work is to see int16 in the weights with as few operations as possible: for
 * bytes see pairs.h, and likewise for the two nibbles of a byte. */
#if defined(__wasm_simd128__) && !defined(__wasm_relaxed_simd__)
#include "pairs.h"

/* For a word of nibbles: low = columns 4g.., high = columns 16+4g... All is 16 times what it stands
 * for. */
typedef struct act_nibbles {
    int16_t even[2][4][2]; /* of the even bytes: high for the byte; 16 * low - high, low nibble */
    int16_t odd[2][4][2];  /* the same of the odd bytes */
} act_nibbles;

typedef struct act_block {
    float d, s;
    int32_t minus8, minus16, minus32[2], minus128even, unused;
    act_pairs pairs;
    act_nibbles nibbles;
} act_block;

typedef const int16_t *act_half;

INLINE act_half act_words(const act_block *a, int half) { return a->pairs.whole[4 * half]; }
INLINE act_half act_whole(act_half a, int lane) { return a + 2 * lane; }
INLINE act_half act_odd(act_half a, int lane) { return a + 16 + 2 * lane; }

INLINE void act_finish(act_block *out, const int32_t q[32], int32_t total) {
    (void)total;
    const act_columns c = act_split(q);
    out->minus128even = act_pair(&out->pairs, &c);
    wasm_v128_store(out->nibbles.even[0], c.even[1]);
    wasm_v128_store(out->nibbles.even[1], wasm_i16x8_sub(wasm_i16x8_shl(c.even[0], 4), c.even[1]));
    wasm_v128_store(out->nibbles.odd[0], c.odd[1]);
    wasm_v128_store(out->nibbles.odd[1], wasm_i16x8_sub(wasm_i16x8_shl(c.odd[0], 4), c.odd[1]));
    out->unused = 0;
}

typedef vi u_acc; /* int32 */
#define U_GROUPS_5 8
#define U_GROUPS_6 4

typedef struct u_weights {
    vi whole, odd;
} u_weights;

INLINE u_weights u_prepare(vi w) { return (u_weights){w, wasm_u16x8_shr(w, 8)}; }

INLINE u_acc u_begin(vi acc) { return acc; }
INLINE u_acc u_dot_prepared(u_acc part, u_weights w, act_half a, int lane) {
    return dot16(dot16(part, w.whole, act_whole(a, lane)), w.odd, act_odd(a, lane));
}
INLINE u_acc u_dot(u_acc part, vi w, act_half a, int lane) {
    return u_dot_prepared(part, u_prepare(w), a, lane);
}
INLINE vi u_end(vi acc, u_acc part, const consts *k) {
    (void)acc, (void)k;
    return part;
}

INLINE s_acc s_begin(const act_block *a) { return vi_splat(&a->minus128even); }
INLINE s_acc s_dot(s_acc part, s_weights w, act_half a, int lane, const consts *k) {
    (void)k;
    return dot_pairs(part, w, act_whole(a, lane), act_odd(a, lane));
}

/* Nibbles, four to an int16: n0 and n1 in the even byte, n2 and n3 in the odd one.
 *     (n0 + 16 n1) * high + n0 * (16 low - high) = 16 * (n0 * low + n1 * high) */
#define OWN_DOT_NIBBLES
INLINE void dot_nibbles(const int N, const int R, vi dot[][STEP_VECTORS], const uint8_t *words,
                        size_t apart, const uint8_t *act, size_t act_stride, const consts *k) {
    vi times16[MAX_N][STEP_VECTORS];
    EACH(i, N)
        EACH(v, R) times16[i][v] = vi_set1(0);
    EACH(g, 4)
        EACH(v, R) {
            vi w = WORD_APART(words, g, v, apart);
            vi even = wasm_v128_and(w, k->byte0), n0 = wasm_v128_and(w, k->nibble0);
            vi odd = wasm_u16x8_shr(w, 8), n2 = wasm_v128_and(odd, k->nibble0);
            EACH(i, N) {
                const act_nibbles *a = &ACT(i)->nibbles;
                times16[i][v] = dot16(dot16(times16[i][v], even, a->even[0][g]), n0, a->even[1][g]);
                times16[i][v] = dot16(dot16(times16[i][v], odd, a->odd[0][g]), n2, a->odd[1][g]);
            }
        }
    EACH(i, N)
        EACH(v, R) dot[i][v] = vi_add(dot[i][v], wasm_i32x4_shr(times16[i][v], 4));
}

#define PANEL_FROM 8
#define WIDE_N 4  /* up to so many rows a step covers the whole tile */
#define FLOAT_N 2 /* at most so many for float weights, and for K-quants */
#define SUPER_N 4
#define FOR_EACH_N XL_N_TO_4
#define ISA simd128
#include "kernel/body/body.h"
#endif
