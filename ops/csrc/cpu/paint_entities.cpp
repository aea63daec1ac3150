// Views of an image merged, and every pixel given to the first query whose mean probability there
// exceeds one half, on the CPU. A thread owns a band of the image's columns, in which it visits the
// queries one after the other: nothing is shared, and nothing else of the image's size is made than
// who owns a pixel. Where all pixels have owners no query is looked at.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <vector>

#include "axes.h"
#include "isa.h"

namespace msda {

#define KERNELS "paint_kernels.inl"
#include "each_isa.inl"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

struct Kernels {
  decltype(&plain::to_columns) to_columns;
  decltype(&plain::add_probability) add_probability;
  decltype(&plain::claim) claim;
};

Kernels find_kernels() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::avx512: return {avx512::to_columns, avx512::add_probability, avx512::claim};
    case Isa::avx2: return {avx2::to_columns, avx2::add_probability, avx2::claim};
    case Isa::plain: break;
  }
#endif
  return {plain::to_columns, plain::add_probability, plain::claim};
}

struct View {
  Span rows, columns;  // of the image
  Axis down, across;
};

Span meet(Span a, Span b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

constexpr int64_t kBand = 32;   // columns that a thread paints at a time
constexpr int64_t kLanes = 16;  // of the widest vectors
constexpr float kOutside = -1e4f;  // a logit whose probability is 0

int64_t whole_vectors(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// One thread's memory, and what it does with it. Columns lie `pitch_` apart.
class Painter {
 public:
  Painter(int64_t height, int64_t cell_rows, int64_t cell_columns, const std::vector<View>& views)
      : height_(height),
        cells_(cell_rows * cell_columns),
        cell_columns_(cell_columns),
        pitch_(whole_vectors(height) + kLanes),
        views_(views),
        sums_(kBand * pitch_, 0.0f),
        seen_(kBand * pitch_),
        owner_(kBand * pitch_) {}

  // Owners nobody in the columns of the band, and how many views see each pixel.
  void begin(Span band) {
    band_ = band;
    std::fill(owner_.begin(), owner_.end(), 0);  // pixels below the image have an owner
    std::fill(seen_.begin(), seen_.end(), 0.0f);
    for (int64_t x = 0; x < band.size(); ++x) std::fill_n(&owner_[x * pitch_], height_, -1);
    for (int64_t x = 0; x < kBand; ++x) free_[x] = x < band.size() ? height_ : 0;
    for (const View& view : views_) {
      const Span columns = meet(band, view.columns);
      for (int64_t x = columns.begin; x < columns.end; ++x) {
        float* seen = &seen_[(x - band.begin) * pitch_];
        for (int64_t y = view.rows.begin; y < view.rows.end; ++y) seen[y] += 1;
      }
    }
    for (float& seen : seen_) seen = std::max(seen, 1.0f);
  }

  // Gives `query` what it wins inside of a region; adds to its area and quality.
  void paint(const float* logits, Span rows, Span columns, int32_t query, int64_t& area,
             double& quality) {
    columns = meet(columns, band_);
    while (columns.size() > 0 && !free_[columns.begin - band_.begin]) ++columns.begin;
    while (columns.size() > 0 && !free_[columns.end - 1 - band_.begin]) --columns.end;
    if (columns.size() <= 0 || rows.size() <= 0) return;
    for (size_t i = 0; i < views_.size(); ++i) look(logits + i * cells_, views_[i], rows, columns);
    for (int64_t x = columns.begin - band_.begin; x < columns.end - band_.begin; ++x) {
      if (!free_[x]) continue;
      const int64_t at = x * pitch_ + rows.begin;
      const int64_t won =
          kernels_.claim(&sums_[at], &seen_[at], rows.size(), query, &owner_[at], &quality);
      free_[x] -= won;
      area += won;
    }
  }

  // (W, H)
  void end(int32_t* owner) const {
    for (int64_t x = 0; x < band_.size(); ++x) {
      std::copy_n(&owner_[x * pitch_], height_, owner + (band_.begin + x) * height_);
    }
  }

 private:
  // Adds what one view says.
  void look(const float* mask, const View& view, Span rows, Span columns) {
    rows = meet(rows, view.rows);
    columns = meet(columns, view.columns);
    if (rows.size() <= 0 || columns.size() <= 0) return;
    const Span down{rows.begin - view.rows.begin, rows.end - view.rows.begin};
    const Span across{columns.begin - view.columns.begin, columns.end - view.columns.begin};
    const Span cells = reads(view.across, across);
    const int64_t pitch = whole_vectors(rows.size());
    block_.resize(kLanes * cells.size());
    tall_.resize(cells.size() * pitch);
    for (int64_t x = 0; x < cells.size(); ++x) {
      std::fill_n(tall_.begin() + x * pitch + rows.size(), pitch - rows.size(), kOutside);
    }
    kernels_.to_columns(mask, cell_columns_, view.down, down, cells, block_.data(), tall_.data(),
                        pitch);
    for (int64_t x = across.begin; x < across.end; ++x) {
      const int64_t column = x + view.columns.begin - band_.begin;
      if (!free_[column]) continue;
      const int64_t at = column * pitch_ + rows.begin;
      kernels_.add_probability(&tall_[(view.across.first[x] - cells.begin) * pitch], pitch,
                               view.across, x, rows.size(), &owner_[at], &sums_[at]);
    }
  }

  const int64_t height_, cells_, cell_columns_, pitch_;
  const std::vector<View>& views_;
  const Kernels kernels_ = find_kernels();
  Span band_;
  int64_t free_[kBand];
  std::vector<float> sums_, seen_, block_, tall_;
  std::vector<int32_t> owner_;
};

std::vector<View> make_views(const Tensor& boxes, const Axes& down, const Axes& across,
                             int64_t height, int64_t width) {
  STD_TORCH_CHECK(boxes.dim() == 2 && boxes.size(1) == 4 && boxes.scalar_type() == ScalarType::Long,
                  "paint_entities: boxes must be (T, 4) int64");
  std::vector<View> views;
  const int64_t* box = static_cast<const int64_t*>(boxes.const_data_ptr());
  for (int64_t i = 0; i < boxes.size(0); ++i, box += 4) {
    views.push_back({{box[1], box[3]}, {box[0], box[2]}, down.of(i), across.of(i)});
    const View& view = views.back();
    STD_TORCH_CHECK(view.rows.begin >= 0 && view.columns.begin >= 0 && view.rows.end <= height &&
                        view.columns.end <= width && view.rows.size() <= view.down.length &&
                        view.columns.size() <= view.across.length,
                    "paint_entities: view ", i, " lies outside of the image, or has no axis");
  }
  return views;
}

// Numbers below `count` in the order in which the queries are visited.
const int64_t* checked(const Tensor& order, int64_t count) {
  STD_TORCH_CHECK(order.numel() == count && order.scalar_type() == ScalarType::Long,
                  "paint_entities: order must be (Q,) int64");
  const int64_t* it = static_cast<const int64_t*>(order.const_data_ptr());
  STD_TORCH_CHECK(std::all_of(it, it + count, [&](int64_t q) { return q >= 0 && q < count; }),
                  "paint_entities: order must name queries 0..", count - 1);
  return it;
}

// Regions (Q, 4) y0 y1 x0 x1 are where each query may win.
std::tuple<Tensor, Tensor, Tensor> paint_entities(
    const Tensor& logits_, const Tensor& order_, const Tensor& regions_, const Tensor& boxes_,
    const Tensor& row_first, const Tensor& row_weights, const Tensor& column_first,
    const Tensor& column_weights, int64_t height, int64_t width) {
  const Tensor logits = torch::stable::contiguous(logits_), boxes = torch::stable::contiguous(boxes_);
  const Tensor order = torch::stable::contiguous(order_);
  const Tensor regions = torch::stable::contiguous(regions_);
  STD_TORCH_CHECK(logits.dim() == 4 && logits.scalar_type() == ScalarType::Float &&
                      logits.size(1) == boxes.size(0) && height > 0 && width > 0,
                  "paint_entities: logits must be (Q, T, h, w) float32 with a box for each view");
  const int64_t count = logits.size(0), h = logits.size(2), w = logits.size(3);
  STD_TORCH_CHECK(regions.numel() == 4 * count && regions.scalar_type() == ScalarType::Long,
                  "paint_entities: regions must be (Q, 4) int64");
  const int64_t* visited = checked(order, count);
  const Axes down(row_first, row_weights, boxes.size(0), h);
  const Axes across(column_first, column_weights, boxes.size(0), w);
  const std::vector<View> views = make_views(boxes, down, across, height, width);
  const int64_t bands = (width + kBand - 1) / kBand, stride = logits.size(1) * h * w;
  Tensor owner = torch::stable::new_empty(logits, {width, height}, ScalarType::Int);
  Tensor areas = torch::stable::new_zeros(logits, {bands, count}, ScalarType::Long);
  Tensor quality = torch::stable::new_zeros(logits, {bands, count}, ScalarType::Double);
  int64_t* area = static_cast<int64_t*>(areas.mutable_data_ptr());
  double* sum = static_cast<double*>(quality.mutable_data_ptr());
  std::atomic<int64_t> next{0};
  const int64_t threads = std::min<int64_t>(bands, torch::stable::get_num_threads());
  torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    Painter painter(height, h, w, views);
    for (int64_t i = next++; i < bands; i = next++) {
      painter.begin({i * kBand, std::min(width, (i + 1) * kBand)});
      for (int64_t j = 0; j < count; ++j) {
        const int64_t q = visited[j];
        const int64_t* region = static_cast<const int64_t*>(regions.const_data_ptr()) + 4 * q;
        painter.paint(static_cast<const float*>(logits.const_data_ptr()) + q * stride,
                      meet({region[0], region[1]}, {0, height}), {region[2], region[3]},
                      static_cast<int32_t>(q), area[i * count + q], sum[i * count + q]);
      }
      painter.end(static_cast<int32_t*>(owner.mutable_data_ptr()));
    }
  });
  return {owner, areas, quality};
}

}  // namespace
}  // namespace msda

STABLE_TORCH_LIBRARY_FRAGMENT(msda, library) {
  library.def(
      "paint_entities(Tensor logits, Tensor order, Tensor regions, Tensor boxes, Tensor row_first, "
      "Tensor row_weights, Tensor column_first, Tensor column_weights, int height, int width) "
      "-> (Tensor owner, Tensor areas, Tensor quality)");
}

STABLE_TORCH_LIBRARY_IMPL(msda, CPU, library) {
  library.impl("paint_entities", TORCH_BOX(&msda::paint_entities));
}
