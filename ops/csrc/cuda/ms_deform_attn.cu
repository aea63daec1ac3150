// Deformable attention on CUDA: one forward and one backward kernel, each with or without the
// softmax and location arithmetic in front.
//
// G lanes, a group, serve one (query, head); each holds VEC of its channels, 16 bytes of them where
// it can. The lanes share the work on points: a lane finds pixel, weights and addresses of one of G
// points, and shuffles hand them to the others. A block is a tile of queries of one head, so that
// what its queries read overlaps in L1.
//
// No torch header: only pointers and a stream come in (operators.cpp).

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "../problem.h"

namespace msda {
namespace {

constexpr int kThreads = 256;
constexpr int kLevels = 16;  // most levels
constexpr unsigned kAll = 0xffffffffu;

struct Level {
  int h, w, start;  // start: tokens before it
};

struct Grid {  // queries as rows and columns of pixels, cut into tiles
  int w, h, start, tiles_x, first_tile;
};

struct Params {
  const void *value, *reference, *points, *weights, *grad;
  void *out, *grad_value, *grad_points, *grad_weights;
  int64_t tokens, queries;
  int heads, channels, levels, points_each, all;  // all: points of all levels
  int reference_sample, reference_level;          // 1 where there is one for each
  int grids, tile_bits;                           // a tile is 1 << tile_bits queries wide
  Level level[kLevels];
  Grid grid[kLevels];
};

// ---------------------------------------------------------------- 16 bytes at a time

template <typename V>
using Sum = std::conditional_t<std::is_same_v<V, double>, double, float>;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename V>
__device__ __forceinline__ V narrow(Sum<V> x) {
  if constexpr (std::is_same_v<V, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<V, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return x;
  }
}

template <typename V, int VEC>
__device__ __forceinline__ void load(const V* from, Sum<V> (&to)[VEC]) {
  if constexpr (VEC * sizeof(V) == 16) {
    union {
      uint4 bits;
      V parts[VEC];
    } line;
    line.bits = __ldg(reinterpret_cast<const uint4*>(from));
#pragma unroll
    for (int i = 0; i < VEC; ++i) to[i] = widen(line.parts[i]);
  } else {
#pragma unroll
    for (int i = 0; i < VEC; ++i) to[i] = widen(from[i]);
  }
}

template <typename V, int VEC>
__device__ __forceinline__ void store(V* to, const Sum<V> (&from)[VEC]) {
  if constexpr (VEC * sizeof(V) == 16) {
    union {
      uint4 bits;
      V parts[VEC];
    } line;
#pragma unroll
    for (int i = 0; i < VEC; ++i) line.parts[i] = narrow<V>(from[i]);
    *reinterpret_cast<uint4*>(to) = line.bits;
  } else {
#pragma unroll
    for (int i = 0; i < VEC; ++i) to[i] = narrow<V>(from[i]);
  }
}

// sm_90 and newer add four numbers at once.
#if __CUDA_ARCH__ >= 900
constexpr bool kWideAdd = true;
#else
constexpr bool kWideAdd = false;
#endif

// to[i] += scale * from[i], seen by all
template <typename T, int VEC>
__device__ __forceinline__ void add(T* to, T scale, const T (&from)[VEC]) {
  if constexpr (kWideAdd && std::is_same_v<T, float> && VEC % 4 == 0) {
#pragma unroll
    for (int i = 0; i < VEC; i += 4) {
      asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to + i),
                   "f"(scale * from[i]), "f"(scale * from[i + 1]), "f"(scale * from[i + 2]),
                   "f"(scale * from[i + 3])
                   : "memory");
    }
  } else {
#pragma unroll
    for (int i = 0; i < VEC; ++i) atomicAdd(to + i, scale * from[i]);
  }
}

// ---------------------------------------------------------------- the points

// What one lane knows of its point.
template <typename T>
struct Point {
  int offset;                     // elements from the head's first to the upper left corner; -1:
                                  // outside
  int right, down;                // elements to the neighbours; 0 where they are outside
  T attention, l, r, t, b;        // bilinear weights, 0 where outside
  bool has_l, has_r, has_t, has_b;
  T width, height;
};

