// Deformable attention's CPU kernels, included as simd.inl says.

#include "simd.inl"

// Length of a packed row: 1, 2, 4 or a multiple of 8 vectors.
template <typename T>
int64_t pitch_of(int64_t channels) {
  const int64_t n = vectors<T>(channels);
  return (n <= 2 ? n : n <= 4 ? 4 : (n + 7) / 8 * 8) * Simd<T>::width;
}

// The same where the number of vectors is known: only rows of 8 or more vary.
template <typename T, int N>
INLINE int64_t pitch_in(int64_t channels) {
  return N < 8 ? N * Simd<T>::width : pitch_of<T>(channels);
}

// Memory that a query will need; the strides of heads are too long for the hardware to foresee.
template <typename E>
INLINE void prefetch(const E* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / sizeof(E)) __builtin_prefetch(from + i);
  __builtin_prefetch(from + count - 1);
}

// x0 y0 x1 y1 ... -> x and y, and back
template <typename T>
INLINE void split(Real<T> low, Real<T> high, Real<T>& x, Real<T>& y) {
  constexpr int width = Simd<T>::width;
  alignas(VECTOR_BYTES) T pairs[2 * width];
  std::memcpy(pairs, &low, sizeof(low));
  std::memcpy(pairs + width, &high, sizeof(high));
  for (int i = 0; i < width; ++i) {
    x[i] = pairs[2 * i];
    y[i] = pairs[2 * i + 1];
  }
}

template <typename T>
INLINE void join(Real<T> x, Real<T> y, Real<T>& low, Real<T>& high) {
  constexpr int width = Simd<T>::width;
  alignas(VECTOR_BYTES) T pairs[2 * width];
  for (int i = 0; i < width; ++i) {
    pairs[2 * i] = x[i];
    pairs[2 * i + 1] = y[i];
  }
  std::memcpy(&low, pairs, sizeof(low));
  std::memcpy(&high, pairs + width, sizeof(high));
}

// ---------------------------------------------------------------- over lanes

template <typename T, int N>
INLINE T largest(typename Part<T, N>::Type v) {
  if constexpr (N == 2) {
    return v[0] > v[1] ? v[0] : v[1];
  } else {
    typename Part<T, N / 2>::Type low, high;
    halves<T, N>(v, low, high);
    return largest<T, N / 2>(low > high ? low : high);
  }
}

// The four totals, to dots[0], dots[stride], ...
template <typename T>
INLINE void totals(Real<T> a, Real<T> b, Real<T> c, Real<T> d, T* dots, int64_t stride) {
  if constexpr (sizeof(T) == 4) {
    using Four = typename Part<T, 4>::Type;
    constexpr int width = Simd<T>::width;
    const Four e = fold<T, width, 4>(a), f = fold<T, width, 4>(b);
    const Four g = fold<T, width, 4>(c), h = fold<T, width, 4>(d);
    const Four ef = SHUFFLE(e, f, 0, 4, 1, 5) + SHUFFLE(e, f, 2, 6, 3, 7);  // e02 f02 e13 f13
    const Four gh = SHUFFLE(g, h, 0, 4, 1, 5) + SHUFFLE(g, h, 2, 6, 3, 7);
    const Four all = SHUFFLE(ef, gh, 0, 1, 4, 5) + SHUFFLE(ef, gh, 2, 3, 6, 7);
    for (int i = 0; i < 4; ++i) dots[i * stride] = all[i];
  } else {
    dots[0] = total<T>(a);
    dots[stride] = total<T>(b);
    dots[2 * stride] = total<T>(c);
    dots[3 * stride] = total<T>(d);
  }
}

// ---------------------------------------------------------------- one query's points

// Structure of arrays over the points of levels [first, last), padded to whole vectors.
template <typename T>
struct Work {
  using Int = typename Simd<T>::Int;
  int64_t count, padded;      // points in hand
  int64_t all, all_padded;    // points of all levels, for the softmax
  int64_t before;             // points of the levels before `first`
  T *width, *height, *x, *y, *weight;
  T *left, *right, *top, *bottom;                  // bilinear weights, 0 where outside
  T *has_left, *has_right, *has_top, *has_bottom;  // 1, or 0 where outside
  T* corner[4];                                    // weights of the corners, or their dot products
  T *soft, *spill;
  Int *columns, *rows, *start, *real, *inside, *all_real;
  Int* at[4];  // rows of packed

