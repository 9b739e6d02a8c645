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
#include <ATen/ops/add.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
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

// Every head's softmax(q kᵀ / √size + mask) v, with a dropout on the softmax. States are
// [batch * length, hidden]. Of the matrices of length by length one is kept for the backward
// pass.
struct Attention : torch::autograd::Function<Attention> {
  // [batch * length, hidden] to [batch, heads, length, size], in one piece.
  static at::Tensor split(const at::Tensor& states, int64_t batch, int64_t heads) {
    const auto length = states.size(0) / batch;
    const auto size = states.size(1) / heads;
    return states.reshape({batch, length, heads, size}).transpose(1, 2).contiguous();
  }

  static at::Tensor joined(const at::Tensor& states) {
    const auto hidden = states.size(1) * states.size(3);
    return states.transpose(1, 2).reshape({states.size(0) * states.size(2), hidden});
  }

  static at::Tensor forward(
      AutogradContext* context,
      const at::Tensor& flat_query,
      const at::Tensor& flat_key,
      const at::Tensor& flat_value,
      const std::optional<at::Tensor>& mask,
      int64_t batch,
      int64_t heads,
      double p) {
    // The operands have one kind already.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    TORCH_CHECK(
        batch > 0 && heads > 0 && flat_query.dim() == 2 && flat_query.size(0) % batch == 0 &&
            flat_query.size(1) % heads == 0,
        "attention: states of shape ",
        flat_query.sizes(),
        " cannot be split into ",
        batch,
        " examples and ",
        heads,
        " heads");
    TORCH_CHECK(
        flat_key.sizes() == flat_query.sizes() && flat_value.sizes() == flat_query.sizes(),
        "attention: query, key and value must have one shape");
    const auto query = split(flat_query, batch, heads);
    const auto key = split(flat_key, batch, heads);
    const auto value = split(flat_value, batch, heads);
    const auto scale = 1.0 / std::sqrt(static_cast<double>(query.size(-1)));
    auto scores = at::matmul(query, key.transpose(-2, -1)).mul_(scale);
    if (mask.has_value()) {
      scores.add_(*mask);
    }
    const auto probabilities = at::_softmax(scores, -1, false);
    scores.reset();
    const auto seed = next_seed();
    context->saved_data["p"] = p;
    context->saved_data["seed"] = seed;
    context->saved_data["scale"] = scale;
    context->save_for_backward({query, key, value, probabilities});
    return joined(at::matmul(dropped(probabilities, p, seed), value));
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    check_once();
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = context->get_saved_variables();
    const auto &query = saved[0], &key = saved[1], &value = saved[2];
    const auto& probabilities = saved[3];
    const auto p = context->saved_data["p"].toDouble();
    const auto seed = context->saved_data["seed"].toInt();
    const auto scale = context->saved_data["scale"].toDouble();
    const auto gradient = split(gradients[0], query.size(0), query.size(1));

    const auto of_value = [&] {
      const auto weights = dropped(probabilities, p, seed);
      return at::matmul(weights.transpose(-2, -1), gradient);
    }();
    const auto of_scores = [&] {
      const auto of_weights =
          dropped(at::matmul(gradient, value.transpose(-2, -1)), p, seed);
      return at::_softmax_backward_data(
                 of_weights, probabilities, -1, probabilities.scalar_type())
          .mul_(scale);
    }();
    return {
        joined(at::matmul(of_scores, key)),
        joined(at::matmul(of_scores.transpose(-2, -1), query)),
        joined(of_value),
        at::Tensor(),
        at::Tensor(),
        at::Tensor(),
        at::Tensor()};
  }
};

// LayerNorm(residual + dropout(input)). What was dropped is not kept.
struct ResidualNorm : torch::autograd::Function<ResidualNorm> {
  static at::Tensor forward(
      AutogradContext* context,
      const at::Tensor& input,
      const at::Tensor& residual,
      const at::Tensor& weight,
      const at::Tensor& bias,
      double eps,
      double p) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto seed = next_seed();
    auto sum = dropped(input, p, seed);
    // The kinds differ under autocast; the wider one is that of the sum.
    sum = sum.scalar_type() == residual.scalar_type() ? sum.add_(residual)
                                                      : at::add(sum, residual);
    const auto [output, mean, deviation] =
        at::native_layer_norm(sum, weight.sizes(), weight, bias, eps);
    context->saved_data["p"] = p;
    context->saved_data["seed"] = seed;
    context->saved_data["kind"] = static_cast<int64_t>(input.scalar_type());
    context->saved_data["residual"] = static_cast<int64_t>(residual.scalar_type());
    context->save_for_backward({sum, mean, deviation, weight, bias});
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    check_once();
    const auto saved = context->get_saved_variables();
    const auto p = context->saved_data["p"].toDouble();
    const auto seed = context->saved_data["seed"].toInt();
    const auto kind = static_cast<at::ScalarType>(context->saved_data["kind"].toInt());
    const auto residual =
        static_cast<at::ScalarType>(context->saved_data["residual"].toInt());
    const auto [of_sum, of_weight, of_bias] = at::native_layer_norm_backward(
        gradients[0].contiguous(),
        saved[0],
        saved[3].sizes(),
        saved[1],
        saved[2],
        saved[3],
        saved[4],
        {true, true, true});
    return {
        dropped(of_sum, p, seed).to(kind),
        of_sum.to(residual),
        of_weight,
        of_bias,
        at::Tensor(),
        at::Tensor()};
  }
};

