// CPU kernels of multi-scale deformable attention, compiled once per instruction set.
// Legend: B samples, S tokens, M heads, D channels of a head, Q queries, L levels, P points.
#pragma once
#include <cstdint>

namespace msda {

struct Shape {
  int64_t B, S, M, D, Q, L, P;
  const int64_t* sizes;   // h0 w0 h1 w1 ...
  const int64_t* starts;  // first token of each level
};

// Where points come from: normalised locations and weights (offsets, reference null), or
// reference points, offsets in pixels and logits (locations, weights null).
template <typename T>
struct Points {
  const T* locations;  // (B, Q, M, L, P, 2)
  const T* weights;    // (B, Q, M, L, P)
  const T* reference;  // (1 or B, Q, 1 or L, 2)
  const T* offsets;    // (B, Q, M, L, P, 2)
  const T* logits;     // (B, Q, M, L * P)
  int64_t reference_batch, reference_level;  // strides; 0 where broadcast
};

template <typename T>
struct Gradients {
  T* value;   // (B, S, M, D), zeroed by the kernel
  T* places;  // of locations, or of offsets
  T* scores;  // of weights, or of logits
};

// Tasks are (sample, head, block of queries) forward and (sample, head) backward: no two write the
// same place, so nothing is atomic and results do not depend on the number of threads.
#define MSDA_DECLARE(NAME)                                                                       \
  namespace NAME {                                                                               \
  void forward(const float*, const Points<float>&, float*, const Shape&, int64_t, int64_t);      \
  void forward(const double*, const Points<double>&, double*, const Shape&, int64_t, int64_t);   \
  void backward(const float*, const float*, const Points<float>&, const Gradients<float>&,       \
                const Shape&, int64_t);                                                          \
  void backward(const double*, const double*, const Points<double>&, const Gradients<double>&,   \
                const Shape&, int64_t);                                                          \
  }
MSDA_DECLARE(plain)
MSDA_DECLARE(avx2)
MSDA_DECLARE(avx512)

constexpr int64_t kBlock = 512;  // queries of one forward task

}  // namespace msda
