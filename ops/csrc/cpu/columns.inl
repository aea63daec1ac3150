// From a mask's cells to columns of pixels, included as simd.inl says.

#include "simd.inl"

// Pixels of the rows [rows.begin, rows.end) in the cells' columns [cells.begin, cells.end), column
// after column, `pitch` apart. `block` holds a vector's number of rows.
static void to_columns(const float* mask, int64_t width, const Axis& down, Span rows, Span cells,
                float* __restrict block, float* __restrict tall, int64_t pitch) {
  constexpr int64_t lanes = Simd<float>::width;
  const int64_t count = cells.size();
  for (int64_t y = rows.begin; y < rows.end; y += lanes) {
    const int64_t height = y + lanes < rows.end ? lanes : rows.end - y;
    for (int64_t j = 0; j < height; ++j) {
      const float* __restrict from = mask + down.first[y + j] * width + cells.begin;
      float* __restrict to = block + j * count;
      for (int64_t x = 0; x < count; ++x) to[x] = down.weight(0, y + j) * from[x];
      for (int64_t k = 1; k < down.taps; ++k) {
        from += width;
        for (int64_t x = 0; x < count; ++x) to[x] += down.weight(k, y + j) * from[x];
      }
    }
    float* to = tall + (y - rows.begin);
    for (int64_t x = 0; x < count; ++x, to += pitch) {
      for (int64_t j = 0; j < height; ++j) to[j] = block[j * count + x];
    }
  }
}

// One bit a lane.
INLINE uint64_t bits_of(Whole<float> inside) {
#if VECTOR_BYTES == 64
  return _mm512_movepi32_mask((__m512i)inside);
#elif VECTOR_BYTES == 32
  return _mm256_movemask_ps((__m256)inside);
#elif defined(__x86_64__)
  return _mm_movemask_ps((__m128)inside);
#else
  uint64_t bits = 0;
  for (int i = 0; i < Simd<float>::width; ++i) bits |= uint64_t{inside[i] != 0} << i;
  return bits;
#endif
}
