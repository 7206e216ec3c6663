/* arm64 without the dot product extension: smull and smlal on bytes, sums in int16 for as long as
 * they cannot overflow. A register of products holds two rows, four columns each, so there are
 * two of them; pairwise additions make four int32 rows of both at the end. */
#if defined(__aarch64__)
#include "arm.h"

INLINE int8x8_t act_splat(act_half a, int lane) {
    int32x4_t words = vreinterpretq_s32_s8(a);
    switch (lane) {
    case 0: return vreinterpret_s8_s32(vdup_laneq_s32(words, 0));
    case 1: return vreinterpret_s8_s32(vdup_laneq_s32(words, 1));
    case 2: return vreinterpret_s8_s32(vdup_laneq_s32(words, 2));
    default: return vreinterpret_s8_s32(vdup_laneq_s32(words, 3));
    }
}

INLINE int8x8_t low_rows(vi w) { return vget_low_s8(vreinterpretq_s8_s32(w)); }
INLINE int8x8_t high_rows(vi w) { return vget_high_s8(vreinterpretq_s8_s32(w)); }

typedef struct u_acc {
    int16x8_t low, high; /* one product a group and lane: 63 * 127 * 4 and 31 * 127 * 8 fit */
} u_acc;
#define U_GROUPS_5 8
#define U_GROUPS_6 4

INLINE u_acc u_begin(vi acc) {
    (void)acc;
    return (u_acc){vdupq_n_s16(0), vdupq_n_s16(0)};
}
INLINE u_acc u_dot(u_acc part, vi w, act_half a, int lane) {
    int8x8_t splat = act_splat(a, lane);
    return (u_acc){vmlal_s8(part.low, low_rows(w), splat),
                   vmlal_s8(part.high, high_rows(w), splat)};
}
INLINE vi u_end(vi acc, u_acc part, const consts *k) {
    (void)k;
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(part.low), vpaddlq_s16(part.high)));
}

typedef struct s_acc {
    int32x4_t low, high;
} s_acc;
typedef vi s_weights;

INLINE s_weights s_prepare(vi w, const consts *k) {
    (void)k;
    return w;
}
INLINE s_acc s_begin(const act_block *a) {
    (void)a;
    return (s_acc){vi_set1(0), vi_set1(0)};
}
INLINE s_acc s_dot(s_acc part, s_weights w, act_half a, int lane, const consts *k) {
    (void)k;
    int8x8_t splat = act_splat(a, lane);
    return (s_acc){vpadalq_s16(part.low, vmull_s8(low_rows(w), splat)),
                   vpadalq_s16(part.high, vmull_s8(high_rows(w), splat))};
}
INLINE vi s_end(s_acc part) { return vpaddq_s32(part.low, part.high); }

#define FLOAT_N 4 /* at most so many rows a step for float weights, and for K-quants */
#define SUPER_N 4
#define FOR_EACH_N XL_N_TO_8
#define ISA neon
#include "kernel/body/body.h"
#endif
