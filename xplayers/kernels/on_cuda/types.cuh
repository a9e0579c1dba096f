// The types of CUDA C++ that arrays hold, without CUDA's headers: both kinds of half are read and written as float.
using i64 = long long;

struct float16 {
  unsigned short bits;
  float16() = default;
  __device__ float16(float v) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v)); }
  __device__ operator float() const {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
    return v;
  }
};

struct bfloat16 {
  unsigned short bits;
  bfloat16() = default;
  __device__ bfloat16(float v) {
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
#else
    unsigned u = __float_as_uint(v);
    bits = v != v ? 0x7fff : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
#endif
  }
  __device__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

