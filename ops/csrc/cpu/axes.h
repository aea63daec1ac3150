// How the pixels of one axis are made of cells: a few taps. Pixel i is the sum of
// weight(k, i) * cell[first[i] + k], added in this order; rows come before columns.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>

namespace msda {

struct Axis {
  const int32_t* first;
  const float* weights;  // (taps, length)
  int64_t taps, length;
  float weight(int64_t tap, int64_t pixel) const { return weights[tap * length + pixel]; }
};

struct Span {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

// Cells that pixels read.
inline Span reads(const Axis& axis, Span pixels) {
  const auto [low, high] =
      std::minmax_element(axis.first + pixels.begin, axis.first + pixels.end);
  return {*low, *high + axis.taps};
}

// One axis of all masks, or of each: first (A, length) int32, weights (A, taps, length).
class Axes {
 public:
  Axes(const torch::stable::Tensor& first, const torch::stable::Tensor& weights, int64_t masks,
       int64_t cells)
      : first_(torch::stable::contiguous(first)), weights_(torch::stable::contiguous(weights)) {
    STD_TORCH_CHECK(first_.dim() == 2 && weights_.dim() == 3 && first_.size(0) == weights_.size(0) &&
                        first_.size(1) == weights_.size(2),
                    "masks: an axis must be first (A, length) and weights (A, taps, length)");
    STD_TORCH_CHECK(first_.size(0) == 1 || first_.size(0) == masks,
                    "masks: an axis must be one for all masks or one for each of the ",
                    masks, "; there are ", first_.size(0));
    STD_TORCH_CHECK(first_.scalar_type() == torch::headeronly::ScalarType::Int &&
                        weights_.scalar_type() == torch::headeronly::ScalarType::Float,
                    "masks: first must be int32 and weights float32");
    STD_TORCH_CHECK(weights_.size(1) > 0 && weights_.size(2) > 0, "masks: an empty axis");
    const int32_t* it = static_cast<const int32_t*>(first_.const_data_ptr());
    const auto [low, high] = std::minmax_element(it, it + first_.numel());
    STD_TORCH_CHECK(first_.numel() == 0 || (*low >= 0 && *high + weights_.size(1) <= cells),
                    "masks: an axis reads cells outside of 0..", cells - 1);
  }

  Axis of(int64_t mask) const {
    const int64_t set = first_.size(0) == 1 ? 0 : mask;
    const int64_t taps = weights_.size(1), length = weights_.size(2);
    return {static_cast<const int32_t*>(first_.const_data_ptr()) + set * length,
            static_cast<const float*>(weights_.const_data_ptr()) + set * taps * length, taps, length};
  }

 private:
  torch::stable::Tensor first_, weights_;
};

}  // namespace msda
