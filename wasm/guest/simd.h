// Vector helpers and the float32 part of the arithmetic. internal/q8 defines it;
// every function here gives the same bits as its namesake there.
#pragma once
#include "layout.h"
#include <stdint.h>
#include <wasm_simd128.h>

typedef uint32_t u32;
typedef int32_t i32;
typedef int16_t i16;
typedef int8_t i8;
typedef uint8_t u8;
typedef float f32;

// horizontal sums of four vectors: lane j is the sum of the lanes of argument j
static inline v128_t hsum4(v128_t a, v128_t b, v128_t c, v128_t d) {
  v128_t ab = wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
  v128_t cd = wasm_i32x4_add(wasm_i32x4_shuffle(c, d, 0, 4, 1, 5), wasm_i32x4_shuffle(c, d, 2, 6, 3, 7));
  return wasm_i32x4_add(wasm_i64x2_shuffle(ab, cd, 0, 2), wasm_i64x2_shuffle(ab, cd, 1, 3));
}

static inline i32 hsum(v128_t a) {
  a = wasm_i32x4_add(a, wasm_i32x4_shuffle(a, a, 2, 3, 0, 1));
  a = wasm_i32x4_add(a, wasm_i32x4_shuffle(a, a, 1, 0, 3, 2));
  return wasm_i32x4_extract_lane(a, 0);
}

// rounds to the nearest integer, ties to even, after clamping to ±limit
static inline i32 quant(f32 x, f32 inv, f32 limit) {
  x = x * inv;
  x = x < -limit ? -limit : x;
  x = x > limit ? limit : x;
  return (i32)__builtin_nearbyintf(x);
}

// The same magnitudes below 2^22 rounded to integers: beyond 2^23 a float has no
// fraction, so the sum is rounded as it should be, and its low bits are the
// integer. Conversions take an engine many instructions, and so do min and max
// that heed NaN; there is none.
#define ROUND 0x1.8p23f
#define ROUND_BITS 0x4b400000
static inline v128_t round4(v128_t x) { return wasm_i32x4_sub(wasm_f32x4_add(x, wasm_f32x4_splat(ROUND)), wasm_i32x4_splat(ROUND_BITS)); }

static inline v128_t quant4(v128_t x, v128_t inv, v128_t limit) {
  x = wasm_f32x4_mul(x, inv);
  return round4(wasm_f32x4_pmin(wasm_f32x4_pmax(x, wasm_f32x4_neg(limit)), limit));
}

// layer normalisation of x, (n)
static inline __attribute__((noinline)) void norm(f32 *y, const f32 *x, const f32 *gain, const f32 *bias, u32 n, f32 epsilon) {
  u32 whole = n & ~3u;
  v128_t sum = wasm_f32x4_splat(0);
  for (u32 i = 0; i < whole; i += 4) sum = wasm_f32x4_add(sum, wasm_v128_load(x + i));
  f32 l[4];
  wasm_v128_store(l, sum);
  for (u32 i = whole; i < n; i++) l[i - whole] += x[i];
  f32 count = (f32)n;
  f32 mean = ((l[0] + l[1]) + (l[2] + l[3])) / count;
  v128_t m4 = wasm_f32x4_splat(mean);
  sum = wasm_f32x4_splat(0);
  for (u32 i = 0; i < whole; i += 4) {
    v128_t d = wasm_f32x4_sub(wasm_v128_load(x + i), m4);
    sum = wasm_f32x4_add(sum, wasm_f32x4_mul(d, d));
  }
  wasm_v128_store(l, sum);
  for (u32 i = whole; i < n; i++) {
    f32 d = x[i] - mean;
    l[i - whole] += d * d;
  }
  f32 variance = ((l[0] + l[1]) + (l[2] + l[3])) / count;
  f32 r = 1.0f / __builtin_sqrtf(variance + epsilon);
  v128_t r4 = wasm_f32x4_splat(r);
  for (u32 i = 0; i < whole; i += 4) {
    v128_t d = wasm_f32x4_mul(wasm_f32x4_sub(wasm_v128_load(x + i), m4), r4);
    wasm_v128_store(y + i, wasm_f32x4_add(wasm_f32x4_mul(d, wasm_v128_load(gain + i)), wasm_v128_load(bias + i)));
  }
  for (u32 i = whole; i < n; i++) y[i] = ((x[i] - mean) * r) * gain[i] + bias[i];
}

// e^x for x <= 0; below -20 it is e^-20
static inline v128_t exp4(v128_t x) {
#define C(v) wasm_f32x4_splat((f32)(v))
  x = wasm_f32x4_pmax(x, C(-20));
  v128_t biased = wasm_f32x4_add(wasm_f32x4_mul(x, C(1.44269504)), C(ROUND)), n = wasm_f32x4_sub(biased, C(ROUND));
  v128_t r = wasm_f32x4_sub(x, wasm_f32x4_mul(n, C(0.693359375)));
  r = wasm_f32x4_sub(r, wasm_f32x4_mul(n, C(-2.12194440e-4)));
  v128_t p = C(1.0 / 720);
  p = wasm_f32x4_add(wasm_f32x4_mul(p, r), C(1.0 / 120));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, r), C(1.0 / 24));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, r), C(1.0 / 6));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, r), C(0.5));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, r), C(1));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, r), C(1));
  return wasm_i32x4_add(p, wasm_i32x4_shl(biased, 23)); // what the bias adds is shifted out
#undef C
}

// Integer attention weights of n scores, whose largest is best: e^(s-best) in
// units of 1/PROB_ONE, rounded up to whole fours with weights of zero. Behind the last
// score lie values of no meaning. Returns the sum.
static inline i32 weights(i16 *prob, const f32 *score, u32 n, f32 best) {
  v128_t best4 = wasm_f32x4_splat(best), one = wasm_f32x4_splat(PROB_ONE), lanes = wasm_i32x4_make(0, 1, 2, 3);
  v128_t total = wasm_i32x4_splat(0);
  for (u32 i = 0; i < n; i += 4) {
    v128_t e = exp4(wasm_f32x4_sub(wasm_v128_load(score + i), best4));
    e = round4(wasm_f32x4_mul(e, one));
    e = wasm_v128_and(e, wasm_i32x4_lt(wasm_i32x4_add(lanes, wasm_i32x4_splat((i32)i)), wasm_i32x4_splat((i32)n)));
    total = wasm_i32x4_add(total, e);
    wasm_v128_store64_lane(prob + i, wasm_i16x8_narrow_i32x4(e, e), 0);
  }
  return hsum(total);
}