template <typename T>
__device__ __forceinline__ Point<T> locate(const Params& p, T x, T y, T attention,
                                           const Level& level) {
  Point<T> point;
  point.width = static_cast<T>(level.w);
  point.height = static_cast<T>(level.h);
  // false for NaN; before an int is made of it
  const bool inside = x > -1 && y > -1 && x < point.width && y < point.height;
  x = inside ? x : T(0);
  y = inside ? y : T(0);
  const T fx = floor(x), fy = floor(y), dx = x - fx, dy = y - fy;
  const int x0 = static_cast<int>(fx), y0 = static_cast<int>(fy);
  point.has_l = x0 >= 0;
  point.has_r = x0 + 1 < level.w;
  point.has_t = y0 >= 0;
  point.has_b = y0 + 1 < level.h;
  point.l = point.has_l ? 1 - dx : T(0);
  point.r = point.has_r ? dx : T(0);
  point.t = point.has_t ? 1 - dy : T(0);
  point.b = point.has_b ? dy : T(0);
  const int pitch = p.heads * p.channels;
  const int row = level.start + max(y0, 0) * level.w + max(x0, 0);
  point.offset = inside ? row * pitch : -1;
  point.right = point.has_l && point.has_r ? pitch : 0;
  point.down = point.has_t && point.has_b ? level.w * pitch : 0;
  point.attention = inside ? attention : T(0);
  return point;
}

// A (query, head)'s points as one lane of its group sees them: number `lane` of every G.
template <typename T, int G, int LP, bool FUSED>
struct Reader {
  const Params& p;
  int64_t first;  // of this (query, head), in points
  int64_t query, sample;
  int lane;
  T top, scale;  // softmax: largest logit, 1 / sum

  __device__ __forceinline__ int all() const { return LP ? LP : p.all; }

  __device__ __forceinline__ T logit(int i) const {
    return i < all() ? __ldg(static_cast<const T*>(p.weights) + first + i) : -T(INFINITY);
  }

