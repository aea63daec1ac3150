// Stands in for NCCL among the processes of one machine: every call has done its work when it
// returns. Ranks meet in a piece of shared memory, a slot for each, by barriers.

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#define DOOR extern "C" __attribute__((visibility("default")))

// nccl.h's, as far as they are needed here
enum ncclResult_t { ncclSuccess, ncclSystemError = 2 };
enum ncclRedOp_t { ncclSum, ncclProd, ncclMax, ncclMin, ncclAvg };
enum ncclDataType_t {
  ncclInt8, ncclUint8, ncclInt32, ncclUint32, ncclInt64, ncclUint64,
  ncclFloat16, ncclFloat32, ncclFloat64, ncclBfloat16, ncclFloat8e4m3, ncclFloat8e5m2
};
struct ncclUniqueId { char internal[128]; };
using ncclComm_t = struct ncclComm*;
using cudaStream_t = void*;

namespace {

constexpr size_t kSlot = 4 << 20;
constexpr int kRanks = 4;
struct Room {
  std::atomic<int> ready;
  pthread_barrier_t barrier;
  char slot[kRanks][kSlot];
};

size_t size_of(ncclDataType_t type) {
  static const std::vector<size_t> sizes = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  return sizes[type];
}

template <typename T>
void fold(void* into, const void* other, size_t count, ncclRedOp_t op) {
  T* a = static_cast<T*>(into);
  const T* b = static_cast<const T*>(other);
  for (size_t i = 0; i < count; ++i) {
    a[i] = op == ncclMax ? std::max(a[i], b[i]) : op == ncclMin ? std::min(a[i], b[i]) : a[i] + b[i];
  }
}

void fold(void* into, const void* other, size_t count, ncclDataType_t type, ncclRedOp_t op) {
  switch (type) {
    case ncclFloat32: return fold<float>(into, other, count, op);
    case ncclFloat64: return fold<double>(into, other, count, op);
    case ncclInt64: return fold<int64_t>(into, other, count, op);
    case ncclInt32: return fold<int32_t>(into, other, count, op);
    case ncclUint8: return fold<uint8_t>(into, other, count, op);
    default: std::abort();
  }
}

}  // namespace

struct ncclComm {
  int rank, ranks;
  Room* room;
  void meet() { pthread_barrier_wait(&room->barrier); }
};

namespace {

// Everybody's piece of `from` is in the slots while `use(first byte, bytes)` looks at them.
template <typename Use>
ncclResult_t exchange(ncclComm* comm, const void* from, size_t bytes, Use use) {
  for (size_t first = 0; first < bytes; first += kSlot) {
    const size_t piece = std::min(kSlot, bytes - first);
    std::memcpy(comm->room->slot[comm->rank], static_cast<const char*>(from) + first, piece);
    comm->meet();
    use(first, piece);
    comm->meet();
  }
  return ncclSuccess;
}

}  // namespace

DOOR ncclResult_t ncclGetVersion(int* out) { return *out = 22700, ncclSuccess; }
DOOR const char* ncclGetErrorString(ncclResult_t) { return "stand-in"; }
DOOR const char* ncclGetLastError(ncclComm_t) { return ""; }
DOOR ncclResult_t ncclGetUniqueId(ncclUniqueId* out) {
  static int number = 0;
  std::snprintf(out->internal, sizeof out->internal, "/stand-in-%d-%d", getpid(), number++);
  return ncclSuccess;
}
DOOR ncclResult_t ncclCommInitRankConfig(ncclComm_t* out, int ranks, ncclUniqueId id, int rank,
                                         void*) {
  const int file = shm_open(id.internal, O_CREAT | O_RDWR, 0600);
  if (ranks > kRanks || file < 0 || ftruncate(file, sizeof(Room))) return ncclSystemError;
  void* pages = mmap(nullptr, sizeof(Room), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  auto* room = static_cast<Room*>(pages);
  if (rank == 0) {
    pthread_barrierattr_t shared;
    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&room->barrier, &shared, ranks);
    room->ready = 1;
  }
  const timespec moment{0, 1000000};
  while (!room->ready) nanosleep(&moment, nullptr);
  *out = new ncclComm{rank, ranks, room};
  (*out)->meet();
  if (rank == 0) shm_unlink(id.internal);
  return ncclSuccess;
}
DOOR ncclResult_t ncclCommInitRank(ncclComm_t* out, int ranks, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(out, ranks, id, rank, nullptr);
}
DOOR ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* out) {
  return *out = ncclSuccess, ncclSuccess;
}
DOOR ncclResult_t ncclCommCount(ncclComm_t comm, int* out) {
  return *out = comm->ranks, ncclSuccess;
}
DOOR ncclResult_t ncclCommUserRank(ncclComm_t comm, int* out) {
  return *out = comm->rank, ncclSuccess;
}

DOOR ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                                ncclRedOp_t op, ncclComm_t comm, cudaStream_t) {
  const size_t width = size_of(type);
  std::vector<char> sum(kSlot);
  return exchange(comm, from, count * width, [&](size_t first, size_t piece) {
    std::memcpy(sum.data(), comm->room->slot[0], piece);
    for (int rank = 1; rank < comm->ranks; ++rank) {
      fold(sum.data(), comm->room->slot[rank], piece / width, type, op);
    }
    if (op == ncclAvg && type == ncclFloat32) {
      for (size_t i = 0; i < piece / width; ++i) {
        reinterpret_cast<float*>(sum.data())[i] /= static_cast<float>(comm->ranks);
      }
    }
    std::memcpy(static_cast<char*>(to) + first, sum.data(), piece);
  });
}
DOOR ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type,
                                int root, ncclComm_t comm, cudaStream_t) {
  return exchange(comm, from, count * size_of(type), [&](size_t first, size_t piece) {
    std::memcpy(static_cast<char*>(to) + first, comm->room->slot[root], piece);
  });
}
DOOR ncclResult_t ncclBcast(void* both, size_t count, ncclDataType_t type, int root,
                            ncclComm_t comm, cudaStream_t stream) {
  return ncclBroadcast(both, both, count, type, root, comm, stream);
}
DOOR ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                                ncclComm_t comm, cudaStream_t) {
  const size_t bytes = count * size_of(type);
  return exchange(comm, from, bytes, [&](size_t first, size_t piece) {
    for (int rank = 0; rank < comm->ranks; ++rank) {
      std::memcpy(static_cast<char*>(to) + rank * bytes + first, comm->room->slot[rank], piece);
    }
  });
}
