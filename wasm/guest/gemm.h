// Integer matrix products, C = A · Wᵀ, four rows of A at a time.
//
// Both operands are packed so that a vector lane is a column of C throughout:
// no sum runs across lanes. W is [rows/8][k/2][8][2] int8: the weights of eight
// rows for two columns, then for the next two. A is [k/2][4][4][2] int16: the two
// columns of each of four rows, four times over. A step multiplies two columns:
// c[m][0..8) += a[m][0]·w[0..8)[0] + a[m][1]·w[0..8)[1].
#pragma once
#include "simd.h"

// c[m][0..8) = sums over k columns, a multiple of eight, for the first 1, 2 or 4
// rows of x and a block of eight rows of w; stride is a row of c in bytes. They are
// in gemm.S.
void gemm_tile1(i32 *c, u32 stride, const i32 *x, const i8 *w, u32 k);
void gemm_tile2(i32 *c, u32 stride, const i32 *x, const i8 *w, u32 k);
void gemm_tile4(i32 *c, u32 stride, const i32 *x, const i8 *w, u32 k);

// The place of column i of row m in the input of a product, (4, k): it is written
// eight columns of a row at a time, [k/8][4][8] int16, and spread from there.
static inline u32 packed(u32 m, u32 i) { return (i / 8) * 32 + m * 8 + (i & 7); }

// x = the rows of a, (4, k), as gemm_tile takes them.
static __attribute__((noinline)) void gemm_spread(i32 *x, const i16 *a, u32 k) {
  for (const i16 *end = a + 4 * k; a != end; a += 32, x += 64) {
    // The highest addresses first: one check of bounds for each pointer.
    for (u32 j = 4; j--;)
      for (u32 m = 4; m--;) wasm_v128_store(x + 16 * j + 4 * m, wasm_v128_load32_splat(a + 8 * m + 2 * j));
  }
}

// c[m][from..to) for rows m of the spread input x, whole blocks of eight; c has
// row_len columns. w are all the weights, k columns of each row.
static inline void gemm(i32 *c, u32 row_len, const i32 *x, u32 rows, const i8 *w, u32 k, u32 from, u32 to) {
  for (u32 n = from; n < to; n += 8) {
    const i8 *block = w + n * k;
    if (rows == 1)
      gemm_tile1(c + n, 4 * row_len, x, block, k);
    else if (rows == 2)
      gemm_tile2(c + n, 4 * row_len, x, block, k);
    else
      gemm_tile4(c + n, 4 * row_len, x, block, k);
  }
}
