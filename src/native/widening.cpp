// Operations whose numbers of 16 bits are widened first.
#include "common.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/boxing/KernelFunction.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <vector>

using textbrewer::guarded;

namespace {

// A key that libtorch sets aside for code outside it and gives no kernels of its own. It comes
// before autograd, which so records the widening too.
constexpr auto key = c10::DispatchKey::DeferredInit;

bool is_narrow(const at::Tensor& tensor) {
  return tensor.defined() &&
      (tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16);
}

c10::IValue widened(const c10::IValue& value) {
  if (value.isTensor()) {
    const auto& tensor = value.toTensor();
    return is_narrow(tensor) ? c10::IValue(tensor.to(at::kFloat)) : value;
  }
  if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    for (auto& tensor : tensors) {
      if (is_narrow(tensor)) {
        tensor = tensor.to(at::kFloat);
      }
    }
    return c10::IValue(tensors);
  }
  return value;
}

bool holds_narrow(const c10::IValue& value) {
  if (value.isTensor()) {
    return is_narrow(value.toTensor());
  }
  if (value.isTensorList()) {
    const auto tensors = value.toTensorVector();
    return std::any_of(tensors.begin(), tensors.end(), is_narrow);
  }
  return false;
}

// Many operations that write want numbers of one kind, as `index_put_` does. The kind is that of
// the argument they write into.
bool writes_narrow(const std::vector<c10::Argument>& arguments, const c10::IValue* values) {
  for (size_t index = 0; index < arguments.size(); ++index) {
    const auto* alias = arguments[index].alias_info();
    if (alias != nullptr && alias->isWrite() && holds_narrow(values[index])) {
      return true;
    }
  }
  return false;
}

// Views of an argument compute nothing, so it stays what it is. So do all arguments where numbers
// of 16 bits are written.
void widen(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard not_again(key);
  const auto& arguments = op.schema().arguments();
  const auto first = stack->size() - arguments.size();
  if (!writes_narrow(arguments, stack->data() + first)) {
    for (size_t index = 0; index < arguments.size(); ++index) {
      if (arguments[index].alias_info() == nullptr) {
        auto& value = (*stack)[first + index];
        value = widened(value);
      }
    }
  }
  const c10::DispatchKeySet after(c10::DispatchKeySet::FULL_AFTER, key);
  op.redispatchBoxed(keys & after, stack);
}

void register_once() {
  // Never freed, as operations may run until the process ends.
  static const auto* const registered =
      new c10::RegistrationHandleRAII(c10::Dispatcher::singleton().registerFallback(
          key, c10::KernelFunction::makeFromBoxedFunction<&widen>(), "textbrewer"));
  (void)registered;
}

} // namespace

extern "C" {

char* textbrewer_widening_enter(void** guard) {
  return guarded([&] {
    register_once();
    *guard = new c10::impl::IncludeDispatchKeyGuard(key);
  });
}

// On the thread that entered, in the reverse order.
void textbrewer_widening_leave(void* guard) {
  delete static_cast<c10::impl::IncludeDispatchKeyGuard*>(guard);
}
}
