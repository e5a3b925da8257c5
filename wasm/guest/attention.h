// Attention of the text encoder: four tokens and one head at a time, as two
// integer matrix products with a softmax between them. Included by text.h.
// Shape names: T tokens, filled up to whole blocks of eight; P width of a padded
// head.
//
// In memory, for each head: keys are the weights of a product with T rows and P
// columns, values those of one with P rows and T columns; queries are packed
// inputs of P columns, four tokens after four.
#pragma once
#include "gemm.h"

static inline u32 tokens_pad(void) { return round_up(TS->tokens, 8); }
static inline i16 *query_of(u32 t, u32 h) { return AT(i16, Q) + t / 4 * 4 * H(TEXT_INNER) + h * 4 * H(TEXT_HEAD_PAD); }
static inline i8 *keys_of(u32 h) { return AT(i8, K) + h * tokens_pad() * H(TEXT_HEAD_PAD); }
static inline i8 *values_of(u32 h) { return AT(i8, V) + h * tokens_pad() * H(TEXT_HEAD_PAD); }

// quantizes n values of a query, a multiple of eight, into row m; returns the step
static f32 pack_query(i16 *q, u32 m, const f32 *x, u32 n) {
  struct step s = row_step(x, n, LEVELS);
  v128_t inv = wasm_f32x4_splat(s.inv), limit = wasm_f32x4_splat(LEVELS);
  for (u32 i = 0; i < n; i += 8) wasm_v128_store(q + packed(m, i), quant8(x + i, inv, limit));
  return s.step;
}

// the same of a key, token t of its head
static f32 pack_key(i8 *keys, u32 t, const f32 *x, u32 n) {
  struct step s = row_step(x, n, LEVELS);
  v128_t inv = wasm_f32x4_splat(s.inv), limit = wasm_f32x4_splat(LEVELS);
  i8 *to = keys + t / 8 * 8 * n + t % 8 * 2;
  for (u32 i = 0; i < n; i += 8, to += 64) {
    v128_t v = quant8(x + i, inv, limit);
    v = wasm_i8x16_narrow_i16x8(v, v);
    wasm_v128_store16_lane(to + 48, v, 3);
    wasm_v128_store16_lane(to + 32, v, 2);
    wasm_v128_store16_lane(to + 16, v, 1);
    wasm_v128_store16_lane(to, v, 0);
  }
  return s.step;
}

// quantizes the values of head h, from (T, H·P) floats, in one step for all tokens
static f32 pack_values(u32 h, const f32 *x) {
  u32 n = H(TEXT_INNER), pad = H(TEXT_HEAD_PAD), tokens = TS->tokens, columns = tokens_pad();
  v128_t top = wasm_f32x4_splat(0);
  x += h * pad;
  for (u32 t = 0; t < tokens; t++) top = max_abs(top, x + t * n, pad);
  struct step s = step_of(top, LEVELS);
  v128_t inv = wasm_f32x4_splat(s.inv), limit = wasm_f32x4_splat(LEVELS), low = wasm_i16x8_splat(0xff);
  // Two tokens together: the low byte of a lane is the first one's.
  for (u32 t = 0; t < tokens; t += 2, x += 2 * n) {
    i8 *to = values_of(h) + t * 8;
    for (u32 j = 0; j < pad; j += 8, to += 8 * columns) {
      v128_t first = quant8(x + j, inv, limit), second = wasm_i16x8_splat(0);
      if (t + 1 < tokens) second = quant8(x + n + j, inv, limit);
      wasm_v128_store(to, wasm_v128_or(wasm_v128_and(first, low), wasm_i16x8_shl(second, 8)));
    }
  }
  return s.step;
}

// The softmax of row m, in units of 1/PROB_ONE, packed as input of a product
// with T columns. score: integers, of which n count; they are replaced by
// (score·k_step)·q_step. Returns the sum.
static __attribute__((noinline)) i32 softmax(i16 *prob, u32 m, f32 *score, const f32 *k_step, f32 q_step, u32 n) {
  v128_t q4 = wasm_f32x4_splat(q_step), none = wasm_f32x4_splat(-__builtin_inff()), best4 = none;
  v128_t left = wasm_i32x4_sub(wasm_i32x4_splat((i32)n), wasm_i32x4_make(0, 1, 2, 3));
  u32 columns = round_up(n, 8);
  // Behind the last score lie values of no meaning; they get weight zero.
  for (u32 i = 0; i < columns; i += 4, left = wasm_i32x4_sub(left, wasm_i32x4_splat(4))) {
    v128_t s = wasm_f32x4_mul(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_v128_load(score + i)), wasm_v128_load(k_step + i)), q4);
    s = wasm_v128_bitselect(s, none, wasm_i32x4_gt(left, wasm_i32x4_splat(0)));
    wasm_v128_store(score + i, s);
    best4 = wasm_f32x4_pmax(best4, s);
  }
  f32 l[4];
  wasm_v128_store(l, best4);
  f32 a = l[0] > l[1] ? l[0] : l[1], b = l[2] > l[3] ? l[2] : l[3];
  best4 = wasm_f32x4_splat(a > b ? a : b);
  v128_t one = wasm_f32x4_splat(PROB_ONE), total = wasm_i32x4_splat(0);
  for (u32 i = 0; i < columns; i += 8) {
    v128_t hi = round4(wasm_f32x4_mul(exp4(wasm_f32x4_sub(wasm_v128_load(score + i + 4), best4)), one));
    v128_t lo = round4(wasm_f32x4_mul(exp4(wasm_f32x4_sub(wasm_v128_load(score + i), best4)), one));
    total = wasm_i32x4_add(wasm_i32x4_add(total, lo), hi);
    wasm_v128_store(prob + packed(m, i), wasm_i16x8_narrow_i32x4(lo, hi));
  }
  return hsum(total);
}

// o = (acc·step)/sum, n values, a multiple of four
static void mean(f32 *o, const i32 *acc, f32 step, i32 sum, u32 n) {
  v128_t step4 = wasm_f32x4_splat(step), sum4 = wasm_f32x4_splat((f32)sum);
  for (u32 i = 0; i < n; i += 4) wasm_v128_store(o + i, wasm_f32x4_div(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_v128_load(acc + i)), step4), sum4));
}

// Attention of head h for the n tokens from t on, at most four, to o, (4, H·P).
// step: the steps of queries and of keys for each token, and that of the values.
static u32 attend_head(f32 *o, u32 h, u32 t, u32 n, const f32 *q_step, const f32 *k_step, f32 v_step) {
  u32 pad = H(TEXT_HEAD_PAD), tokens = TS->tokens, columns = tokens_pad();
  i32 *x = AT(i32, SPREAD), *acc = AT(i32, ACC), sum[4];
  gemm_spread(x, query_of(t, h), pad);
  gemm(acc, columns, x, n, keys_of(h), pad, 0, columns);
  for (u32 m = 0; m < n; m++) sum[m] = softmax(AT(i16, PROBS), m, (f32 *)acc + m * columns, k_step, q_step[t + m], tokens);
  gemm_spread(x, AT(i16, PROBS), columns);
  gemm(acc, pad, x, n, values_of(h), columns, 0, pad);
  for (u32 m = 0; m < n; m++) mean(o + m * H(TEXT_INNER) + h * pad, acc + m * pad, v_step, sum[m], pad);
  return 8 * columns * pad;
}