// oneDNN's product with bias and activation in one pass, where this libtorch has it.
using LinearKernel = at::Tensor(
    const at::Tensor&,
    const at::Tensor&,
    const std::optional<at::Tensor>&,
    std::string_view,
    c10::List<std::optional<at::Scalar>>,
    std::optional<std::string_view>);

const std::optional<c10::TypedOperatorHandle<LinearKernel>>& linear_kernel() {
  static const auto kernel = [] {
    const auto handle =
        c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    return handle.has_value() ? std::make_optional(handle->typed<LinearKernel>())
                              : std::nullopt;
  }();
  return kernel;
}

// Without instructions for it the kernel fails, or is slower than libtorch's own.
bool has_bfloat16() {
  static const bool has = [] {
    const auto handle =
        c10::Dispatcher::singleton().findSchema({"mkldnn::_is_mkldnn_bf16_supported", ""});
    return handle.has_value() && handle->typed<bool()>().call();
  }();
  return has;
}

at::Tensor product(
    const at::Tensor& input,
    const at::Tensor& weight,
    const std::optional<at::Tensor>& bias,
    bool gelu) {
  const at::AutoDispatchBelowAutograd no_gradient;
  // The kernel reads a bias as if it were in one piece.
  const auto whole = bias.has_value() ? std::make_optional(bias->contiguous()) : bias;
  return linear_kernel()->call(
      input,
      weight,
      whole,
      gelu ? "gelu" : "none",
      c10::List<std::optional<at::Scalar>>(),
      "none");
}

// x Wᵀ + b, all three products by oneDNN.
struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(
      AutogradContext* context,
      const at::Tensor& input,
      const at::Tensor& weight,
      const at::Tensor& bias) {
    context->save_for_backward({input, weight});
    return product(input, weight, bias, false);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    check_once();
    const auto saved = context->get_saved_variables();
    const auto &input = saved[0], &weight = saved[1];
    const auto gradient = gradients[0].contiguous();
    variable_list of(3);
    if (context->needs_input_grad(0)) {
      of[0] = product(gradient, weight.t(), std::nullopt, false);
    }
    if (context->needs_input_grad(1)) {
      of[1] = product(gradient.t(), input.t(), std::nullopt, false);
    }
    if (context->needs_input_grad(2)) {
      of[2] = gradient.sum(0);
    }
    return of;
  }
};

bool wants_gradient(const at::Tensor& tensor) {
  return at::GradMode::is_enabled() && tensor.requires_grad();
}

// The kernel works in the kind of its operands, and pays off for products that take longer
// than its preparation.
bool suits_kernel(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  const auto kind = input.scalar_type();
  // Under autocast the product is to be in a lower kind.
  const bool lowered = kind != at::kBFloat16 && at::autocast::is_autocast_enabled(at::kCPU);
  return linear_kernel().has_value() && !lowered && input.device().is_cpu() &&
      input.dim() == 2 && weight.dim() == 2 && bias.dim() == 1 &&
      input.size(1) == weight.size(1) && bias.size(0) == weight.size(0) &&
      (kind == at::kFloat || (kind == at::kBFloat16 && has_bfloat16())) && weight.scalar_type() == kind &&
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
    int64_t batch,
    int64_t heads,
    double p,
    at::Tensor** output) {
  return guarded([&] {
    const auto optional = mask == nullptr ? std::nullopt : std::optional<at::Tensor>(*mask);
    *output = new at::Tensor(
        Attention::apply(*query, *key, *value, optional, batch, heads, p));
  });
}

char* textbrewer_residual_norm(
    const at::Tensor* input,
    const at::Tensor* residual,
    const at::Tensor* weight,
    const at::Tensor* bias,
    double eps,
    double p,
    at::Tensor** output) {
  return guarded([&] {
    *output = new at::Tensor(
        ResidualNorm::apply(*input, *residual, *weight, *bias, eps, p));
  });
}

// `gelu`: without a gradient only. Null for the output where the kernel is not to be had, or
// does not pay off.
char* textbrewer_linear(
    const at::Tensor* input,
    const at::Tensor* weight,
    const at::Tensor* bias,
    bool gelu,
    at::Tensor** output) {
  return guarded([&] {
    if (!suits_kernel(*input, *weight, *bias)) {
      return;
    }
    const bool trains =
        wants_gradient(*input) || wants_gradient(*weight) || wants_gradient(*bias);
    if (!trains) {
      *output = new at::Tensor(product(*input, *weight, *bias, gelu));
    } else if (!gelu) {
      *output = new at::Tensor(Linear::apply(*input, *weight, *bias));
    }
  });
}
}
