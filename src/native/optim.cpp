// Steps of an optimizer over many parameters at once, and what is done to gradients before.
#include "common.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <utility>
#include <vector>

using textbrewer::guarded;

namespace {

using Tensors = std::vector<at::Tensor>;

bool is_low(at::ScalarType kind) {
  return kind == at::kHalf || kind == at::kBFloat16;
}

bool is_supported(at::ScalarType kind) {
  return kind == at::kFloat || kind == at::kDouble || is_low(kind);
}

// Tensors that one kernel can work on together.
struct Bucket {
  at::Device device;
  at::ScalarType kind;
  std::vector<size_t> members;
};

// `apart`: whether low precision on the CPU gets buckets of one, since it is copied.
std::vector<Bucket> buckets(const Tensors& tensors, bool apart = false) {
  std::vector<Bucket> found;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto device = tensors[i].device();
    const auto kind = tensors[i].scalar_type();
    Bucket* bucket = nullptr;
    if (!(apart && device.is_cpu() && is_low(kind))) {
      for (auto& other : found) {
        if (other.device == device && other.kind == kind) {
          bucket = &other;
        }
      }
    }
    if (bucket == nullptr) {
      found.push_back({device, kind, {}});
      bucket = &found.back();
    }
    bucket->members.push_back(i);
  }
  return found;
}

Tensors chosen(const Tensors& tensors, const std::vector<size_t>& members) {
  Tensors part;
  part.reserve(members.size());
  for (const auto i : members) {
    part.push_back(tensors[i]);
  }
  return part;
}

struct Gradients {
  Tensors dense;
  Tensors sparse;
};

Gradients gradients(at::Tensor* const* parameters, size_t count) {
  Gradients all;
  for (size_t i = 0; i < count; ++i) {
    const auto& gradient = parameters[i]->grad();
    if (!gradient.defined()) {
      continue;
    }
    (gradient.layout() == at::kStrided ? all.dense : all.sparse)
        .push_back(gradient);
  }
  return all;
}

// The kernels walk through memory and do not look at strides, so whatever they work on
// together has to lie in memory alike.
class Layout {
 public:
  Layout(const at::Tensor& parameter, at::ScalarType kind)
      : model_(
            parameter.is_non_overlapping_and_dense() ? parameter
                                                     : parameter.contiguous()),
        kind_(kind) {}

  // The tensor itself, or a copy of it as it has to be.
  at::Tensor of(const at::Tensor& tensor) const {
    if (tensor.strides() == model_.strides() && tensor.scalar_type() == kind_ &&
        !tensor.is_neg()) {
      return tensor;
    }
    auto copy = at::empty_strided(
        model_.sizes(), model_.strides(), tensor.options().dtype(kind_));
    copy.copy_(tensor);
    return copy;
  }

 private:
  at::Tensor model_;
  at::ScalarType kind_;
};

} // namespace

extern "C" {

struct textbrewer_rule {
  // 0: AdamW, 1: Adam, 2: gradient descent
  int32_t algorithm;
  double learning_rate;
  double weight_decay;
  double beta1;
  double beta2;
  double eps;
  double momentum;
};

// A parameter that has a gradient, and what is remembered of it: what the algorithm does
// not remember is null.
struct textbrewer_slot {
  const at::Tensor* parameter;
  const at::Tensor* steps;
  const at::Tensor* first;
  const at::Tensor* second;
};

} // extern "C"

