#pragma once

// The instruction sets that Highway compiles kernels for, to be read before <hwy/foreach_target.h>: not those without a fused multiply-add,
// whose machines run the scalar code. (SSSE3 and SSE4 would round a*b+c twice, and results must not depend on the machine.)
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
