// Stands in for CUDA's headers so that g++ can run a kernel: threads are fibers, a warp's fibers
// meet at each shuffle, blocks follow one another. For tests without a GPU; knows only what
// ops/csrc/cuda uses. A lane that misses a shuffle which others reach ends the program.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#define __device__
#define __global__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(n)

struct uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline float2 make_float2(float x, float y) { return {x, y}; }

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
struct cudaLaunchConfig_t { dim3 gridDim, blockDim; size_t dynamicSmemBytes; cudaStream_t stream; };
inline const char* cudaGetErrorString(cudaError_t) { return "?"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
struct cudaFuncAttributes {};
template <typename F> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, F) { return cudaSuccess; }

inline dim3 threadIdx, blockIdx;

template <typename T> T __ldg(const T* at) { return *at; }
template <typename T> void atomicAdd(T* at, T x) { *at += x; }  // one fiber runs at a time
inline float __expf(float x) { return std::exp(x); }
template <typename T> T max(T a, T b) { return a > b ? a : b; }

namespace cuda_on_cpu {

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(256 * 1024);
  unsigned thread = 0, shuffles = 0;
  bool done = false;
};

inline ucontext_t scheduler;
inline Fiber* running;
inline uint64_t slots[2][32];  // of the warp that runs; even and odd shuffles
inline void (*body)(void*);
inline void* argument;

inline void enter() {
  body(argument);
  running->done = true;
  swapcontext(&running->context, &scheduler);
}

template <typename T>
T exchange(T x, unsigned from) {
  static_assert(sizeof(T) <= 8);
  uint64_t(&row)[32] = slots[running->shuffles++ & 1];
  std::memcpy(&row[running->thread % 32], &x, sizeof(T));
  swapcontext(&running->context, &scheduler);  // until the others have put theirs
  T found;
  std::memcpy(&found, &row[from], sizeof(T));
  return found;
}

inline void run_warp(std::vector<std::unique_ptr<Fiber>>& fibers, unsigned first) {
  for (unsigned lane = 0; lane < 32; ++lane) {
    Fiber& fiber = *fibers[lane];
    fiber.thread = first + lane;
    fiber.shuffles = 0;
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  for (unsigned left = 32; left;) {
    for (auto& fiber : fibers) {
      if (fiber->done) continue;
      running = fiber.get();
      threadIdx = dim3(fiber->thread, 0, 0);
      swapcontext(&scheduler, &fiber->context);
      left -= fiber->done;
    }
    for (auto& fiber : fibers) {
      if (fiber->shuffles != fibers[0]->shuffles || fiber->done != fibers[0]->done) {
        std::fprintf(stderr, "lanes of a warp part at a shuffle\n");
        std::abort();
      }
    }
  }
}

}  // namespace cuda_on_cpu

template <typename T>
T __shfl_sync(unsigned, T x, int from, int width) {
  const unsigned lane = cuda_on_cpu::running->thread % 32;
  return cuda_on_cpu::exchange(x, lane / width * width + from % width);
}
template <typename T>
T __shfl_xor_sync(unsigned, T x, int mask) {
  return cuda_on_cpu::exchange(x, cuda_on_cpu::running->thread % 32 ^ mask);
}

template <typename P>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P), P& p) {
  using namespace cuda_on_cpu;
  static thread_local void (*what)(P);
  what = kernel;
  body = [](void* params) { what(*static_cast<P*>(params)); };
  argument = &p;
  std::vector<std::unique_ptr<Fiber>> fibers;
  for (int i = 0; i < 32; ++i) fibers.push_back(std::make_unique<Fiber>());
  for (unsigned z = 0; z < config->gridDim.z; ++z)
    for (unsigned y = 0; y < config->gridDim.y; ++y)
      for (unsigned x = 0; x < config->gridDim.x; ++x) {
        blockIdx = dim3(x, y, z);
        for (unsigned t = 0; t < config->blockDim.x; t += 32) run_warp(fibers, t);
      }
  return cudaSuccess;
}