  Work(const Problem& p, char* memory, int64_t first, int64_t last) {
    count = (last - first) * p.points;
    all = p.levels * p.points;
    before = first * p.points;
    padded = vectors<T>(count) * Simd<T>::width;
    all_padded = vectors<T>(all) * Simd<T>::width;
    T** reals[] = {&width,    &height,    &x,       &y,          &weight,    &left,
                   &right,    &top,       &bottom,  &has_left,   &has_right, &has_top,
                   &has_bottom, &corner[0], &corner[1], &corner[2], &corner[3]};
    for (T** it : reals) *it = take<T>(memory, padded);
    soft = take<T>(memory, 2 * all_padded);
    spill = take<T>(memory, 2 * all_padded);
    Int** ints[] = {&columns, &rows, &start, &real, &inside, &at[0], &at[1], &at[2], &at[3]};
    for (Int** it : ints) *it = take<Int>(memory, padded);
    all_real = take<Int>(memory, all_padded);
    for (int64_t i = 0; i < all_padded; ++i) all_real[i] = i < all ? -1 : 0;
    for (int64_t i = 0; i < 2 * all_padded; ++i) soft[i] = spill[i] = 0;
    fill(p, first);
  }

  static int64_t bytes(const Problem& p) {
    return (40 * (vectors<T>(p.levels * p.points) + 1) + 1) * VECTOR_BYTES;
  }

 private:
  template <typename E>
  static E* take(char*& memory, int64_t n) {
    E* begin = reinterpret_cast<E*>(memory);
    memory += n * sizeof(E);
    return begin;
  }

  void fill(const Problem& p, int64_t first) {
    Int begin = 0;
    for (int64_t i = 0; i < padded; ++i) {
      const int64_t level = first + (i < count ? i / p.points : 0);
      if (i < count && i && i % p.points == 0) {
        begin += static_cast<Int>(p.shapes[2 * level - 2] * p.shapes[2 * level - 1]);
      }
      rows[i] = static_cast<Int>(p.shapes[2 * level]);
      columns[i] = static_cast<Int>(p.shapes[2 * level + 1]);
      height[i] = static_cast<T>(rows[i]);
      width[i] = static_cast<T>(columns[i]);
      start[i] = begin;
      real[i] = i < count ? -1 : 0;
    }
  }
};

INLINE Real<double> exponential(Real<double> x) {
  for (int i = 0; i < Simd<double>::width; ++i) x[i] = std::exp(x[i]);
  return x;
}

// Vectors at `from`, of which the tensor that ends at `end` may not hold the last lanes.
template <typename T>
INLINE const T* readable(const T* from, const T* end, int64_t count, int64_t padded, T* spill) {
  if (from + padded <= end) return from;
  std::memcpy(spill, from, count * sizeof(T));
  return spill;
}

template <typename T>
INLINE Whole<T> load_int(const typename Simd<T>::Int* from) {
  return *reinterpret_cast<const Whole<T>*>(from);
}

// Softmax over all levels and points of query `index` (sample, query, head) -> work.soft.
template <typename T>
INLINE void softmax(const Work<T>& work, const T* logits, int64_t index, const T* end) {
  constexpr int width = Simd<T>::width;
  const T* from = readable(logits + index * work.all, end, work.all, work.all_padded, work.spill);
  const Real<T> least = Real<T>{} - static_cast<T>(INFINITY);
  Real<T> top = least;
  for (int64_t i = 0; i < work.all_padded; i += width) {
    const Real<T> v = load_int<T>(work.all_real + i) ? load(from + i) : least;
    store(work.soft + i, v);
    top = top > v ? top : v;
  }
  const T most = largest<T, width>(top);
  Real<T> sum = {};
  for (int64_t i = 0; i < work.all_padded; i += width) {
    Real<T> e = exponential(load(work.soft + i) - most);
    e = load_int<T>(work.all_real + i) ? e : Real<T>{};
    store(work.soft + i, e);
    sum += e;
  }
  const T scale = 1 / total<T>(sum);
  for (int64_t i = 0; i < work.all_padded; i += width) {
    store(work.soft + i, load(work.soft + i) * scale);
  }
}

