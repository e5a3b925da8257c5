// Losses: a block for each row of logits, which become the gradient of the row's loss
// times inv.
#pragma once

__device__ inline void clear_row(float* row, int n) { MINE(j, n) row[j] = 0; }

KERNEL(cross_entropy, (float* z, const float* bias, const int* targets, int n, float smoothing, float inv, float* losses)) {
  float* row = z + (size_t)blockIdx.x * n;
  int target = targets[blockIdx.x];
  if (target < 0) {
    clear_row(row, n);
    if (threadIdx.x == 0) losses[blockIdx.x] = 0;
    return;
  }
  float total = 0, off = smoothing / n;
  MINE(j, n) {
    if (bias) row[j] += bias[j];
    total += row[j];
  }
  total = block_sum(total);
  float at = row[target];
  float loss = block_softmax(row, n, inv) - (1 - smoothing) * at - off * total;
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
  MINE(j, n) row[j] -= (j == target ? 1 - smoothing + off : off) * inv;
}

// Row r has logits of s samples that all rows share, corrected by the logarithm of how
// often each is to be expected; the logit of its target stands last.
KERNEL(sampled_rows, (float* z, const float* u, const float* v, const int* samples, const float* logq, const int* targets, int d, int s, float inv, float* losses, float* dtarget)) {
  float* row = z + (size_t)blockIdx.x * (s + 1);
  int target = targets[blockIdx.x];
  if (target < 0) {
    clear_row(row, s + 1);
    if (threadIdx.x == 0) losses[blockIdx.x] = dtarget[blockIdx.x] = 0;
    return;
  }
  float at = 0, expected = logf((float)s);
  MINE(j, d) at += u[(size_t)blockIdx.x * d + j] * v[(size_t)target * d + j];
  at = block_sum(at);
  MINE(j, s) row[j] = samples[j] == target ? -INFINITY : row[j] - (logq[samples[j]] + expected);
  if (threadIdx.x == 0) row[s] = at;
  __syncthreads();
  float loss = block_softmax(row, s + 1, inv) - at;
  __syncthreads();
  if (threadIdx.x == 0) {
    losses[blockIdx.x] = loss;
    dtarget[blockIdx.x] = row[s] - inv;
  }
}

// Row i of (n, n) is a query, its own item stands at i; others of its group are no
// wrong answers and do not count.
KERNEL(contrast_rows, (float* z, const int* groups, int n, float smoothing, float inv, float* losses)) {
  int i = blockIdx.x;
  float* row = z + (size_t)i * n;
  float total = 0, answers = 0, at = row[i];
  MINE(j, n) {
    if (groups[j] == groups[i] && j != i) continue;
    total += row[j];
    answers++;
  }
  total = block_sum(total);
  float off = smoothing / block_sum(answers);
  MINE(j, n) if (groups[j] == groups[i] && j != i) row[j] = -INFINITY;
  __syncthreads();
  float loss = block_softmax(row, n, inv) - (1 - smoothing) * at - off * total;
  if (threadIdx.x == 0) losses[i] = loss;
  MINE(j, n) {
    if (j == i) row[j] -= (1 - smoothing + off) * inv;
    else if (groups[j] != groups[i]) row[j] -= off * inv;
  }
}

