// Settings and state of libtorch as a whole: precision of products, random numbers, memory.
#include "common.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <climits>

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <mutex>

using textbrewer::guarded;

namespace {

// Of CUDA's allocator by its interface in c10, so that nothing of CUDA need be linked.
c10::DeviceAllocator& allocator(const c10::Device& device) {
  TORCH_CHECK(device.is_cuda(), "only CUDA devices count their memory");
  at::globalContext().lazyInitDevice(device.type());
  return *c10::getDeviceAllocator(device.type());
}

} // namespace

extern "C" {

struct textbrewer_memory {
  int64_t allocated;
  int64_t peak_allocated;
  int64_t reserved;
  int64_t peak_reserved;
  int64_t allocation_retries;
};

// 0: float32 throughout, 1: products may use TensorFloat32 or two bfloat16, 2: bfloat16.
char* textbrewer_set_matmul_precision(int32_t precision) {
  return guarded([&] {
    TORCH_CHECK(precision >= 0 && precision < 3, "no precision has the number ", precision);
    const char* names[] = {"highest", "high", "medium"};
    at::globalContext().setFloat32MatmulPrecision(names[precision]);
  });
}

char* textbrewer_matmul_precision(int32_t* precision) {
  return guarded([&] {
    *precision = static_cast<int32_t>(at::globalContext().float32MatmulPrecision());
  });
}

char* textbrewer_allow_tf32(bool allow) {
  return guarded([&] {
    at::globalContext().setAllowTF32CuBLAS(allow);
    at::globalContext().setAllowTF32CuDNN(allow);
  });
}

char* textbrewer_random_state(int device, at::Tensor** state) {
  return guarded([&] {
    *state = nullptr;
    auto generator = at::globalContext().defaultGenerator(textbrewer::device(device));
    const std::lock_guard<std::mutex> lock(generator.mutex());
    *state = new at::Tensor(generator.get_state());
  });
}

// The generator checks the state before it takes it over.
char* textbrewer_set_random_state(int device, const at::Tensor* state) {
  return guarded([&] {
    auto generator = at::globalContext().defaultGenerator(textbrewer::device(device));
    const auto copy = state->to(at::kCPU).contiguous();
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(copy);
  });
}

char* textbrewer_memory_of(int device, textbrewer_memory* memory) {
  return guarded([&] {
    const auto where = textbrewer::device(device);
    const auto stats = allocator(where).getDeviceStats(where.index());
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    memory->allocated = stats.allocated_bytes.at(all).current;
    memory->peak_allocated = stats.allocated_bytes.at(all).peak;
    memory->reserved = stats.reserved_bytes.at(all).current;
    memory->peak_reserved = stats.reserved_bytes.at(all).peak;
    memory->allocation_retries = stats.num_alloc_retries;
  });
}

char* textbrewer_reset_peak_memory(int device) {
  return guarded([&] {
    const auto where = textbrewer::device(device);
    allocator(where).resetPeakStats(where.index());
  });
}

char* textbrewer_synchronize(int device) {
  return guarded([&] {
    const auto where = textbrewer::device(device);
    if (!where.is_cpu()) {
      at::globalContext().lazyInitDevice(where.type());
      c10::impl::VirtualGuardImpl(where.type()).synchronizeDevice(where.index());
    }
  });
}

// Whether the C library could be told.
char* textbrewer_keep_freed_memory(bool* told) {
  return guarded([&] {
#ifdef __GLIBC__
    const bool threshold = mallopt(M_MMAP_THRESHOLD, 128 << 20) == 1 ||
        mallopt(M_MMAP_THRESHOLD, 32 << 20) == 1;
    *told = threshold && mallopt(M_TRIM_THRESHOLD, INT_MAX) == 1;
#else
    *told = false;
#endif
  });
}
}
