// The kernels' two entries for ctypes.
#include "../../../../ops/csrc/cuda/ms_deform_attn.cu"

extern "C" const char* run(const msda::Problem* problem, const msda::Tensors* tensors, int kind,
                           bool back) {
  const auto of = static_cast<msda::Kind>(kind);
  return back ? msda::backward_cuda(*problem, *tensors, of, nullptr)
              : msda::forward_cuda(*problem, *tensors, of, nullptr);
}
