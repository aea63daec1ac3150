// The pixels of one column that a query is given, included as simd.inl says.

#include "columns.inl"

// Adds the probabilities of output column x to `sums` where nobody owns the pixel yet. `tall`
// begins with the first cells that the column reads; its last vector may go beyond the view, where
// it must hold -infinity or nearly so.
void add_probability(const float* tall, int64_t pitch, const Axis& across, int64_t x, int64_t rows,
                     const int32_t* owner, float* sums) {
  constexpr int64_t lanes = Simd<float>::width;
  for (int64_t y = 0; y < rows; y += lanes) {
    if (!bits_of((Whole<float>)load(reinterpret_cast<const float*>(owner + y)) < 0)) continue;
    Real<float> v = across.weight(0, x) * load(tall + y);
    for (int64_t k = 1; k < across.taps; ++k) v += across.weight(k, x) * load(tall + y + k * pitch);
    const Whole<float> positive = v > 0;
    const Real<float> small = exponential(positive ? -v : v);
    const Real<float> one = Real<float>{} + 1;
    store(sums + y, load(sums + y) + (positive ? one : small) / (one + small));
  }
}

// Gives the free pixels to `query` whose mean of probabilities exceeds one half; how many they are,
// and the sum of their sigmoids. `sums` are zero afterwards.
int64_t claim(float* sums, const float* seen, int64_t rows, int32_t query, int32_t* owner,
              double* quality) {
  constexpr int64_t lanes = Simd<float>::width;
  int64_t count = 0;
  for (int64_t y = 0; y < rows; y += lanes) {
    const Real<float> mean = load(sums + y) / load(seen + y);
    store(sums + y, Real<float>{});
    float* at = reinterpret_cast<float*>(owner + y);
    const Whole<float> before = (Whole<float>)load(at);
    const Whole<float> mine = (mean > 0.5f) & (before < 0);
    const uint64_t bits = bits_of(mine);
    if (!bits) continue;
    count += __builtin_popcountll(bits);
    store(at, (Real<float>)(mine ? Whole<float>{} + query : before));
    // published: the sigmoid of what is a probability already
    *quality += total<float>(mine ? 1.0f / (1.0f + exponential(-mean)) : Real<float>{});
  }
  return count;
}
