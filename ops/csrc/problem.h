// What every kernel is told: sizes, and where the tensors lie. All tensors are contiguous.
#pragma once

#include <cstdint>

namespace msda {

enum class Kind { f32, f64, f16, bf16 };  // of the value; everything else is f32, or f64 with f64

struct Problem {
  int64_t batch, tokens, heads, channels, queries;
  int64_t levels, points;     // points of a level
  const int64_t* shapes;      // h0 w0 h1 w1 ...
  bool fused;                 // reference, offsets, logits stand for locations, weights
  bool reference_per_sample;  // or one for the whole batch
  bool reference_per_level;   // or one for all levels
};

struct Tensors {
  const void* value;             // (batch, tokens, heads, channels)
  const void* reference;         // (batch or 1, queries, levels or 1, 2)
  const void* points;            // (batch, queries, heads, levels, points, 2)
  const void* weights;           // (batch, queries, heads, levels, points)
  const void* grad = nullptr;    // (batch, queries, heads * channels)
  void* out = nullptr;           // as grad
  void* grad_value = nullptr;    // as value; for a 16-bit kind on CUDA an f32 scratch of that size
  void* grad_points = nullptr;   // as points
  void* grad_weights = nullptr;  // as weights
};

void forward_cpu(const Problem& problem, const Tensors& tensors, Kind kind);
void backward_cpu(const Problem& problem, const Tensors& tensors, Kind kind);

// On `stream` (a cudaStream_t); nullptr, or what went wrong.
const char* forward_cuda(const Problem& problem, const Tensors& tensors, Kind kind, void* stream);
const char* backward_cuda(const Problem& problem, const Tensors& tensors, Kind kind, void* stream);

// Why no kernel runs on the current device: a driver too old, no code for it. nullptr: they run.
const char* cuda_problem();

}  // namespace msda
