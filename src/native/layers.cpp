// Layers of models on the CPU, with fewer passes over memory than libtorch's own.
#include "common.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <mutex>
#include <string_view>

using textbrewer::guarded;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// The random numbers of a dropout: those of libtorch's generator only seed them, so that
// they are many times cheaper and need not be kept for the backward pass.
int64_t next_seed() {
  auto generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return static_cast<int64_t>(
      at::check_generator<at::CPUGeneratorImpl>(generator)->random64());
}

// SplitMix64: 64 random bits for each place.
inline uint64_t random_bits(uint64_t seed, uint64_t place) {
  uint64_t bits = seed + (place + 1) * 0x9e3779b97f4a7c15ULL;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
  return bits ^ (bits >> 31);
}

// Each element with the probability 1 - p, divided by it, and else 0. Which ones depends on
// the seed and the element's place alone, not on threads.
at::Tensor dropped(const at::Tensor& given, double p, int64_t seed) {
  const auto input = given.contiguous();
  auto output = at::empty_like(input);
  const auto below = static_cast<uint32_t>(
      std::min(std::ldexp(p, 32), static_cast<double>(UINT32_MAX)));
  const auto count = input.numel();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, input.scalar_type(), "dropout", [&] {
        using opmath_t = at::opmath_type<scalar_t>;
        const auto scale = static_cast<opmath_t>(p < 1.0 ? 1.0 / (1.0 - p) : 0.0);
        const auto* from = input.const_data_ptr<scalar_t>();
        auto* to = output.mutable_data_ptr<scalar_t>();
        const auto one = [&](int64_t i, uint32_t bits) {
          const auto factor = bits < below ? opmath_t(0) : scale;
          to[i] = static_cast<scalar_t>(static_cast<opmath_t>(from[i]) * factor);
        };
        // Both halves of the bits are used.
        at::parallel_for(0, count / 2, 8192, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const auto bits = random_bits(static_cast<uint64_t>(seed), i);
            one(2 * i, static_cast<uint32_t>(bits));
            one(2 * i + 1, static_cast<uint32_t>(bits >> 32));
          }
        });
        if (count % 2 == 1) {
          const auto bits = random_bits(static_cast<uint64_t>(seed), count / 2);
          one(count - 1, static_cast<uint32_t>(bits));
        }
      });
  return output;
}

void check_once() {
  TORCH_CHECK(
      !at::GradMode::is_enabled(),
      "this layer can be differentiated once only (create_graph is not supported)");
}

struct Dropout : torch::autograd::Function<Dropout> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, double p) {
    const auto seed = next_seed();
    context->saved_data["p"] = p;
    context->saved_data["seed"] = seed;
    return dropped(input, p, seed);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    check_once();
    const auto p = context->saved_data["p"].toDouble();
    const auto seed = context->saved_data["seed"].toInt();
    return {dropped(gradients[0], p, seed), at::Tensor()};
  }
};