  __device__ __forceinline__ void prepare() {
    if constexpr (FUSED) {
      top = -T(INFINITY);
#pragma unroll
      for (int i = 0; i < all(); i += G) top = max(top, logit(i + lane));
#pragma unroll
      for (int step = G / 2; step; step /= 2) top = max(top, __shfl_xor_sync(kAll, top, step));
      T sum = 0;
#pragma unroll
      for (int i = 0; i < all(); i += G) sum += exponential(logit(i + lane) - top);
#pragma unroll
      for (int step = G / 2; step; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
      scale = 1 / sum;
    }
  }

  __device__ __forceinline__ static T exponential(T x) {
    if constexpr (std::is_same_v<T, double>) {
      return exp(x);
    } else {
      return __expf(x);
    }
  }

  __device__ __forceinline__ T attention(int i) const {
    if constexpr (FUSED) {
      return exponential(logit(i) - top) * scale;
    } else {
      return __ldg(static_cast<const T*>(p.weights) + first + i);
    }
  }

  // Point i, which is this lane's; one beyond the last is outside.
  __device__ __forceinline__ Point<T> point(int i) const {
    if (i >= all()) return locate(p, T(-2), T(-2), T(0), p.level[0]);
    const int number = i / p.points_each;
    const Level& level = p.level[number];
    const T* at = static_cast<const T*>(p.points) + 2 * (first + i);
    T x, y;
    if constexpr (std::is_same_v<T, float>) {
      const float2 pair = __ldg(reinterpret_cast<const float2*>(at));
      x = pair.x;
      y = pair.y;
    } else {
      x = at[0];
      y = at[1];
    }
    const T w = static_cast<T>(level.w), h = static_cast<T>(level.h);
    if constexpr (FUSED) {
      const int64_t set = p.reference_sample * sample * p.queries + query;
      const int64_t one = p.reference_level ? set * p.levels + number : set;
      const T* reference = static_cast<const T*>(p.reference) + 2 * one;
      x += __ldg(reference) * w - T(0.5);
      y += __ldg(reference + 1) * h - T(0.5);
    } else {
      x = x * w - T(0.5);
      y = y * h - T(0.5);
    }
    return locate(p, x, y, attention(i), level);
  }
};

// Which query and head this group serves; `valid` is false past the border of a level.
struct Place {
  int64_t sample, query;
  int head, lane;
  bool valid;
};

template <int G>
__device__ __forceinline__ Place find_place(const Params& p) {
  Place place;
  int number = 0;
  const int tile = blockIdx.x;
  while (number + 1 < p.grids && tile >= p.grid[number + 1].first_tile) ++number;
  const Grid& grid = p.grid[number];
  const int local = tile - grid.first_tile, group = threadIdx.x / G;
  constexpr int groups = kThreads / G;
  const int rows = groups >> p.tile_bits;
  const int y = local / grid.tiles_x * rows + (group >> p.tile_bits);
  const int x = (local % grid.tiles_x << p.tile_bits) + (group & ((1 << p.tile_bits) - 1));
  place.valid = x < grid.w && y < grid.h;
  place.query = place.valid ? grid.start + static_cast<int64_t>(y) * grid.w + x : grid.start;
  place.head = blockIdx.y;
  place.sample = blockIdx.z;
  place.lane = threadIdx.x % G;
  return place;
}

// ---------------------------------------------------------------- the kernels

// FIXED: the group's lanes hold all channels at once; else they go over them in steps.
template <typename V, int VEC, int G, int LP, bool FIXED, bool FUSED>
__global__ void __launch_bounds__(kThreads) forward(const __grid_constant__ Params p) {
  using T = Sum<V>;
  const Place place = find_place<G>(p);
  const int64_t index = (place.sample * p.queries + place.query) * p.heads + place.head;
  Reader<T, G, LP, FUSED> reader{p, index * (LP ? LP : p.all), place.query, place.sample,
                                 place.lane};
  reader.prepare();
  const int channels = FIXED ? G * VEC : p.channels;
  const V* head = static_cast<const V*>(p.value) +
                  (place.sample * p.tokens * p.heads + place.head) * channels;
  for (int start = 0; start < channels; start += G * VEC) {
    const int channel = start + place.lane * VEC;
    const bool active = FIXED || channel < channels;
    T sum[VEC] = {};
#pragma unroll
    for (int round = 0; round < reader.all(); round += G) {
      const Point<T> mine = reader.point(round + place.lane);
      const T top = mine.attention * mine.t, bottom = mine.attention * mine.b;
      const T weight[4] = {top * mine.l, top * mine.r, bottom * mine.l, bottom * mine.r};
#pragma unroll
      for (int i = 0; i < G; ++i) {
        if (round + i >= reader.all()) break;
        const int offset = __shfl_sync(kAll, mine.offset, i, G);
        const int right = __shfl_sync(kAll, mine.right, i, G);
        const int down = __shfl_sync(kAll, mine.down, i, G);
        T w[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) w[c] = __shfl_sync(kAll, weight[c], i, G);
        if (offset < 0 || !active) continue;
        const V* at = head + (offset + channel);
        T corner[4][VEC];
        load<V, VEC>(at, corner[0]);
        load<V, VEC>(at + right, corner[1]);
        load<V, VEC>(at + down, corner[2]);
        load<V, VEC>(at + (right + down), corner[3]);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
#pragma unroll
          for (int v = 0; v < VEC; ++v) sum[v] += w[c] * corner[c][v];
        }
      }
    }
    if (place.valid && active) {
      store<V, VEC>(static_cast<V*>(p.out) + index * channels + channel, sum);
    }
  }
}

// Lane i of a group gets the group's total of x[i].
template <typename T, int G>
__device__ __forceinline__ T total_of_mine(T (&x)[G], int lane) {
#pragma unroll
  for (int half = G / 2; half; half /= 2) {
    const bool upper = lane & half;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const T given = upper ? x[i] : x[i + half];
      x[i] = (upper ? x[i + half] : x[i]) + __shfl_xor_sync(kAll, given, half);
    }
  }
  return x[0];
}

