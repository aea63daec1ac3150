// Winograd's F(4x4, 3x3), "Fast Algorithms for Convolutional Neural Networks" (Lavin and Gray,
// section 4.3): a tile of 4x4 outputs from 6x6 inputs by 36 products. Included as simd.inl says.
//
// Maps are channels-last, channels whole vectors; everything is done for a vector of them.

#include "simd.inl"

// B^T of six numbers, `from` and `to` so many vectors apart.
INLINE void to_products(const Real<float>* d, int64_t from, Real<float>* out, int64_t to) {
  const Real<float> d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from];
  const Real<float> even = d4 - 4 * d2, odd = d3 - 4 * d1, near = d4 - d2, far = 2 * (d3 - d1);
  out[0] = 4 * d[0] - 5 * d2 + d4;
  out[to] = even + odd;
  out[2 * to] = even - odd;
  out[3 * to] = near + far;
  out[4 * to] = near - far;
  out[5 * to] = 4 * d1 - 5 * d3 + d[5 * from];
}

// A^T: six products to four numbers.
INLINE void from_products(const Real<float>* m, int64_t from, Real<float>* out, int64_t to) {
  const Real<float> p = m[from] + m[2 * from], q = m[from] - m[2 * from];
  const Real<float> r = m[3 * from] + m[4 * from], s = m[3 * from] - m[4 * from];
  out[0] = m[0] + p + r;
  out[to] = q + 2 * s;
  out[2 * to] = p + 4 * r;
  out[3 * to] = q + 8 * s + m[5 * from];
}

// A of four gradients of outputs.
INLINE void to_gradients(const Real<float>* g, int64_t from, Real<float>* out, int64_t to) {
  const Real<float> even = g[0] + g[2 * from], odd = g[from] + g[3 * from];
  const Real<float> near = g[0] + 4 * g[2 * from], far = 2 * g[from] + 8 * g[3 * from];
  out[0] = g[0];
  out[to] = even + odd;
  out[2 * to] = even - odd;
  out[3 * to] = near + far;
  out[4 * to] = near - far;
  out[5 * to] = g[3 * from];
}

// Tiles [begin, end) of the image's tiles -> out (36, count, channels), from its row `first` on.
void winograd_input(const Maps& maps, const float* x, int64_t begin, int64_t end, int64_t first,
                    int64_t count, float* out) {
  constexpr int64_t lanes = Simd<float>::width;
  const int64_t channels = maps.inputs;
  for (int64_t i = begin; i < end; ++i) {
    const Place at = maps.place(i);
    for (int64_t c = 0; c < channels; c += lanes) {
      Real<float> tile[36], half[36];
      for (int64_t j = 0; j < 36; ++j) {
        const int64_t row = at.y - 1 + j / 6, column = at.x - 1 + j % 6;
        const bool inside = row >= 0 && row < maps.height && column >= 0 && column < maps.width;
        tile[j] = inside ? load(x + maps.pixel(at.image, row, column) * channels + c)
                         : Real<float>{};
      }
      for (int64_t j = 0; j < 6; ++j) to_products(tile + j, 6, half + j, 6);
      for (int64_t j = 0; j < 6; ++j) to_products(half + 6 * j, 1, tile + 6 * j, 1);
      for (int64_t j = 0; j < 36; ++j) store(out + (j * count + i - first) * channels + c, tile[j]);
    }
  }
}

// R rows and V vectors of a product of matrices, kept in registers; a (R, inputs), b (inputs,
// outputs), out (R, outputs).
template <int R, int V>
INLINE void product_block(const float* a, const float* b, float* out, int64_t inputs,
                          int64_t outputs) {
  constexpr int64_t lanes = Simd<float>::width;
  Real<float> sum[R][V] = {};
  for (int64_t k = 0; k < inputs; ++k) {
    Real<float> row[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) row[v] = load(b + k * outputs + v * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] += a[r * inputs + k] * row[v];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(out + r * outputs + v * lanes, sum[r][v]);
  }
}

