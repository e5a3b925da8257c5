// Embedding, layer normalisation and pooling.
#pragma once

// y, (p, d), is scale·a[i] + b[j] + c[k].
KERNEL(embed, (float* y, const float* a, const float* b, const float* c, const int* ia, const int* ib, const int* ic, float scale, int p, int d)) {
  EACH(i, (size_t)p * d) {
    size_t r = i / d, j = i % d;
    y[i] = scale * a[(size_t)ia[r] * d + j] + b[(size_t)ib[r] * d + j] + c[(size_t)ic[r] * d + j];
  }
}

// A block for each row, which may be normalised in place.
KERNEL(normalise, (float* y, float* xhat, float* rstd, const float* x, const float* gain, const float* bias, int d, float eps)) {
  size_t at = (size_t)blockIdx.x * d;
  float sum = 0;
  MINE(j, d) sum += x[at + j];
  float mean = block_sum(sum) / d;
  sum = 0;
  MINE(j, d) {
    float v = x[at + j] - mean;
    xhat[at + j] = v;
    sum += v * v;
  }
  float s = 1 / sqrtf(block_sum(sum) / d + eps);
  if (threadIdx.x == 0) rstd[blockIdx.x] = s;
  MINE(j, d) {
    float v = xhat[at + j] * s;
    xhat[at + j] = v;
    y[at + j] = v * gain[j] + bias[j];
  }
}

// Adds the gradient of the row to dx; those of gain and bias are sums over columns.
KERNEL(normalise_backward, (float* dx, const float* dy, const float* xhat, const float* rstd, const float* gain, int d)) {
  size_t at = (size_t)blockIdx.x * d;
  float mean = 0, dot = 0;
  MINE(j, d) {
    float v = dy[at + j] * gain[j];
    mean += v;
    dot += v * xhat[at + j];
  }
  mean = block_sum(mean) / d;
  dot = block_sum(dot) / d;
  float s = rstd[blockIdx.x];
  MINE(j, d) dx[at + j] += s * (dy[at + j] * gain[j] - mean - xhat[at + j] * dot);
}

// Where row b of a batch starts: `whole` rows of t places, then rows of u.
__device__ inline int row_start(int b, int whole, int t, int u) { return b < whole ? b * t : whole * t + (b - whole) * u; }

// A block for each text: the mean of its tokens, or the first where cls is set, scaled
// to length 1, at least floor, where unit is set.
KERNEL(pool, (float* y, float* scale, const float* x, const int* lengths, int whole, int t, int u, int d, int cls, int unit, float floor)) {
  int b = blockIdx.x, n = cls ? min(lengths[b], 1) : lengths[b];
  const float* rows = x + (size_t)row_start(b, whole, t, u) * d;
  float* out = y + (size_t)b * d;
  double square = 0;
  MINE(j, d) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += rows[(size_t)i * d + j];
    out[j] = sum / max(n, 1);
    square += (double)out[j] * out[j];
  }
  if (!unit) return;
  square = block_sum(square);
  float s = (float)(1 / fmax(sqrt(square), (double)floor));
  if (threadIdx.x == 0) scale[b] = s;
  MINE(j, d) out[j] *= s;
}

KERNEL(pool_backward, (float* dx, const float* dy, const float* y, const float* scale, const int* lengths, int whole, int t, int u, int d, int cls, int unit)) {
  int b = blockIdx.x, length = b < whole ? t : u, n = cls ? min(lengths[b], 1) : lengths[b];
  float* rows = dx + (size_t)row_start(b, whole, t, u) * d;
  const float *g = dy + (size_t)b * d, *out = y + (size_t)b * d;
  float dot = 0;
  MINE(j, d) dot += g[j] * out[j];
  dot = block_sum(dot);
  MINE(j, d) {
    float v = g[j] / max(n, 1);
    if (unit) v = (g[j] - out[j] * dot) / max(n, 1) * scale[b]; // what is along y changes nothing
    for (int i = 0; i < length; i++) rows[(size_t)i * d + j] = i < n ? v : 0;
  }
}
