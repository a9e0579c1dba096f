// q is w (1 - e) at the label, and w_c e / C more everywhere, e the smoothing: see functional/classification_loss.py.
// A label out of range gives NaN, where reading would go astray.
struct Label {
  i64 at;
  bool kept;
  A weight;
};

__device__ Label label_of(const I* target, const T* weight, i64 row, i64 n, i64 ignored) {
  i64 t = target[row];
  if (t == ignored) return {-1, false, 0};
  if (t < 0 || t >= n) return {-1, true, (A)nan("")};
  return {t, true, weight ? (A)weight[t] : 1};
}

extern "C" __global__ void entropy_forward(const T* x, const I* target, const T* weight, A* top, A* sum, A* loss,
                                           i64 rows, i64 n, i64 ignored, double smoothing) {
  i64 row = this_row();
  if (row >= rows) return;
  x += row * n;
  Exponentials e = Exponentials::none();
  EACH(j, n) e.see(x[j]);
  e = over_row(e);
  Label label = label_of(target, weight, row, n, ignored);
  A log_sum = log(e.sum), value = label.at < 0 ? label.weight : label.weight * (log_sum - ((A)x[label.at] - e.top));
  if (smoothing) {
    Sum s = Sum::none();
    EACH(j, n) s.a += (weight ? (A)weight[j] : 1) * (log_sum - ((A)x[j] - e.top));
    value = (1 - (A)smoothing) * value + ((A)smoothing / n) * over_row(s).a;
  }
  if (threadIdx.x == 0) top[row] = e.top, sum[row] = e.sum, loss[row] = label.kept ? value : 0;
}

// One block: the loss, and the sum of the labels' weights.
extern "C" __global__ void entropy_reduce(const A* loss, const I* target, const T* weight, T* y, A* norm, i64 rows,
                                          i64 n, i64 ignored, i64 mean) {
  Pair s = Pair::none();
  EACH(row, rows) s.add({loss[row], label_of(target, weight, row, n, ignored).weight});
  s = over_row(s);
  if (threadIdx.x) return;
  if (y) y[0] = mean ? (s.b == 0 ? (A)nan("") : s.a / s.b) : s.a;
  norm[0] = s.b;
}

// dy is one number a row, or one for all (each = 0), or 1 where it is null
extern "C" __global__ void entropy_backward(const T* dy, const T* x, const I* target, const T* weight, const A* top,
                                            const A* sum, const A* norm, T* dx, i64 rows, i64 n, i64 ignored,
                                            double smoothing, i64 each, i64 mean) {
  i64 row = this_row();
  if (row >= rows) return;
  x += row * n, dx += row * n;
  Label label = label_of(target, weight, row, n, ignored);
  A s = dy ? (A)dy[each ? row : 0] : 1;
  if (mean) s = norm[0] == 0 ? (A)nan("") : s / norm[0];
  if (!label.kept) s = 0;
  A at_label = (1 - (A)smoothing) * label.weight * s, spread = ((A)smoothing / n) * s, whole = at_label;
  if (smoothing) {
    Sum w = Sum::none();
    EACH(j, n) w.a += weight ? (A)weight[j] : 1;
    whole += spread * over_row(w).a;
  }
  A m = top[row], scale = whole / sum[row];
  EACH(j, n) {
    A d = exp((A)x[j] - m) * scale - (j == label.at ? at_label : 0);
    dx[j] = smoothing ? d - spread * (weight ? (A)weight[j] : 1) : d;
  }
}
