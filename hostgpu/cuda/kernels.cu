// What a GPU computes beside matrix products: the one translation unit of the parts
// below. `make ptx` compiles it to kernels.ptx, which the program carries; the tests
// compile it as C++ for a device that is played by the processor (standin.cc).
#include "common.cuh"
#include "elements.cuh"
#include "rows.cuh"
#include "layers.cuh"
#include "attention.cuh"
#include "losses.cuh"
#include "random.cuh"
#include "optimizer.cuh"
