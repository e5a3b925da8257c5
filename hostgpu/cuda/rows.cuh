// Rows of matrices, w wide.
#pragma once

// y, (n, w): each row becomes row.
KERNEL(repeat, (float* y, const float* row, int n, int w)) {
  EACH(i, (size_t)n * w) y[i] = row[i % w];
}

// Sums over stretches of `per` rows of x, (n, w), or of x·y where there is a y:
// partial, (stretches, w). A stretch has so many blocks, which share its columns.
KERNEL(column_partials, (float* partial, const float* x, const float* y, int n, int w, int per, int blocks)) {
  int stretch = blockIdx.x / blocks, to = min(n, (stretch + 1) * per);
  for (int c = blockIdx.x % blocks * blockDim.x + threadIdx.x; c < w; c += blocks * blockDim.x) {
    float sum = 0;
    for (int r = stretch * per; r < to; r++) {
      size_t i = (size_t)r * w + c;
      sum += y ? x[i] * y[i] : x[i];
    }
    partial[(size_t)stretch * w + c] = sum;
  }
}

// The sum of the rows of partial, (n, w), added to what is there where keep is set.
KERNEL(column_totals, (float* sum, const float* partial, int n, int w, int keep)) {
  EACH(c, w) {
    float total = 0;
    for (int r = 0; r < n; r++) total += partial[(size_t)r * w + c];
    sum[c] = keep ? sum[c] + total : total;
  }
}

KERNEL(clear_rows, (float* x, const float* factors, int n, int w)) {
  EACH(i, (size_t)n * w) if (factors[i / w] == 0) x[i] = 0;
}

KERNEL(gather, (float* y, const float* x, const int* rows, int n, int w)) {
  EACH(i, (size_t)n * w) y[i] = x[(size_t)rows[i / w] * w + i % w];
}

KERNEL(scatter, (float* y, const float* x, const int* rows, int n, int w)) {
  EACH(i, (size_t)n * w) y[(size_t)rows[i / w] * w + i % w] = x[i];
}

KERNEL(gather_add, (float* y, const float* x, const int* rows, const float* factors, int n, int w)) {
  EACH(i, (size_t)n * w) {
    int row = rows[i / w];
    if (row < 0) continue;
    float v = x[(size_t)row * w + i % w];
    y[i] += factors ? factors[i / w] * v : v;
  }
}

// Rows of x that go to the same row are added in two steps, each in order: stretches
// of order, and then the stretches of a row. Block b sums stretch b, order[from[b]]
// to order[from[b+1]-1], of rows of x times scale, their factors and the mask.
KERNEL(segment_partials, (float* partial, const float* x, const float* mask, const float* factors, const int* order, const int* from, float scale, int w)) {
  MINE(c, w) {
    float sum = 0;
    for (int j = from[blockIdx.x]; j < from[blockIdx.x + 1]; j++) {
      size_t i = (size_t)order[j] * w + c;
      float v = mask ? x[i] * mask[i] : x[i];
      sum += (factors ? scale * factors[order[j]] : scale) * v;
    }
    partial[(size_t)blockIdx.x * w + c] = sum;
  }
}

// Block b adds stretches first[b] to first[b+1]-1 to row rows[b] of y.
KERNEL(segment_totals, (float* y, const float* partial, const int* rows, const int* first, int w)) {
  MINE(c, w) {
    float sum = 0;
    for (int s = first[blockIdx.x]; s < first[blockIdx.x + 1]; s++) sum += partial[(size_t)s * w + c];
    y[(size_t)rows[blockIdx.x] * w + c] += sum;
  }
}
