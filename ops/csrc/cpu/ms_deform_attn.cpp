// Deformable attention on the CPU: which kernels, and which thread does what.
//
// A thread owns a head of a sample (or one of its levels): nothing is shared, nothing is atomic,
// and the result does not depend on the number of threads.

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#include "isa.h"
#include "tasks.h"

namespace msda {

#define KERNELS "kernels.inl"
#include "each_isa.inl"

namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

template <typename V>
Tasks tasks_in_single(int64_t channels) {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::avx512: return avx512::tasks_for<V, float>(channels);
    case Isa::avx2: return avx2::tasks_for<V, float>(channels);
    case Isa::plain: break;
  }
#endif
  return plain::tasks_for<V, float>(channels);
}

Tasks find_tasks(Kind kind, int64_t channels) {
  switch (kind) {
    case Kind::f64: return plain::tasks_for<double, double>(channels);  // for gradcheck
    case Kind::f16: return tasks_in_single<Half>(channels);
    case Kind::bf16: return tasks_in_single<BFloat16>(channels);
    default: return tasks_in_single<float>(channels);
  }
}

// Memory at the border of a cache line.
class Buffer {
 public:
  explicit Buffer(int64_t bytes)
      : data_(static_cast<char*>(::operator new(bytes + 64, std::align_val_t{64}))) {}
  char* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(char* data) const { ::operator delete(data, std::align_val_t{64}); }
  };
  std::unique_ptr<char, Free> data_;
};

int64_t size_of(Kind kind) { return kind == Kind::f64 ? 8 : 4; }

int64_t rows_of(const Problem& p, int64_t begin, int64_t end) {
  int64_t rows = 0;
  for (int64_t i = begin; i < end; ++i) rows += p.shapes[2 * i] * p.shapes[2 * i + 1];
  return rows;
}

}  // namespace

void forward_cpu(const Problem& p, const Tensors& t, Kind kind) {
  const Tasks kernels = find_tasks(kind, p.channels);
  const int64_t tasks = p.batch * p.heads;
  const int64_t row = kernels.pitch(p.channels) * size_of(kind);
  const int64_t scratch = kernels.scratch(p);
  if (tasks >= torch::stable::get_num_threads()) {
    torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      const Buffer packed(p.tokens * row), memory(scratch);
      for (int64_t task = begin; task < end; ++task) {
        kernels.pack(p, t, task, 0, p.tokens, packed.get());
        kernels.sample(p, t, task, 0, p.queries, packed.get(), memory.get());
      }
    });
    return;
  }
  const Buffer packed(p.tokens * row);
  for (int64_t task = 0; task < tasks; ++task) {  // all threads on one head
    torch::stable::parallel_for(0, p.tokens, 256, [&](int64_t begin, int64_t end) {
      kernels.pack(p, t, task, begin, end, packed.get() + begin * row);
    });
    torch::stable::parallel_for(0, p.queries, 64, [&](int64_t begin, int64_t end) {
      const Buffer memory(scratch);
      kernels.sample(p, t, task, begin, end, packed.get(), memory.get());
    });
  }
}

void backward_cpu(const Problem& p, const Tensors& t, Kind kind) {
  const Tasks kernels = find_tasks(kind, p.channels);
  const int64_t tasks = p.batch * p.heads;
  const int64_t row = kernels.pitch(p.channels) * size_of(kind);
  const int64_t scratch = kernels.scratch(p);
  const bool whole = tasks >= torch::stable::get_num_threads();  // else a thread has one level
  const int64_t parts = whole ? 1 : p.levels;
  int64_t most = 0;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t rows = whole ? p.tokens : rows_of(p, i, i + 1);
    most = rows > most ? rows : most;
  }
  torch::stable::parallel_for(0, tasks * parts, 1, [&](int64_t begin, int64_t end) {
    const Buffer packed(most * row), grads(most * row), memory(scratch);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t task = i / parts, level = i % parts, last = whole ? p.levels : level + 1;
      const int64_t first = rows_of(p, 0, level), stop = rows_of(p, 0, last);
      kernels.pack(p, t, task, first, stop, packed.get());
      kernels.backward(p, t, task, level, last, packed.get(), grads.get(), memory.get());
    }
  });
  if (!p.fused || parts == 1) return;
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    const Buffer memory(scratch);
    for (int64_t task = begin; task < end; ++task) {
      kernels.finish(p, t, task, 0, p.queries, memory.get());
    }
  });
}

}  // namespace msda
