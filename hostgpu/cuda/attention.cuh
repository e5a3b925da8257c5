// Attention between its matrix products. Rows of a batch are `whole` of t places and,
// behind them, of u. Queries, keys and values stand apart by row and head, so that one
// strided product does all heads of all rows of a length: where a row starts, its h
// heads of (length, d/h) lie one after the other. Scores of row b and head h are at
// (b·h + head)·t·t, (length, length).
#pragma once

// Where value c of n·d of a place stands apart.
__device__ inline size_t apart_at(size_t place, int c, int whole, int t, int u, int places, int d, int h) {
  int length = t, start = place / t * t;
  if (place >= (size_t)whole * t) {
    length = u;
    start = whole * t + (place - whole * t) / u * u;
  }
  int part = c / d, head = c % d / (d / h), j = c % (d / h);
  return (size_t)part * places * d + (size_t)start * d + ((size_t)head * length + (place - start)) * (d / h) + j;
}

// packed, (places, n·d), to apart, n times (places, d).
KERNEL(split_heads, (float* apart, const float* packed, int whole, int t, int u, int places, int d, int h, int n)) {
  EACH(i, (size_t)places * n * d) apart[apart_at(i / (n * d), i % (n * d), whole, t, u, places, d, h)] = packed[i];
}

KERNEL(merge_heads, (float* packed, const float* apart, int whole, int t, int u, int places, int d, int h, int n)) {
  EACH(i, (size_t)places * n * d) packed[i] = apart[apart_at(i / (n * d), i % (n * d), whole, t, u, places, d, h)];
}

// A block for each row of scores, from batch row `first` on, all of the same length.
KERNEL(text_probabilities, (float* scores, const int* lengths, int first, int t, int length, int h)) {
  int i = blockIdx.x % length, bh = first * h + blockIdx.x / length, n = lengths[bh / h];
  float* row = scores + (size_t)bh * t * t + (size_t)i * length;
  if (i >= n) n = 0;
  else block_softmax(row, n, 1);
  MINE(j, length) if (j >= n) row[j] = 0;
}

// An event sees those from its sequence's start to itself, the last w at most, with a
// bias for head and distance.
KERNEL(band_probabilities, (float* scores, const int* starts, const float* distance, int t, int h, int w)) {
  int i = blockIdx.x % t, bh = blockIdx.x / t;
  int from = max(starts[bh / h * t + i], i - w + 1);
  float* row = scores + (size_t)bh * t * t + (size_t)i * t;
  const float* bias = distance + (size_t)(bh % h) * w;
  MINE(j, t) row[j] = j < from || j > i ? -INFINITY : row[j] + bias[i - j];
  __syncthreads();
  block_softmax(row, t, 1);
}

// The gradient of probabilities becomes that of scores, where the former are 0 too.
KERNEL(softmax_backward, (float* ds, const float* probs, int first, int t, int length, int h)) {
  size_t at = (size_t)(first * h + blockIdx.x / length) * t * t + (size_t)(blockIdx.x % length) * length;
  float dot = 0;
  MINE(j, length) dot += ds[at + j] * probs[at + j];
  dot = block_sum(dot);
  MINE(j, length) ds[at + j] = probs[at + j] * (ds[at + j] - dot);
}

// A block for each head and distance: the sum of ds over rows and events.
KERNEL(distance_backward, (float* ddistance, const float* ds, int rows, int t, int h, int w)) {
  int head = blockIdx.x / w, far = blockIdx.x % w;
  float sum = 0;
  MINE(k, rows * t) {
    int b = k / t, i = k % t;
    if (i >= far) sum += ds[((size_t)b * h + head) * t * t + (size_t)i * t + i - far];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) ddistance[blockIdx.x] = sum;
}
