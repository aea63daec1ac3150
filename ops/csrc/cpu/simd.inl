// Vectors for the CPU kernels (*.inl), which are included once per instruction set, inside its
// namespace and target options. VECTOR_BYTES is the width of a vector. Only plain code here: what is
// shared with other instruction sets (std templates, say) must not be instantiated under these
// options.

template <typename T>
struct Simd {
  static constexpr int width = VECTOR_BYTES / sizeof(T);
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef T Real __attribute__((vector_size(VECTOR_BYTES)));
  typedef Int Whole __attribute__((vector_size(VECTOR_BYTES)));
  // the same at any address
  typedef T Loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};

template <typename T>
using Real = typename Simd<T>::Real;
template <typename T>
using Whole = typename Simd<T>::Whole;
template <typename T>
using Loose = typename Simd<T>::Loose;

template <typename T>
INLINE int64_t vectors(int64_t n) {
  return (n + Simd<T>::width - 1) / Simd<T>::width;
}

template <typename T>
INLINE const Real<T> load(const T* from) {
  return *reinterpret_cast<const Loose<T>*>(from);
}

template <typename T>
INLINE void store(T* to, Real<T> v) {
  *reinterpret_cast<Loose<T>*>(to) = v;
}

// Sums over lanes.
template <typename T, int N>
struct Part {
  typedef T Type __attribute__((vector_size(N * sizeof(T))));
};

template <typename T, int N>
INLINE void halves(typename Part<T, N>::Type v, typename Part<T, N / 2>::Type& low,
                   typename Part<T, N / 2>::Type& high) {
#if VECTOR_BYTES == 64
  if constexpr (sizeof(v) == 64 && sizeof(T) == 4) {  // GCC goes through memory otherwise
    low = (typename Part<T, N / 2>::Type)_mm512_castps512_ps256((__m512)v);
    high = (typename Part<T, N / 2>::Type)_mm512_extractf32x8_ps((__m512)v, 1);
    return;
  }
#endif
#if VECTOR_BYTES >= 32
  if constexpr (sizeof(v) == 32 && sizeof(T) == 4) {
    low = (typename Part<T, N / 2>::Type)_mm256_castps256_ps128((__m256)v);
    high = (typename Part<T, N / 2>::Type)_mm256_extractf128_ps((__m256)v, 1);
    return;
  }
#endif
  std::memcpy(&low, &v, sizeof(low));
  std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(low), sizeof(high));
}

// Upper half onto lower half, down to M lanes.
template <typename T, int N, int M>
INLINE typename Part<T, M>::Type fold(typename Part<T, N>::Type v) {
  if constexpr (N == M) {
    return v;
  } else {
    typename Part<T, N / 2>::Type low, high;
    halves<T, N>(v, low, high);
    return fold<T, N / 2, M>(low + high);
  }
}

template <typename T>
INLINE T total(Real<T> v) {
  const auto pair = fold<T, Simd<T>::width, 2>(v);
  return pair[0] + pair[1];
}

INLINE Real<float> exponential(Real<float> x) {  // for x <= 0; to 1 ulp
  const Whole<float> tiny = x < -87.0f;
  const Whole<float> power = __builtin_convertvector(x * 1.44269504f - 0.5f, Whole<float>);
  const Real<float> whole = __builtin_convertvector(power, Real<float>);
  const Real<float> r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Real<float> y = r * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  const Whole<float> bits = (power + 127) << 23;
  Real<float> scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return tiny ? Real<float>{} : y * scale;
}
