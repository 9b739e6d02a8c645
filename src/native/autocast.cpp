// Automatic mixed precision of the calling thread.
#include "common.h"

#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>
#include <c10/macros/Export.h>

#include <cstdlib>

// As <ATen/autocast_mode.h> declares them. With it comes every operator of libtorch, which
// takes nine seconds to read. A name or a parameter that changes is an error of the linker; the type
// that is returned is not part of the mangled name, and has to be compared by a person.
namespace at::autocast {
TORCH_API bool is_autocast_enabled(c10::DeviceType device_type);
TORCH_API void set_autocast_enabled(c10::DeviceType device_type, bool enabled);
TORCH_API c10::ScalarType get_autocast_dtype(c10::DeviceType device_type);
TORCH_API void set_autocast_dtype(
    c10::DeviceType device_type,
    c10::ScalarType dtype);
TORCH_API void clear_cache();
TORCH_API int increment_nesting();
TORCH_API int decrement_nesting();
TORCH_API bool is_autocast_cache_enabled();
TORCH_API void set_autocast_cache_enabled(bool enabled);
} // namespace at::autocast

using textbrewer::guarded;

extern "C" {

struct textbrewer_autocast {
  int32_t device;
  int32_t kind;
  bool enabled;
  bool cache;
};

// Enters a region: `state` is what is wanted, and becomes what was before.
char* textbrewer_autocast_enter(textbrewer_autocast* state) {
  return guarded([&] {
    const auto type = textbrewer::device(state->device).type();
    textbrewer_autocast before = *state;
    before.enabled = at::autocast::is_autocast_enabled(type);
    before.kind = static_cast<int32_t>(at::autocast::get_autocast_dtype(type));
    before.cache = at::autocast::is_autocast_cache_enabled();
    at::autocast::set_autocast_enabled(type, state->enabled);
    if (state->enabled) {
      at::autocast::set_autocast_dtype(
          type, static_cast<c10::ScalarType>(state->kind));
    }
    at::autocast::set_autocast_cache_enabled(state->cache);
    at::autocast::increment_nesting();
    *state = before;
  });
}

// Leaves a region. The weights that it kept in the lower precision are dropped with the
// outermost one: the optimizer changes the originals.
char* textbrewer_autocast_leave(const textbrewer_autocast* before) {
  return guarded([&] {
    const auto type = textbrewer::device(before->device).type();
    if (at::autocast::decrement_nesting() == 0) {
      at::autocast::clear_cache();
    }
    at::autocast::set_autocast_enabled(type, before->enabled);
    at::autocast::set_autocast_dtype(
        type, static_cast<c10::ScalarType>(before->kind));
    at::autocast::set_autocast_cache_enabled(before->cache);
  });
}

void textbrewer_free_message(char* text) {
  if (text != textbrewer::out_of_memory) {
    free(text);
  }
}
}