// Asks for what `place` will read of the query that is `ahead` queries later.
constexpr int64_t ahead = 4;

template <typename T>
INLINE void foresee(const Problem& p, const Tensors& t, const Work<T>& work, int64_t sample,
                    int64_t query, int64_t head) {
  const int64_t last = p.queries - 1, next = query + ahead < last ? query + ahead : last;
  const int64_t at = ((sample * p.queries + next) * p.heads + head) * work.all + work.before;
  prefetch(static_cast<const T*>(t.points) + 2 * at, 2 * work.count);
  prefetch(static_cast<const T*>(t.weights) + at, work.count);
}

// Pixel coordinates x y, and the attention weight, of the points in hand.
template <typename T>
INLINE void place(const Problem& p, const Tensors& t, Work<T>& work, int64_t sample, int64_t query,
                  int64_t head) {
  constexpr int width = Simd<T>::width;
  const int64_t index = (sample * p.queries + query) * p.heads + head;
  const int64_t number = p.batch * p.queries * p.heads * work.all;
  const T* points = static_cast<const T*>(t.points);
  const T* weights = static_cast<const T*>(t.weights);
  if (p.fused) {
    softmax(work, weights, index, weights + number);
    for (int64_t i = 0; i < work.padded; i += width) {
      store(work.weight + i, load(work.soft + work.before + i));
    }
  } else {
    const T* from = readable(weights + index * work.all + work.before, weights + number, work.count,
                             work.padded, work.spill);
    for (int64_t i = 0; i < work.padded; i += width) store(work.weight + i, load(from + i));
  }
  const T* from = readable(points + 2 * (index * work.all + work.before), points + 2 * number,
                           2 * work.count, 2 * work.padded, work.spill);
  const T* reference = static_cast<const T*>(t.reference);
  if (p.fused) {
    const int64_t sets = p.reference_per_sample ? sample * p.queries + query : query;
    reference += 2 * sets * (p.reference_per_level ? p.levels : 1);
  }
  for (int64_t i = 0; i < work.padded; i += width) {
    const Real<T> low = load(from + 2 * i), high = load(from + 2 * i + width);
    Real<T> x, y;
    split<T>(low, high, x, y);
    const Real<T> w = load(work.width + i), h = load(work.height + i);
    if (!p.fused) {
      store(work.x + i, x * w - static_cast<T>(0.5));
      store(work.y + i, y * h - static_cast<T>(0.5));
    } else if (!p.reference_per_level) {
      store(work.x + i, (reference[0] * w - static_cast<T>(0.5)) + x);
      store(work.y + i, (reference[1] * h - static_cast<T>(0.5)) + y);
    } else {
      store(work.x + i, x);
      store(work.y + i, y);
    }
  }
  if (p.fused && p.reference_per_level) {
    for (int64_t i = 0; i < work.count; ++i) {
      const int64_t level = (work.before + i) / p.points;
      work.x[i] += reference[2 * level] * work.width[i] - static_cast<T>(0.5);
      work.y[i] += reference[2 * level + 1] * work.height[i] - static_cast<T>(0.5);
    }
  }
}

template <typename T>
INLINE Whole<T> floor_of(Real<T> x) {
  const Whole<T> whole = __builtin_convertvector(x, Whole<T>);
  return whole + (x < __builtin_convertvector(whole, Real<T>));  // true is -1
}

