// Windows over planes of three axes, of which the first are 1 where there are fewer.
struct Axis {
  int size, kernel, stride, padding, dilation, windows;

  __device__ int start(int o) const { return o * stride - padding; }

  // the windows that may see element r
  __device__ int first(int r) const {
    int beyond = r + padding - (kernel - 1) * dilation;
    return beyond > 0 ? (beyond + stride - 1) / stride : 0;
  }
  __device__ int last(int r) const { return min((r + padding) / stride, windows - 1); }

  // what counts of a window: with `pad` of padding, and nothing of what hangs over behind it
  __device__ int count(int o, int pad) const { return min(start(o) + kernel, size + pad) - max(start(o), -pad); }
};

#define AXIS(a) i64 a##_size, i64 a##_kernel, i64 a##_stride, i64 a##_padding, i64 a##_dilation, i64 a##_windows
#define GEOMETRY AXIS(d), AXIS(h), AXIS(w)
#define MAKE(a) \
  Axis a = {(int)a##_size, (int)a##_kernel, (int)a##_stride, (int)a##_padding, (int)a##_dilation, (int)a##_windows}
#define AXES MAKE(d); MAKE(h); MAKE(w); i64 area = d_size * h_size * w_size, windows = d_windows * h_windows * w_windows

#define EACH_TAP(i, r, axis, o) \
  for (int i = 0, r = axis.start(o); i < axis.kernel; i++, r += axis.dilation) \
    if (r >= 0 && r < axis.size)
#define EACH_WINDOW(o, axis, r) for (int o = axis.first(r); o <= axis.last(r); o++)

// at: where in its plane each maximum stands: the first, or the last NaN
extern "C" __global__ void max_forward(const T* x, T* y, int* at, i64 planes, GEOMETRY) {
  AXES;
  EACH_ELEMENT(e, planes * windows) {
    int o = e % windows, u = o / w.windows % h.windows;
    const T* image = x + e / windows * area;
    A best = 0;
    int place = -1;
    EACH_TAP(i, p, d, o / (h.windows * w.windows))
      EACH_TAP(j, q, h, u)
        EACH_TAP(k, r, w, o % w.windows) {
          int here = (p * h.size + q) * w.size + r;
          A v = image[here];
          if (v > best || v != v || place < 0) best = v, place = here;
        }
    y[e] = best, at[e] = place;
  }
}

// An element asks the windows that see it, so that nothing is added from two sides.
extern "C" __global__ void max_backward(const T* dy, const int* at, T* dx, i64 planes, GEOMETRY) {
  AXES;
  EACH_ELEMENT(e, planes * area) {
    int here = e % area, q = here / w.size % h.size, p = here / (w.size * h.size), r = here % w.size;
    i64 plane = e / area * windows;
    A sum = 0;
    EACH_WINDOW(t, d, p)
      EACH_WINDOW(u, h, q)
        EACH_WINDOW(v, w, r) {
          i64 o = plane + (t * h.windows + u) * w.windows + v;
          if (at[o] == here) sum += (A)dy[o];
        }
    dx[e] = sum;
  }
}

__device__ A divisor_of(Axis d, Axis h, Axis w, int t, int u, int v, bool pad, double divisor) {
  if (divisor) return divisor;
  return (A)d.count(t, pad ? d.padding : 0) * h.count(u, pad ? h.padding : 0) * w.count(v, pad ? w.padding : 0);
}

extern "C" __global__ void avg_forward(const T* x, T* y, i64 planes, i64 pad, double divisor, GEOMETRY) {
  AXES;
  EACH_ELEMENT(e, planes * windows) {
    int o = e % windows, t = o / (h.windows * w.windows), u = o / w.windows % h.windows, v = o % w.windows;
    const T* image = x + e / windows * area;
    A sum = 0;
    EACH_TAP(i, p, d, t)
      EACH_TAP(j, q, h, u)
        EACH_TAP(k, r, w, v) sum += (A)image[(p * h.size + q) * w.size + r];
    y[e] = sum / divisor_of(d, h, w, t, u, v, pad, divisor);
  }
}

extern "C" __global__ void avg_backward(const T* dy, T* dx, i64 planes, i64 pad, double divisor, GEOMETRY) {
  AXES;
  EACH_ELEMENT(e, planes * area) {
    int here = e % area, q = here / w.size % h.size, p = here / (w.size * h.size), r = here % w.size;
    const T* d_plane = dy + e / area * windows;
    A sum = 0;
    EACH_WINDOW(t, d, p)
      EACH_WINDOW(u, h, q)
        EACH_WINDOW(v, w, r)
          sum += (A)d_plane[(t * h.windows + u) * w.windows + v] / divisor_of(d, h, w, t, u, v, pad, divisor);
    dx[e] = sum;
  }
}
