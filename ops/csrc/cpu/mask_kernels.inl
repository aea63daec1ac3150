// The pixels of a mask's column, included as simd.inl says.

#include "columns.inl"

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
