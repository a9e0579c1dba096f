// Steps of optimizers: a launch steps the numbers of many tensors, a block those of one, a thread EACH_THREAD of them.
#define MOST 32
#define EACH_THREAD 4

struct Tensors {
  T* x[MOST];
  const T* dx[MOST];
  T *m[MOST], *v[MOST];
  i64 size[MOST];
  int first[MOST];  // block of each tensor: the largest int behind the last of them
};
static_assert(sizeof(Tensors) == 44 * MOST, "Tensors is not what update.py packs");

struct Number {
  A x, dx, m, v;
};

// Everything is read before anything is written, so that a thread waits for memory once.
template <int MOMENTS, class F> __device__ void step(const Tensors& t, A sign, A decay, F change) {
  int k = 0;
  for (int half = MOST / 2; half; half /= 2)
    if ((int)blockIdx.x >= t.first[k + half]) k += half;
  T *x = t.x[k], *m = t.m[k], *v = t.v[k];
  const T* dx = t.dx[k];
  i64 size = t.size[k], begin = (i64)(blockIdx.x - t.first[k]) * EACH_THREAD * blockDim.x + threadIdx.x;
  Number n[EACH_THREAD];
#pragma unroll
  for (int i = 0; i < EACH_THREAD; i++) {
    i64 e = begin + i * blockDim.x;
    if (e < size) n[i] = {(A)x[e], (A)dx[e], MOMENTS > 0 ? (A)m[e] : 0, MOMENTS > 1 ? (A)v[e] : 0};
  }
#pragma unroll
  for (int i = 0; i < EACH_THREAD; i++) {
    i64 e = begin + i * blockDim.x;
    if (e >= size) continue;
    n[i].dx = sign * n[i].dx + decay * n[i].x;
    change(n[i]);
    x[e] = n[i].x;
    if (MOMENTS > 0) m[e] = n[i].m;
    if (MOMENTS > 1) v[e] = n[i].v;
  }
}

// `Adam.change` without amsgrad
extern "C" __global__ void adam(const __grid_constant__ Tensors t, double beta1, double rest1, double beta2,
                                double rest2, double root, double eps, double rate, double sign, double decay,
                                double shrink) {
  step<2>(t, sign, decay, [=](Number& n) {
    n.m = n.m * (A)beta1 + (A)rest1 * n.dx;
    n.v = n.v * (A)beta2 + (A)rest2 * (n.dx * n.dx);
    n.x += n.m * (A)rate / (sqrt(n.v) * (A)root + (A)eps) - (A)shrink * n.x;
  });
}

// `SGD.change` with momentum
extern "C" __global__ void sgd(const __grid_constant__ Tensors t, double momentum, double rest, double rate,
                               double sign, double decay, double nesterov) {
  step<1>(t, sign, decay, [=](Number& n) {
    n.m = n.m * (A)momentum + (A)rest * n.dx;
    n.x -= (A)rate * (nesterov ? n.dx + (A)momentum * n.m : n.m);
  });
}

// `SGD.change` without momentum
extern "C" __global__ void plain_sgd(const __grid_constant__ Tensors t, double rate, double sign, double decay) {
  step<0>(t, sign, decay, [=](Number& n) { n.x -= (A)rate * n.dx; });
}
