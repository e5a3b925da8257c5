// The guest's integer matrix product by itself, for benchmarks: product(c, rows of
// c, columns of c, columns of a, a, w, scratch), with a packed [rows/4][k/8][4][8].
#include "gemm.h"

#define EXPORT(name) __attribute__((export_name(#name))) name

void EXPORT(product)(i32 *c, u32 m, u32 n, u32 k, const i16 *a, const i8 *w, i32 *x) {
  for (u32 i = 0; i < m; i += 4) {
    gemm_spread(x, a + i * k, k);
    gemm(c + i * n, n, x, 4, w, k, 0, n);
  }
}