// Corners of the points: bilinear weights, and rows. A corner outside has weight 0 and the row of
// one that is inside; a point outside is marked so, and has attention weight 0.
template <typename T>
INLINE void locate(Work<T>& work) {
  constexpr int width = Simd<T>::width;
  const Real<T> none = {}, one = none + 1;
  const Whole<T> zero = {};
  for (int64_t i = 0; i < work.padded; i += width) {
    Real<T> x = load(work.x + i), y = load(work.y + i);
    const Whole<T> in = (x > -1) & (y > -1) & (x < load(work.width + i)) &
                        (y < load(work.height + i)) & load_int<T>(work.real + i);
    x = in ? x : none;  // before an int is made of NaN
    y = in ? y : none;
    const Whole<T> x0 = floor_of<T>(x), y0 = floor_of<T>(y), x1 = x0 + 1, y1 = y0 + 1;
    const Whole<T> columns = load_int<T>(work.columns + i), rows = load_int<T>(work.rows + i);
    const Real<T> dx = x - __builtin_convertvector(x0, Real<T>);
    const Real<T> dy = y - __builtin_convertvector(y0, Real<T>);
    const Whole<T> l = x0 >= 0, r = x1 < columns, u = y0 >= 0, d = y1 < rows;
    store(work.left + i, l ? 1 - dx : none);
    store(work.right + i, r ? dx : none);
    store(work.top + i, u ? 1 - dy : none);
    store(work.bottom + i, d ? dy : none);
    store(work.has_left + i, l ? one : none);
    store(work.has_right + i, r ? one : none);
    store(work.has_top + i, u ? one : none);
    store(work.has_bottom + i, d ? one : none);
    store(work.weight + i, in ? load(work.weight + i) : none);
    const Whole<T> start = load_int<T>(work.start + i);
    const Whole<T> upper = start + (u ? y0 : zero) * columns;
    const Whole<T> lower = start + (d ? y1 : y0) * columns;
    const Whole<T> xl = l ? x0 : zero, xr = r ? x1 : x0;
    *reinterpret_cast<Whole<T>*>(work.inside + i) = in;
    *reinterpret_cast<Whole<T>*>(work.at[0] + i) = upper + xl;
    *reinterpret_cast<Whole<T>*>(work.at[1] + i) = upper + xr;
    *reinterpret_cast<Whole<T>*>(work.at[2] + i) = lower + xl;
    *reinterpret_cast<Whole<T>*>(work.at[3] + i) = lower + xr;
  }
}

template <typename T>
INLINE void weigh(Work<T>& work) {
  for (int64_t i = 0; i < work.padded; i += Simd<T>::width) {
    const Real<T> a = load(work.weight + i), l = load(work.left + i), r = load(work.right + i);
    const Real<T> top = a * load(work.top + i), bottom = a * load(work.bottom + i);
    store(work.corner[0] + i, top * l);
    store(work.corner[1] + i, top * r);
    store(work.corner[2] + i, bottom * l);
    store(work.corner[3] + i, bottom * r);
  }
}

// ---------------------------------------------------------------- the tasks

template <typename V, typename T>
void pack(const Problem& p, const Tensors& t, int64_t task, int64_t begin, int64_t end, void* to) {
  const int64_t pitch = pitch_of<T>(p.channels);
  const V* value = static_cast<const V*>(t.value);
  const int64_t head = task % p.heads, first = task / p.heads * p.tokens;
  T* row = static_cast<T*>(to);
  for (int64_t token = begin; token < end; ++token, row += pitch) {
    const V* from = value + ((first + token) * p.heads + head) * p.channels;
    for (int64_t c = 0; c < p.channels; ++c) row[c] = static_cast<T>(from[c]);
    for (int64_t c = p.channels; c < pitch; ++c) row[c] = 0;
  }
}

// N vectors of every row at a time; a row is a whole number of such pieces.
template <typename V, typename T, int N>
void sample(const Problem& p, const Tensors& t, int64_t task, int64_t begin, int64_t end,
            const void* packed, char* memory) {
  constexpr int width = Simd<T>::width;
  constexpr int sums = N <= 2 ? 2 : 1;  // chains of additions that do not wait for each other
  const int64_t pitch = pitch_in<T, N>(p.channels), head = task % p.heads, b = task / p.heads;
  Work<T> work(p, memory, 0, p.levels);
  T* line = reinterpret_cast<T*>(memory + Work<T>::bytes(p));
  for (int64_t query = begin; query < end; ++query) {
    foresee(p, t, work, b, query, head);
    place(p, t, work, b, query, head);
    locate(work);
    weigh(work);
    V* out = static_cast<V*>(t.out) + ((b * p.queries + query) * p.heads + head) * p.channels;
    for (int64_t piece = 0; piece < pitch; piece += N * width) {
      const T* rows = static_cast<const T*>(packed) + piece;
      Real<T> sum[sums][N] = {};
      for (int64_t i = 0; i < work.count; ++i) {
        if (!work.inside[i]) continue;
        const T* a = rows + work.at[0][i] * pitch;
        const T* b = rows + work.at[1][i] * pitch;
        const T* c = rows + work.at[2][i] * pitch;
        const T* d = rows + work.at[3][i] * pitch;
        for (int j = 0; j < N; ++j) {
          sum[0][j] += work.corner[0][i] * load(a + j * width);
          sum[sums - 1][j] += work.corner[1][i] * load(b + j * width);
          sum[0][j] += work.corner[2][i] * load(c + j * width);
          sum[sums - 1][j] += work.corner[3][i] * load(d + j * width);
        }
      }
      for (int j = 0; j < N; ++j) {
        store(line + piece + j * width, sums == 2 ? sum[0][j] + sum[1][j] : sum[0][j]);
      }
    }
    for (int64_t c = 0; c < p.channels; ++c) out[c] = static_cast<V>(line[c]);
  }
}

