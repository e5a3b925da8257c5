// Rows of int8 and products with them. A table has them in blocks of four,
// [k/2][4][2] int8, two columns of each row and then the next two, and behind these
// the four rows' scales; k is a multiple of eight. Against two columns of a vector, four
// times over, a lane of a sum is a row throughout. The form is that of internal/layout.
#pragma once
#include "simd.h"

static inline u32 row_block_bytes(u32 k) { return 4 * k + 16; }

// where row r of a block begins; its next two columns are eight bytes on
static inline const i8 *row_start(const i8 *block, u32 r) { return block + 2 * r; }

// column d of the row that begins at p
static inline i8 row_column(const i8 *p, u32 d) { return p[d / 2 * 8 + (d & 1)]; }

// eight columns of a row, from p on
static inline v128_t row8(const i8 *p) {
  v128_t x = wasm_i64x2_splat(0);
  x = wasm_v128_load16_lane(p + 24, x, 3);
  x = wasm_v128_load16_lane(p + 16, x, 2);
  x = wasm_v128_load16_lane(p + 8, x, 1);
  x = wasm_v128_load16_lane(p, x, 0);
  return wasm_i16x8_extend_low_i8x16(x);
}

// the product of u, (k), with the row that begins at p
static __attribute__((noinline)) i32 dot_row(const i16 *u, const i8 *p, u32 k) {
  v128_t sum = wasm_i32x4_splat(0);
#pragma clang loop unroll(disable)
  for (u32 d = 0; d < k; d += 8, p += 32) sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(wasm_v128_load(u + d), row8(p)));
  return hsum(sum);
}

// the product of the row that begins at p with itself
static __attribute__((noinline)) i32 row_squares(const i8 *p, u32 k) {
  v128_t sum = wasm_i32x4_splat(0);
#pragma clang loop unroll(disable)
  for (u32 d = 0; d < k; d += 8, p += 32) {
    v128_t x = row8(p);
    sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(x, x));
  }
  return hsum(sum);
}

// x = u, (k), as whole blocks are multiplied with it: [k/2][4][2], each two columns
// four times over. It returns x.
static __attribute__((noinline)) const i32 *spread_rows(i32 *x, const i16 *u, u32 k) {
  for (u32 i = 0; i < k / 2; i++) wasm_v128_store(x + 4 * i, wasm_v128_load32_splat(u + 2 * i));
  return x;
}

// The products of x with the four rows of a block; it is in scan.S.
v128_t dot_block(const i32 *x, const i8 *p, u32 k);

// the product of x with one of them: faster than dot_row where x is there
static inline i32 dot_block_row(const i32 *x, const i8 *p, u32 k, u32 r) {
  i32 products[4];
  wasm_v128_store(products, dot_block(x, p, k));
  return products[r & 3];
}

// the products of the four rows of a block with themselves
static inline v128_t block_squares(const i8 *p, u32 k) {
  v128_t sum = wasm_i32x4_splat(0);
  for (const i8 *end = p + 4 * k; p != end; p += 8) {
    v128_t x = wasm_i16x8_load8x8(p);
    sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(x, x));
  }
  return sum;
}
