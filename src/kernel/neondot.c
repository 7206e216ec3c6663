/* arm64 with the dot product extension: sdot multiplies signed bytes and adds four products into
 * each int32, exactly; its second operand may be one 32-bit lane, so 16 activations are loaded
 * once for four groups. */
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include "arm.h"

INLINE vi dot_lane(vi acc, vi w, int8x16_t a, int lane) {
    int8x16_t bytes = vreinterpretq_s8_s32(w);
    switch (lane) {
    case 0: return vdotq_laneq_s32(acc, bytes, a, 0);
    case 1: return vdotq_laneq_s32(acc, bytes, a, 1);
    case 2: return vdotq_laneq_s32(acc, bytes, a, 2);
    default: return vdotq_laneq_s32(acc, bytes, a, 3);
    }
}

typedef vi u_acc;
#define U_GROUPS_5 8
#define U_GROUPS_6 4

INLINE u_acc u_begin(vi acc) { return acc; }
INLINE u_acc u_dot(u_acc part, vi w, act_half a, int lane) { return dot_lane(part, w, a, lane); }
INLINE vi u_end(vi acc, u_acc part, const consts *k) {
    (void)acc, (void)k;
    return part;
}

typedef vi s_acc;
typedef vi s_weights;

INLINE s_weights s_prepare(vi w, const consts *k) {
    (void)k;
    return w;
}
INLINE s_acc s_begin(const act_block *a) {
    (void)a;
    return vi_set1(0);
}
INLINE s_acc s_dot(s_acc part, s_weights w, act_half a, int lane, const consts *k) {
    (void)k;
    return dot_lane(part, w, a, lane);
}
INLINE vi s_end(s_acc part) { return part; }

#define FLOAT_N 4 /* at most so many rows a step for float weights, and for K-quants */
#define SUPER_N 4
#define FOR_EACH_N XL_N_TO_8
#define ISA neondot
#include "kernel/body/body.h"
#endif
