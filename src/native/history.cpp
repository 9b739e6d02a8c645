// Operations without autograd.
#include "common.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>

using textbrewer::guarded;

namespace {

// Both are needed: the first for what asks whether there are gradients, the second so that
// operations go to their kernels directly.
struct NoHistory {
  at::NoGradGuard no_gradients;
  at::AutoDispatchBelowADInplaceOrView below;
};

} // namespace

extern "C" {

char* textbrewer_no_history_enter(void** guard) {
  return guarded([&] { *guard = new NoHistory(); });
}

// On the thread that entered, in the reverse order.
void textbrewer_no_history_leave(void* guard) {
  delete static_cast<NoHistory*>(guard);
}
}
