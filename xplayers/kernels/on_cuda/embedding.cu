// A row out of range gives NaN, and takes nothing.
__device__ i64 row_of(const I* index, i64 i, i64 v) {
  i64 row = index[i];
  return row < -v || row >= v ? -1 : row < 0 ? row + v : row;
}

extern "C" __global__ void take_rows(const I* index, const T* weight, T* y, i64 n, i64 v, i64 width) {
  EACH_ELEMENT(e, n * width) {
    i64 row = row_of(index, e / width, v);
    y[e] = row < 0 ? (T)(A)nan("") : weight[row * width + e % width];
  }
}

extern "C" __global__ void add_rows(const I* index, const T* dy, A* dweight, i64 n, i64 v, i64 width, i64 hole) {
  EACH_ELEMENT(e, n * width) {
    i64 row = row_of(index, e / width, v);
    if (row >= 0 && row != hole) atomicAdd(dweight + row * width + e % width, (A)dy[e]);
  }
}