namespace {

// That kernels which trust their arguments may be given these.
void check(const textbrewer_slot& slot) {
  const auto& parameter = *slot.parameter;
  const auto fits = [&](const at::Tensor& tensor, const char* what) {
    TORCH_CHECK(
        tensor.scalar_type() == parameter.scalar_type() &&
            tensor.device() == parameter.device() &&
            tensor.sizes() == parameter.sizes(),
        "the parameter is ", parameter.scalar_type(), " ", parameter.sizes(), " on ",
        parameter.device(), " and its ", what, " is ", tensor.scalar_type(), " ",
        tensor.sizes(), " on ", tensor.device(), "; they must be alike");
  };
  fits(parameter.grad(), "gradient");
  for (const auto* moment : {slot.first, slot.second}) {
    if (moment != nullptr) {
      fits(*moment, "memory in the optimizer");
    }
  }
  if (slot.steps != nullptr) {
    TORCH_CHECK(
        slot.steps->scalar_type() == at::kFloat && slot.steps->numel() == 1 &&
            slot.steps->device() == parameter.device(),
        "the count of steps is not one float on the parameter's device");
  }
}

void run(
    const textbrewer_rule& rule,
    Tensors& parameters,
    const Tensors& gradients,
    const Tensors& first,
    const Tensors& second,
    const Tensors& steps,
    const std::optional<at::Tensor>& found) {
  switch (rule.algorithm) {
    case 0:
      at::_fused_adamw_(
          parameters, gradients, first, second, {}, steps, rule.learning_rate,
          rule.beta1, rule.beta2, rule.weight_decay, rule.eps, false, false, {}, found);
      break;
    case 1:
      at::_fused_adam_(
          parameters, gradients, first, second, {}, steps, rule.learning_rate,
          rule.beta1, rule.beta2, rule.weight_decay, rule.eps, false, false, {}, found);
      break;
    case 2:
      // The buffers begin at zero, so a first step needs no other treatment.
      at::_fused_sgd_(
          parameters, gradients, first, rule.weight_decay,
          first.empty() ? 0.0 : rule.momentum, rule.learning_rate, 0.0, false, false,
          false, {}, found);
      break;
    default:
      TORCH_CHECK(false, "no algorithm has the number ", rule.algorithm);
  }
}

// Counts a step that is taken. On the CPU that is an addition, elsewhere one kernel.
void count(const Bucket& bucket, Tensors& steps, const std::optional<at::Tensor>& found) {
  if (steps.empty()) {
    return;
  }
  if (bucket.device.is_cpu()) {
    for (auto& step : steps) {
      *step.mutable_data_ptr<float>() += 1;
    }
  } else if (found.has_value()) {
    at::_foreach_add_(steps, found->neg().add(1));
  } else {
    at::_foreach_add_(steps, 1);
  }
}

void step(
    const textbrewer_rule& rule,
    const textbrewer_slot* slots,
    const Bucket& bucket,
    std::optional<at::Tensor> found) {
  if (found.has_value()) {
    found = found->to(bucket.device);
    if (bucket.device.is_cpu()) {
      if (found->item<float>() != 0) {
        return;
      }
      found.reset();
    }
  }
  // On the CPU the kernels round every intermediate result to the kind of the parameter,
  // in which 0.999 is 1; on other devices they compute in float32.
  const auto kind =
      bucket.device.is_cpu() && is_low(bucket.kind) ? at::kFloat : bucket.kind;
  Tensors parameters, gradients, first, second, steps;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
  const auto changed = [&](const Layout& layout, const at::Tensor& tensor) {
    auto copy = layout.of(tensor);
    if (!copy.is_same(tensor)) {
      copies.emplace_back(tensor, copy);
    }
    return copy;
  };
  for (const auto i : bucket.members) {
    const auto& slot = slots[i];
    const Layout layout(*slot.parameter, kind);
    parameters.push_back(changed(layout, *slot.parameter));
    gradients.push_back(layout.of(slot.parameter->grad()));
    if (slot.first != nullptr) {
      first.push_back(changed(layout, *slot.first));
    }
    if (slot.second != nullptr) {
      second.push_back(changed(layout, *slot.second));
    }
    if (slot.steps != nullptr) {
      steps.push_back(*slot.steps);
    }
  }
  count(bucket, steps, found);
  run(rule, parameters, gradients, first, second, steps, found);
  for (auto& [original, copy] : copies) {
    original.copy_(copy);
  }
}

} // namespace

