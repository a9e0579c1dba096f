// One step of a cell, and its way back; arrays are (N, H) and (N, G), e counts through (N, H).
__device__ A sigmoid(A z) { return 1 / (1 + exp(-z)); }

// a row of gates at one unit: a + b_ih and r + b_hh
struct Unit {
  const T *a, *r, *b_ih, *b_hh;
  i64 h, at, unit;

  __device__ A from_x(int gate) const { return (A)a[at + gate * h] + (b_ih ? (A)b_ih[gate * h + unit] : 0); }
  __device__ A from_h(int gate) const { return (A)r[at + gate * h] + (b_hh ? (A)b_hh[gate * h + unit] : 0); }
  __device__ A sum(int gate) const { return from_x(gate) + from_h(gate); }
};

#define STEP const T *a, const T *r, const T *b_ih, const T *b_hh
#define UNIT(gates) Unit z = {a, r, b_ih, b_hh, h, e / h * (gates * h) + e % h, e % h}

extern "C" __global__ void rnn_step(STEP, T* after, i64 count, i64 h, i64 relu) {
  EACH_ELEMENT(e, count) {
    UNIT(1);
    A s = z.sum(0);
    after[e] = relu ? (s <= 0 ? 0 : s) : tanh(s);
  }
}

extern "C" __global__ void rnn_back(const T* dy, const T* dh, const T* after, T* dz, i64 count, i64 relu) {
  EACH_ELEMENT(e, count) {
    A d = (A)dy[e] + (A)dh[e], y = after[e];
    dz[e] = relu ? (y > 0 ? d : 0 * d) : d * (1 - y * y);
  }
}

// gates (N, 4H): i, f, g, o. c' = f c + i g, h' = o tanh(c')
extern "C" __global__ void lstm_step(STEP, const T* c, T* gates, T* after_c, T* after_h, i64 count, i64 h) {
  EACH_ELEMENT(e, count) {
    UNIT(4);
    A i = sigmoid(z.sum(0)), f = sigmoid(z.sum(1)), g = tanh(z.sum(2)), o = sigmoid(z.sum(3));
    A next = f * (A)c[e] + i * g;
    T* out = gates + z.at;
    out[0] = i, out[h] = f, out[2 * h] = g, out[3 * h] = o;
    after_c[e] = next, after_h[e] = o * tanh(next);
  }
}

// dc: of after the step; dc_before: of before it, less nothing
extern "C" __global__ void lstm_back(const T* dy, const T* dh, const T* dc, const T* gates, const T* c,
                                     const T* after_c, T* dz, T* dc_before, i64 count, i64 h) {
  EACH_ELEMENT(e, count) {
    i64 at = e / h * (4 * h) + e % h;
    const T* gate = gates + at;
    T* out = dz + at;
    A i = gate[0], f = gate[h], g = gate[2 * h], o = gate[3 * h], tanh_c = tanh((A)after_c[e]);
    A d = (A)dy[e] + (A)dh[e], d_c = (A)dc[e] + d * (o * (1 - tanh_c * tanh_c));
    out[0] = d_c * (g * i * (1 - i)), out[h] = d_c * ((A)c[e] * f * (1 - f));
    out[2 * h] = d_c * (i * (1 - g * g)), out[3 * h] = d * tanh_c * (o * (1 - o));
    dc_before[e] = d_c * f;
  }
}

// gates (N, 4H): reset, z, n, and the part of n that comes from h. h' = n + z (h - n)
extern "C" __global__ void gru_step(STEP, const T* before, T* gates, T* after, i64 count, i64 h) {
  EACH_ELEMENT(e, count) {
    UNIT(3);
    A reset = sigmoid(z.sum(0)), keep = sigmoid(z.sum(1)), from_h = z.from_h(2);
    A n = tanh(z.from_x(2) + reset * from_h);
    T* out = gates + e / h * (4 * h) + e % h;
    out[0] = reset, out[h] = keep, out[2 * h] = n, out[3 * h] = from_h;
    after[e] = n + keep * ((A)before[e] - n);
  }
}

// through: what reaches h besides by way of r, null behind the last step; through_before: the same of before the step
extern "C" __global__ void gru_back(const T* dy, const T* dh, const T* through, const T* gates, const T* before, T* da,
                                    T* dr, T* through_before, i64 count, i64 h) {
  EACH_ELEMENT(e, count) {
    i64 at = e / h * (3 * h) + e % h;
    const T* gate = gates + e / h * (4 * h) + e % h;
    A reset = gate[0], keep = gate[h], n = gate[2 * h], from_h = gate[3 * h];
    A d = (A)dy[e] + (A)dh[e] + (through ? (A)through[e] : 0);
    A dn = d * (1 - keep) * (1 - n * n), dkeep = d * ((A)before[e] - n) * keep * (1 - keep);
    A dreset = dn * from_h * reset * (1 - reset);
    da[at] = dreset, da[at + h] = dkeep, da[at + 2 * h] = dn;
    dr[at] = dreset, dr[at + h] = dkeep, dr[at + 2 * h] = dn * reset;
    through_before[e] = d * keep;
  }
}
