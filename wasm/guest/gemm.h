// Integer matrix product of four packed rows.
#pragma once
#include "simd.h"

// One step of eight columns for four rows of a and two rows of w. Two base
// pointers with constant offsets, the highest first: an engine that checks
// bounds in software pays one check for each pointer and unrolled block.
#define GEMM_STEP(o)                                                          \
  {                                                                           \
    v128_t y1 = wasm_i16x8_load8x8(w + 16 * (o) + 8), y0 = wasm_i16x8_load8x8(w + 16 * (o)), x; \
    x = wasm_v128_load(a + 32 * (o) + 24);                                    \
    c30 = wasm_i32x4_add(c30, wasm_i32x4_dot_i16x8(x, y0));                   \
    c31 = wasm_i32x4_add(c31, wasm_i32x4_dot_i16x8(x, y1));                   \
    x = wasm_v128_load(a + 32 * (o) + 16);                                    \
    c20 = wasm_i32x4_add(c20, wasm_i32x4_dot_i16x8(x, y0));                   \
    c21 = wasm_i32x4_add(c21, wasm_i32x4_dot_i16x8(x, y1));                   \
    x = wasm_v128_load(a + 32 * (o) + 8);                                     \
    c10 = wasm_i32x4_add(c10, wasm_i32x4_dot_i16x8(x, y0));                   \
    c11 = wasm_i32x4_add(c11, wasm_i32x4_dot_i16x8(x, y1));                   \
    x = wasm_v128_load(a + 32 * (o));                                         \
    c00 = wasm_i32x4_add(c00, wasm_i32x4_dot_i16x8(x, y0));                   \
    c01 = wasm_i32x4_add(c01, wasm_i32x4_dot_i16x8(x, y1));                   \
  }

static inline v128_t pair_sums(v128_t a, v128_t b) {
  return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
}

// c[4][rows] = a · wᵀ for output rows [from, to), multiples of four.
// a: [k/8][4][8] int16, w: [rows/2][k/8][2][8] int8, k a multiple of 32.
static void gemm4(i32 *c, u32 rows, const i16 *input, const i8 *weights, u32 k, u32 from, u32 to) {
  for (u32 n = from; n < to; n += 4) {
    v128_t half[8];
    for (u32 h = 0; h < 2; h++) {
      const i16 *a = input;
      const i8 *w = weights + (n + 2 * h) * k, *end = w + 2 * k;
      v128_t c00 = wasm_i32x4_splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00;
      do {
        GEMM_STEP(3)
        GEMM_STEP(2)
        GEMM_STEP(1)
        GEMM_STEP(0)
        w += 64;
        a += 128;
      } while (w != end);
      half[4 * h] = pair_sums(c00, c01);
      half[4 * h + 1] = pair_sums(c10, c11);
      half[4 * h + 2] = pair_sums(c20, c21);
      half[4 * h + 3] = pair_sums(c30, c31);
    }
    for (u32 m = 0; m < 4; m++) {
      v128_t p = half[m], q = half[4 + m];
      wasm_v128_store(c + m * rows + n, wasm_i32x4_add(wasm_i64x2_shuffle(p, q, 0, 2), wasm_i64x2_shuffle(p, q, 1, 3)));
    }
  }
}

// the place of column i of row m in the packed input of gemm4
static inline u32 packed(u32 m, u32 i) { return (i / 8) * 32 + m * 8 + (i & 7); }
