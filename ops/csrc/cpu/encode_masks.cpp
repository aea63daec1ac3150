// Masks of cells to COCO's compressed run lengths of pixels, on the CPU: both axes resized, the
// threshold, the mean probability inside, the box and the text in one pass. No plane of pixels is
// made: a thread holds one mask at full height and the width of its cells.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "axes.h"
#include "isa.h"

namespace msda {

#define KERNELS "mask_kernels.inl"
#include "each_isa.inl"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

struct Kernels {
  decltype(&plain::to_columns) to_columns;
  decltype(&plain::threshold_column) threshold_column;
};

Kernels find_kernels() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::avx512: return {avx512::to_columns, avx512::threshold_column};
    case Isa::avx2: return {avx2::to_columns, avx2::threshold_column};
    case Isa::plain: break;
  }
#endif
  return {plain::to_columns, plain::threshold_column};
}

// What a mask becomes: area, sum of probabilities, box x0 y0 x1 y1 (ends exclusive).
struct Facts {
  double area = 0, sum = 0, x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

// COCO's text of run lengths that begin with zeros: from the fourth on the difference to the last
// but one, in groups of five bits.
class Runs {
 public:
  explicit Runs(std::string& text) : text_(text) {}

  void flip(int64_t pixel) {
    add(pixel - start_);
    start_ = pixel;
  }
  int64_t inside() const { return inside_; }
  bool on() const { return count_ % 2; }  // the pixels since the last flip are the mask's

  void end(int64_t pixel) { add(pixel - start_); }

 private:
  void add(int64_t run) {
    if (on()) inside_ += run;
    int64_t x = count_ > 2 ? run - before_ : run;
    for (bool more = true; more;) {
      char group = x & 31;
      x >>= 5;
      more = group & 16 ? x != -1 : x != 0;
      text_.push_back(static_cast<char>((more ? group | 32 : group) + 48));
    }
    before_ = last_;
    last_ = run;
    ++count_;
  }

  std::string& text_;
  int64_t start_ = 0, count_ = 0, before_ = 0, last_ = 0, inside_ = 0;
};

// Pixels that read one of the marked cells.
Span touched(const Axis& axis, const std::vector<int32_t>& marked) {
  Span span{axis.length, 0};
  for (int64_t i = 0; i < axis.length; ++i) {
    bool read = false;
    for (int64_t k = 0; k < axis.taps; ++k) {
      read |= marked[axis.first[i] + k] && axis.weight(k, i) != 0;
    }
    if (!read) continue;
    span.begin = std::min(span.begin, i);
    span.end = i + 1;
  }
  return span;
}

// One thread's memory, and what it does with it.
class Encoder {
 public:
  Encoder(int64_t height, int64_t width, float threshold, bool score)
      : height_(height),
        width_(width),
        threshold_(threshold),
        score_(score),
        marked_rows_(height),
        marked_columns_(width) {}

  Facts encode(const float* mask, const Axis& down, const Axis& across, std::string& text) {
    mark(mask);
    const Span rows = touched(down, marked_rows_), columns = touched(across, marked_columns_);
    Facts facts;
    Runs runs(text);
    if (rows.size() > 0 && columns.size() > 0) {
      walk(mask, down, across, rows, columns, runs, facts);
    }
    runs.end(down.length * across.length);
    facts.area = static_cast<double>(runs.inside());
    return facts;
  }

 private:
  // A pixel is no larger than the largest cell that it reads.
  void mark(const float* mask) {
    std::fill(marked_columns_.begin(), marked_columns_.end(), 0);
    int32_t* columns = marked_columns_.data();
    for (int64_t y = 0; y < height_; ++y, mask += width_) {
      int32_t any = 0;
      for (int64_t x = 0; x < width_; ++x) {
        const int32_t hit = mask[x] > threshold_;
        any |= hit;
        columns[x] |= hit;
      }
      marked_rows_[y] = any;
    }
  }

  void walk(const float* mask, const Axis& down, const Axis& across, Span rows, Span columns,
            Runs& runs, Facts& facts) {
    const Span cells = reads(across, columns);
    const int64_t words = (rows.size() + 63) / 64, pitch = 64 * words;
    block_.resize(16 * cells.size());
    tall_.resize(cells.size() * pitch);
    words_.resize(words);
    seen_.assign(words, 0);
    for (int64_t x = 0; x < cells.size(); ++x) {  // pixels below the last one are not inside
      std::fill_n(tall_.begin() + x * pitch + rows.size(), pitch - rows.size(), 0.0f);
    }
    kernels_.to_columns(mask, width_, down, rows, cells, block_.data(), tall_.data(), pitch);
    Span inside{across.length, 0};
    for (int64_t x = columns.begin; x < columns.end; ++x) {
      const float* tall = tall_.data() + (across.first[x] - cells.begin) * pitch;
      facts.sum += kernels_.threshold_column(tall, pitch, across, x, threshold_, score_,
                                             words_.data());
      if (!add(x * down.length, rows, down.length, runs)) continue;
      inside.begin = std::min(inside.begin, x);
      inside.end = x + 1;
    }
    if (runs.on() && columns.end < across.length) runs.flip(columns.end * down.length);
    if (inside.end) surround(inside, rows.begin, facts);
  }

