// A GPU that the processor plays, for tests on machines without one: the functions of
// libcuda and libcublas that are used, in one library. Memory is the machine's, cuBLAS
// is loops, and kernels are kernels.cu compiled as C++, whose threads are fibers that
// meet at each __syncthreads. It checks bindings, the order of arguments, layouts and
// what is computed; of CUDA itself it proves nothing.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

// The language of the kernels.
struct Dim {
  unsigned x, y, z;
};
static Dim blockIdx, threadIdx, blockDim, gridDim;
static void barrier();
#define __device__
#define __shared__ static
#define __syncthreads barrier
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned __int128)a * b >> 64; }
using std::max;
using std::min;

// A kernel and how it is called with an array of pointers to its arguments.
struct Kernel {
  void (*function)();
  void (*call)(void (*)(), void**);
  size_t parameters;
};
static std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> all;
  return all;
}
template <class... A, size_t... I> static void apply(void (*f)(A...), void** p, std::index_sequence<I...>) { f(*(A*)p[I]...); }
template <class... A> static void caller(void (*f)(), void** p) { apply((void (*)(A...))f, p, std::index_sequence_for<A...>{}); }
struct Registered {
  template <class... A> Registered(const char* name, void (*f)(A...)) { kernels()[name] = {(void (*)())f, caller<A...>, sizeof...(A)}; }
};
#define KERNEL(name, parameters)                                            \
  static void name parameters;                                              \
  static Registered registered_##name(#name, name);                         \
  static void name parameters

namespace device {
#include "kernels.cu"
}

// Threads of a block. Kernels take any power of two; few are enough to tell a missing
// barrier or a wrong stride.
static const unsigned threads = 4;
static std::vector<char> stacks[threads];
static jmp_buf scheduler, fibers[threads]; // where each goes on
static bool started[threads], running[threads];
static const Kernel* kernel;
static void** arguments;

// leave goes back to the scheduler until it comes to thread t again.
static void leave(unsigned t) {
  if (!_setjmp(fibers[t])) _longjmp(scheduler, 1);
}

static void barrier() { leave(threadIdx.x); }

// fiber runs thread t of one block after the other.
static void fiber() {
  for (unsigned t = threadIdx.x;;) {
    kernel->call(kernel->function, arguments);
    running[t] = false;
    leave(t);
  }
}

static void go_on(unsigned t) {
  threadIdx.x = t;
  if (_setjmp(scheduler)) return;
  if (started[t]) _longjmp(fibers[t], 1);
  started[t] = true;
  ucontext_t context;
  getcontext(&context);
  stacks[t].resize(1 << 18);
  context.uc_stack.ss_sp = stacks[t].data();
  context.uc_stack.ss_size = stacks[t].size();
  context.uc_link = nullptr;
  makecontext(&context, fiber, 0);
  setcontext(&context);
}

// run_block runs all threads of a block, and reports whether they met at the same
// barriers.
static bool run_block() {
  running[0] = true;
  go_on(0);
  if (!running[0]) { // no barriers: the others need no fiber
    for (unsigned t = 1; t < blockDim.x; t++) {
      threadIdx.x = t;
      kernel->call(kernel->function, arguments);
    }
    return true;
  }
  for (unsigned t = 1; t < blockDim.x; t++) {
    running[t] = true;
    go_on(t);
  }
  for (;;) {
    unsigned at = 0;
    for (unsigned t = 0; t < blockDim.x; t++) at += running[t];
    if (at == 0) return true;
    if (at != blockDim.x) {
      std::fill(started, started + threads, false); // where they stand is lost
      return false;
    }
    for (unsigned t = 0; t < blockDim.x; t++) go_on(t);
  }
}

// Memory, with a fence behind each piece.
static const size_t fence = 64;
static std::map<char*, size_t> memory;
static size_t used, limit = SIZE_MAX;
static std::recursive_mutex lock;
static int devices = 1, driver = 13000, lost_after = -1, broken;

// inside says whether n bytes from p on are a piece's.
static bool inside(const void* p, size_t n) {
  auto it = memory.upper_bound((char*)p);
  if (it == memory.begin()) return false;
  --it;
  return (char*)p + n <= it->first + it->second;
}

enum { OK = 0, INVALID = 1, NO_MEMORY = 2, NO_PTX = 218, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719 };

#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock)

// lost counts down the calls until the device is lost.
static bool lost() {
  if (lost_after > 0) lost_after--;
  return lost_after == 0;
}

// gemm is C = alpha·op(A)·op(B) + beta·C on matrices stored by columns.
static bool gemm(int ta, int tb, int m, int n, int k, float alpha, const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc) {
  if (lda < max(1, ta ? k : m) || ldb < max(1, tb ? n : k) || ldc < max(1, m)) return false;
  if (!inside(c, 4 * ((size_t)ldc * (n - 1) + m))) return false;
  if (k && !inside(a, 4 * ((size_t)lda * ((ta ? m : k) - 1) + (ta ? k : m)))) return false;
  if (k && !inside(b, 4 * ((size_t)ldb * ((tb ? k : n) - 1) + (tb ? n : k)))) return false;
  std::vector<float> left((size_t)m * k);
  for (int l = 0; l < k; l++)
    for (int i = 0; i < m; i++) left[(size_t)l * m + i] = alpha * (ta ? a[l + (size_t)i * lda] : a[i + (size_t)l * lda]);
  for (int j = 0; j < n; j++) {
    float* column = c + (size_t)j * ldc;
    for (int i = 0; i < m; i++) column[i] = beta == 0 ? 0 : beta * column[i];
    for (int l = 0; l < k; l++) {
      float f = tb ? b[j + (size_t)l * ldb] : b[l + (size_t)j * ldb];
      const float* x = &left[(size_t)l * m];
      for (int i = 0; i < m; i++) column[i] += f * x[i];
    }
  }
  return true;
}

