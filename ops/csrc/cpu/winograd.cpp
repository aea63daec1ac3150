// 3x3 convolutions by Winograd's F(4x4, 3x3) on the CPU, a few tiles at a time: 2.25 products for
// each output instead of 9. The products are torch's own, whichever library it has for them.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
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

constexpr int64_t kHeld = int64_t{1} << 23;  // numbers of each of the two sides of the products

struct Kernels {
  decltype(&plain::winograd_input) input;
  decltype(&plain::winograd_output) output;
};

Kernels find_kernels() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::avx512: return {avx512::winograd_input, avx512::winograd_output};
    case Isa::avx2: return {avx2::winograd_input, avx2::winograd_output};
    case Isa::plain: break;
  }
#endif
  return {plain::winograd_input, plain::winograd_output};
}

Tensor multiply(const Tensor& a, const Tensor& b) {
  std::array<StableIValue, 2> stack{torch::stable::detail::from(a), torch::stable::detail::from(b)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::bmm", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
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
  STD_TORCH_CHECK(maps.inputs % 16 == 0 && maps.outputs % 16 == 0,
                  "winograd: channels must be multiples of 16; there are ", maps.inputs, " and ",
                  maps.outputs);
  STD_TORCH_CHECK(!bias || bias->numel() == maps.outputs, "winograd: bias must be (D,)");
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
  const int64_t tiles = maps.images * maps.down() * maps.across();
  const int64_t most = std::max(kHeld / (36 * std::max(maps.inputs, maps.outputs)), int64_t{1});
  const int64_t parts = (tiles + most - 1) / most;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = tiles * part / parts, last = tiles * (part + 1) / parts;
    const int64_t count = last - first;
    Tensor held = torch::stable::new_empty(x, {36, count, maps.inputs});
    float* to = static_cast<float*>(held.mutable_data_ptr());
    torch::stable::parallel_for(first, last, 16, [&](int64_t begin, int64_t end) {
      kernels.input(maps, static_cast<const float*>(x.const_data_ptr()), begin, end, first, count, to);
    });
    const Tensor products = multiply(held, weight);
    const float* from = static_cast<const float*>(products.const_data_ptr());
    torch::stable::parallel_for(first, last, 16, [&](int64_t begin, int64_t end) {
      kernels.output(maps, from, begin, end, first, count, data(bias), data(added), relu,
                     static_cast<float*>(y.mutable_data_ptr()));
    });
  }
  return y;
}

}  // namespace
}  // namespace msda

STABLE_TORCH_LIBRARY_FRAGMENT(msda, library) {
  library.def(
      "winograd_conv(Tensor x, Tensor weight, Tensor? bias, Tensor? added, bool relu) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(msda, CPU, library) {
  library.impl("winograd_conv", TORCH_BOX(&msda::winograd_conv));
}