// One corner of one point: its dot product with the gradient, and the gradient added to it.
template <typename T, int N>
INLINE Real<T> visit(const T* row, T* sums, const Real<T>* grad, T weight, Real<T> dot) {
  constexpr int width = Simd<T>::width;
  for (int j = 0; j < N; ++j) {
    dot += load(row + j * width) * grad[j];
    store(sums + j * width, load(sums + j * width) + weight * grad[j]);
  }
  return dot;
}

template <typename T, int N>
INLINE void scatter(const Work<T>& work, int64_t i, const T* rows, T* sums, const T* grad,
                    int64_t pitch) {
  constexpr int width = Simd<T>::width;
  const int64_t a = work.at[0][i] * pitch, b = work.at[1][i] * pitch;
  const int64_t c = work.at[2][i] * pitch, d = work.at[3][i] * pitch;
  const T wa = work.corner[0][i], wb = work.corner[1][i];
  const T wc = work.corner[2][i], wd = work.corner[3][i];
  Real<T> dot_a = {}, dot_b = {}, dot_c = {}, dot_d = {};
  for (int64_t piece = 0; piece < pitch; piece += N * width, rows += N * width, sums += N * width) {
    Real<T> g[N];
    for (int j = 0; j < N; ++j) g[j] = load(grad + piece + j * width);
    dot_a = visit<T, N>(rows + a, sums + a, g, wa, dot_a);
    dot_b = visit<T, N>(rows + b, sums + b, g, wb, dot_b);
    dot_c = visit<T, N>(rows + c, sums + c, g, wc, dot_c);
    dot_d = visit<T, N>(rows + d, sums + d, g, wd, dot_d);
  }
  totals<T>(dot_a, dot_b, dot_c, dot_d, work.corner[0] + i, work.corner[1] - work.corner[0]);
}

// The points' dot products -> gradients of their coordinates and weights.
template <typename T>
INLINE void slopes(const Problem& p, const Work<T>& work, T* grad_points, T* grad_weights) {
  constexpr int width = Simd<T>::width;
  for (int64_t i = 0; i < work.padded; i += width) {
    const Real<T> d00 = load(work.corner[0] + i), d01 = load(work.corner[1] + i);
    const Real<T> d10 = load(work.corner[2] + i), d11 = load(work.corner[3] + i);
    const Real<T> l = load(work.left + i), r = load(work.right + i);
    const Real<T> u = load(work.top + i), d = load(work.bottom + i), a = load(work.weight + i);
    const Real<T> hl = load(work.has_left + i), hr = load(work.has_right + i);
    const Real<T> hu = load(work.has_top + i), hd = load(work.has_bottom + i);
    Real<T> x = a * (u * (hr * d01 - hl * d00) + d * (hr * d11 - hl * d10));
    Real<T> y = a * (l * (hd * d10 - hu * d00) + r * (hd * d11 - hu * d01));
    if (!p.fused) {  // coordinates 0..1, not pixels
      x *= load(work.width + i);
      y *= load(work.height + i);
    }
    Real<T> low, high;
    join<T>(x, y, low, high);
    store(work.spill + 2 * i, low);
    store(work.spill + 2 * i + width, high);
    store(work.x + i, u * (l * d00 + r * d01) + d * (l * d10 + r * d11));
  }
  std::memcpy(grad_points, work.spill, 2 * work.count * sizeof(T));
  std::memcpy(grad_weights, work.x, work.count * sizeof(T));
}

