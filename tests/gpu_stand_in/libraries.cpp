// Stands in for cuBLAS and cuDNN: handles that are not null, and calls that are counted. What is
// neither here nor in runtime.cpp returns 0 (gpu_stand_in.py).

#include <atomic>
#include <cstddef>
#include <cstring>

#define DOOR extern "C" __attribute__((visibility("default")))
#define HANDLE(name) \
  DOOR int name(void** out, ...) { return *out = reinterpret_cast<void*>(64), 0; }
#define COUNTED(name) \
  DOOR int name(...) { return ++stand_in::calls, 0; }

namespace stand_in {
extern std::atomic<long> calls;
}

HANDLE(cublasCreate_v2)
HANDLE(cublasLtCreate)
HANDLE(cublasLtMatmulDescCreate)
HANDLE(cublasLtMatmulPreferenceCreate)
HANDLE(cublasLtMatrixLayoutCreate)
DOOR int cublasGetMathMode(void*, int* out) { return *out = 0, 0; }
DOOR int cublasGetPointerMode_v2(void*, int* out) { return *out = 0, 0; }
DOOR size_t cublasLtGetVersion() { return 130100; }
// one way to do it, of zeros (a cublasLtMatmulHeuristicResult_t has 96 bytes)
DOOR int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int,
                                        void* results, int* count) {
  return std::memset(results, 0, 96), *count = 1, 0;
}
COUNTED(cublasLtMatmul)
COUNTED(cublasSgemm_v2)
COUNTED(cublasDgemm_v2)
COUNTED(cublasGemmEx)
COUNTED(cublasSgemmEx)
COUNTED(cublasSgemmStridedBatched)
COUNTED(cublasDgemmStridedBatched)
COUNTED(cublasGemmStridedBatchedEx)
COUNTED(cublasSgemv_v2)
COUNTED(cublasSdot_v2)
COUNTED(cublasDotEx)

HANDLE(cudnnCreate)
HANDLE(cudnnCreateTensorDescriptor)
HANDLE(cudnnCreateFilterDescriptor)
HANDLE(cudnnCreateConvolutionDescriptor)
HANDLE(cudnnCreateActivationDescriptor)
DOOR size_t cudnnGetVersion() { return 92400; }
DOOR size_t cudnnGetCudartVersion() { return 13000; }
DOOR int cudnnGetProperty(int which, int* out) {
  return *out = which == 0 ? 9 : which == 1 ? 24 : 0, 0;
}
DOOR const char* cudnnGetErrorString(int) { return "stand-in"; }
COUNTED(cudnnConvolutionForward)
COUNTED(cudnnConvolutionBackwardData)
COUNTED(cudnnConvolutionBackwardFilter)
COUNTED(cudnnConvolutionBiasActivationForward)
COUNTED(cudnnBatchNormalizationForwardTrainingEx)
COUNTED(cudnnBatchNormalizationBackwardEx)
COUNTED(cudnnBatchNormalizationForwardInference)
// no memory of their own; `out` comes last
DOOR int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void*, int, int, void*, void*,
                                                                  void*, void*, void*,
                                                                  size_t* out) {
  return *out = 0, 0;
}
DOOR int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void*, int, int, void*, void*, void*,
                                                           void*, void*, void*, void*,
                                                           size_t* out) {
  return *out = 0, 0;
}
DOOR int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void*, int, int, void*, void*,
                                                              size_t* out) {
  return *out = 0, 0;
}

namespace {
struct Choice {  // cudnnConvolutionFwdAlgoPerf_t and its sisters
  int algorithm, status;
  float time;
  size_t memory;
  int determinism, math, reserved[3];
};
int one_choice(int* count, void* out) {
  *static_cast<Choice*>(out) = {1};
  return *count = 1, 0;
}
}  // namespace
#define CHOICE(name)                                                                         \
  DOOR int name(void*, void*, void*, void*, void*, int, int* count, void* out) {             \
    return one_choice(count, out);                                                           \
  }
CHOICE(cudnnGetConvolutionForwardAlgorithm_v7)
CHOICE(cudnnGetConvolutionBackwardDataAlgorithm_v7)
CHOICE(cudnnGetConvolutionBackwardFilterAlgorithm_v7)
