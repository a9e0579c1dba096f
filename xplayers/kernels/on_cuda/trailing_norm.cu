// Layer norm, and RMS norm where mean is null. h = (x - mean) r.
extern "C" __global__ void norm_forward(const T* x, const W* weight, const W* bias, T* y, A* mean, A* r, i64 rows,
                                        i64 n, double eps) {
  i64 row = this_row();
  if (row >= rows) return;
  x += row * n, y += row * n;
  A m = 0;
  Sum s = Sum::none();
  if (mean) {
    EACH(j, n) s.a += (A)x[j];
    m = over_row(s).a / n;
  }
  s = Sum::none();
  EACH(j, n) {
    A u = (A)x[j] - m;
    s.a += u * u;
  }
  A scale = 1 / sqrt(over_row(s).a / n + (A)eps);
  EACH(j, n) y[j] = ((A)x[j] - m) * scale * (weight ? (A)weight[j] : 1) + (bias ? (A)bias[j] : 0);
  if (threadIdx.x) return;
  if (mean) mean[row] = m;
  r[row] = scale;
}

// With g = dy weight and m() the mean over a row: dx = r (g - m(g) - h m(g h))
extern "C" __global__ void norm_backward(const T* dy, const T* x, const W* weight, const A* mean, const A* r, T* dx,
                                         i64 rows, i64 n) {
  i64 row = this_row();
  if (row >= rows) return;
  dy += row * n, x += row * n, dx += row * n;
  A m = mean ? mean[row] : 0, scale = r[row];
  Pair s = Pair::none();
  EACH(j, n) {
    A g = (A)dy[j] * (weight ? (A)weight[j] : 1);
    s.add({g, g * ((A)x[j] - m) * scale});
  }
  s = over_row(s);
  A mean_g = mean ? s.a / n : 0, mean_gh = s.b / n;
  EACH(j, n) {
    A g = (A)dy[j] * (weight ? (A)weight[j] : 1), h = ((A)x[j] - m) * scale;
    dx[j] = (g - mean_g - h * mean_gh) * scale;
  }
}

// sums (parts, 2, n): of dy h and of dy, down the columns of a part of the rows. A block is 32 columns by 8 rows.
extern "C" __global__ void norm_columns(const T* dy, const T* x, const A* mean, const A* r, A* sums, i64 rows, i64 n) {
  __shared__ Pair held[8][32];
  i64 column = (i64)blockIdx.x * 32 + threadIdx.x, part = blockIdx.y, parts = gridDim.y;
  i64 last = rows * (part + 1) / parts;
  Pair s = Pair::none();
  if (column < n)
    for (i64 row = rows * part / parts + threadIdx.y; row < last; row += blockDim.y) {
      A d = dy[row * n + column];
      s.add({d * (((A)x[row * n + column] - (mean ? mean[row] : 0)) * r[row]), d});
    }
  held[threadIdx.y][threadIdx.x] = s;
  __syncthreads();
  if (threadIdx.y || column >= n) return;
  for (int k = 1; k < blockDim.y; k++) s.add(held[k][threadIdx.x]);
  sums[part * 2 * n + column] = s.a, sums[(part * 2 + 1) * n + column] = s.b;
}

// sums (parts, count) -> (count)
extern "C" __global__ void norm_totals(const A* sums, W* out, i64 parts, i64 count) {
  EACH_ELEMENT(e, count) {
    A s = 0;
    for (i64 k = 0; k < parts; k++) s += sums[k * count + e];
    out[e] = s;
  }
}
