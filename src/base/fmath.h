/* Elementary functions that give the same bits on every platform: only +, -, *, / and integer
 * operations on f32 or f64, each rounded separately (the build uses -ffp-contract=off). libm
 * differs from system to system by a unit in the last place, which is enough to make two builds
 * choose different tokens. */
#ifndef XL_FMATH_H
#define XL_FMATH_H

#include <math.h> /* sqrt and sqrtf alone: IEEE 754 defines their every bit */
#include <stdint.h>
#include <string.h>

/* Constants of xl_expf, shared with its vector form in kernel/body/vector.h, which does exactly the
 * same operations. The polynomial approximates (e^r - 1 - r) / r^2 on |r| <= ln(2)/2
 * (interpolated at Chebyshev nodes, 50 digits). */
#define XL_EXPF_MAX 88.37f    /* above: xl_expf(88.37), about 2.4e38 */
#define XL_EXPF_MIN (-87.33f) /* below: exactly 0 */
#define XL_EXPF_LOG2E 1.4426950408889634f
/* 1.5 * 2^23: adding it rounds to an integer, to nearest even */
#define XL_EXPF_MAGIC 12582912.0f
#define XL_EXPF_LN2_HI 0.693359375f /* 10 bits: n * hi is exact */
#define XL_EXPF_LN2_LO (-2.12194440e-4f)
#define XL_EXPF_C0 5.0000000135e-01f
#define XL_EXPF_C1 1.6666666682e-01f
#define XL_EXPF_C2 4.1666464602e-02f
#define XL_EXPF_C3 8.3333108896e-03f
#define XL_EXPF_C4 1.3933685863e-03f
#define XL_EXPF_C5 1.9891030654e-04f