// d loss / d weights -> d loss / d logits, given the softmax in work.soft.
template <typename T>
INLINE void through_softmax(const Work<T>& work, T* grad) {
  T sum = 0;
  for (int64_t i = 0; i < work.all; ++i) sum += work.soft[i] * grad[i];
  for (int64_t i = 0; i < work.all; ++i) grad[i] = work.soft[i] * (grad[i] - sum);
}

template <typename V, typename T, int N>
void backward(const Problem& p, const Tensors& t, int64_t task, int64_t begin, int64_t end,
              const void* packed, void* grad_rows, char* memory) {
  const int64_t pitch = pitch_in<T, N>(p.channels), head = task % p.heads, b = task / p.heads;
  const T* rows = static_cast<const T*>(packed);
  T* grads = static_cast<T*>(grad_rows);
  int64_t first = 0, count = 0;
  for (int64_t i = 0; i < end; ++i) {
    (i < begin ? first : count) += p.shapes[2 * i] * p.shapes[2 * i + 1];
  }
  std::memset(grads, 0, count * pitch * sizeof(T));
  Work<T> work(p, memory, begin, end);
  T* line = reinterpret_cast<T*>(memory + Work<T>::bytes(p));
  for (int64_t c = p.channels; c < pitch; ++c) line[c] = 0;
  for (int64_t query = 0; query < p.queries; ++query) {
    const int64_t index = (b * p.queries + query) * p.heads + head;
    const V* grad = static_cast<const V*>(t.grad) + index * p.channels;
    foresee(p, t, work, b, query, head);
    if (query + ahead < p.queries) prefetch(grad + ahead * p.heads * p.channels, p.channels);
    place(p, t, work, b, query, head);
    locate(work);
    weigh(work);
    for (int64_t c = 0; c < p.channels; ++c) line[c] = static_cast<T>(grad[c]);
    for (int64_t i = 0; i < work.count; ++i) {
      if (work.inside[i]) {
        scatter<T, N>(work, i, rows, grads, line, pitch);
      } else {
        for (T* dots : work.corner) dots[i] = 0;
      }
    }
    const int64_t at = index * work.all + work.before;
    T* grad_weights = static_cast<T*>(t.grad_weights) + at;
    slopes(p, work, static_cast<T*>(t.grad_points) + 2 * at, grad_weights);
    if (p.fused && work.count == work.all) through_softmax(work, grad_weights);
  }
  V* to = static_cast<V*>(t.grad_value) + ((b * p.tokens + first) * p.heads + head) * p.channels;
  for (int64_t row = 0; row < count; ++row, to += p.heads * p.channels) {
    for (int64_t c = 0; c < p.channels; ++c) to[c] = static_cast<V>(grads[row * pitch + c]);
  }
}

template <typename T>
void finish(const Problem& p, const Tensors& t, int64_t task, int64_t begin, int64_t end,
            char* memory) {
  Work<T> work(p, memory, 0, p.levels);
  const T* logits = static_cast<const T*>(t.weights);
  const int64_t number = p.batch * p.queries * p.heads * work.all;
  for (int64_t query = begin; query < end; ++query) {
    const int64_t index = (task / p.heads * p.queries + query) * p.heads + task % p.heads;
    softmax(work, logits, index, logits + number);
    through_softmax(work, static_cast<T*>(t.grad_weights) + index * work.all);
  }
}

template <typename T>
int64_t scratch(const Problem& p) {
  return Work<T>::bytes(p) + pitch_of<T>(p.channels) * static_cast<int64_t>(sizeof(T));
}

template <typename V, typename T, int N>
Tasks tasks_of() {
  return {pitch_of<T>, scratch<T>, pack<V, T>, sample<V, T, N>, backward<V, T, N>, finish<T>};
}

// Rows of up to 8 vectors stay in registers; longer ones go in pieces of 8.
template <typename V, typename T>
Tasks tasks_for(int64_t channels) {
  switch (vectors<T>(channels)) {
    case 1: return tasks_of<V, T, 1>();
    case 2: return tasks_of<V, T, 2>();
    case 3:
    case 4: return tasks_of<V, T, 4>();
    default: return tasks_of<V, T, 8>();
  }
}
