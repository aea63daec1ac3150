// 3x3 convolutions by Winograd's F(4x4, 3x3) on the CPU: 2.25 products for each output instead of
// 9. A thread takes a few tiles from the map to the result, held by its cache; the products of a
// gradient are torch's.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <type_traits>

#include "isa.h"

namespace msda {

struct Place {
  int64_t image, y, x;  // first output of a tile
};

struct Maps {
  int64_t images, height, width, inputs, outputs;
  int64_t down() const { return (height + 3) / 4; }
  int64_t across() const { return (width + 3) / 4; }
  int64_t tiles() const { return images * down() * across(); }
  int64_t pixel(int64_t image, int64_t y, int64_t x) const {
    return (image * height + y) * width + x;
  }
  Place place(int64_t tile) const {
    const int64_t row = tile / across();
    return {row / down(), row % down() * 4, tile % across() * 4};
  }
};

#define KERNELS "winograd_kernels.inl"
#include "each_isa.inl"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kHeld = int64_t{1} << 21;    // numbers on each side of the products at a time
constexpr int64_t kThread = int64_t{1} << 20;  // of one thread

struct Kernels {
  decltype(&plain::winograd_input) input;
  decltype(&plain::winograd_products) products;
  decltype(&plain::winograd_output) output;
  decltype(&plain::winograd_gradient) gradient;
};

Kernels find_kernels() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::avx512:
      return {avx512::winograd_input, avx512::winograd_products, avx512::winograd_output,
              avx512::winograd_gradient};
    case Isa::avx2:
      return {avx2::winograd_input, avx2::winograd_products, avx2::winograd_output,
              avx2::winograd_gradient};
    case Isa::plain: break;
  }
#endif
  return {plain::winograd_input, plain::winograd_products, plain::winograd_output,
          plain::winograd_gradient};
}

// The first numbers of a buffer as (36, count, channels).
Tensor matrices(Tensor& buffer, int64_t count, int64_t channels) {
  return torch::stable::view(torch::stable::narrow(buffer, 0, 0, 36 * count * channels),
                             {36, count, channels});
}

// An odd number: matrices a power of two apart would share few places of a cache.
int64_t tiles_at_a_time(const Maps& maps) {
  return std::min(maps.tiles(), kHeld / (36 * std::max(maps.inputs, maps.outputs))) | int64_t{1};
}

void multiply(const Tensor& a, const Tensor& b, const Tensor& out) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(a), torch::stable::detail::from(b),
                                    torch::stable::detail::from(out)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::bmm", "out", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(stack[0]);  // owns what came back
}

const float* data(const std::optional<Tensor>& tensor) {
  return tensor ? static_cast<const float*>(tensor->const_data_ptr()) : nullptr;
}

Maps check(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
           const std::optional<Tensor>& added) {
  STD_TORCH_CHECK(x.dim() == 4 && weight.dim() == 3 && weight.size(0) == 36 &&
                      weight.size(1) == x.size(3) && x.is_contiguous() && weight.is_contiguous(),
                  "winograd: x must be (B, H, W, C) and the weight (36, C, D), contiguous");
  const Maps maps{x.size(0), x.size(1), x.size(2), weight.size(1), weight.size(2)};
  STD_TORCH_CHECK(maps.inputs % 16 == 0 && maps.outputs % 16 == 0 && maps.inputs && maps.outputs,
                  "winograd: channels must be multiples of 16; there are ", maps.inputs, " and ",
                  maps.outputs);
  STD_TORCH_CHECK(!bias || (bias->numel() == maps.outputs && bias->is_contiguous()),
                  "winograd: bias must be (D,), contiguous");
  STD_TORCH_CHECK(!added || (added->is_contiguous() && added->dim() == 4 &&
                             added->numel() == maps.images * maps.height * maps.width * maps.outputs),
                  "winograd: what is added must be (B, H, W, D), contiguous");
  for (const auto& tensor : {std::optional<Tensor>(x), std::optional<Tensor>(weight), bias, added}) {
    STD_TORCH_CHECK(!tensor || tensor->scalar_type() == ScalarType::Float,
                    "winograd: everything must be float32");
  }
  return maps;
}

