// What all functions that Rust calls have in common.
#pragma once

#include <c10/core/Device.h>
#include <c10/util/Exception.h>

#include <cstring>
#include <exception>

namespace textbrewer {

// Returned when there is not even memory for a message; never freed.
inline char out_of_memory[] = "out of memory";

inline char* message(const char* text) {
  char* copy = strdup(text);
  return copy == nullptr ? out_of_memory : copy;
}

// Runs `work`. No exception may reach Rust: its text is returned, to be freed by
// textbrewer_free_message, or null when all went well.
template <typename Work>
char* guarded(Work&& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    return message(error.what());
  } catch (...) {
    return message("an unknown C++ exception");
  }
}

// tch numbers CUDA devices from 0 and gives the others negative numbers.
inline c10::Device device(int code) {
  switch (code) {
    case -1:
      return c10::Device(c10::DeviceType::CPU);
    case -2:
      return c10::Device(c10::DeviceType::MPS);
    case -3:
      return c10::Device(c10::DeviceType::Vulkan);
    default:
      TORCH_CHECK(code >= 0 && code < 128, "no device has the number ", code);
      return c10::Device(
          c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(code));
  }
}

} // namespace textbrewer
