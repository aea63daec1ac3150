// The CPU side of the ops that segcore.nn.ms_deform_attn defines.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include "kernels.h"

namespace msda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

enum class Isa { kPlain, kAvx2, kAvx512 };

Isa best_isa() {
#if defined(__x86_64__)
  static const Isa isa = [] {
    const char* wanted = std::getenv("MSDA_ISA");  // for tests: plain, avx2
    const std::string limit = wanted ? wanted : "";
    if (limit != "plain" && limit != "avx2" && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
      return Isa::kAvx512;
    if (limit != "plain" && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      return Isa::kAvx2;
    return Isa::kPlain;
  }();
  return isa;
#else
  return Isa::kPlain;
#endif
}

struct Problem {
  std::vector<int64_t> sizes, starts;
  Shape shape;
  Problem(const Tensor& value, const std::vector<int64_t>& shapes, const Tensor& places)
      : sizes(shapes) {
    STD_TORCH_CHECK(value.dim() == 4 && places.dim() == 6, "value is (B, S, heads, C), locations or "
                    "offsets are (B, Q, heads, L, P, 2); got ", value.dim(), " and ", places.dim(),
                    " dimensions");
    const int64_t L = places.size(3);
    STD_TORCH_CHECK(static_cast<int64_t>(shapes.size()) == 2 * L, "shapes has ", shapes.size(),
                    " numbers, expected height and width of ", L, " levels");
    int64_t total = 0;
    for (int64_t l = 0; l < L; ++l) {
      starts.push_back(total);
      total += sizes[2 * l] * sizes[2 * l + 1];
    }
    STD_TORCH_CHECK(total == value.size(1), "the levels have ", total, " tokens, value has ",
                    value.size(1));
    STD_TORCH_CHECK(places.size(0) == value.size(0) && places.size(2) == value.size(2),
                    "value and locations differ in batch or heads");
    shape = {value.size(0), value.size(1), value.size(2), value.size(3), places.size(1), L,
             places.size(4), sizes.data(), starts.data()};
  }
};

template <typename T>
const T* data(const Tensor& t) { return static_cast<const T*>(t.data_ptr()); }
template <typename T>
T* writable(const Tensor& t) { return static_cast<T*>(t.data_ptr()); }

template <typename T>
void run_forward(const Tensor& value, const Points<T>& p, const Tensor& out, const Shape& s) {
  const int64_t tasks = s.B * s.M * ((s.Q + kBlock - 1) / kBlock);
  const T* v = data<T>(value);
  T* o = writable<T>(out);
  const Isa isa = best_isa();
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t a, int64_t z) {
#if defined(__x86_64__)
    if (isa == Isa::kAvx512) return avx512::forward(v, p, o, s, a, z);
    if (isa == Isa::kAvx2) return avx2::forward(v, p, o, s, a, z);
#endif
    plain::forward(v, p, o, s, a, z);
  });
}

template <typename T>
void run_backward(const Tensor& grad, const Tensor& value, const Points<T>& p,
                  const Gradients<T>& g, const Shape& s) {
  const T *up = data<T>(grad), *v = data<T>(value);
  const Isa isa = best_isa();
  torch::stable::parallel_for(0, s.B * s.M, 1, [&](int64_t a, int64_t z) {
    for (int64_t task = a; task < z; ++task) {
#if defined(__x86_64__)
      if (isa == Isa::kAvx512) { avx512::backward(up, v, p, g, s, task); continue; }
      if (isa == Isa::kAvx2) { avx2::backward(up, v, p, g, s, task); continue; }
#endif
      plain::backward(up, v, p, g, s, task);
    }
  });
}

template <typename F>
void by_type(const Tensor& value, const F& f) {
  if (value.scalar_type() == ScalarType::Float) f(float());
  else if (value.scalar_type() == ScalarType::Double) f(double());
  else STD_TORCH_CHECK(false, "the CPU kernels take float32 and float64");
}

Tensor make_out(const Tensor& value, const Shape& s) {
  return torch::stable::new_empty(value, {s.B, s.Q, s.M * s.D});
}

