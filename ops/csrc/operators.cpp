// The operators of `segcore` and `msda`: checks, allocation, the way to the kernels.
//
// Only torch's stable ABI is used, so that one binary serves every torch from 2.10 on, with CUDA
// or without. `msda` has the same operators for programs that have no segcore.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "problem.h"

#ifdef WITH_CUDA
#include "current_stream.h"

// Why the CUDA kernels cannot be called on the current device; nullptr where they can.
extern "C" __attribute__((visibility("default"))) const char* msda_cuda_problem() {
  return msda::current_stream_function() ? msda::cuda_problem() : msda::kNoStream;
}

// For tests: what was found, without calling it.
extern "C" __attribute__((visibility("default"))) void* msda_current_stream_address() {
  return reinterpret_cast<void*>(msda::current_stream_function());
}
#endif

namespace msda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Shapes = std::vector<int64_t>;
using Gradients = std::tuple<Tensor, Tensor, Tensor>;

Kind kind_of(const Tensor& value) {
  switch (value.scalar_type()) {
    case ScalarType::Float: return Kind::f32;
    case ScalarType::Double: return Kind::f64;
    case ScalarType::Half: return Kind::f16;
    case ScalarType::BFloat16: return Kind::bf16;
    default: STD_TORCH_CHECK(false, "deformable attention: value must be a floating type");
  }
}

// Contiguous; on CUDA also at a multiple of 16 bytes, which its loads need: a view begins anywhere.
Tensor placed(const Tensor& tensor) {
  Tensor whole = torch::stable::contiguous(tensor);
  const bool odd = reinterpret_cast<uintptr_t>(whole.const_data_ptr()) % 16;
  return odd && whole.is_cuda() ? torch::stable::clone(whole) : whole;
}

std::string device_of(const Tensor& tensor) {
  return tensor.is_cuda() ? "cuda:" + std::to_string(tensor.get_device_index()) : "cpu";
}

void check_device(const Tensor& value, const Tensor& other, const char* name) {
  STD_TORCH_CHECK(value.is_cuda() == other.is_cuda() &&
                      value.get_device_index() == other.get_device_index(),
                  "deformable attention: value is on ", device_of(value), " but ", name, " on ",
                  device_of(other), "; all tensors must be on one device");
}

// Inputs as the kernels take them, checked, and what they say.
struct Call {
  Tensor value, points, weights;
  std::optional<Tensor> reference;
  Shapes shapes;
  Kind kind;
  Problem problem;
  Tensors tensors;

  Call(const Tensor& value_, const Shapes& shapes_, const Tensor* reference_, const Tensor& points_,
       const Tensor& weights_)
      : value(placed(value_)),
        points(placed(points_)),
        weights(placed(weights_)),
        shapes(shapes_),
        kind(kind_of(value_)) {
    if (reference_) reference = placed(*reference_);
    check_device(value, points, "locations are");
    check_device(value, weights, "weights are");
    if (reference) check_device(value, *reference, "the reference is");
    check_points();
    problem = {value.size(0),  value.size(1),  value.size(2),  value.size(3), points.size(1),
               points.size(3), points.size(4), shapes.data(), reference.has_value()};
    check_value();
    if (reference) check_reference();
    tensors = {value.const_data_ptr(), reference ? reference->const_data_ptr() : nullptr,
               points.const_data_ptr(), weights.const_data_ptr()};
  }

 private:
  void check_points() const {
    STD_TORCH_CHECK(value.dim() == 4, "deformable attention: value must be (B, S, heads, C)");
    STD_TORCH_CHECK(points.dim() == 6 && points.size(5) == 2,
                    "deformable attention: locations must be (B, Q, heads, L, P, 2)");
    STD_TORCH_CHECK(points.size(0) == value.size(0) && points.size(2) == value.size(2),
                    "deformable attention: locations and value differ in batch or heads");
    STD_TORCH_CHECK(weights.numel() * 2 == points.numel() && weights.size(0) == points.size(0) &&
                        weights.size(1) == points.size(1) && weights.size(2) == points.size(2),
                    "deformable attention: weights must have one number per location");
    const ScalarType exact = kind == Kind::f64 ? ScalarType::Double : ScalarType::Float;
    STD_TORCH_CHECK(points.scalar_type() == exact && weights.scalar_type() == exact &&
                        (!reference || reference->scalar_type() == exact),
                    "deformable attention: locations and weights must be float32 (float64 with a "
                    "float64 value), whatever the value's type");
  }

  void check_value() const {
    STD_TORCH_CHECK(static_cast<int64_t>(shapes.size()) == 2 * problem.levels,
                    "deformable attention: shapes must be h, w of each of the ", problem.levels,
                    " levels");
    int64_t tokens = 0;
    for (size_t i = 0; i < shapes.size(); i += 2) {
      STD_TORCH_CHECK(shapes[i] > 0 && shapes[i + 1] > 0, "deformable attention: an empty level");
      tokens += shapes[i] * shapes[i + 1];
    }
    STD_TORCH_CHECK(tokens == problem.tokens, "deformable attention: value has ", problem.tokens,
                    " tokens, shapes say ", tokens);
    STD_TORCH_CHECK(tokens < (int64_t{1} << 31), "deformable attention: too many tokens");
  }

  void check_reference() {
    const Problem& p = problem;
    STD_TORCH_CHECK(reference->dim() == 4 && reference->size(3) == 2 &&
                        reference->size(1) == p.queries &&
                        (reference->size(0) == 1 || reference->size(0) == p.batch) &&
                        (reference->size(2) == 1 || reference->size(2) == p.levels),
                    "deformable attention: reference must be (B or 1, Q, L or 1, 2)");
    problem.reference_per_sample = reference->size(0) != 1;
    problem.reference_per_level = reference->size(2) != 1;
  }
};

