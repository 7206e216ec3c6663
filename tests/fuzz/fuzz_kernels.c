/* libFuzzer: kernels of each instruction set that this processor runs, on shapes and numbers drawn
 * from the input. What must hold: the bits of the scalar ones, and nothing read or written beside
 * the buffers. */
#include "kernel_checks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const xl_kernels *list[XL_KERNELS_MAX];
    const size_t n = xl_kernels_list(list);
    for (size_t i = 0; i + (n > 1) < n; i++) { /* scalar itself where there is nothing else */
        input in = {data, size};
        test_drawn(list[i], &in);
    }
    EXPECT(failures == 0);
    return 0;
}