Tensor winograd_conv(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                     const std::optional<Tensor>& added, bool relu) {
  const Maps maps = check(x, weight, bias, added);
  const Kernels kernels = find_kernels();
  Tensor y = torch::stable::new_empty(x, {maps.images, maps.height, maps.width, maps.outputs});
  const int64_t tiles = maps.tiles();
  if (tiles == 0) return y;
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t held = std::max(kThread / (36 * std::max(maps.inputs, maps.outputs)), int64_t{1});
  const int64_t rounds = (tiles + held * threads - 1) / (held * threads);
  const int64_t most = (tiles + rounds * threads - 1) / (rounds * threads);
  const int64_t parts = (tiles + most - 1) / most;
  float* const result = static_cast<float*>(y.mutable_data_ptr());
  torch::stable::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<float[]> inputs(new float[36 * most * maps.inputs]);
    const std::unique_ptr<float[]> outputs(new float[36 * most * maps.outputs]);
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = part * most, last = std::min(first + most, tiles), count = last - first;
      kernels.input(maps, static_cast<const float*>(x.const_data_ptr()), first, last, first, count,
                    inputs.get());
      kernels.products(inputs.get(), static_cast<const float*>(weight.const_data_ptr()),
                       outputs.get(), count, maps.inputs, maps.outputs);
      kernels.output(maps, outputs.get(), first, last, first, count, data(bias), data(added), relu,
                     result);
    }
  });
  return y;
}

// Gradients of the 36 products' weights, (36, C, D), from those of the outputs (B, H, W, D).
Tensor winograd_weight_gradient(const Tensor& x, const Tensor& grad) {
  STD_TORCH_CHECK(x.dim() == 4 && grad.dim() == 4 && grad.is_contiguous() &&
                      grad.scalar_type() == ScalarType::Float && grad.size(0) == x.size(0) &&
                      grad.size(1) == x.size(1) && grad.size(2) == x.size(2),
                  "winograd: the gradient must be (B, H, W, D) float32, contiguous, like x");
  Tensor sums = torch::stable::new_zeros(x, {36, x.size(3), grad.size(3)});
  const Maps maps = check(x, sums, std::nullopt, std::nullopt);
  const Kernels kernels = find_kernels();
  const int64_t tiles = maps.tiles(), most = tiles_at_a_time(maps);
  Tensor inputs = torch::stable::new_empty(x, {36 * most * maps.inputs});
  Tensor grads = torch::stable::new_empty(x, {36 * most * maps.outputs});
  Tensor products = torch::stable::empty_like(sums);
  const auto* from = static_cast<const float*>(products.const_data_ptr());
  auto* to = static_cast<float*>(sums.mutable_data_ptr());
  for (int64_t first = 0; first < tiles; first += most) {
    const int64_t last = std::min(first + most, tiles), count = last - first;
    torch::stable::parallel_for(first, last, 16, [&](int64_t begin, int64_t end) {
      kernels.input(maps, static_cast<const float*>(x.const_data_ptr()), begin, end, first, count,
                    static_cast<float*>(inputs.mutable_data_ptr()));
      kernels.gradient(maps, static_cast<const float*>(grad.const_data_ptr()), begin, end, first,
                       count, static_cast<float*>(grads.mutable_data_ptr()));
    });
    multiply(torch::stable::transpose(matrices(inputs, count, maps.inputs), 1, 2),
             matrices(grads, count, maps.outputs), products);
    torch::stable::parallel_for(0, sums.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    });
  }
  return sums;
}

}  // namespace
}  // namespace msda

STABLE_TORCH_LIBRARY_FRAGMENT(msda, library) {
  library.def(
      "winograd_conv(Tensor x, Tensor weight, Tensor? bias, Tensor? added, bool relu) -> Tensor");
  library.def("winograd_weight_gradient(Tensor x, Tensor grad) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(msda, CPU, library) {
  library.impl("winograd_conv", TORCH_BOX(&msda::winograd_conv));
  library.impl("winograd_weight_gradient", TORCH_BOX(&msda::winograd_weight_gradient));
}
