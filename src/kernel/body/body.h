/* The kernels of one instruction set. A file NAME.c defines the primitives (listed in matmul.h) and
 * then includes this, with ISA defined as NAME; everything becomes static but the table
 * xl_kernels_NAME. */
#include "kernel/kernels_isa.h"

#include "base/fmath.h"

#include <float.h>

#include "matmul.h"
#include "vector.h"
#include "attend.h"

#define XL_JOIN_(a, b) a##b
#define XL_JOIN(a, b) XL_JOIN_(a, b)
#define XL_TEXT_(a) #a
#define XL_TEXT(a) XL_TEXT_(a)

const xl_kernels XL_JOIN(xl_kernels_, ISA) = {
    .name = XL_TEXT(ISA),
#define X(RET, NAME, PARAMS) .NAME = NAME,
    XL_KERNEL_LIST(X)
#undef X
#define X(NAME, ID, ELEMS, FILE_BYTES, RECORD_BYTES) [XL_##NAME] = matmul_##NAME,
        .matmul = {XL_TYPE_LIST(X)},
#undef X
#define X(NAME, TEXT) [XL_KV_##NAME] = attend_##NAME,
    .attend = {XL_KV_LIST(X)},
#undef X
#define X(NAME, TEXT) [XL_KV_##NAME] = xl_store_kv_##NAME,
    .store_kv = {XL_KV_LIST(X)},
#undef X
};
