// A mask at points, and what costs of a match are made of. Included as simd.inl says.

#include "simd.inl"

INLINE Real<float> gather(const float* from, const int32_t* index) {
#if VECTOR_BYTES == 64
  return (Real<float>)_mm512_i32gather_ps(_mm512_loadu_si512(index), from, 4);
#elif VECTOR_BYTES == 32
  return (Real<float>)_mm256_i32gather_ps(from, _mm256_loadu_si256((const __m256i*)index), 4);
#else
  Real<float> v;
  for (int k = 0; k < Simd<float>::width; ++k) v[k] = from[index[k]];
  return v;
#endif
}

// log(1 + e) for e in 0..1: twice the series of artanh(e / (2 + e)).
INLINE Real<float> log_one_plus(Real<float> e) {
  const Real<float> s = e / (e + 2.0f), t = s * s;
  Real<float> y = t * (1.0f / 13) + 1.0f / 11;
  y = y * t + 1.0f / 9;
  y = y * t + 1.0f / 7;
  y = y * t + 1.0f / 5;
  y = y * t + 1.0f / 3;
  return 2.0f * s * (y * t + 1.0f);
}

INLINE void store_some(float* to, Real<float> v, int64_t count) {
  if (count >= Simd<float>::width) return store(to, v);
  for (int64_t k = 0; k < count; ++k) to[k] = v[k];
}

// Values and probabilities (count,) of a mask's logits, and the sum of softplus(value). Taps as
// `Taps` holds them.
double sample_mask(const float* mask, const int32_t* index, const float* weights, int64_t pitch,
                   int64_t count, float* values, float* probs) {
  constexpr int64_t lanes = Simd<float>::width, few = 64;  // vectors that float32 adds up
  double sum = 0;
  for (int64_t block = 0; block < count; block += few * lanes) {
    Real<float> part = {};
    const int64_t end = block + few * lanes < count ? block + few * lanes : count;
    for (int64_t i = block; i < end; i += lanes) {
      Real<float> v = {};
      for (int k = 0; k < 4; ++k) v += gather(mask, index + k * pitch + i) * load(weights + k * pitch + i);
      const Real<float> e = exponential(v < 0 ? v : -v), one = e / (e + 1.0f);
      const int64_t left = count - i;
      store_some(values + i, v, left);
      store_some(probs + i, v < 0 ? one : 1.0f - one, left);
      const Real<float> soft = (v < 0 ? Real<float>{} : v) + log_one_plus(e);
      if (left >= lanes) {
        part += soft;
      } else {
        for (int64_t k = 0; k < left; ++k) sum += soft[k];
      }
    }
    for (int64_t k = 0; k < lanes; ++k) sum += part[k];
  }
  return sum;
}

void widen(const uint16_t* from, int64_t count, float* to) {  // of bfloat16
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
    std::memcpy(to + i, &bits, sizeof(bits));
  }
}
