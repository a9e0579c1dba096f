// CUDA C++ on a host: the threads of a block are fibers. A warp runs to its next barrier before another begins, its
// threads from shuffle to shuffle; the order turns around each time. So a missing barrier shows, whichever thread was to
// wait.
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#define HOST_THREADS 1024

#define __global__
#define __device__
#define __shared__ static
#define __grid_constant__
using std::exp;
using std::fabs;
using std::log;
using std::nan;
using std::sqrt;
using std::tanh;

static int min(int a, int b) { return a < b ? a : b; }
static int max(int a, int b) { return a > b ? a : b; }
template <class V> static void atomicAdd(V* at, V v) { *at += v; }

using i64 = long long;
using float16 = _Float16;

struct bfloat16 {
  uint16_t bits;
  bfloat16() = default;
  bfloat16(float v) {
    uint32_t u;
    memcpy(&u, &v, 4);
    bits = v != v ? 0x7fc0 : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  }
  operator float() const {
    uint32_t u = (uint32_t)bits << 16;
    float v;
    memcpy(&v, &u, 4);
    return v;
  }
};

struct Dim {
  int x, y;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;

struct Fiber {
  ucontext_t start;
  jmp_buf at;
  bool begun, done, waits;
  int barriers, shuffles;
  Dim thread;
  char stack[1 << 15];
};
static Fiber fibers[HOST_THREADS];
static Fiber* current;
static jmp_buf scheduler;
static void (*body)(void*);
static void* arguments;
static double slots[HOST_THREADS];

static __attribute__((noinline)) void resume(Fiber& f) {
  current = &f, threadIdx = f.thread;
  if (_setjmp(scheduler)) return;
  if (f.begun) _longjmp(f.at, 1);
  f.begun = true;
  setcontext(&f.start);
}

static __attribute__((noinline)) void pause() {
  if (!_setjmp(current->at)) _longjmp(scheduler, 1);
}

static void live() {
  for (;;) {
    body(arguments);
    current->done = true;
    pause();
  }
}

static void __syncthreads() { current->barriers++, current->waits = true, pause(); }

template <class V> static V __shfl_xor_sync(unsigned, V v, int lanes) {
  int i = threadIdx.x + blockDim.x * threadIdx.y;
  current->shuffles++;
  slots[i] = v, pause();
  V w = slots[i ^ lanes];
  pause();
  return w;
}

// Runs the threads of a warp to their next barrier or end; how many have ended.
static int run_warp(int first, bool up) {
  int ended = 0, running = 0;
  for (int i = 0; i < 32; i++) running += !fibers[first + i].done, fibers[first + i].waits = fibers[first + i].done;
  for (; running; up = !up)
    for (int i = 0; i < 32; i++) {
      Fiber& f = fibers[first + (up ? i : 31 - i)];
      if (f.waits) continue;
      resume(f);
      if (f.done) f.waits = true, ended++;
      running -= f.waits;
    }
  return ended;
}

// 0, or 1 where threads of a block have met different barriers, or those of a warp different shuffles.
template <class F> static int run(const int* grid, const int* block, F& f) {
  gridDim = {grid[0], grid[1]}, blockDim = {block[0], block[1]};
  body = [](void* p) { (*(F*)p)(); }, arguments = &f;
  int n = block[0] * block[1];
  for (int i = 0; i < n; i++) {
    Fiber& g = fibers[i];
    g.thread = {i % block[0], i / block[0]}, g.begun = false;
    getcontext(&g.start);
    g.start.uc_stack.ss_sp = g.stack, g.start.uc_stack.ss_size = sizeof(g.stack);
    makecontext(&g.start, live, 0);
  }
  for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
      for (int i = 0; i < n; i++) fibers[i].done = false, fibers[i].barriers = fibers[i].shuffles = 0;
      bool up = true;
      for (int left = n; left; up = !up)
        for (int warp = 0; warp < n; warp += 32) left -= run_warp(up ? warp : n - 32 - warp, up);
      for (int i = 0; i < n; i++)
        if (fibers[i].barriers != fibers[0].barriers || fibers[i].shuffles != fibers[i / 32 * 32].shuffles) return 1;
    }
  return 0;
}

// What a parameter takes, as NumPy's letter of a dtype: of an array, its elements; a struct of the kernels' own: '?'.
template <class V> struct Letter { static const char is = '?'; };
#define HOST_LETTER(type, letter) \
  template <> struct Letter<type> { static const char is = letter; }
HOST_LETTER(float, 'f');
HOST_LETTER(double, 'd');
HOST_LETTER(float16, 'e');
HOST_LETTER(bfloat16, 'E');
HOST_LETTER(int, 'i');
HOST_LETTER(i64, 'l');

// Scalars and structs are passed as 's' and a letter, arrays as 'a' and one, a null pointer as "0 ".
template <class V> struct Takes {
  static bool it(const char* given) { return given[0] == 's' && given[1] == Letter<V>::is; }
};
template <class V> struct Takes<V*> {
  static bool it(const char* given) { return given[0] == '0' || (given[0] == 'a' && (Letter<V>::is == '?' || given[1] == Letter<V>::is)); }
};
template <class V> struct Takes<const V*> : Takes<V*> {};

template <class... P, size_t... K>
static int launch_with(void (*kernel)(P...), const int* grid, const int* block, void** a, const char* given,
                       std::index_sequence<K...>) {
  bool taken[] = {Takes<P>::it(given + 2 * K)...};
  for (bool t : taken)
    if (!t) return 2;
  if (strlen(given) != 2 * sizeof...(P)) return 2;
  auto f = [&] { kernel(*(P*)a[K]...); };
  return run(grid, block, f);
}

template <class... P>
static int launch(void (*kernel)(P...), const int* grid, const int* block, void** a, const char* given) {
  return launch_with(kernel, grid, block, a, given, std::index_sequence_for<P...>{});
}

#define HOST_RUNS(kernel)                                                                              \
  extern "C" int run_##kernel(const int* grid, const int* block, void** a, const char* given) {        \
    return launch(kernel, grid, block, a, given);                                                      \
  }

