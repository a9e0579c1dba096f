// Norms of sets of rows: x is (N C, L), its rows an (a, s, b) table, and those with the same place in the middle share
// their statistics: see functional/normalization.py. A row may lie in several parts, so that few long rows are enough.
__device__ i64 bound(i64 n, i64 part) { return n * part / gridDim.y; }

#define EACH_OF_PART(j, n) \
  for (i64 j = bound(n, blockIdx.y) + threadIdx.x; j < bound(n, blockIdx.y + 1); j += blockDim.x)

// moments (N C, parts)
extern "C" __global__ void row_moments(const T* x, Moments* moments, i64 rows, i64 n) {
  i64 row = this_row();
  if (row >= rows) return;
  Moments m = Moments::none();
  EACH_OF_PART(j, n) m.see(x[row * n + j]);
  m = over_row(m);
  if (threadIdx.x == 0) moments[row * gridDim.y + blockIdx.y] = m;
}

// A warp a set.
extern "C" __global__ void set_moments(const Moments* moments, A* mean, A* var, i64 a, i64 s, i64 b, i64 parts) {
  i64 set = this_row(), run = b * parts;
  if (set >= s) return;
  Moments m = Moments::none();
  EACH(e, a * run) m.add(moments[(e / run * s + set) * run + e % run]);
  m = over_warp(m);
  if (threadIdx.x == 0) mean[set] = m.mean, var[set] = m.squares / m.n;
}

extern "C" __global__ void row_apply(const T* x, const A* mean, const A* var, const W* weight, const W* bias, T* y,
                                     double eps, i64 a, i64 s, i64 b, i64 channels, i64 n) {
  i64 row = this_row();
  if (row >= a * s * b) return;
  i64 set = row / b % s, c = row % channels;
  A m = mean[set], scale = 1 / sqrt(var[set] + (A)eps) * (weight ? (A)weight[c] : 1), shift = bias ? (A)bias[c] : 0;
  EACH_OF_PART(j, n)
    y[row * n + j] = ((A)x[row * n + j] - m) * scale + shift;
}

// sums (N C, parts): of dy, and of dy (x - mean)
extern "C" __global__ void row_sums(const T* dy, const T* x, const A* mean, Pair* sums, i64 a, i64 s, i64 b, i64 n) {
  i64 row = this_row();
  if (row >= a * s * b) return;
  A m = mean[row / b % s];
  Pair t = Pair::none();
  EACH_OF_PART(j, n) {
    A d = dy[row * n + j];
    t.add({d, d * ((A)x[row * n + j] - m)});
  }
  t = over_row(t);
  if (threadIdx.x == 0) sums[row * gridDim.y + blockIdx.y] = t;
}

// With g = dy weight, u = x - mean, m() the mean over a set: shift = r m(g), slope = r^3 m(g u). A warp a set.
extern "C" __global__ void set_slopes(const Pair* sums, const A* var, const W* weight, A* shift, A* slope, double eps,
                                      i64 a, i64 s, i64 b, i64 channels, i64 parts, i64 count) {
  i64 set = this_row(), run = b * parts;
  if (set >= s) return;
  Pair g = Pair::none();
  EACH(e, a * run) {
    i64 at = (e / run * s + set) * run + e % run;
    A w = weight ? (A)weight[at / parts % channels] : 1;
    g.add({sums[at].a * w, sums[at].b * w});
  }
  g = over_warp(g);
  A r = 1 / sqrt(var[set] + (A)eps);
  if (threadIdx.x == 0) shift[set] = r * (g.a / count), slope[set] = r * r * r * (g.b / count);
}

// dweight = sum(dy u r), dbias = sum(dy). A warp a channel.
extern "C" __global__ void channel_sums(const Pair* sums, const A* var, W* dweight, W* dbias, double eps, i64 rows,
                                        i64 s, i64 b, i64 channels, i64 parts) {
  i64 c = this_row();
  if (c >= channels) return;
  Pair d = Pair::none();
  EACH(e, rows / channels * parts) {
    i64 row = e / parts * channels + c;
    Pair t = sums[row * parts + e % parts];
    d.add({t.a, t.b / sqrt(var[row / b % s] + (A)eps)});
  }
  d = over_warp(d);
  if (threadIdx.x) return;
  if (dweight) dweight[c] = d.b;
  if (dbias) dbias[c] = d.a;
}

// dx = r g - u slope - shift; without the last two where the statistics are given
extern "C" __global__ void row_backward(const T* dy, const T* x, const A* mean, const A* var, const W* weight,
                                        const A* shift, const A* slope, T* dx, double eps, i64 a, i64 s, i64 b,
                                        i64 channels, i64 n) {
  i64 row = this_row();
  if (row >= a * s * b) return;
  i64 set = row / b % s;
  A m = mean[set], scale = 1 / sqrt(var[set] + (A)eps) * (weight ? (A)weight[row % channels] : 1);
  A sl = slope ? slope[set] : 0, sh = shift ? shift[set] : 0;
  EACH_OF_PART(j, n) {
    A d = (A)dy[row * n + j] * scale;
    dx[row * n + j] = slope ? d - ((A)x[row * n + j] - m) * sl - sh : d;
  }
}