extern "C" {
// What tests ask for.
void standin_set(int64_t bytes, int32_t count, int32_t version, int32_t calls) {
  LOCKED;
  limit = bytes < 0 ? SIZE_MAX : bytes, devices = count, driver = version, lost_after = calls;
}
int64_t standin_used() { return used; }
int32_t standin_broken() { return broken; }

int cuInit(unsigned) { return OK; }
int cuDriverGetVersion(int* v) { return *v = driver, OK; }
int cuDeviceGetCount(int* n) { return *n = devices, OK; }
int cuDeviceGet(int* d, int i) { return *d = i, i < devices ? OK : INVALID; }
int cuDeviceGetName(char* name, int n, int) { return snprintf(name, n, "a stand-in on the processor"), OK; }
int cuDeviceGetAttribute(int* v, int attribute, int) { return *v = attribute == 75 ? 9 : 0, OK; }
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = &memory, OK; }
int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
int cuCtxSetCurrent(void* context) { return context == &memory ? OK : INVALID; }
int cuMemGetInfo_v2(size_t* available, size_t* total) { return *available = *total = (size_t)1 << 34, OK; }
int cuMemAlloc_v2(char** p, size_t n) {
  LOCKED;
  if (lost()) return LAUNCH_FAILED;
  if (used + n > limit) return NO_MEMORY;
  *p = (char*)malloc(n + fence);
  if (!*p) return NO_MEMORY;
  memset(*p, 0xff, n + fence); // what is not written is no number
  memory[*p] = n;
  used += n;
  return OK;
}
int cuMemFree_v2(char* p) {
  LOCKED;
  auto it = memory.find(p);
  if (it == memory.end()) return INVALID;
  for (size_t i = 0; i < fence; i++) broken += p[it->second + i] != (char)0xff;
  used -= it->second;
  memory.erase(it);
  free(p);
  return OK;
}
int cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t n, void*) {
  LOCKED;
  return inside(to, n) ? memcpy(to, from, n), OK : INVALID;
}
int cuMemcpyDtoH_v2(void* to, const void* from, size_t n) {
  LOCKED;
  return inside(from, n) ? memcpy(to, from, n), OK : INVALID;
}
int cuMemcpyDtoDAsync_v2(void* to, const void* from, size_t n, void*) {
  LOCKED;
  return inside(to, n) && inside(from, n) ? memmove(to, from, n), OK : INVALID;
}
int cuMemsetD32Async(unsigned* p, unsigned value, size_t n, void*) {
  LOCKED;
  return inside(p, 4 * n) ? std::fill(p, p + n, value), OK : INVALID;
}
// The PTX must have the kernels, with as many parameters.
int cuModuleLoadData(void** module, const char* image) {
  std::string ptx = image;
  for (auto& [name, k] : kernels()) {
    size_t at = ptx.find(".entry " + name + "("), end = ptx.find("\n)", at), n = 0;
    if (at == std::string::npos) return NO_PTX;
    for (size_t p = ptx.find(".param", at); p < end; p = ptx.find(".param", p + 1)) n++;
    if (n != k.parameters) return NO_PTX;
  }
  return *module = &memory, OK;
}
int cuModuleGetFunction(const Kernel** f, void*, const char* name) {
  auto it = kernels().find(name);
  return it == kernels().end() ? NOT_FOUND : (*f = &it->second, OK);
}
int cuLaunchKernel(const Kernel* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void* stream, void** p, void**) {
  LOCKED;
  if (lost()) return LAUNCH_FAILED;
  if (!gx || gy != 1 || gz != 1 || !bx || bx > BLOCK || bx & (bx - 1) || by != 1 || bz != 1 || shared || stream) return INVALID;
  kernel = f, arguments = p;
  gridDim = {gx, 1, 1}, blockDim = {min(bx, threads), 1, 1};
  for (unsigned x = 0; x < gx; x++) {
    blockIdx = {x, 0, 0};
    if (!run_block()) return LAUNCH_FAILED;
  }
  return OK;
}
int cuGetErrorName(int error, const char** name) { return *name = error == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR", OK; }

int cublasCreate_v2(void** handle) { return *handle = &lock, OK; }
int cublasDestroy_v2(void*) { return OK; }
int cublasGetVersion_v2(void*, int* v) { return *v = 1, OK; }
int cublasSetMathMode(void*, int mode) { return mode == 3 ? OK : 7; }
int cublasSgemm_v2(void*, int ta, int tb, int m, int n, int k, const float* alpha, const float* a, int lda, const float* b, int ldb, const float* beta, float* c, int ldc) {
  LOCKED;
  return gemm(ta, tb, m, n, k, *alpha, a, lda, b, ldb, *beta, c, ldc) ? OK : 7;
}
int cublasSgemmStridedBatched(void*, int ta, int tb, int m, int n, int k, const float* alpha, const float* a, int lda, long long sa, const float* b, int ldb, long long sb,
                              const float* beta, float* c, int ldc, long long sc, int count) {
  LOCKED;
  for (int i = 0; i < count; i++)
    if (!gemm(ta, tb, m, n, k, *alpha, a + i * sa, lda, b + i * sb, ldb, *beta, c + i * sc, ldc)) return 7;
  return OK;
}
}
