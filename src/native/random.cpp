// The states of libtorch's random generators.
#include "common.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <mutex>

using textbrewer::guarded;

namespace {

at::Generator generator(int device) {
  return at::globalContext().defaultGenerator(textbrewer::device(device));
}

} // namespace

extern "C" {

// Makes `*state` a new tensor of bytes on the CPU, which the caller owns.
char* textbrewer_random_state(int device, at::Tensor** state) {
  return guarded([&] {
    auto of_device = generator(device);
    std::lock_guard<std::mutex> lock(of_device.mutex());
    *state = new at::Tensor(of_device.get_state());
  });
}

// libtorch looks at size and contents of `state` and refuses what is none.
char* textbrewer_set_random_state(int device, const at::Tensor* state) {
  return guarded([&] {
    auto of_device = generator(device);
    std::lock_guard<std::mutex> lock(of_device.mutex());
    of_device.set_state(*state);
  });
}

} // extern "C"