template <typename V, int VEC, int G, int LP, bool FIXED, bool FUSED>
__global__ void __launch_bounds__(kThreads) backward(const __grid_constant__ Params p) {
  using T = Sum<V>;
  const Place place = find_place<G>(p);
  const int64_t index = (place.sample * p.queries + place.query) * p.heads + place.head;
  const int64_t first = index * (LP ? LP : p.all);
  Reader<T, G, LP, FUSED> reader{p, first, place.query, place.sample, place.lane};
  reader.prepare();
  const int channels = FIXED ? G * VEC : p.channels;
  const int64_t before = (place.sample * p.tokens * p.heads + place.head) * channels;
  const V* head = static_cast<const V*>(p.value) + before;
  T* sums = static_cast<T*>(p.grad_value) + before;
  const V* grads = static_cast<const V*>(p.grad) + index * channels;
  T* grad_points = static_cast<T*>(p.grad_points) + 2 * first;
  T* grad_weights = static_cast<T*>(p.grad_weights) + first;
  T grad[VEC];
  if (FIXED) load<V, VEC>(grads + place.lane * VEC, grad);
  T mean = 0;  // of the weights' gradients, for the softmax
#pragma unroll
  for (int round = 0; round < reader.all(); round += G) {
    const int number = round + place.lane;
    const Point<T> mine = reader.point(number);
    const T top = mine.attention * mine.t, bottom = mine.attention * mine.b;
    const T weight[4] = {top * mine.l, top * mine.r, bottom * mine.l, bottom * mine.r};
    T dot[4][G];
#pragma unroll
    for (int i = 0; i < G; ++i) {
#pragma unroll
      for (int c = 0; c < 4; ++c) dot[c][i] = 0;
      if (round + i >= reader.all()) continue;
      const int offset = __shfl_sync(kAll, mine.offset, i, G);
      const int right = __shfl_sync(kAll, mine.right, i, G);
      const int down = __shfl_sync(kAll, mine.down, i, G);
      T w[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) w[c] = __shfl_sync(kAll, weight[c], i, G);
      if (offset < 0 || !place.valid) continue;
      const int step[4] = {0, right, down, right + down};
      for (int channel = place.lane * VEC; channel < channels; channel += G * VEC) {
        if (!FIXED) load<V, VEC>(grads + channel, grad);
        const int at = offset + channel;
        T corner[4][VEC];
#pragma unroll
        for (int c = 0; c < 4; ++c) load<V, VEC>(head + (at + step[c]), corner[c]);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
#pragma unroll
          for (int v = 0; v < VEC; ++v) dot[c][i] += corner[c][v] * grad[v];
          add<T, VEC>(sums + (at + step[c]), w[c], grad);
        }
        if (FIXED) break;
      }
    }
    T d[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) d[c] = total_of_mine<T, G>(dot[c], place.lane);
    if (!mine.has_l) d[0] = d[2] = 0;
    if (!mine.has_r) d[1] = d[3] = 0;
    if (!mine.has_t) d[0] = d[1] = 0;
    if (!mine.has_b) d[2] = d[3] = 0;
    T x = mine.attention * (mine.t * (d[1] - d[0]) + mine.b * (d[3] - d[2]));
    T y = mine.attention * (mine.l * (d[2] - d[0]) + mine.r * (d[3] - d[1]));
    if (!FUSED) {  // coordinates 0..1, not pixels
      x *= mine.width;
      y *= mine.height;
    }
    const T slope = mine.t * (mine.l * d[0] + mine.r * d[1]) +
                    mine.b * (mine.l * d[2] + mine.r * d[3]);
    if (place.valid && number < reader.all()) {
      if constexpr (std::is_same_v<T, float>) {
        *reinterpret_cast<float2*>(grad_points + 2 * number) = make_float2(x, y);
      } else {
        grad_points[2 * number] = x;
        grad_points[2 * number + 1] = y;
      }
      grad_weights[number] = slope;
      if (FUSED) mean += reader.attention(number) * slope;
    }
  }
  if constexpr (FUSED) {
#pragma unroll
    for (int step = G / 2; step; step /= 2) mean += __shfl_xor_sync(kAll, mean, step);
    if (!place.valid) return;
#pragma unroll
    for (int number = place.lane; number < reader.all(); number += G) {  // as this lane wrote them
      grad_weights[number] = reader.attention(number) * (grad_weights[number] - mean);
    }
  }
}

// ---------------------------------------------------------------- the way there

// The queries as pixels of the levels, where they are (an encoder's): tiles of 8 columns. Else one
// row.
int cut(const Problem& problem, Params& p, int groups) {
  const bool pixels = problem.queries == problem.tokens && groups >= 8;
  p.tile_bits = 0;
  while (1 << p.tile_bits < (pixels ? 8 : groups)) ++p.tile_bits;
  p.grids = pixels ? p.levels : 1;
  const int tile_h = groups >> p.tile_bits, tile_w = 1 << p.tile_bits;
  int tiles = 0;
  for (int i = 0; i < p.grids; ++i) {
    const int h = pixels ? p.level[i].h : 1;
    const int w = pixels ? p.level[i].w : static_cast<int>(problem.queries);
    const int tiles_x = (w + tile_w - 1) / tile_w;
    p.grid[i] = {w, h, pixels ? p.level[i].start : 0, tiles_x, tiles};
    tiles += tiles_x * ((h + tile_h - 1) / tile_h);
  }
  return tiles;
}

