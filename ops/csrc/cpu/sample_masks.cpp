// All masks at the same points on the CPU, with probabilities and sums for the costs of a match: one
// pass over the points of a mask, whose taps are made once for all.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <vector>

#include "isa.h"

namespace msda {

#define KERNELS "sample_masks_kernels.inl"
#include "each_isa.inl"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kWidest = 16;  // lanes of a vector

struct Kernels {
  decltype(&plain::sample_mask) sample;
  decltype(&plain::widen) widen;
};

Kernels find_kernels() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::avx512: return {avx512::sample_mask, avx512::widen};
    case Isa::avx2: return {avx2::sample_mask, avx2::widen};
    case Isa::plain: break;
  }
#endif
  return {plain::sample_mask, plain::widen};
}

// The four cells around each point and their weights, (4, pitch) each; cells outside weigh nothing,
// as in grid_sample without aligned corners.
struct Taps {
  int64_t pitch;
  std::vector<int32_t> index;
  std::vector<float> weights;

  Taps(const float* points, int64_t count, int64_t height, int64_t width)
      : pitch((count + kWidest - 1) / kWidest * kWidest), index(4 * pitch), weights(4 * pitch) {
    for (int64_t i = 0; i < count; ++i) {
      // the same roundings as of a grid in -1..1
      const float x = (((2 * points[2 * i] - 1) + 1) * static_cast<float>(width) - 1) / 2;
      const float y = (((2 * points[2 * i + 1] - 1) + 1) * static_cast<float>(height) - 1) / 2;
      const float left = std::floor(x), top = std::floor(y);
      for (int k = 0; k < 4; ++k) {
        const float column = left + static_cast<float>(k % 2), row = top + static_cast<float>(k / 2);
        const bool inside = column >= 0 && row >= 0 && column < static_cast<float>(width) &&
                            row < static_cast<float>(height);
        if (!inside) continue;
        index[k * pitch + i] = static_cast<int32_t>(row) * static_cast<int32_t>(width) +
                               static_cast<int32_t>(column);
        weights[k * pitch + i] = (1 - std::fabs(x - column)) * (1 - std::fabs(y - row));
      }
    }
  }
};

// (N, h, w) logits, (P, 2) x y in 0..1 -> values (N, P), probabilities (N, P), sums (N,).
std::tuple<Tensor, Tensor, Tensor> sample_masks(const Tensor& masks_, const Tensor& points_) {
  const Tensor masks = torch::stable::contiguous(masks_), points = torch::stable::contiguous(points_);
  const bool small = masks.scalar_type() == ScalarType::BFloat16;
  STD_TORCH_CHECK(masks.dim() == 3 && (small || masks.scalar_type() == ScalarType::Float),
                  "sample_masks: masks must be (N, h, w), float32 or bfloat16");
  STD_TORCH_CHECK(points.dim() == 2 && points.size(1) == 2 &&
                      points.scalar_type() == ScalarType::Float,
                  "sample_masks: points must be (P, 2) float32");
  const int64_t rows = masks.size(0), cells = masks.size(1) * masks.size(2), count = points.size(0);
  STD_TORCH_CHECK(cells > 0 || rows == 0, "sample_masks: masks without a cell");
  STD_TORCH_CHECK(cells < (int64_t{1} << 31), "sample_masks: masks of 2^31 cells or more");
  Tensor values = torch::stable::new_empty(points, {rows, count});
  Tensor probs = torch::stable::new_empty(points, {rows, count});
  Tensor sums = torch::stable::new_zeros(points, {rows});
  if (values.numel() == 0) return {values, probs, sums};
  const Taps taps(static_cast<const float*>(points.const_data_ptr()), count, masks.size(1),
                  masks.size(2));
  const Kernels kernels = find_kernels();
  float* const to = static_cast<float*>(values.mutable_data_ptr());
  float* const likely = static_cast<float*>(probs.mutable_data_ptr());
  float* const total = static_cast<float*>(sums.mutable_data_ptr());
  torch::stable::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> wide(small ? cells : 0);
    for (int64_t i = begin; i < end; ++i) {
      const float* mask = wide.data();
      if (small) {
        kernels.widen(static_cast<const uint16_t*>(masks.const_data_ptr()) + i * cells, cells,
                      wide.data());
      } else {
        mask = static_cast<const float*>(masks.const_data_ptr()) + i * cells;
      }
      total[i] = static_cast<float>(kernels.sample(mask, taps.index.data(), taps.weights.data(),
                                                   taps.pitch, count, to + i * count,
                                                   likely + i * count));
    }
  });
  return {values, probs, sums};
}

}  // namespace
}  // namespace msda

STABLE_TORCH_LIBRARY_FRAGMENT(msda, library) {
  library.def("sample_masks(Tensor masks, Tensor points) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(msda, CPU, library) {
  library.impl("sample_masks", TORCH_BOX(&msda::sample_masks));
}
