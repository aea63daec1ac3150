// The stream that PyTorch computes on, by a function of libtorch_cuda that is looked up by name.
//
// A binary that also works with a torch without CUDA must not need libtorch_cuda, and a weak
// reference to the function stays null: Python loads libraries outside of the global scope.
#pragma once

#include <dlfcn.h>

#include <cstdint>

namespace msda {

// As in torch's shim.h: 0 where the stream of the device was written.
using CurrentStream = int32_t (*)(int32_t device, void** stream);

constexpr char kNoStream[] =
    "libtorch_cuda.so is not loaded or has no aoti_torch_get_current_cuda_stream: use a PyTorch "
    "with CUDA, 2.10 or newer";

// nullptr where this torch has no CUDA, or not this function.
inline CurrentStream current_stream_function() {
  static const CurrentStream found = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* symbol = dlsym(library ? library : RTLD_DEFAULT, "aoti_torch_get_current_cuda_stream");
    return reinterpret_cast<CurrentStream>(symbol);
  }();
  return found;
}

}  // namespace msda