// Half-precision values are computed with in the type of the locations, fp32.
Tensor widened(const Tensor& value, const Tensor& like) {
  const Tensor same = value.scalar_type() == like.scalar_type()
                          ? value
                          : torch::stable::to(value, like.scalar_type());
  return torch::stable::contiguous(same);
}

Tensor narrowed(const Tensor& found, const Tensor& like) {
  return found.scalar_type() == like.scalar_type()
             ? found
             : torch::stable::to(found, like.scalar_type());
}

template <typename T>
Points<T> plain_points(const Tensor& locations, const Tensor& weights) {
  return {data<T>(locations), data<T>(weights), nullptr, nullptr, nullptr, 0, 0};
}

template <typename T>
Points<T> fused_points(const Tensor& reference, const Tensor& offsets, const Tensor& logits) {
  const int64_t each = reference.size(1) * reference.size(2) * 2;
  return {nullptr, nullptr, data<T>(reference), data<T>(offsets), data<T>(logits),
          reference.size(0) == 1 ? 0 : each, reference.size(2) == 1 ? 0 : 2};
}

}  // namespace

Tensor forward_cpu(Tensor value, std::vector<int64_t> shapes, Tensor locations, Tensor weights) {
  const Problem problem(value, shapes, locations);
  const Tensor v = widened(value, locations), l = torch::stable::contiguous(locations),
               w = torch::stable::contiguous(weights);
  Tensor out = make_out(v, problem.shape);
  by_type(v, [&](auto t) {
    run_forward(v, plain_points<decltype(t)>(l, w), out, problem.shape);
  });
  return narrowed(out, value);
}

std::tuple<Tensor, Tensor, Tensor> backward_cpu(Tensor grad, Tensor value,
                                                std::vector<int64_t> shapes, Tensor locations,
                                                Tensor weights) {
  const Problem problem(value, shapes, locations);
  const Tensor g = widened(grad, locations), v = widened(value, locations),
               l = torch::stable::contiguous(locations), w = torch::stable::contiguous(weights);
  Tensor gv = torch::stable::empty_like(v), gl = torch::stable::empty_like(l),
         gw = torch::stable::empty_like(w);
  by_type(v, [&](auto t) {
    using T = decltype(t);
    run_backward(g, v, plain_points<T>(l, w),
                 Gradients<T>{writable<T>(gv), writable<T>(gl), writable<T>(gw)}, problem.shape);
  });
  return {narrowed(gv, value), gl, gw};
}

Tensor fused_cpu(Tensor value, std::vector<int64_t> shapes, Tensor reference, Tensor offsets,
                 Tensor logits) {
  const Problem problem(value, shapes, offsets);
  const Tensor v = widened(value, offsets), r = torch::stable::contiguous(reference),
               o = torch::stable::contiguous(offsets), a = torch::stable::contiguous(logits);
  Tensor out = make_out(v, problem.shape);
  by_type(v, [&](auto t) {
    run_forward(v, fused_points<decltype(t)>(r, o, a), out, problem.shape);
  });
  return narrowed(out, value);
}

std::tuple<Tensor, Tensor, Tensor> fused_backward_cpu(Tensor grad, Tensor value,
                                                      std::vector<int64_t> shapes,
                                                      Tensor reference, Tensor offsets,
                                                      Tensor logits) {
  const Problem problem(value, shapes, offsets);
  const Tensor g = widened(grad, offsets), v = widened(value, offsets),
               r = torch::stable::contiguous(reference), o = torch::stable::contiguous(offsets),
               a = torch::stable::contiguous(logits);
  Tensor gv = torch::stable::empty_like(v), go = torch::stable::empty_like(o),
         ga = torch::stable::empty_like(a);
  by_type(v, [&](auto t) {
    using T = decltype(t);
    run_backward(g, v, fused_points<T>(r, o, a),
                 Gradients<T>{writable<T>(gv), writable<T>(go), writable<T>(ga)}, problem.shape);
  });
  return {narrowed(gv, value), go, ga};
}

STABLE_TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&forward_cpu));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&backward_cpu));
  m.impl("deform_attn", TORCH_BOX(&fused_cpu));
  m.impl("deform_attn_backward", TORCH_BOX(&fused_backward_cpu));
}

}  // namespace msda
