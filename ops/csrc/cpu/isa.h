// How code is compiled for several instruction sets, and which of them this machine takes.
#pragma once

#include <cstdlib>
#include <string_view>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define TARGET_BEGIN(options) \
  MSDA_PRAGMA(clang attribute push(__attribute__((target(options))), apply_to = function))
#define TARGET_END MSDA_PRAGMA(clang attribute pop)
#else
using Mask4 = int32_t __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Mask4{__VA_ARGS__})
#define TARGET_BEGIN(options) MSDA_PRAGMA(GCC push_options) MSDA_PRAGMA(GCC target(options))
#define TARGET_END MSDA_PRAGMA(GCC pop_options)
#endif
#define MSDA_PRAGMA(x) _Pragma(#x)

namespace msda {

enum class Isa { plain, avx2, avx512 };

// The best that the machine has, or less if MSDA_ISA=plain|avx2 asks for it.
inline Isa isa() {
#if defined(__x86_64__)
  const char* wish = std::getenv("MSDA_ISA");
  const std::string_view most = wish ? wish : "";
  if (most == "plain") return Isa::plain;
  static const bool has_avx512 =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  static const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                               __builtin_cpu_supports("f16c");
  if (has_avx512 && most != "avx2") return Isa::avx512;
  if (has_avx2) return Isa::avx2;
#endif
  return Isa::plain;
}

}  // namespace msda
