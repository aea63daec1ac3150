// Stands in for the CUDA runtime beneath a torch with CUDA (LD_PRELOAD): device memory is the
// host's, and zero at first; kernels do nothing. Checks of devices, allocators, streams, autograd
// and every place where the host waits are torch's own. For tests without a GPU.

#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#define DOOR extern "C" __attribute__((visibility("default")))

namespace {

enum class Place { host, device, pinned };
struct Block {
  size_t size;
  Place place;
};

std::mutex guard;
std::map<uintptr_t, Block> blocks;  // by their first address
std::atomic<uintptr_t> next_handle{4096};
thread_local int current_device = 0;

int device_count() {
  const char* wish = std::getenv("STAND_IN_GPUS");
  return wish ? std::atoi(wish) : 1;
}

Place place_of(const void* pointer) {
  const std::lock_guard<std::mutex> lock(guard);
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto after = blocks.upper_bound(address);
  if (after == blocks.begin()) return Place::host;
  const auto& [first, block] = *--after;
  return address < first + block.size ? block.place : Place::host;
}

cudaError_t allocate(void** out, size_t size, Place place) {
  size = size ? size : 1;
  void* pages = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) return cudaErrorMemoryAllocation;
  const std::lock_guard<std::mutex> lock(guard);
  blocks[reinterpret_cast<uintptr_t>(pages)] = {size, place};
  *out = pages;
  return cudaSuccess;
}

cudaError_t release(void* pointer) {
  const std::lock_guard<std::mutex> lock(guard);
  const auto found = blocks.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == blocks.end()) return cudaSuccess;
  munmap(pointer, found->second.size);
  blocks.erase(found);
  return cudaSuccess;
}

template <typename Handle>
cudaError_t make(Handle* out) {
  *out = reinterpret_cast<Handle>(next_handle += 64);
  return cudaSuccess;
}

}  // namespace

// ---------------------------------------------------------------- what tests count

namespace stand_in {
std::atomic<long> calls{0}, waits{0}, pageable_bytes{0}, pinned_bytes{0};
}
using namespace stand_in;

// Handed to the GPU: kernels, library calls, copies; waits of the host; bytes to the GPU.
DOOR void stand_in_counts(long* out) {
  out[0] = calls, out[1] = waits, out[2] = pageable_bytes, out[3] = pinned_bytes;
}

// ---------------------------------------------------------------- devices

DOOR cudaError_t cudaGetDeviceCount(int* count) { return *count = device_count(), cudaSuccess; }
DOOR cudaError_t cudaGetDevice(int* device) { return *device = current_device, cudaSuccess; }
DOOR cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count()) return cudaErrorInvalidDevice;
  return current_device = device, cudaSuccess;
}
DOOR cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
DOOR cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
DOOR cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  *p = {};
  std::snprintf(p->name, sizeof p->name, "Stand-in %d", device);
  p->major = 9;
  p->multiProcessorCount = 132;
  p->maxThreadsPerMultiProcessor = 2048;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 0x7fffffff;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->maxBlocksPerMultiProcessor = p->warpSize = 32;
  p->sharedMemPerBlock = 48 << 10;
  p->sharedMemPerBlockOptin = p->sharedMemPerMultiprocessor = 227 << 10;
  p->totalGlobalMem = size_t{80} << 30;
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->textureAlignment = 512;
  p->l2CacheSize = 50 << 20;
  p->pciBusID = device + 1;
  return cudaSuccess;
}
DOOR cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  cudaGetDeviceProperties(&p, device);
  const std::map<int, int> known = {
      {cudaDevAttrComputeCapabilityMajor, p.major},
      {cudaDevAttrComputeCapabilityMinor, p.minor},
      {cudaDevAttrMultiProcessorCount, p.multiProcessorCount},
      {cudaDevAttrMaxThreadsPerBlock, p.maxThreadsPerBlock},
      {cudaDevAttrMaxThreadsPerMultiProcessor, p.maxThreadsPerMultiProcessor},
      {cudaDevAttrMaxSharedMemoryPerBlock, static_cast<int>(p.sharedMemPerBlock)},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, static_cast<int>(p.sharedMemPerBlockOptin)},
      {cudaDevAttrMaxGridDimX, p.maxGridSize[0]},
      {cudaDevAttrMaxGridDimY, p.maxGridSize[1]},
      {cudaDevAttrMaxGridDimZ, p.maxGridSize[2]},
      {cudaDevAttrMaxBlockDimX, p.maxThreadsDim[0]},
      {cudaDevAttrWarpSize, p.warpSize}};
  const auto found = known.find(attribute);
  return *value = found == known.end() ? 1 : found->second, cudaSuccess;
}
DOOR cudaError_t cudaDeviceGetPCIBusId(char* out, int size, int device) {
  return std::snprintf(out, size, "0000:%02x:00.0", device + 1), cudaSuccess;
}
DOOR cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
DOOR cudaError_t cudaDeviceGetStreamPriorityRange(int* low, int* high) {
  return *low = 0, *high = -5, cudaSuccess;
}
DOOR cudaError_t cudaDeviceSynchronize() { return ++waits, cudaSuccess; }
DOOR cudaError_t cudaMemGetInfo(size_t* left, size_t* all) {
  return *left = size_t{79} << 30, *all = size_t{80} << 30, cudaSuccess;
}
DOOR const char* cudaGetErrorString(cudaError_t error) { return error ? "stand-in" : "no error"; }
DOOR const char* cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }

// ---------------------------------------------------------------- memory

