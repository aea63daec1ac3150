// From a mask's cells to the pixels of one column, included as simd.inl says.

#include "simd.inl"

// Pixels of the rows [rows.begin, rows.end) in the cells' columns [cells.begin, cells.end), column
// after column, `pitch` apart. `block` holds a vector's number of rows.
void to_columns(const float* mask, int64_t width, const Axis& down, Span rows, Span cells,
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

// Which pixels of output column x are above the threshold, 64 to a word; the sum of their
// probabilities, if asked. `tall` begins with the first cells that the column reads.
double threshold_column(const float* tall, int64_t pitch, const Axis& across, int64_t x,
                        float threshold, bool score, uint64_t* words) {
  constexpr int64_t lanes = Simd<float>::width;
  double sum = 0;
  for (int64_t y = 0; y < pitch; y += 64) {
    uint64_t word = 0;
    Real<float> part = {};
    for (int64_t i = 0; i < 64; i += lanes) {
      const float* from = tall + y + i;
      Real<float> v = across.weight(0, x) * load(from);
      for (int64_t k = 1; k < across.taps; ++k) v += across.weight(k, x) * load(from + k * pitch);
      const Whole<float> inside = v > threshold;
      const uint64_t bits = bits_of(inside);
      word |= bits << i;
      if (score && bits) part += inside ? 1.0f / (1.0f + exponential(-v)) : Real<float>{};
    }
    if (score && word) sum += total<float>(part);
    words[y / 64] = word;
  }
  return sum;
}
