// Norms of gradients, and AdamW.
#pragma once

// Block b adds up its share of the squares of x.
KERNEL(square_partials, (double* partial, const float* x, int n)) {
  double sum = 0;
  EACH(i, n) sum += (double)x[i] * x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Block b adds up the n partial sums of tensor b.
KERNEL(square_totals, (double* total, const double* partial, int n)) {
  double sum = 0;
  MINE(i, n) sum += partial[(size_t)blockIdx.x * n + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) total[blockIdx.x] = sum;
}

// c1 and c2 correct the bias of the moments, scale multiplies the gradient, keep is
// what decay leaves of the weights.
KERNEL(adam, (float* x, float* m, float* v, const float* g, float rate, float scale, float keep, float b1, float b2, float c1, float c2, float eps, int n)) {
  EACH(i, n) {
    float d = g[i] * scale;
    m[i] = b1 * m[i] + (1 - b1) * d;
    v[i] = b2 * v[i] + (1 - b2) * d * d;
    x[i] = x[i] * keep - rate * m[i] * c1 / (sqrtf(v[i] * c2) + eps);
  }
}
