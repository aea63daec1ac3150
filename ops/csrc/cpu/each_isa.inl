// KERNELS (a file) once per instruction set, in the namespaces plain, avx2 and avx512.

namespace plain {
#define VECTOR_BYTES 16
#include KERNELS
#undef VECTOR_BYTES
}  // namespace plain

#if defined(__x86_64__)
TARGET_BEGIN("avx2,fma,f16c")
namespace avx2 {
#define VECTOR_BYTES 32
#include KERNELS
#undef VECTOR_BYTES
}  // namespace avx2
TARGET_END
TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
namespace avx512 {
#define VECTOR_BYTES 64
#include KERNELS
#undef VECTOR_BYTES
}  // namespace avx512
TARGET_END
#endif

#undef KERNELS