template <int V>
INLINE void product_columns(const float* a, const float* b, float* out, int64_t rows,
                            int64_t inputs, int64_t outputs) {
  int64_t i = 0;
  for (; i + 6 <= rows; i += 6) {
    product_block<6, V>(a + i * inputs, b, out + i * outputs, inputs, outputs);
  }
  for (; i + 2 <= rows; i += 2) {
    product_block<2, V>(a + i * inputs, b, out + i * outputs, inputs, outputs);
  }
  for (; i < rows; ++i) product_block<1, V>(a + i * inputs, b, out + i * outputs, inputs, outputs);
}

// (36, rows, inputs) x (36, inputs, outputs) -> (36, rows, outputs)
void winograd_products(const float* a, const float* b, float* out, int64_t rows, int64_t inputs,
                       int64_t outputs) {
  constexpr int64_t lanes = Simd<float>::width;
  constexpr int V = VECTOR_BYTES == 64 ? 4 : 2;  // with six rows, what the registers hold
  for (int64_t j = 0; j < 36; ++j) {
    int64_t column = 0;
    for (; column + V * lanes <= outputs; column += V * lanes) {
      product_columns<V>(a, b + column, out + column, rows, inputs, outputs);
    }
    for (; column < outputs; column += lanes) {
      product_columns<1>(a, b + column, out + column, rows, inputs, outputs);
    }
    a += rows * inputs;
    b += inputs * outputs;
    out += rows * outputs;
  }
}

// Products (36, count, channels) -> the outputs of tiles [begin, end); bias and `added`, a map like
// the result, may be null.
void winograd_output(const Maps& maps, const float* products, int64_t begin, int64_t end,
                     int64_t first, int64_t count, const float* bias, const float* added, bool relu,
                     float* y) {
  constexpr int64_t lanes = Simd<float>::width;
  const int64_t channels = maps.outputs;
  for (int64_t i = begin; i < end; ++i) {
    const Place at = maps.place(i);
    for (int64_t c = 0; c < channels; c += lanes) {
      Real<float> tile[36], half[24], out[16];
      for (int64_t j = 0; j < 36; ++j) {
        tile[j] = load(products + (j * count + i - first) * channels + c);
      }
      for (int64_t j = 0; j < 6; ++j) from_products(tile + j, 6, half + j, 6);
      for (int64_t j = 0; j < 4; ++j) from_products(half + 6 * j, 1, out + 4 * j, 1);
      const Real<float> shift = bias ? load(bias + c) : Real<float>{};
      for (int64_t j = 0; j < 16; ++j) {
        const int64_t row = at.y + j / 4, column = at.x + j % 4;
        if (row >= maps.height || column >= maps.width) continue;
        const int64_t to = maps.pixel(at.image, row, column) * channels + c;
        Real<float> v = out[j] + shift;
        if (added) v += load(added + to);
        store(y + to, relu ? (v > 0 ? v : Real<float>{}) : v);
      }
    }
  }
}

// Tiles [begin, end) of the outputs' gradients -> out (36, count, channels), from its row `first` on.
void winograd_gradient(const Maps& maps, const float* grad, int64_t begin, int64_t end,
                       int64_t first, int64_t count, float* out) {
  constexpr int64_t lanes = Simd<float>::width;
  const int64_t channels = maps.outputs;
  for (int64_t i = begin; i < end; ++i) {
    const Place at = maps.place(i);
    for (int64_t c = 0; c < channels; c += lanes) {
      Real<float> tile[16], half[24], wide[36];
      for (int64_t j = 0; j < 16; ++j) {
        const int64_t row = at.y + j / 4, column = at.x + j % 4;
        const bool inside = row < maps.height && column < maps.width;
        tile[j] = inside ? load(grad + maps.pixel(at.image, row, column) * channels + c)
                         : Real<float>{};
      }
      for (int64_t j = 0; j < 4; ++j) to_gradients(tile + j, 4, half + j, 4);
      for (int64_t j = 0; j < 6; ++j) to_gradients(half + 4 * j, 1, wide + 6 * j, 1);
      for (int64_t j = 0; j < 36; ++j) store(out + (j * count + i - first) * channels + c, wide[j]);
    }
  }
}