static inline uint32_t xl_bits_of_float(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float xl_float_of_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint64_t xl_bits_of_double(double d) {
    uint64_t u;
    memcpy(&u, &d, sizeof u);
    return u;
}

static inline double xl_double_of_bits(uint64_t u) {
    double d;
    memcpy(&d, &u, sizeof d);
    return d;
}

/* e^x in f32, within 1.5 units in the last place on [-87.33, 88.37]; 0 below, the largest value
 * above; NaN counts as too large. */
static inline float xl_expf(float x) {
    float c = x < XL_EXPF_MAX ? x : XL_EXPF_MAX;
    int under = c < XL_EXPF_MIN;
    c = under ? XL_EXPF_MIN : c;
    float z = c * XL_EXPF_LOG2E + XL_EXPF_MAGIC;
    float n = z - XL_EXPF_MAGIC;
    float r = c - n * XL_EXPF_LN2_HI;
    r = r - n * XL_EXPF_LN2_LO;
    float p = XL_EXPF_C5;
    p = p * r + XL_EXPF_C4;
    p = p * r + XL_EXPF_C3;
    p = p * r + XL_EXPF_C2;
    p = p * r + XL_EXPF_C1;
    p = p * r + XL_EXPF_C0;
    p = p * (r * r) + r;
    p = p + 1.0f;
    /* The low bits of z are n in two's complement; shifting by 23 drops the magic number's own
     * bits. */
    float scale = xl_float_of_bits((xl_bits_of_float(z) + 127u) << 23);
    return under ? 0.0f : p * scale;
}

#define XL_LN2_HI 0x1.62e42feep-1 /* 32 bits, so that n * hi is exact for |n| < 2^21 */
#define XL_LN2_LO 0x1.a39ef35793c76p-33
#define XL_DOUBLE_MAGIC 6755399441055744.0 /* 1.5 * 2^52 */

static inline double xl_pow2_int(int n) { /* 2^n, -1022 <= n <= 1023 */
    return xl_double_of_bits((uint64_t)(n + 1023) << 52);
}

/* e^x in f64, about 1 unit in the last place. 0 below -745, infinity above 709.78; NaN for NaN. */
static inline double xl_exp(double x) {
    if (!(x == x)) return x;
    if (x > 709.782712893384) return xl_double_of_bits(0x7ff0000000000000u);
    if (x < -745.2) return 0.0;
    double n = (x * 1.4426950408889634 + XL_DOUBLE_MAGIC) - XL_DOUBLE_MAGIC;
    double r = (x - n * XL_LN2_HI) - n * XL_LN2_LO;
    double p = 1.0 / 6227020800.0; /* Taylor to r^13: the rest is below 2^-59 for |r| <= ln(2)/2 */
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * (r * r) + r;
    p = p + 1.0;
    int k = (int)n, half = k / 2; /* two steps reach the subnormals and 2^1024 */
    return p * xl_pow2_int(half) * xl_pow2_int(k - half);
}

/* Natural logarithm in f64, about 1 unit in the last place. -infinity for 0, NaN below 0 and for
 * NaN, infinity for infinity. */
static inline double xl_log(double x) {
    uint64_t bits = xl_bits_of_double(x);
    if (!(x > 0.0))
        return x == 0.0 ? xl_double_of_bits(0xfff0000000000000u)
                        : xl_double_of_bits(0x7ff8000000000000u);
    if (bits >= 0x7ff0000000000000u) return x;
    int e = 0;
    if (bits < 0x0010000000000000u) { /* subnormal */
        bits = xl_bits_of_double(x * 0x1p54);
        e = -54;
    }
    e += (int)(bits >> 52) - 1023;
    double m = xl_double_of_bits((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    /* log m = 2 atanh(f), f = (m-1)/(m+1), |f| <= 0.1716; the series to f^23 leaves less than
     * 2^-60. */
    double t = m - 1.0, f = t / (m + 1.0), s = f * f;
    double p = 2.0 / 23.0;
    p = p * s + 2.0 / 21.0;
    p = p * s + 2.0 / 19.0;
    p = p * s + 2.0 / 17.0;
    p = p * s + 2.0 / 15.0;
    p = p * s + 2.0 / 13.0;
    p = p * s + 2.0 / 11.0;
    p = p * s + 2.0 / 9.0;
    p = p * s + 2.0 / 7.0;
    p = p * s + 2.0 / 5.0;
    p = p * s + 2.0 / 3.0;
    /* 2f = t - f*t exactly in the reals; t is exact, so the small terms are summed first. */
    double small = f * (s * p - t) + (double)e * XL_LN2_LO;
    return (double)e * XL_LN2_HI + (t + small);
}

/* x^y in f64 for x > 0, relative error about |y log x| * 2^-52. 1 for y = 0, 0 for x = 0 and y >
 * 0; NaN for x < 0. */
static inline double xl_pow(double x, double y) {
    if (y == 0.0) return 1.0;
    return xl_exp(y * xl_log(x));
}

/* sin and cos of x in f64, error below 2^-50 for |x| < 1e6; x beyond 1e9 or not finite gives 0
 * and 1. */
static inline void xl_sincos(double x, double *sin_out, double *cos_out) {
    if (!(x > -1e9 && x < 1e9)) {
        *sin_out = 0.0;
        *cos_out = 1.0;
        return;
    }
    double n = (x * 0.63661977236758134308 + XL_DOUBLE_MAGIC) - XL_DOUBLE_MAGIC;
    /* pi/2 in three parts; n times the first two is exact for |n| < 2^20. */
    double r = ((x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69;
    double s = r * r;
    double p = 1.0 / 355687428096000.0; /* sin: Taylor to r^17 on |r| <= pi/4 */
    p = 1.0 / 1307674368000.0 - p * s;
    p = 1.0 / 6227020800.0 - p * s;
    p = 1.0 / 39916800.0 - p * s;
    p = 1.0 / 362880.0 - p * s;
    p = 1.0 / 5040.0 - p * s;
    p = 1.0 / 120.0 - p * s;
    p = 1.0 / 6.0 - p * s;
    double sine = r - r * s * p;
    double q = 1.0 / 20922789888000.0; /* cos: Taylor to r^16 */
    q = 1.0 / 87178291200.0 - q * s;
    q = 1.0 / 479001600.0 - q * s;
    q = 1.0 / 3628800.0 - q * s;
    q = 1.0 / 40320.0 - q * s;
    q = 1.0 / 720.0 - q * s;
    q = 1.0 / 24.0 - q * s;
    q = 0.5 - q * s;
    double cosine = 1.0 - s * q;
    switch ((unsigned)(int)n & 3u) {
    case 0: *sin_out = sine, *cos_out = cosine; break;
    case 1: *sin_out = cosine, *cos_out = -sine; break;
    case 2: *sin_out = -sine, *cos_out = -cosine; break;
    default: *sin_out = -cosine, *cos_out = sine; break;
    }
}

static inline double xl_sin(double x) {
    double s, c;
    xl_sincos(x, &s, &c);
    return s;
}

static inline double xl_cos(double x) {
    double s, c;
    xl_sincos(x, &s, &c);
    return c;
}

#endif