// A list of m items, the first of which is right; one whose text has length 0 is not
// there, nor is a list without its first.
KERNEL(list_rows, (float* z, const int* lengths, int m, float inv, float* losses)) {
  size_t at = (size_t)blockIdx.x * m;
  if (lengths[at] == 0) {
    clear_row(z + at, m);
    if (threadIdx.x == 0) losses[blockIdx.x] = 0;
    return;
  }
  MINE(j, m) if (lengths[at + j] == 0) z[at + j] = -INFINITY;
  __syncthreads();
  float right = z[at];
  float loss = block_softmax(z + at, m, inv) - right;
  MINE(j, m) if (j == 0) z[at] -= inv;
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

// Row i of own, (n, n), are a student's cosines and becomes their gradient, that of given
// the teacher's; dy, (n, e), are mapped embeddings, of which the teacher's are targets.
// p and q are room for (n, n). See imitation.
KERNEL(imitation_rows, (float* own, const float* given, float* dy, const float* targets, float* p, float* q, int n, int e, float temperature, float rank,
                        float cosine, float map, float* losses)) {
  int i = blockIdx.x;
  float rows = n, others = max(n - 1, 1), loss = 0;
  size_t at = (size_t)i * n, to = (size_t)i * e;
  MINE(j, n) {
    p[at + j] = j == i ? -INFINITY : given[at + j] / temperature;
    q[at + j] = j == i ? -INFINITY : own[at + j] / temperature;
  }
  if (n > 1) {
    __syncthreads();
    float shift = block_softmax(p + at, n, 1) - block_softmax(q + at, n, 1);
    MINE(j, n) if (j != i) loss += rank * p[at + j] * ((given[at + j] - own[at + j]) / temperature - shift);
  }
  MINE(j, n) {
    float off = j == i ? 0 : own[at + j] - given[at + j];
    loss += cosine * off * off / others;
    own[at + j] = 2 * cosine * off / (others * rows) + (j == i ? 0 : rank * (q[at + j] - p[at + j]) / (temperature * rows));
  }
  MINE(j, e) {
    float off = dy[to + j] - targets[to + j];
    loss += map * off * off;
    dy[to + j] = 2 * map * off / rows;
  }
  loss = block_sum(loss);
  if (threadIdx.x == 0) losses[i] = loss;
}

// A teacher's distributions; those of all rows share the background.
struct soft_targets {
  const int *places, *events, *first; // `top` places each, negative for none; what a user had, and from where on
  const float *probs, *rest, *background;
  int top;
};

// The divergence of soft target s from softmax(z/t), whose gradient by z/t, times factor,
// replaces z; mark is room for n. See softSoftmax.divergence, which this follows.
__device__ inline float divergence(float* z, int* mark, soft_targets p, int s, int n, float t, float factor, double entropy) {
  const int *places = p.places + (size_t)s * p.top, *had = p.events + p.first[s];
  const float* probs = p.probs + (size_t)s * p.top;
  int events = s + 1 - p.first[s];
  MINE(j, n) {
    z[j] /= t;
    mark[j] = 0;
  }
  __syncthreads();
  MINE(j, events) if (had[j] >= 0) mark[had[j]] = 1; // the same by all that write it
  __syncthreads();
  MINE(m, p.top) if (places[m] >= 0) mark[places[m]] += 2; // none stands twice
  __syncthreads();
  int distinct = 0;
  double own = 0, own_entropy = 0, own_score = 0, score = 0, agreed = 0, known = 0;
  MINE(j, n) {
    double b = p.background[j];
    distinct += mark[j] % 2;
    score += b * z[j];
    if (mark[j] && b > 0) {
      own += b;
      own_entropy += b * log(b);
      own_score += b * z[j];
    }
  }
  MINE(m, p.top) {
    double q = probs[m];
    if (places[m] < 0 || !(q > 0)) continue;
    known += q * log(q);
    agreed += q * z[places[m]];
  }
  distinct = block_sum(distinct);
  if (distinct == n) { // nothing is left to expect
    clear_row(z, n);
    return 0;
  }
  own = block_sum(own), own_entropy = block_sum(own_entropy), own_score = block_sum(own_score);
  score = block_sum(score), agreed = block_sum(agreed), known = block_sum(known);
  double rest = p.rest[s], left = 1 - own;
  float spread = 0;
  if (rest > 0 && left > 1e-6) {
    spread = (float)(rest / left);
    agreed += spread * (score - own_score);
    known += spread * (entropy - own_entropy + left * log(rest / left));
  }
  MINE(j, n) if (mark[j] % 2) z[j] = -INFINITY;
  __syncthreads();
  float normaliser = block_softmax(z, n, factor);
  __syncthreads();
  MINE(j, n) if (mark[j] == 0) z[j] -= factor * spread * p.background[j];
  MINE(m, p.top) if (places[m] >= 0 && mark[places[m]] % 2 == 0) z[places[m]] -= factor * probs[m];
  __syncthreads();
  return (float)(normaliser - agreed + known);
}

// softSoftmax's rows; hard and mark are room for the logits and for an int each.
KERNEL(soft_rows, (float* logits, float* hards, int* marks, const int* targets, const int* softs, const int* places, const float* probs, const float* rest,
                   const float* background, const int* events, const int* first, int top, int n, float share, float t, float inv, double entropy, float* losses)) {
  size_t at = (size_t)blockIdx.x * n;
  float *z = logits + at, *hard = hards + at, loss = 0;
  int target = targets[blockIdx.x], s = softs[blockIdx.x];
  float weight = s < 0 ? 0 : target < 0 ? 1 : share;
  if (target < 0 && s < 0) {
    clear_row(z, n);
    if (threadIdx.x == 0) losses[blockIdx.x] = 0;
    return;
  }
  if (weight < 1) {
    float known = z[target];
    MINE(j, n) hard[j] = z[j];
    loss = (1 - weight) * (block_softmax(hard, n, (1 - weight) * inv) - known);
    MINE(j, n) if (j == target) hard[j] -= (1 - weight) * inv;
  }
  if (weight > 0) {
    soft_targets p = {places, events, first, probs, rest, background, top};
    loss += weight * t * t * divergence(z, marks + at, p, s, n, t, weight * t * inv, entropy);
  } else {
    clear_row(z, n);
  }
  if (weight < 1) MINE(j, n) z[j] += hard[j];
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}