template <typename V, int VEC, int G, int LP, bool FIXED>
const char* launch(const Problem& problem, Params& p, bool back, cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(cut(problem, p, kThreads / G), p.heads,
                        static_cast<unsigned>(problem.batch));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  void (*kernel)(Params) =
      problem.fused
          ? (back ? backward<V, VEC, G, LP, FIXED, true> : forward<V, VEC, G, LP, FIXED, true>)
          : (back ? backward<V, VEC, G, LP, FIXED, false> : forward<V, VEC, G, LP, FIXED, false>);
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, p);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

bool aligned(const Tensors& t, bool back) {
  const void* pointers[] = {t.value, back ? t.grad : t.out, t.grad_value};
  for (const void* pointer : pointers) {
    if (reinterpret_cast<uintptr_t>(pointer) % 16) return false;
  }
  return true;
}

template <typename V>
const char* choose(const Problem& problem, Params& p, bool whole, bool back, cudaStream_t stream) {
  constexpr int VEC = 16 / sizeof(V);
  if constexpr (!std::is_same_v<V, double>) {
    const int lanes = whole && p.channels % VEC == 0 ? p.channels / VEC : 0;
    if (p.channels == 32 && lanes && p.all == 12) {
      return launch<V, VEC, 32 / VEC, 12, true>(problem, p, back, stream);
    }
    if (lanes == 4) return launch<V, VEC, 4, 0, true>(problem, p, back, stream);
    if (lanes == 8) return launch<V, VEC, 8, 0, true>(problem, p, back, stream);
  }
  return launch<V, 1, 8, 0, false>(problem, p, back, stream);
}

const char* run(const Problem& problem, const Tensors& t, Kind kind, bool back, void* stream_) {
  constexpr int64_t most = int64_t{1} << 31;
  if (problem.levels > kLevels) return "more than 16 levels";
  if (problem.tokens * problem.heads * problem.channels >= most || problem.queries >= most) {
    return "a sample of more than 2^31 elements";
  }
  if (problem.batch > 65535 || problem.heads > 65535) return "a batch of more than 65535";
  Params p{t.value, t.reference, t.points, t.weights, t.grad, t.out, t.grad_value, t.grad_points,
           t.grad_weights, problem.tokens, problem.queries};
  p.heads = static_cast<int>(problem.heads);
  p.channels = static_cast<int>(problem.channels);
  p.levels = static_cast<int>(problem.levels);
  p.points_each = static_cast<int>(problem.points);
  p.all = p.levels * p.points_each;
  p.reference_sample = problem.reference_per_sample;
  p.reference_level = problem.reference_per_level;
  int start = 0;
  for (int i = 0; i < p.levels; ++i) {
    p.level[i] = {static_cast<int>(problem.shapes[2 * i]),
                  static_cast<int>(problem.shapes[2 * i + 1]), start};
    start += p.level[i].h * p.level[i].w;
  }
  const bool whole = aligned(t, back);
  const auto stream = static_cast<cudaStream_t>(stream_);
  switch (kind) {
    case Kind::f64: return choose<double>(problem, p, whole, back, stream);
    case Kind::f16: return choose<__half>(problem, p, whole, back, stream);
    case Kind::bf16: return choose<__nv_bfloat16>(problem, p, whole, back, stream);
    default: return choose<float>(problem, p, whole, back, stream);
  }
}

}  // namespace

const char* cuda_problem() {
  cudaFuncAttributes attributes;
  const auto kernel = forward<float, 4, 8, 12, true, true>;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();  // or the next call would report it once more
  return cudaGetErrorString(error);
}

const char* forward_cuda(const Problem& problem, const Tensors& tensors, Kind kind, void* stream) {
  return run(problem, tensors, kind, false, stream);
}

const char* backward_cuda(const Problem& problem, const Tensors& tensors, Kind kind, void* stream) {
  return run(problem, tensors, kind, true, stream);
}

}  // namespace msda
