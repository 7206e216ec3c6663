/* The table of an instruction set, ISA: its functions by their names in kernels.h. */
#define XL_JOIN_(a, b) a##b
#define XL_JOIN(a, b) XL_JOIN_(a, b)
#define XL_STRING_(a) #a
#define XL_STRING(a) XL_STRING_(a)

#define X(NAME, TEXT)                                                                           \
    static void attend_##NAME(float *out, const float *q, size_t stride, size_t rows,           \
                              const xl_stretch *cache, xl_reach span, size_t head_dim,          \
                              size_t group, float scale, float *score) {                        \
        attend(XL_KV_##NAME, out, q, stride, rows, cache, span, head_dim, group, scale, score); \
    }
XL_KV_LIST(X)
#undef X

const xl_kernels XL_JOIN(xl_kernels_, ISA) = {
    .name = XL_STRING(ISA),
#define X(RET, NAME, PARAMS) .NAME = NAME,
    XL_KERNEL_LIST(X)
#undef X
#define X(NAME, ID, ELEMS, FILE_BYTES, RECORD_BYTES) [XL_##NAME] = matmul_##NAME,
        .matmul = {XL_TYPE_LIST(X)},
#undef X
#define X(NAME, TEXT) [XL_KV_##NAME] = attend_##NAME,
    .attend = {XL_KV_LIST(X)},
#undef X
#ifdef OWN_STORE_KV_F16
    .store_kv = {xl_store_kv_F32, store_kv_f16, xl_store_kv_Q8},
#else
    .store_kv = {xl_store_kv_F32, xl_store_kv_F16, xl_store_kv_Q8},
#endif
};