DOOR cudaError_t cudaMalloc(void** out, size_t size) { return allocate(out, size, Place::device); }
DOOR cudaError_t cudaMallocAsync(void** out, size_t size, cudaStream_t) {
  return cudaMalloc(out, size);
}
DOOR cudaError_t cudaHostAlloc(void** out, size_t size, unsigned) {
  return allocate(out, size, Place::pinned);
}
DOOR cudaError_t cudaFree(void* pointer) { return release(pointer); }
DOOR cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return release(pointer); }
DOOR cudaError_t cudaFreeHost(void* pointer) { return release(pointer); }
DOOR cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* pointer) {
  *out = {};
  const Place place = place_of(pointer);
  out->type = place == Place::device   ? cudaMemoryTypeDevice
              : place == Place::pinned ? cudaMemoryTypeHost
                                       : cudaMemoryTypeUnregistered;
  out->devicePointer = out->hostPointer = const_cast<void*>(pointer);
  return cudaSuccess;
}
DOOR cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind,
                                 cudaStream_t) {
  ++calls;
  const Place source = place_of(from);
  if (place_of(to) == Place::device && source != Place::device) {
    (source == Place::pinned ? pinned_bytes : pageable_bytes) += size;
  }
  return std::memcpy(to, from, size), cudaSuccess;
}
DOOR cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  return ++waits, cudaMemcpyAsync(to, from, size, kind, nullptr);
}
DOOR cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size,
                                     cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, size, cudaMemcpyDefault, stream);
}
DOOR cudaError_t cudaMemsetAsync(void* to, int value, size_t size, cudaStream_t) {
  return ++calls, std::memset(to, value, size), cudaSuccess;
}
DOOR cudaError_t cudaMemset(void* to, int value, size_t size) {
  return cudaMemsetAsync(to, value, size, nullptr);
}

// ---------------------------------------------------------------- streams and events

DOOR cudaError_t cudaStreamCreate(cudaStream_t* out) { return make(out); }
DOOR cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned) { return make(out); }
DOOR cudaError_t cudaStreamCreateWithPriority(cudaStream_t* out, unsigned, int) {
  return make(out);
}
DOOR cudaError_t cudaStreamGetPriority(cudaStream_t, int* out) { return *out = 0, cudaSuccess; }
DOOR cudaError_t cudaStreamSynchronize(cudaStream_t) { return ++waits, cudaSuccess; }
DOOR cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* out) {
  return *out = cudaStreamCaptureStatusNone, cudaSuccess;
}
DOOR cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* out,
                                          unsigned long long*, cudaGraph_t*,
                                          const cudaGraphNode_t**, const cudaGraphEdgeData**,
                                          size_t*) {
  return *out = cudaStreamCaptureStatusNone, cudaSuccess;
}
DOOR cudaError_t cudaEventCreate(cudaEvent_t* out) { return make(out); }
DOOR cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned) { return make(out); }
DOOR cudaError_t cudaEventSynchronize(cudaEvent_t) { return ++waits, cudaSuccess; }
DOOR cudaError_t cudaEventElapsedTime(float* out, cudaEvent_t, cudaEvent_t) {
  return *out = 1, cudaSuccess;
}

// ---------------------------------------------------------------- kernels

namespace {
struct Launch {
  dim3 grid, block;
  size_t shared;
  void* stream;
};
thread_local Launch configured;

cudaError_t launch(dim3 grid, dim3 block) {
  ++calls;
  const bool fits = grid.x && grid.y && grid.z && grid.y <= 65535 && grid.z <= 65535 &&
                    block.x * block.y * block.z <= 1024;
  return fits ? cudaSuccess : cudaErrorInvalidConfiguration;
}
}  // namespace

DOOR void** __cudaRegisterFatBinary(void*) {
  static void* handle[2];
  return handle;
}
DOOR void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*,
                                 dim3*, dim3*, int*) {}
DOOR unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
  return configured = {grid, block, shared, stream}, 0;
}
DOOR cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared,
                                            void* stream) {
  *grid = configured.grid, *block = configured.block, *shared = configured.shared;
  return *static_cast<void**>(stream) = configured.stream, cudaSuccess;
}
DOOR cudaError_t __cudaGetKernel(cudaKernel_t* out, const void* function) {
  return *out = static_cast<cudaKernel_t>(const_cast<void*>(function)), cudaSuccess;
}
DOOR cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3 grid, dim3 block, void**, size_t,
                                    cudaStream_t) {
  return launch(grid, block);
}
DOOR cudaError_t cudaLaunchKernel(const void*, dim3 grid, dim3 block, void**, size_t,
                                  cudaStream_t) {
  return launch(grid, block);
}
DOOR cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void*, void**) {
  return launch(config->gridDim, config->blockDim);
}
DOOR cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* out, const void*) {
  *out = {};
  out->maxThreadsPerBlock = 1024;
  out->numRegs = 32;
  out->binaryVersion = out->ptxVersion = 90;
  return cudaSuccess;
}
DOOR cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* out, const void*,
                                                                       int, size_t, unsigned) {
  return *out = 4, cudaSuccess;
}
DOOR cudaError_t cudaGetSymbolAddress(void** out, const void* symbol) {
  return *out = const_cast<void*>(symbol), cudaSuccess;
}

// ---------------------------------------------------------------- the driver

DOOR int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
  return *flags = 0, *active = 1, 0;
}
DOOR int cuCtxGetCurrent(void** out) { return *out = reinterpret_cast<void*>(64), 0; }
namespace {
int succeed(...) { return 0; }
}
DOOR cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** out, unsigned,
                                                  unsigned long long,
                                                  cudaDriverEntryPointQueryResult* result) {
  const bool known = !std::strcmp(name, "cuDevicePrimaryCtxGetState");
  *out = known ? reinterpret_cast<void*>(cuDevicePrimaryCtxGetState)
               : reinterpret_cast<void*>(succeed);
  if (result) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
