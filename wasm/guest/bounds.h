// Exact top-K without looking at most items. Included by kernel.c.
//
// The image may hold, for each item, a short row of int8 whose product with a
// short vector made from the user's is an upper bound of the item's score, in
// the manner of FEXIPRO (Li et al. 2017): a linear transform moves what decides
// about scores into few columns, the head, which are multiplied; what the others
// can add is bounded by the product of lengths (Cauchy-Schwarz). quantize makes
// the rows, internal/layout.Bounds says what they must fulfil; here every
// rounding is on the safe side, so that the answer is that of going through all
// items, whatever the rows are good for.
#pragma once
#include "scan.h"

struct bounds {
  f32 inv;       // one over the step of x
  f32 slack;     // what rounding of the transform could hide of a score
  i32 below;     // what rounding of x could hide of a product
  i32 sum[16];   // bounds of a block
  i32 x[];       // the short vector, [k/2][4][2] int16
};
// Nothing else uses this memory while items are searched.
#define BD AT(struct bounds, SPREAD)
#define BOUND_LEVELS 16383

static inline const f32 *bound_scalars(void) { return IMAGE(f32, BOUND_SCALARS); }

// y = the transform of u, (D), four values at a time
static __attribute__((noinline)) void bound_transform(f32 *y, const i16 *u) {
  u32 n = H(DIM), k = H(ITEM_K);
  const f32 *row = IMAGE(f32, BOUND_TRANSFORM);
  for (u32 j = 0; j < n; j += 4, row += 4 * k) {
    const f32 *a = row, *b = a + k * (j + 1 < n), *c = b + k * (j + 2 < n), *d = c + k * (j + 3 < n);
    v128_t sa = wasm_f32x4_splat(0), sb = sa, sc = sa, sd = sa;
    for (u32 i = 0; i < k; i += 4) {
      v128_t v = wasm_f32x4_convert_i32x4(wasm_i32x4_load16x4(u + i));
      sa = wasm_f32x4_add(sa, wasm_f32x4_mul(v, wasm_v128_load(a + i)));
      sb = wasm_f32x4_add(sb, wasm_f32x4_mul(v, wasm_v128_load(b + i)));
      sc = wasm_f32x4_add(sc, wasm_f32x4_mul(v, wasm_v128_load(c + i)));
      sd = wasm_f32x4_add(sd, wasm_f32x4_mul(v, wasm_v128_load(d + i)));
    }
    v128_t ab = wasm_f32x4_add(wasm_i32x4_shuffle(sa, sb, 0, 4, 1, 5), wasm_i32x4_shuffle(sa, sb, 2, 6, 3, 7));
    v128_t cd = wasm_f32x4_add(wasm_i32x4_shuffle(sc, sd, 0, 4, 1, 5), wasm_i32x4_shuffle(sc, sd, 2, 6, 3, 7));
    wasm_v128_store(y + j, wasm_f32x4_add(wasm_i64x2_shuffle(ab, cd, 0, 2), wasm_i64x2_shuffle(ab, cd, 1, 3)));
  }
}

// at least the length of y[from..to)
static f32 bound_length(const f32 *y, u32 from, u32 to) {
  f32 sum = 0;
  for (u32 j = from; j < to; j++) sum += y[j] * y[j];
  return __builtin_sqrtf(sum) * 1.001f;
}

