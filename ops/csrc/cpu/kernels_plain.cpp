#define MSDA_ISA plain
#include "kernels.inc"
