// Group normalisation of channels-last maps on the CPU, in place or into another map, with the sum
// of a coarser map, resized bilinearly, and ReLU in the same pass.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>
#include <vector>

#include "isa.h"

namespace msda {

// Between which two cells a pixel lies, and how near the second one.
struct Between {
  int64_t low, high;
  float part;
};

// As torch's bilinear without aligned corners.
inline Between between(int64_t pixel, int64_t pixels, int64_t cells) {
  const float scale = static_cast<float>(cells) / static_cast<float>(pixels);
  const float from = std::max(scale * (static_cast<float>(pixel) + 0.5f) - 0.5f, 0.0f);
  const int64_t low = std::min(static_cast<int64_t>(from), cells - 1);
  return {low, std::min(low + 1, cells - 1), from - static_cast<float>(low)};
}

struct Coarse {
  const float* top = nullptr;  // a row of cells; nullptr: there is no such map
  const float* bottom = nullptr;
  float part = 0;  // of the bottom one
  int64_t width = 0;
};

#define KERNELS "group_norm_kernels.inl"
#include "each_isa.inl"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kRows = 2048;  // pixels that one sum is of, whatever the number of threads

struct Kernels {
  decltype(&plain::channel_sums) sums;
  decltype(&plain::scale_row) scale;
};

Kernels find_kernels() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::avx512: return {avx512::channel_sums, avx512::scale_row};
    case Isa::avx2: return {avx2::channel_sums, avx2::scale_row};
    case Isa::plain: break;
  }
#endif
  return {plain::channel_sums, plain::scale_row};
}

bool is_dense(const Tensor& map) {  // but for the distance of its images
  if (map.dim() != 4) return false;
  int64_t pitch = 1;
  for (int64_t i = 3; i > 0; pitch *= map.size(i--)) {
    if (map.size(i) != 1 && map.stride(i) != pitch) return false;
  }
  return true;
}

void check(const Tensor& x, const Tensor& out, int64_t groups, const Tensor& weight,
           const Tensor& bias, const std::optional<Tensor>& coarse) {
  STD_TORCH_CHECK(is_dense(x) && is_dense(out) && (!coarse || is_dense(*coarse)),
                  "group norm: maps must be (B, H, W, C), each image contiguous");
  const int64_t channels = x.size(3);
  STD_TORCH_CHECK(channels % 16 == 0 && groups > 0 && channels % groups == 0,
                  "group norm: channels must be a multiple of 16 and of the groups; there are ",
                  channels, " and ", groups, " groups");
  for (int64_t i = 0; i < 4; ++i) {
    STD_TORCH_CHECK(out.size(i) == x.size(i), "group norm: out must be of the size of x");
  }
  STD_TORCH_CHECK(!coarse || (coarse->size(0) == x.size(0) && coarse->size(3) == channels &&
                              coarse->size(1) > 0 && coarse->size(2) > 0),
                  "group norm: the coarse map must have the images and channels of x");
  STD_TORCH_CHECK(weight.numel() == channels && bias.numel() == channels &&
                      weight.is_contiguous() && bias.is_contiguous(),
                  "group norm: weight and bias must be (C,), contiguous");
  for (const auto& tensor : {std::optional<Tensor>(x), std::optional<Tensor>(out),
                             std::optional<Tensor>(weight), std::optional<Tensor>(bias), coarse}) {
    STD_TORCH_CHECK(!tensor || tensor->scalar_type() == ScalarType::Float,
                    "group norm: everything must be float32");
  }
}

const float* data(const Tensor& tensor) {
  return static_cast<const float*>(tensor.const_data_ptr());
}

// Of each image and channel: y = x * scale + shift.
struct Factors {
  std::vector<float> scale, shift;
};

Factors factors(const Tensor& x, int64_t groups, const float* weight, const float* bias,
                double eps, const Kernels& kernels) {
  const int64_t images = x.size(0), pixels = x.size(1) * x.size(2), channels = x.size(3);
  const int64_t parts = (pixels + kRows - 1) / kRows, size = channels / groups;
  std::vector<double> sums(images * parts * 2 * channels);  // (images, parts, 2, channels)
  torch::stable::parallel_for(0, images * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % parts * kRows, last = std::min(first + kRows, pixels);
      double* to = sums.data() + i * 2 * channels;
      kernels.sums(data(x) + i / parts * x.stride(0), first, last, channels, to, to + channels);
    }
  });
  Factors result{std::vector<float>(images * channels), std::vector<float>(images * channels)};
  for (int64_t i = 0; i < images * groups; ++i) {
    const int64_t image = i / groups, first = i % groups * size;
    double sum = 0, square = 0;
    for (int64_t j = 0; j < parts * size; ++j) {
      const double* from = sums.data() + (image * parts + j / size) * 2 * channels + first + j % size;
      sum += from[0];
      square += from[channels];
    }
    const double count = static_cast<double>(pixels * size), mean = sum / count;
    const double gain = 1 / std::sqrt(std::max(square / count - mean * mean, 0.0) + eps);
    for (int64_t c = first; c < first + size; ++c) {
      result.scale[image * channels + c] = static_cast<float>(weight[c] * gain);
      result.shift[image * channels + c] = static_cast<float>(bias[c] - mean * gain * weight[c]);
    }
  }
  return result;
}

void group_norm(const Tensor& x, Tensor out, int64_t groups, const Tensor& weight,
                const Tensor& bias, double eps, bool relu, const std::optional<Tensor>& coarse) {
  check(x, out, groups, weight, bias, coarse);
  if (x.numel() == 0) return;
  const Kernels kernels = find_kernels();
  const Factors by = factors(x, groups, data(weight), data(bias), eps, kernels);
  const int64_t height = x.size(1), width = x.size(2), channels = x.size(3), row = width * channels;
  float* const to = static_cast<float*>(out.mutable_data_ptr());
  torch::stable::parallel_for(0, x.size(0) * height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / height, y = i % height;
      Coarse rows;
      if (coarse) {
        const Between at = between(y, height, coarse->size(1));
        const float* map = data(*coarse) + image * coarse->stride(0);
        const int64_t pitch = coarse->size(2) * channels;
        rows = {map + at.low * pitch, map + at.high * pitch, at.part, coarse->size(2)};
      }
      kernels.scale(data(x) + image * x.stride(0) + y * row, to + image * out.stride(0) + y * row,
                    width, channels, by.scale.data() + image * channels,
                    by.shift.data() + image * channels, rows, relu);
    }
  });
}

}  // namespace
}  // namespace msda

STABLE_TORCH_LIBRARY_FRAGMENT(msda, library) {
  library.def(
      "group_norm(Tensor x, Tensor(a!) out, int groups, Tensor weight, Tensor bias, float eps, "
      "bool relu, Tensor? coarse) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(msda, CPU, library) {
  library.impl("group_norm", TORCH_BOX(&msda::group_norm));
}