static void bounds_begin(const i16 *u) {
  u32 head = H(BOUND_HEAD), middle = H(BOUND_MIDDLE), k = H(BOUND_K), n = H(DIM);
  f32 *y = AT(f32, NORM), length = 0, top = 0;
  const f32 *s = bound_scalars();
  bound_transform(y, u);
  for (u32 d = 0; d < n; d++) length += (f32)(u[d] * u[d]);
  f32 groups[3] = {s[0] * bound_length(y, 0, head), s[1] * bound_length(y, head, middle), s[2] * bound_length(y, middle, n)};
  for (u32 j = 0; j < head; j++) top = __builtin_fabsf(y[j]) > top ? __builtin_fabsf(y[j]) : top;
  for (u32 g = 0; g < 3; g++) top = groups[g] > top ? groups[g] : top;
  // Without a step every bound is as good as none.
  BD->inv = top < 0x1p-100f ? 0 : BOUND_LEVELS / top;
  BD->slack = s[3] * __builtin_sqrtf(length) * ((f32)n * 0x1p-22f);
  BD->below = (i32)(66 * head + 16);
  i16 *x = (i16 *)BD->x;
  for (u32 c = 0; c < k; c++) {
    i16 v = 0;
    if (c < head)
      v = (i16)quant(y[c], BD->inv, BOUND_LEVELS);
    else if (c < head + 3)
      v = (i16)(quant(groups[c - head], BD->inv, BOUND_LEVELS) + 1);
    for (u32 i = 0; i < 4; i++) x[c / 2 * 8 + 2 * i + (c & 1)] = v;
  }
}

// The least product that an item with this score, or a higher one, can have.
static i32 bound_threshold(f32 score) {
  f32 x = (score - __builtin_fabsf(score) * 0x1p-19f - BD->slack) * BD->inv;
  x = x - __builtin_fabsf(x) * 0x1p-19f;
  x = x < -0x1p29f ? -0x1p29f : x > 0x1p29f ? 0x1p29f : x;
  return (i32)x - BD->below;
}

// a bit for each row of a block whose bound is at least the threshold
static inline u32 bound_rows(i32 threshold) {
  v128_t t = wasm_i32x4_splat(threshold);
  u32 rows = 0;
  for (u32 i = 16; i;) {
    i -= 4; // the highest address first: one check of bounds
    rows = rows << 4 | wasm_i32x4_bitmask(wasm_i32x4_ge(wasm_v128_load(BD->sum + i), t));
  }
  return rows;
}

// One step of the search; returns its cost. The search is done when ST->row is H(ITEMS).
static u32 scan_bounded(void) {
  u32 n = H(ITEMS), short_k = H(BOUND_K), k = H(ITEM_K), stride = 16 * short_k, row_stride = row_block_bytes(k);
  u32 from = ST->row, to = min_u32(n, from + round_up(SLICE / (short_k + k), 16));
  const i8 *rows = IMAGE(i8, BOUND_ROWS), *p = rows + from / 16 * stride, *end = rows + (to + 15) / 16 * stride, *table = IMAGE(i8, ITEM_ROWS);
  const u32 *order = IMAGE(u32, BOUND_ORDER);
  const i16 *u = AT(i16, USER);
  const struct hit *root = AT(struct hit, HEAP);
  u32 full = ST->heap == RQ->k, looked = 0;
  i32 threshold = full ? bound_threshold(root->score) : 0;
  for (; p != end; p += stride) {
    u32 open = 0xffff;
    if (full) {
      p = scan_bounds(BD->x, p, end, short_k, threshold, BD->sum);
      if (p == end) break;
      open = bound_rows(threshold);
    }
    u32 row = (u32)(p - rows) / short_k;
    for (; open; open &= open - 1) {
      u32 r = (u32)__builtin_ctz(open);
      if (row + r >= n) break;
      u32 item = order[row + r];
      if (marked(item)) continue;
      const i8 *block = table + item / 4 * row_stride;
      i32 acc = scan_row(u, block + (item & 3) * 8, k);
      struct hit x = {item, acc, (f32)acc * ((const f32 *)(block + 4 * k))[item & 3]};
      looked++;
      if (full && !worse(root, &x)) continue;
      push(x);
      full = ST->heap == RQ->k;
    }
    if (full) threshold = bound_threshold(root->score);
  }
  ST->row = to;
  ST->looked += looked;
  return (to - from) * short_k + looked * k + 1;
}
