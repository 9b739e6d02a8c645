// Gradients averaged over processes while the backward pass still runs: c10d's Reducer.
#include "process_group.h"

#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>

using textbrewer::guarded;

struct textbrewer_reducer {
  std::shared_ptr<c10d::Reducer> reducer;
  // The reducer tells it, without asking whether it is there, when other parameters than in the
  // step before are unused.
  std::shared_ptr<c10d::Logger> logger;
};

namespace {

// As PyTorch's DistributedDataParallel has them: a small bucket first, so that the first
// gradients leave early.
constexpr size_t first_bytes = c10d::kDefaultFirstBucketBytes;
constexpr size_t bucket_bytes = c10d::kDefaultBucketBytesCap;

// What the reducer warns of are options of PyTorch's that nobody here can set.
struct Silent : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

} // namespace

extern "C" {

char* textbrewer_reducer_new(
    const textbrewer_group* group,
    at::Tensor* const* parameters,
    const char* const* names,
    size_t count,
    textbrewer_reducer** made) {
  return guarded([&] {
    *made = nullptr;
    std::vector<at::Tensor> all;
    std::unordered_map<size_t, std::string> named;
    for (size_t i = 0; i < count; i++) {
      all.push_back(*parameters[i]);
      named.emplace(i, names[i]);
    }
    // They stay: where unused parameters are looked for, c10d makes none anew.
    auto indices = std::get<0>(
        c10d::compute_bucket_assignment_by_size(all, {first_bytes, bucket_bytes}));
    std::reverse(indices.begin(), indices.end());
    auto reducer = std::make_shared<c10d::Reducer>(
        all,
        indices,
        group->group,
        std::vector<bool>(count, false),
        static_cast<int64_t>(bucket_bytes),
        // Without it a parameter that a step does not reach is noticed a step later.
        /*find_unused_parameters=*/true,
        /*gradient_as_bucket_view=*/true,
        named,
        static_cast<int64_t>(first_bytes),
        /*skip_all_reduce_unused_params=*/false,
        /*use_python_reducer=*/false,
        std::vector<int64_t>{});
    auto logger = std::make_shared<c10d::Logger>(reducer);
    reducer->set_logger(logger);
    *made = new textbrewer_reducer{std::move(reducer), std::move(logger)};
  });
}

// Before the forward pass of the batch whose gradients are to be averaged.
char* textbrewer_reducer_before_forward(textbrewer_reducer* reducer) {
  return guarded([&] {
    reducer->reducer->prepare_for_forward();
  });
}

// Before its backward pass.
char* textbrewer_reducer_before_backward(textbrewer_reducer* reducer, const at::Tensor* loss) {
  return guarded([&] {
    Silent silent;
    const c10::WarningUtils::WarningHandlerGuard guard(&silent);
    reducer->reducer->prepare_for_backward({*loss});
  });
}

void textbrewer_reducer_free(textbrewer_reducer* reducer) {
  try {
    reducer->reducer->remove_autograd_hooks();
  } catch (...) {
    // Gradients stay this process's own either way.
  }
  try {
    delete reducer;
  } catch (...) {
  }
}
}