  // The flips of one column, whose pixels begin at `start`; whether any pixel is inside.
  bool add(int64_t start, Span rows, int64_t height, Runs& runs) {
    uint64_t any = 0;
    if (runs.on() && rows.begin > 0) runs.flip(start);
    for (size_t i = 0; i < words_.size(); ++i) {
      const uint64_t word = words_[i];
      any |= word;
      seen_[i] |= word;
      uint64_t flips = word ^ (word << 1 | (runs.on() ? 1 : 0));
      const int64_t left = rows.size() - 64 * static_cast<int64_t>(i);
      if (left < 64) flips &= (uint64_t{1} << left) - 1;
      for (; flips; flips &= flips - 1) {
        runs.flip(start + rows.begin + 64 * static_cast<int64_t>(i) + __builtin_ctzll(flips));
      }
    }
    if (runs.on() && rows.end < height) runs.flip(start + rows.end);
    return any;
  }

  void surround(Span columns, int64_t top, Facts& facts) {
    size_t low = 0, high = seen_.size() - 1;
    while (!seen_[low]) ++low;
    while (!seen_[high]) --high;
    facts.x0 = static_cast<double>(columns.begin);
    facts.x1 = static_cast<double>(columns.end);
    facts.y0 = static_cast<double>(top + 64 * low + __builtin_ctzll(seen_[low]));
    facts.y1 = static_cast<double>(top + 64 * high + 64 - __builtin_clzll(seen_[high]));
  }

  const int64_t height_, width_;
  const float threshold_;
  const bool score_;
  const Kernels kernels_ = find_kernels();
  std::vector<int32_t> marked_rows_, marked_columns_;
  std::vector<float> block_, tall_;
  std::vector<uint64_t> words_, seen_;
};

std::tuple<Tensor, Tensor, Tensor> encode_masks(
    const Tensor& masks_, const Tensor& row_first, const Tensor& row_weights,
    const Tensor& column_first, const Tensor& column_weights, double threshold, bool score) {
  const Tensor masks = torch::stable::contiguous(masks_);
  STD_TORCH_CHECK(masks.dim() == 3 && masks.scalar_type() == ScalarType::Float,
                  "encode_masks: masks must be (N, h, w) float32");
  STD_TORCH_CHECK(threshold >= 0, "encode_masks: the threshold must not be negative");
  const int64_t count = masks.size(0), h = masks.size(1), w = masks.size(2);
  const Axes down(row_first, row_weights, count, h), across(column_first, column_weights, count, w);
  std::vector<std::string> texts(count);
  Tensor lengths = torch::stable::new_empty(masks, {count}, ScalarType::Long);
  Tensor facts = torch::stable::new_empty(masks, {count, 6}, ScalarType::Double);
  int64_t* length = static_cast<int64_t*>(lengths.mutable_data_ptr());
  Facts* fact = static_cast<Facts*>(facts.mutable_data_ptr());
  std::atomic<int64_t> next{0};  // masks differ in size
  const int64_t threads = std::min<int64_t>(count, torch::stable::get_num_threads());
  torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    Encoder encoder(h, w, static_cast<float>(threshold), score);
    for (int64_t i = next++; i < count; i = next++) {
      const float* mask = static_cast<const float*>(masks.const_data_ptr()) + i * h * w;
      fact[i] = encoder.encode(mask, down.of(i), across.of(i), texts[i]);
      length[i] = static_cast<int64_t>(texts[i].size());
    }
  });
  int64_t total = 0;
  for (const std::string& text : texts) total += static_cast<int64_t>(text.size());
  Tensor text = torch::stable::new_empty(masks, {total}, ScalarType::Byte);
  char* to = static_cast<char*>(text.mutable_data_ptr());
  for (const std::string& one : texts) to = std::copy(one.begin(), one.end(), to);
  return {text, lengths, facts};
}

}  // namespace
}  // namespace msda

STABLE_TORCH_LIBRARY_FRAGMENT(msda, library) {
  library.def(
      "encode_masks(Tensor masks, Tensor row_first, Tensor row_weights, Tensor column_first, "
      "Tensor column_weights, float threshold, bool score) -> (Tensor text, Tensor lengths, "
      "Tensor facts)");
}

STABLE_TORCH_LIBRARY_IMPL(msda, CPU, library) {
  library.impl("encode_masks", TORCH_BOX(&msda::encode_masks));
}
