// What the threads call: one head of one sample, for the widest vectors that the machine has.
#pragma once

#include "../problem.h"

namespace msda {

// A task is sample * heads + head. `packed` holds one head's rows, (rows, pitch) of the accumulator
// type, channels padded with zeros to `pitch`; `memory` is scratch of `scratch` bytes.
struct Tasks {
  int64_t (*pitch)(int64_t channels);
  int64_t (*scratch)(const Problem&);
  // tokens [begin, end) of the value -> the rows of packed
  void (*pack)(const Problem&, const Tensors&, int64_t task, int64_t begin, int64_t end, void* packed);
  // out of queries [begin, end)
  void (*sample)(const Problem&, const Tensors&, int64_t task, int64_t begin, int64_t end,
                 const void* packed, char* memory);
  // gradients from levels [begin, end), whose rows lie in packed; those of value go to grad_rows,
  // then to the tensor
  void (*backward)(const Problem&, const Tensors&, int64_t task, int64_t begin, int64_t end,
                   const void* packed, void* grad_rows, char* memory);
  // weights' gradients -> logits' gradients, in place, of queries [begin, end); fused only
  void (*finish)(const Problem&, const Tensors&, int64_t task, int64_t begin, int64_t end,
                 char* memory);
};

}  // namespace msda
