/* Dispatch: which kernel tables this build has and this CPU runs. */
#include "kernels_isa.h"

#include "exitlm.h"

#include <math.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#elif defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif

#ifdef __wasm__
#include "kernel/body/const_list.h"
const uint32_t xl_const_table[] = {
#define X(NAME, BITS) BITS,
    XL_CONST_LIST(X)
#undef X
};
const float xl_exp_const_table[] = {
#define X(NAME, VALUE) VALUE,
    XL_EXP_CONST_LIST(X)
#undef X
};
#endif

static bool runs_scalar(void) { return true; }

#if defined(__x86_64__) || defined(_M_X64)
/* The operating system's part of the answer: which register files it saves. 6: SSE and AVX;
 * 0xe6: AVX-512 too. */
static bool saves_registers(uint32_t mask) {
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE)) return false;
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & mask) == mask;
}

static bool runs_avx2(void) {
    uint32_t eax, ebx, ecx, edx;
    if (!saves_registers(6)) return false;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_F16C)) return false;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_AVX2);
}

static bool runs_avx512vnni(void) {
    uint32_t eax, ebx, ecx, edx;
    if (!runs_avx2() || !saves_registers(0xe6)) return false;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
    return (ebx & bit_AVX512F) && (ebx & bit_AVX512VL) && (ebx & bit_AVX512BW) &&
           (ecx & bit_AVX512VNNI);
}
#elif defined(__aarch64__) || defined(_M_ARM64)
static bool runs_neon(void) { return true; }
static bool runs_neondot(void) {
#if defined(__APPLE__)
    return true; /* every arm64 Mac and every iPhone since the A11 has the dot product */
#elif defined(__linux__)
    return (getauxval(AT_HWCAP) & (1ul << 20)) != 0; /* HWCAP_ASIMDDP */
#else
    return false;
#endif
}
#elif defined( \
    __wasm_relaxed_simd__) /* a module with an opcode that the engine lacks does not load at all */
static bool runs_relaxed(void) { return true; }
static bool runs_relaxed16(void) { return true; }
#elif defined(__wasm_simd128__)
static bool runs_simd128(void) { return true; }
#endif

/* For tests: better ones than this are left out. "": none is. */
#ifndef EXITLM_BEST_KERNEL
#define EXITLM_BEST_KERNEL ""
#endif

size_t xl_kernels_list(const xl_kernels *list[XL_KERNELS_MAX]) {
    size_t n = 0;
    bool begun = !EXITLM_BEST_KERNEL[0];
#define X(NAME)                                  \
    begun |= !strcmp(#NAME, EXITLM_BEST_KERNEL); \
    if (begun && runs_##NAME()) {                \
        if (list) list[n] = &xl_kernels_##NAME;  \
        n++;                                     \
    }
    XL_ISA_LIST(X)
#undef X
#if defined(__wasm_relaxed_simd__)
    if (list && xl_relaxed_dot_widens()) {
        list[0] = &xl_kernels_relaxed16;
        list[1] = &xl_kernels_relaxed;
    }
#endif
    return n;
}

const xl_kernels *xl_kernels_pick(const char *name) {
    const xl_kernels *list[XL_KERNELS_MAX];
    size_t n = xl_kernels_list(list);
    for (size_t i = 0; i < n; i++)
        if (!name || strcmp(name, list[i]->name) == 0) return list[i];
    return NULL;
}

size_t xl_kv_bytes(xl_kv_type type, size_t head_dim, size_t positions) {
    static const size_t element_bytes[XL_KV_COUNT] = {4, 2, 1};
    size_t tile_bytes = 8 * head_dim * element_bytes[type] + (type == XL_KV_Q8 ? 32 : 0);
    return (positions + 7) / 8 * tile_bytes;
}

/* Groups of 8 units, one a position. */
static void clear_units(uint8_t *at, const uint8_t *end, size_t unit_bytes, size_t from) {
    for (; at < end; at += 8 * unit_bytes)
        memset(at + from * unit_bytes, 0, (8 - from) * unit_bytes);
}

void xl_kv_clear(xl_kv_type type, bool is_k, size_t head_dim, uint8_t *tile, size_t from) {
    const size_t bytes = xl_kv_bytes(type, head_dim, 8), scales = type == XL_KV_Q8 ? 32 : 0;
    const size_t k_unit = type == XL_KV_F16 ? 2 : 4;
    clear_units(tile, tile + scales, 4, from);
    clear_units(tile + scales, tile + bytes, is_k ? k_unit : (bytes - scales) / 8, from);
}

bool xl_kv_is_sane(xl_kv_type type, size_t head_dim, const uint8_t *area, size_t tiles) {
    const size_t tile_bytes = xl_kv_bytes(type, head_dim, 8);
    const size_t n = type == XL_KV_Q8 ? 8 : tile_bytes / (type == XL_KV_F16 ? 2 : 4);
    const float most = type == XL_KV_Q8 ? 65504.0f / 127 : 65504.0f;
    bool sane = true;
    for (size_t t = 0; t < tiles; t++, area += tile_bytes)
        if (type == XL_KV_F16)
            for (size_t i = 0; i < n; i++)
                sane &= (((const uint16_t *)(const void *)area)[i] & 0x7c00u) != 0x7c00u;
        else
            for (size_t i = 0; i < n; i++)
                sane &= fabsf(((const float *)(const void *)area)[i]) <= most;
    return sane;
}

const char *exitlm_kernel_name(size_t index) {
    const xl_kernels *list[XL_KERNELS_MAX];
    size_t n = xl_kernels_list(list);
    return index < n ? list[index]->name : NULL;
}
