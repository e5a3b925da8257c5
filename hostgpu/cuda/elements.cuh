// Element by element.
#pragma once

KERNEL(add, (float* y, const float* x, int n)) {
  EACH(i, n) y[i] += x[i];
}

KERNEL(add_scaled, (float* y, const float* x, float factor, int n)) {
  EACH(i, n) y[i] += factor * x[i];
}

KERNEL(scaled, (float* y, const float* x, float factor, int n)) {
  EACH(i, n) y[i] = factor * x[i];
}

KERNEL(product, (float* z, const float* x, const float* y, int n)) {
  EACH(i, n) z[i] = x[i] * y[i];
}

KERNEL(lerp, (float* y, const float* x, float keep, int n)) {
  EACH(i, n) y[i] = keep * y[i] + (1 - keep) * x[i];
}

KERNEL(relu, (float* x, int n)) {
  EACH(i, n) x[i] = fmaxf(x[i], 0);
}

KERNEL(relu_backward, (float* dx, const float* y, int n)) {
  EACH(i, n) if (!(y[i] > 0)) dx[i] = 0;
}

// x becomes x·Φ(x), slope the derivative Φ(x) + x·φ(x).
KERNEL(gelu, (float* x, float* slope, int n)) {
  EACH(i, n) {
    float v = x[i], cdf = 0.5f * (1 + erff(v * 0.70710678f));
    x[i] = v * cdf;
    slope[i] = cdf + v * 0.39894228f * expf(-0.5f * v * v);
  }
}

// One block: out = sum x·y.
KERNEL(dot, (float* out, const float* x, const float* y, int n)) {
  double sum = 0;
  MINE(i, n) sum += (double)x[i] * y[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = (float)sum;
}

// One block: out = sum x / count.
KERNEL(mean, (float* out, const float* x, int n, int count)) {
  double sum = 0;
  MINE(i, n) sum += x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = (float)(sum / (count > 0 ? count : 1));
}
