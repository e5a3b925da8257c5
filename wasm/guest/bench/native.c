// The algorithm of gemm.h and gemm.S in C for amd64, with the vectors that it is
// compiled for: those of SSE4.1 or, twice as wide, those of AVX2. A peer of `make
// bench-guest`: prints its name and a checksum of the result, then for each
// number read the seconds that so many products took.
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { M = 32, N = 384, K = 384 };

static int16_t a[M * K] __attribute__((aligned(64)));
static int8_t w[N * K] __attribute__((aligned(64)));
static int32_t c[M * N] __attribute__((aligned(64))), x[4 * K * 2] __attribute__((aligned(64)));

static void spread(const int16_t *from) {
  for (int32_t *to = x; to != x + 8 * K; to += 64, from += 32)
    for (int j = 0; j < 4; j++)
      for (int m = 0; m < 4; m++)
        _mm_store_si128((__m128i *)(to + 16 * j + 4 * m), _mm_set1_epi32(*(const int32_t *)(from + 8 * m + 2 * j)));
}

#ifdef __AVX2__
#define NAME "AVX2"
#define WIDTH 16
typedef __m256i vec;
static inline vec load_x(const int32_t *p) { return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)p)); }
static inline vec load_w(const int8_t *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)); }
static inline vec multiply(vec s, vec p, vec q) { return _mm256_add_epi32(s, _mm256_madd_epi16(p, q)); }
static inline void store(int32_t *p, vec v) { _mm256_storeu_si256((__m256i *)p, v); }
#define ZERO _mm256_setzero_si256()
#define SECOND (8 * K)  // of the two vectors of weights, from the first
#define LANES 8
#else
#define NAME "SSE4.1"
#define WIDTH 8
typedef __m128i vec;
static inline vec load_x(const int32_t *p) { return _mm_load_si128((const __m128i *)p); }
static inline vec load_w(const int8_t *p) { return _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)p)); }
static inline vec multiply(vec s, vec p, vec q) { return _mm_add_epi32(s, _mm_madd_epi16(p, q)); }
static inline void store(int32_t *p, vec v) { _mm_storeu_si128((__m128i *)p, v); }
#define ZERO _mm_setzero_si128()
#define SECOND 8
#define LANES 4
#endif

static void product(void) {
  for (int i = 0; i < M; i += 4) {
    spread(a + i * K);
    for (int n = 0; n < N; n += WIDTH) {
      vec s[4][2];
      for (int m = 0; m < 4; m++) s[m][0] = s[m][1] = ZERO;
      const int8_t *p = w + n * K;
#pragma clang loop unroll_count(16)
      for (int k = 0; k < K / 2; k++) {
        vec y0 = load_w(p + 16 * k), y1 = load_w(p + 16 * k + SECOND);
        for (int m = 0; m < 4; m++) {
          vec v = load_x(x + 16 * k + 4 * m);
          s[m][0] = multiply(s[m][0], v, y0);
          s[m][1] = multiply(s[m][1], v, y1);
        }
      }
      for (int m = 0; m < 4; m++) {
        store(c + (i + m) * N + n, s[m][0]);
        store(c + (i + m) * N + n + LANES, s[m][1]);
      }
    }
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void) {
  for (int i = 0; i < M * K; i++) a[i] = (int16_t)(i * 7919LL % 4095 - 2047);
  for (int i = 0; i < N * K; i++) w[i] = (int8_t)(i * 104729LL % 255 - 127);
  product();
  uint32_t sum = 0;
  for (int i = 0; i < M * N; i++) sum = sum * 31 + (uint32_t)c[i];
  printf("%s %u\n", NAME, sum);
  fflush(stdout);
  for (int n; scanf("%d", &n) == 1;) {
    product();
    double start = now();
    for (int i = 0; i < n; i++) product();
    printf("%.9f\n", now() - start);
    fflush(stdout);
  }
}