// softmax(q kᵀ / √size + mask) v, with a dropout on the softmax. Of the matrices of
// length by length one is kept for the backward pass.
struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(
      AutogradContext* context,
      const at::Tensor& given_query,
      const at::Tensor& given_key,
      const at::Tensor& given_value,
      const std::optional<at::Tensor>& mask,
      double p) {
    // The operands have one kind already.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    // Copied once here, or by each product.
    const auto query = given_query.contiguous();
    const auto key = given_key.contiguous();
    const auto value = given_value.contiguous();
    const auto scale = 1.0 / std::sqrt(static_cast<double>(query.size(-1)));
    auto scores = at::matmul(query, key.transpose(-2, -1)).mul_(scale);
    if (mask.has_value()) {
      scores.add_(*mask);
    }
    const auto probabilities = at::_softmax(scores, -1, false);
    scores.reset();
    const auto seed = p > 0.0 ? next_seed() : 0;
    context->saved_data["p"] = p;
    context->saved_data["seed"] = seed;
    context->saved_data["scale"] = scale;
    context->save_for_backward({query, key, value, probabilities});
    return at::matmul(p > 0.0 ? dropped(probabilities, p, seed) : probabilities, value);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    check_once();
    const auto saved = context->get_saved_variables();
    const auto &query = saved[0], &key = saved[1], &value = saved[2];
    const auto& probabilities = saved[3];
    const auto p = context->saved_data["p"].toDouble();
    const auto seed = context->saved_data["seed"].toInt();
    const auto scale = context->saved_data["scale"].toDouble();
    const auto gradient = gradients[0].contiguous();

    auto of_value = [&] {
      const auto weights = p > 0.0 ? dropped(probabilities, p, seed) : probabilities;
      return at::matmul(weights.transpose(-2, -1), gradient);
    }();
    auto of_scores = [&] {
      auto of_weights = at::matmul(gradient, value.transpose(-2, -1));
      if (p > 0.0) {
        of_weights = dropped(of_weights, p, seed);
      }
      return at::_softmax_backward_data(
          of_weights, probabilities, -1, probabilities.scalar_type());
    }();
    of_scores.mul_(scale);
    return {
        at::matmul(of_scores, key),
        at::matmul(of_scores.transpose(-2, -1), query),
        of_value,
        at::Tensor(),
        at::Tensor()};
  }
};

// oneDNN's product with bias and activation in one pass, where this libtorch has it.
using FusedLinear = at::Tensor(
    const at::Tensor&,
    const at::Tensor&,
    const std::optional<at::Tensor>&,
    std::string_view,
    c10::List<std::optional<at::Scalar>>,
    std::optional<std::string_view>);

std::optional<c10::TypedOperatorHandle<FusedLinear>> fused_linear() {
  const auto handle =
      c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  if (!handle.has_value()) {
    return std::nullopt;
  }
  return handle->typed<FusedLinear>();
}

// The kernel has no gradient, works in the kind of its operands, and pays off for products
// that take longer than its preparation.
bool fused_linear_fits(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  const auto kind = input.scalar_type();
  const bool wants_gradient = at::GradMode::is_enabled() &&
      (input.requires_grad() || weight.requires_grad() || bias.requires_grad());
  const bool lowered = kind != at::kBFloat16 && at::autocast::is_autocast_enabled(at::kCPU);
  return !wants_gradient && !lowered && input.device().is_cpu() &&
      (kind == at::kFloat || kind == at::kBFloat16) && weight.scalar_type() == kind &&
      bias.scalar_type() == kind && input.numel() * weight.size(0) >= (int64_t(1) << 26);
}

} // namespace

extern "C" {

char* textbrewer_dropout(const at::Tensor* input, double p, at::Tensor** output) {
  return guarded([&] { *output = new at::Tensor(Dropout::apply(*input, p)); });
}

// `mask` may be null.
char* textbrewer_attention(
    const at::Tensor* query,
    const at::Tensor* key,
    const at::Tensor* value,
    const at::Tensor* mask,
    double p,
    at::Tensor** output) {
  return guarded([&] {
    const auto optional = mask == nullptr ? std::nullopt : std::optional<at::Tensor>(*mask);
    *output = new at::Tensor(Attention::apply(*query, *key, *value, optional, p));
  });
}

// Null for the output where the kernel is not to be had, or does not pay off.
char* textbrewer_fused_linear(
    const at::Tensor* input,
    const at::Tensor* weight,
    const at::Tensor* bias,
    bool gelu,
    at::Tensor** output) {
  return guarded([&] {
    static const auto apply = fused_linear();
    if (apply.has_value() && fused_linear_fits(*input, *weight, *bias)) {
      const at::AutoDispatchBelowAutograd no_gradient;
      *output = new at::Tensor(
          apply->call(
          *input,
          *weight,
          *bias,
          gelu ? "gelu" : "none",
          c10::List<std::optional<at::Scalar>>(),
          "none"));
    }
  });
}
}
