/* The kernels of one instruction set. A file NAME.c defines the primitives (listed in matmul.h) and
 * then includes this, with ISA defined as NAME; everything becomes static but the table
 * xl_kernels_NAME. */
#include "kernel/kernels_isa.h"

#include "base/fmath.h"

#include <float.h>

#include "matmul.h"
#include "vector.h"
#include "attend.h"

#include "table.h"
