#define MSDA_ISA avx512
#include "kernels.inc"