#ifdef WITH_CUDA
using CudaKernel = const char* (*)(const Problem&, const Tensors&, Kind, void*);

void run_cuda(CudaKernel kernel, const Call& call) {
  const torch::stable::accelerator::DeviceGuard guard(call.value.get_device_index());
  const CurrentStream current_stream = current_stream_function();
  STD_TORCH_CHECK(current_stream, "deformable attention: ", kNoStream);
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(current_stream(call.value.get_device_index(), &stream));
  const char* error = kernel(call.problem, call.tensors, call.kind, stream);
  STD_TORCH_CHECK(!error, "deformable attention: ", error);
}
#endif

Tensor run_forward(Call& call) {
  const Problem& p = call.problem;
  Tensor out = torch::stable::new_empty(call.value, {p.batch, p.queries, p.heads * p.channels});
  call.tensors.out = out.mutable_data_ptr();
  if (out.numel() == 0) return out;
#ifdef WITH_CUDA
  if (call.value.is_cuda()) {
    run_cuda(forward_cuda, call);
    return out;
  }
#endif
  forward_cpu(p, call.tensors, call.kind);
  return out;
}

Gradients run_backward(const Tensor& grad_, Call& call) {
  const Problem& p = call.problem;
  const Tensor grad = placed(grad_);
  check_device(call.value, grad, "the gradient is");
  STD_TORCH_CHECK(grad.numel() == p.batch * p.queries * p.heads * p.channels &&
                      grad.scalar_type() == call.value.scalar_type(),
                  "deformable attention: the gradient must be like the output");
  Tensor grad_points = torch::stable::empty_like(call.points);
  Tensor grad_weights = torch::stable::empty_like(call.weights);
  call.tensors.grad = grad.const_data_ptr();
  call.tensors.grad_points = grad_points.mutable_data_ptr();
  call.tensors.grad_weights = grad_weights.mutable_data_ptr();
  if (grad.numel() == 0) {
    return {torch::stable::new_zeros(call.value, call.value.sizes()), grad_points, grad_weights};
  }
#ifdef WITH_CUDA
  if (call.value.is_cuda()) {  // sums are kept in at least f32
    const bool small = call.kind == Kind::f16 || call.kind == Kind::bf16;
    Tensor sums = torch::stable::new_zeros(
        call.value, call.value.sizes(),
        small ? std::optional<ScalarType>(ScalarType::Float) : std::nullopt);
    call.tensors.grad_value = sums.mutable_data_ptr();
    run_cuda(backward_cuda, call);
    return {small ? torch::stable::to(sums, call.value.scalar_type()) : sums, grad_points,
            grad_weights};
  }
#endif
  Tensor grad_value = torch::stable::empty_like(call.value);
  call.tensors.grad_value = grad_value.mutable_data_ptr();
  backward_cpu(p, call.tensors, call.kind);
  return {grad_value, grad_points, grad_weights};
}

Tensor ms_deform_attn(const Tensor& value, const Shapes& shapes, const Tensor& locations,
                      const Tensor& weights) {
  Call call(value, shapes, nullptr, locations, weights);
  return run_forward(call);
}

Gradients ms_deform_attn_backward(const Tensor& grad, const Tensor& value, const Shapes& shapes,
                                  const Tensor& locations, const Tensor& weights) {
  Call call(value, shapes, nullptr, locations, weights);
  return run_backward(grad, call);
}

Tensor deform_attn(const Tensor& value, const Shapes& shapes, const Tensor& reference,
                   const Tensor& offsets, const Tensor& logits) {
  Call call(value, shapes, &reference, offsets, logits);
  return run_forward(call);
}

Gradients deform_attn_backward(const Tensor& grad, const Tensor& value, const Shapes& shapes,
                               const Tensor& reference, const Tensor& offsets,
                               const Tensor& logits) {
  Call call(value, shapes, &reference, offsets, logits);
  return run_backward(grad, call);
}

void implement(torch::stable::detail::StableLibrary& library) {
  library.impl("ms_deform_attn", TORCH_BOX(&ms_deform_attn));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward));
  library.impl("deform_attn", TORCH_BOX(&deform_attn));
  library.impl("deform_attn_backward", TORCH_BOX(&deform_attn_backward));
}

}  // namespace
}  // namespace msda

STABLE_TORCH_LIBRARY(msda, library) {
  library.def("ms_deform_attn(Tensor value, SymInt[] shapes, Tensor locations, Tensor weights) -> Tensor");
  library.def(
      "ms_deform_attn_backward(Tensor grad, Tensor value, SymInt[] shapes, Tensor locations, "
      "Tensor weights) -> (Tensor, Tensor, Tensor)");
  library.def(
      "deform_attn(Tensor value, SymInt[] shapes, Tensor reference, Tensor offsets, Tensor logits) "
      "-> Tensor");
  library.def(
      "deform_attn_backward(Tensor grad, Tensor value, SymInt[] shapes, Tensor reference, "
      "Tensor offsets, Tensor logits) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(msda, CPU, library) { msda::implement(library); }
STABLE_TORCH_LIBRARY_IMPL(segcore, CPU, library) { msda::implement(library); }
#ifdef WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(msda, CUDA, library) { msda::implement(library); }
STABLE_TORCH_LIBRARY_IMPL(segcore, CUDA, library) { msda::implement(library); }
#endif
