// Rules of the kernels:
//  - Any power of two up to BLOCK is a block size, 1 too, so that a stand-in may take few.
//  - No atomics: sums are made in an order that depends on shapes alone, so that a run
//    on the same device gives the same bits.
//  - Matrices are row-major; a null pointer is an optional argument that is not there.
#pragma once

#ifndef KERNEL
#define KERNEL(name, parameters) extern "C" __global__ void name parameters
#endif

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

// BLOCK is the most threads of a block.
#define BLOCK 256

// EACH goes over n elements with all threads of the grid.
#define EACH(i, n) for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < (size_t)(n); i += (size_t)gridDim.x * blockDim.x)

// MINE goes over the columns of a row with the threads of its block.
#define MINE(j, n) for (int j = threadIdx.x; j < (n); j += blockDim.x)

// block_sum is the sum of v over the threads of the block, known to all of them.
template <class T> __device__ T block_sum(T v) {
  __shared__ T sums[BLOCK];
  sums[threadIdx.x] = v;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  T sum = sums[0];
  __syncthreads();
  return sum;
}

// block_max is the largest v.
__device__ inline float block_max(float v) {
  __shared__ float most[BLOCK];
  most[threadIdx.x] = v;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) most[threadIdx.x] = fmaxf(most[threadIdx.x], most[threadIdx.x + half]);
    __syncthreads();
  }
  float top = most[0];
  __syncthreads();
  return top;
}

// block_softmax turns n scores into probabilities times factor, in place, and returns
// the logarithm of their normaliser. Scores of minus infinity have probability 0.
__device__ inline float block_softmax(float* row, int n, float factor) {
  float top = -INFINITY, sum = 0;
  MINE(j, n) top = fmaxf(top, row[j]);
  top = block_max(top);
  MINE(j, n) {
    row[j] = expf(row[j] - top);
    sum += row[j];
  }
  sum = block_sum(sum);
  factor /= sum;
  MINE(j, n) row[j] *= factor;
  return top + logf(sum);
}
