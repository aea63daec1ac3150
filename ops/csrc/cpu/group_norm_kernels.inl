// Sums of a group norm, and what is done with them, a row of channels at a time. Included as
// simd.inl says; channels are whole vectors.

#include "simd.inl"

// Sums and sums of squares of each channel over rows [begin, end) of x (rows, channels). A few rows
// are added up relative to their first, for of numbers far from zero float32 would keep too little.
void channel_sums(const float* x, int64_t begin, int64_t end, int64_t channels, double* sums,
                  double* squares) {
  constexpr int64_t lanes = Simd<float>::width, few = 16;  // rows that float32 adds up
  for (int64_t row = begin; row < end; row += few) {
    const int64_t last = row + few < end ? row + few : end;
    for (int64_t c = 0; c < channels; c += lanes) {
      const Real<float> first = load(x + row * channels + c);
      Real<float> sum = {}, square = {};
      for (int64_t i = row + 1; i < last; ++i) {
        const Real<float> v = load(x + i * channels + c) - first;
        sum += v;
        square += v * v;
      }
      const double count = static_cast<double>(last - row);
      for (int64_t k = 0; k < lanes; ++k) {
        const double base = first[k], more = sum[k];
        sums[c + k] += count * base + more;
        squares[c + k] += (count * base + 2 * more) * base + square[k];
      }
    }
  }
}

// One row of pixels: out = x * scale + shift, plus the coarse map's two rows at this height, then
// perhaps ReLU. x and out may be the same.
void scale_row(const float* x, float* out, int64_t width, int64_t channels, const float* scale,
               const float* shift, const Coarse& coarse, bool relu) {
  constexpr int64_t lanes = Simd<float>::width;
  for (int64_t i = 0; i < width; ++i) {
    Between at{};
    if (coarse.top) at = between(i, width, coarse.width);
    for (int64_t c = 0; c < channels; c += lanes) {
      Real<float> v = load(x + i * channels + c) * load(scale + c) + load(shift + c);
      if (coarse.top) {
        const int64_t left = at.low * channels + c, right = at.high * channels + c;
        const Real<float> top = load(coarse.top + left) * (1 - at.part) + load(coarse.top + right) * at.part;
        const Real<float> bottom = load(coarse.bottom + left) * (1 - at.part) + load(coarse.bottom + right) * at.part;
        v += top * (1 - coarse.part) + bottom * coarse.part;
      }
      store(out + i * channels + c, relu ? (v > 0 ? v : Real<float>{}) : v);
    }
  }
}
