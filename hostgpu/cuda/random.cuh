// Dropout by the masks that the host draws: PCG-DXSM with 128 bits of state (O'Neill
// 2014; as in math/rand/v2), a generator for each chunk of values, of which a thread
// has DRAWS draws of four values each and leaps over those before.
#pragma once

#define DRAWS 16

struct wide {
  unsigned long long high, low;
};

__device__ inline wide times(wide a, wide b) {
  wide p = {__umul64hi(a.low, b.low), a.low * b.low};
  p.high += a.high * b.low + a.low * b.high;
  return p;
}

__device__ inline wide plus(wide a, wide b) {
  wide s = {a.high + b.high, a.low + b.low};
  s.high += s.low < a.low;
  return s;
}

// steps after which the state is state·factor + offset (Brown 1994).
__device__ inline wide leap(wide state, unsigned steps) {
  wide factor = {0, 1}, offset = {0, 0}, f = {2549297995355413924ull, 4865540595714422341ull}, o = {6364136223846793005ull, 1442695040888963407ull};
  wide one = {0, 1};
  for (; steps; steps /= 2) {
    if (steps % 2) {
      factor = times(factor, f);
      offset = plus(times(offset, f), o);
    }
    o = times(plus(f, one), o);
    f = times(f, f);
  }
  return plus(times(state, factor), offset);
}

// x is multiplied by the mask, 0 or scale, which is kept.
KERNEL(drop, (float* x, float* mask, unsigned long long first, unsigned long long second, int threshold, float scale, int chunk, int n)) {
  EACH(k, (n + 4 * DRAWS - 1) / (4 * DRAWS)) {
    size_t at = k * 4 * DRAWS;
    wide state = {first, second | at / chunk};
    state = leap(state, at % chunk / 4);
    for (int draw = 0; draw < DRAWS; draw++) {
      state = leap(state, 1);
      unsigned long long bits = state.high;
      bits ^= bits >> 32;
      bits *= 0xda942042e4dd58b5ull;
      bits ^= bits >> 48;
      bits *= state.low | 1;
      for (int j = 0; j < 4; j++, at++, bits >>= 16) {
        if (at >= (size_t)n) return;
        mask[at] = (int)(bits & 0xffff) >= threshold ? scale : 0;
        x[at] *= mask[at];
      }
    }
  }
}
