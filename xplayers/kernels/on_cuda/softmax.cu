extern "C" __global__ void softmax_forward(const T* x, T* y, i64 rows, i64 n, i64 logarithm) {
  i64 row = this_row();
  if (row >= rows) return;
  x += row * n, y += row * n;
  Exponentials e = Exponentials::none();
  EACH(j, n) e.see(x[j]);
  e = over_row(e);
  A scale = 1 / e.sum, shift = log(e.sum);
  EACH(j, n) {
    A z = (A)x[j] - e.top;
    y[j] = logarithm ? z - shift : exp(z) * scale;
  }
}

// dx = y (dy - sum(dy y)), or dy - e^y sum(dy)
extern "C" __global__ void softmax_backward(const T* dy, const T* y, T* dx, i64 rows, i64 n, i64 logarithm) {
  i64 row = this_row();
  if (row >= rows) return;
  dy += row * n, y += row * n, dx += row * n;
  Sum s = Sum::none();
  EACH(j, n) s.a += logarithm ? (A)dy[j] : (A)dy[j] * (A)y[j];
  s = over_row(s);
  EACH(j, n) dx[j] = logarithm ? (A)dy[j] - exp((A)y[j]) * s.a : (A)y[j] * ((A)dy[j] - s.a);
}
