// Rows: the threads of a row are the x of a block, one warp or all of it; its y are rows of a warp each.
// What threads have gathered is joined by `add`, which does not mind the order.
struct Sum {
  A a;
  static __device__ Sum none() { return {0}; }
  __device__ void add(Sum o) { a += o.a; }
};

struct Pair {
  A a, b;
  static __device__ Pair none() { return {0, 0}; }
  __device__ void add(Pair o) { a += o.a, b += o.b; }
};

// The largest of a row and the sum of e^(x - top), in one visit: the sum is scaled when a larger one comes.
struct Exponentials {
  A top, sum;
  static __device__ Exponentials none() { return {sizeof(A) == 4 ? (A)-3.4028234e38f : (A)-1.7976931348623157e308, 0}; }
  __device__ void see(A x) {
    if (x > top) sum = sum * exp(top - x) + 1, top = x;
    else sum += exp(x - top);
  }
  __device__ void add(Exponentials o) {
    A m = o.top > top ? o.top : top;
    sum = sum * exp(top - m) + o.sum * exp(o.top - m), top = m;
  }
};

// Count, mean and the sum of squares around it (Welford; Chan, Golub, LeVeque).
struct Moments {
  A n, mean, squares;
  static __device__ Moments none() { return {0, 0, 0}; }
  __device__ void see(A x) {
    A d = x - mean;
    n += 1, mean += d / n, squares += d * (x - mean);
  }
  __device__ void add(Moments o) {
    if (o.n == 0) return;
    A d = o.mean - mean, part = o.n / (n + o.n);
    squares += o.squares + d * d * n * part, mean += d * part, n += o.n;
  }
};

template <class V> __device__ V across(V v, int lanes) {
  V w;
  for (int i = 0; i < sizeof(V) / sizeof(A); i++) ((A*)&w)[i] = __shfl_xor_sync(~0u, ((A*)&v)[i], lanes);
  return w;
}

template <class V> __device__ V over_warp(V v) {
  for (int k = 16; k; k /= 2) v.add(across(v, k));
  return v;
}

template <class V> __device__ V over_row(V v) {
  __shared__ V part[32];
  v = over_warp(v);
  if (blockDim.x == 32) return v;
  __syncthreads();  // an earlier part may still be read
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  return over_warp(threadIdx.x % 32 < blockDim.x / 32 ? part[threadIdx.x % 32] : V::none());
}

__device__ i64 this_row() { return (i64)blockIdx.x * blockDim.y + threadIdx.y; }

#define EACH(j, n) for (i64 j = threadIdx.x; j < (n); j += blockDim.x)
#define EACH_ELEMENT(e, n) \
  for (i64 e = (i64)blockIdx.x * blockDim.x + threadIdx.x; e < (n); e += (i64)gridDim.x * blockDim.x)

