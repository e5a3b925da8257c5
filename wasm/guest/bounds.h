// Exact top-K without looking at most items. Included by kernel.c.
//
// The image may hold, for each item, a short row of int8 whose product with a
// short vector made from the user's is an upper bound of the item's score, in
// the manner of FEXIPRO (Li et al. 2017): a linear transform moves what decides
// about scores into few columns, the head, which are multiplied; what the others
// can add is bounded by the product of lengths (Cauchy-Schwarz). A row has two
// parts, and the second one is read for blocks only in which the first one left
// something. Rows are ordered so that similar items share a block, and a search
// begins where the items are that promise most, so that the tenth best score is
// high from the beginning. quantize makes the rows, internal/layout.Bounds says
// what they must fulfil; here every rounding is on the safe side, so that the
// answer is that of going through all items, whatever the rows are good for.
#pragma once
#include "scan.h"

struct bounds {
  f32 inv;       // one over the step of x
  f32 slack;     // what rounding of the transform could hide of a score
  i32 below;     // what rounding of x could hide of a product
  u32 start;     // the row that the search began with
  i32 sum[16];   // bounds of a block
  i32 x[];       // the short vectors of both parts, [k/2][4][2] int16, and behind them the user's
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

static f32 bound_squares(const f32 *y, u32 from, u32 to) {
  f32 sum = 0;
  for (u32 j = from; j < to; j++) sum += y[j] * y[j];
  return sum;
}

// At least the length with that square: float32 loses less, but of the smallest squares.
static f32 bound_length(f32 squares) { return __builtin_sqrtf(squares) * 1.001f + 0x1p-50f; }

// writes column c of a short vector
static inline void bound_column(i16 *x, u32 c, i32 v) {
  for (u32 i = 0; i < 4; i++) x[c / 2 * 8 + 2 * i + (c & 1)] = (i16)v;
}

// the row of the leaf whose pivot promises most
static u32 bound_start(void) {
  u32 k = H(BOUND_K), stride = 16 * k, leaves = (H(ITEMS) + BOUND_LEAF - 1) / BOUND_LEAF;
  leaves = min_u32(leaves, SLICE / k); // any start is right
  const i8 *pivots = IMAGE(i8, BOUND_PIVOTS), *p = pivots, *end = p + (leaves + 15) / 16 * stride;
  i32 best = -0x7fffffff;
  u32 at = 0;
  for (; (p = scan_bounds(BD->x, p, 0, end, k, 0, best, BD->sum)) != end; p += stride)
    for (u32 i = 0, leaf = (u32)(p - pivots) / k; i < 16 && leaf < leaves; i++, leaf++)
      if (BD->sum[i] >= best) {
        best = BD->sum[i] + 1;
        at = leaf;
      }
  return at * BOUND_LEAF;
}

static void bounds_begin(const i16 *u) {
  u32 first = H(BOUND_FIRST), head = H(BOUND_HEAD), middle = H(BOUND_MIDDLE), k = H(BOUND_K), more_k = H(BOUND_MORE_K), n = H(DIM);
  f32 *y = AT(f32, NORM), length = 0, top = 0;
  const f32 *s = bound_scalars();
  bound_transform(y, u);
  for (u32 d = 0; d < n; d++) length += (f32)(u[d] * u[d]);
  f32 behind = bound_squares(y, first, n), between = bound_squares(y, head, middle), rest = bound_squares(y, middle, n);
  const f32 *step = IMAGE(f32, BOUND_STEPS);
  for (u32 j = 0; j < head; j++) y[j] *= step[j];
  f32 a = bound_squares(y, 0, first), b = bound_squares(y, first, head);
  f32 groups[3] = {s[0] * bound_length(s[3] * a + behind), s[1] * bound_length(s[4] * (a + b) + between), s[2] * bound_length(rest)};
  for (u32 j = 0; j < head; j++) top = __builtin_fabsf(y[j]) > top ? __builtin_fabsf(y[j]) : top;
  for (u32 g = 0; g < 3; g++) top = groups[g] > top ? groups[g] : top;
  // Without a step every bound is as good as none.
  BD->inv = top < 0x1p-100f ? 0 : BOUND_LEVELS / top;
  BD->slack = s[5] * __builtin_sqrtf(length) * ((f32)n * 0x1p-22f);
  BD->below = (i32)(66 * head + 16);
  i32 of[3];
  for (u32 g = 0; g < 3; g++) of[g] = quant(groups[g], BD->inv, BOUND_LEVELS) + 1;
  i16 *x = (i16 *)BD->x, *more = x + 4 * k;
  __builtin_memset(x, 0, 8 * (k + more_k));
  for (u32 j = 0; j < head; j++) {
    i32 v = quant(y[j], BD->inv, BOUND_LEVELS);
    if (j < first)
      bound_column(x, j, v);
    else
      bound_column(more, j - first, v);
  }
  bound_column(x, first, of[0]);
  bound_column(more, head - first, -of[0]); // the second part's lengths take the place of the first one's
  bound_column(more, head - first + 1, of[1]);
  bound_column(more, head - first + 2, of[2]);
  BD->start = bound_start();
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

// One step of the search, which goes round from its start; returns its cost. The search is
// done when ST->row is H(ITEMS).
static u32 scan_bounded(void) {
  u32 n = H(ITEMS), all = round_up(n, 16), first_k = H(BOUND_K), more_k = H(BOUND_MORE_K), k = H(ITEM_K);
  u32 stride = 16 * first_k, row_stride = row_block_bytes(k);
  u32 done = ST->row, from = BD->start + done;
  if (from >= all) from -= all;
  u32 rows = min_u32(min_u32(all - from, all - done), round_up(SLICE / (first_k + more_k + k), 16));
  const i8 *table = IMAGE(i8, BOUND_ROWS), *p = table + from / 16 * stride, *end = p + rows / 16 * stride, *items = IMAGE(i8, ITEM_ROWS);
  const i8 *more = IMAGE(i8, BOUND_MORE_ROWS) + from * more_k;
  const u32 *order = IMAGE(u32, BOUND_ORDER);
  const i32 *u = spread_rows(BD->x + 2 * (first_k + more_k), AT(i16, USER), k);
  const struct hit *root = AT(struct hit, HEAP);
  u32 full = ST->heap == RQ->k, looked = 0;
  i32 threshold = full ? bound_threshold(root->score) : 0;
  for (u32 row = from; p != end; p += stride, row += 16, more += 16 * more_k) {
    u32 open = 0xffff;
    if (full) {
      const i8 *next = scan_bounds(BD->x, p, more, end, first_k, more_k, threshold, BD->sum);
      if (next == end) break;
      u32 skipped = (u32)(next - p) / first_k;
      p = next, row += skipped, more += skipped * more_k;
      open = bound_rows(threshold);
    }
    for (; open; open &= open - 1) {
      u32 r = row + (u32)__builtin_ctz(open);
      if (r >= n) break;
      u32 item = order[r];
      if (marked(item)) continue;
      const i8 *block = items + item / 4 * row_stride;
      i32 acc = dot_block_row(u, block, k, item & 3);
      struct hit x = {item, acc, (f32)acc * ((const f32 *)(block + 4 * k))[item & 3]};
      looked++;
      if (full && !worse(root, &x)) continue;
      push(x);
      full = ST->heap == RQ->k;
    }
    if (full) threshold = bound_threshold(root->score);
  }
  done += rows;
  ST->row = done == all ? n : done;
  ST->looked += looked;
  return rows * (first_k + more_k) + looked * k + 1;
}
