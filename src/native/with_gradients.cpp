// A number whose gradients are known already, when the graph that leads to it would be too large.
#include "common.h"

#include <torch/csrc/autograd/custom_function.h>

#include <vector>

using textbrewer::guarded;

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class WithGradients : public torch::autograd::Function<WithGradients> {
 public:
  static Variable forward(
      AutogradContext* context,
      const at::Tensor& value,
      // Only a list of this type is looked through for variables.
      at::TensorList inputs,
      const variable_list& gradients) {
    context->saved_data["gradients"] = gradients;
    std::vector<int64_t> kinds;
    for (const auto& input : inputs) {
      kinds.push_back(static_cast<int64_t>(input.scalar_type()));
    }
    context->saved_data["kinds"] = kinds;
    return value.clone();
  }

  static variable_list backward(AutogradContext* context, variable_list outputs) {
    const auto kinds = context->saved_data["kinds"].toIntVector();
    const auto count = kinds.size();
    TORCH_CHECK(
        context->saved_data.count("gradients") == 1,
        "a loss that was computed in parts has one backward pass; compute it anew for another");
    auto gradients = context->saved_data["gradients"].toTensorVector();
    // From here on the caller's alone, who need not copy them.
    context->saved_data.erase("gradients");
    // The value, the inputs, and the gradients as one argument.
    variable_list result(1 + count + 1);
    for (size_t i = 0; i < count; i++) {
      if (gradients[i].defined()) {
        // In their own numbers, which may be wider than the input's: a loss is scaled for 16 bits here.
        const auto scaled = gradients[i].mul_(outputs[0].to(gradients[i].options()));
        result[1 + i] = scaled.to(static_cast<at::ScalarType>(kinds[i]));
      }
    }
    return result;
  }
};

} // namespace

extern "C" {

// A copy of `value`. Its backward pass gives `inputs` these gradients, times that of the copy, once.
char* textbrewer_with_gradients(
    const at::Tensor* value,
    at::Tensor* const* inputs,
    at::Tensor* const* gradients,
    size_t count,
    at::Tensor** result) {
  return guarded([&] {
    *result = nullptr;
    variable_list all, known;
    for (size_t i = 0; i < count; i++) {
      all.push_back(*inputs[i]);
      known.push_back(*gradients[i]);
    }
    *result = new at::Tensor(WithGradients::apply(*value, at::TensorList(all), known));
  });
}
}