extern "C" {

// What each parameter's gradient is: 0 there is none, 1 one that a step can take, 2 sparse;
// 3 a parameter of a kind, 4 one with elements in the same memory, that no step can take.
char* textbrewer_inspect(
    at::Tensor* const* parameters, size_t count, uint8_t* results) {
  return guarded([&] {
    for (size_t i = 0; i < count; ++i) {
      const auto& parameter = *parameters[i];
      const auto& gradient = parameter.grad();
      results[i] = !gradient.defined()                     ? 0
          : gradient.layout() != at::kStrided              ? 2
          : !is_supported(parameter.scalar_type())         ? 3
          : at::has_internal_overlap(parameter) == at::MemOverlap::Yes ? 4
                                                           : 1;
    }
  });
}

// Changes the parameters; all have passed textbrewer_inspect. With `found`, only if that is
// 0. When a slot cannot be worked on, nothing is changed and `culprit` is its number.
char* textbrewer_step(
    const textbrewer_rule* rule,
    const textbrewer_slot* slots,
    size_t count,
    const at::Tensor* found,
    int64_t* culprit) {
  return guarded([&] {
    const at::NoGradGuard no_grad;
    Tensors parameters;
    for (size_t i = 0; i < count; ++i) {
      *culprit = static_cast<int64_t>(i);
      check(slots[i]);
      parameters.push_back(*slots[i].parameter);
    }
    *culprit = -1;
    std::optional<at::Tensor> infinite;
    if (found != nullptr) {
      TORCH_CHECK(found->numel() == 1, "whether to step is not told by one value");
      // The kernels know 0 and 1 only.
      infinite = found->detach().reshape({}).ne(0).to(at::kFloat);
    }
    for (const auto& bucket : buckets(parameters, true)) {
      step(*rule, slots, bucket, infinite);
    }
  });
}

char* textbrewer_zero_grad(at::Tensor* const* parameters, size_t count) {
  return guarded([&] {
    for (size_t i = 0; i < count; ++i) {
      if (parameters[i]->grad().defined()) {
        parameters[i]->mutable_grad().reset();
      }
    }
  });
}

// The norm of all gradients, or null when there is none, and their scaling to `max_norm`.
char* textbrewer_clip(
    at::Tensor* const* parameters, size_t count, double max_norm, at::Tensor** norm) {
  return guarded([&] {
    *norm = nullptr;
    const at::NoGradGuard no_grad;
    auto all = gradients(parameters, count);
    Tensors norms;
    const auto parts = buckets(all.dense);
    for (const auto& bucket : parts) {
      for (auto& each : at::_foreach_norm(chosen(all.dense, bucket.members), 2)) {
        norms.push_back(std::move(each));
      }
    }
    for (const auto& gradient : all.sparse) {
      norms.push_back(gradient.norm());
    }
    if (norms.empty()) {
      return;
    }
    for (auto& each : norms) {
      each = each.to(norms.front().device());
    }
    const auto total = at::linalg_vector_norm(at::stack(norms), 2);
    const auto coefficient =
        total.add(1e-6).reciprocal().mul(max_norm).clamp_max(1.0);
    for (const auto& bucket : parts) {
      at::_foreach_mul_(
          chosen(all.dense, bucket.members), coefficient.to(bucket.device));
    }
    for (auto& gradient : all.sparse) {
      gradient.mul_(coefficient.to(gradient.device()));
    }
    *norm = new at::Tensor(total);
  });
}

// Divides all gradients by `scale`; `found` becomes 1 when one has a value that is not
// finite, else 0.
char* textbrewer_unscale(
    at::Tensor* const* parameters,
    size_t count,
    const at::Tensor* scale,
    at::Tensor** found) {
  return guarded([&] {
    *found = nullptr;
    const at::NoGradGuard no_grad;
    auto all = gradients(parameters, count);
    for (auto& gradient : all.sparse) {
      all.dense.push_back(gradient._values());
    }
    // In double precision, as PyTorch inverts it.
    const auto inverse = scale->to(at::kDouble).reciprocal().to(at::kFloat);
    auto result = at::zeros({}, scale->options().dtype(at::kFloat));
    for (const auto& bucket : buckets(all.dense)) {
      auto flag = at::zeros({}, result.options().device(bucket.device));
      at::_amp_foreach_non_finite_check_and_unscale_(
          chosen(all.dense, bucket.members), flag, inverse.to(bucket.device));
      result = at::maximum(result, flag.to(result.device()));
    }
    *found = new at::Tensor(std::move(result));
  });
}

char* textbrewer_update_scale(
    at::Tensor* scale,
    at::Tensor* growth_tracker,
    const at::Tensor* found,
    double growth,
    double backoff,
    int64_t interval) {
  return guarded([&] {
    const at::NoGradGuard no_grad;
    at::_amp_update_scale_(
        *scale, *growth_tracker, found->to(scale->device()), growth, backoff, interval);
  });
}
}
