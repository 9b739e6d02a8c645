// The divergences of rows of logits, with their gradients, on the CPU.
#include "divergence.h"

#include "common.h"

#include <ATen/TensorIterator.h>
#include <ATen/ops/empty.h>

#include <vector>

using textbrewer::guarded;
using textbrewer::Row;

namespace {

using OfRow = textbrewer::Losses (*)(const Row&);

OfRow best_form(bool may_use_avx2) {
#ifdef TEXTBREWER_HAS_AVX2
  if (may_use_avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return textbrewer::divergence_of_row_avx2;
  }
#else
  (void)may_use_avx2;
#endif
  return textbrewer::divergence_of_row;
}

} // namespace

extern "C" {

// `student` and `teacher` are contiguous, [rows, classes], of floats on the CPU; `temperatures`
// (inverse) and `factors` are [rows], and so are `labels` and `label_factors`, if there are labels.
// The gradients take the place of the student's logits; the losses are [2, rows].
char* textbrewer_divergence(
    const at::Tensor* student,
    const at::Tensor* teacher,
    const at::Tensor* temperatures,
    const at::Tensor* factors,
    const at::Tensor* labels,
    const at::Tensor* label_factors,
    int divergence,
    double parameter,
    double cap,
    bool wants_gradient,
    bool may_use_avx2,
    at::Tensor** losses) {
  return guarded([&] {
    *losses = nullptr;
    const auto count = student->size(0), classes = student->size(1);
    auto result = at::empty({2, count}, student->options().requires_grad(false));
    auto divergences = result.select(0, 0);
    const OfRow of_row = best_form(may_use_avx2);
    Row all;
    all.student = student->data_ptr<float>();
    all.teacher = teacher->data_ptr<float>();
    all.scratch = nullptr;
    all.classes = classes;
    all.inverse_temperature = 1;
    all.wants_gradient = wants_gradient;
    all.factor = 1;
    all.cap = static_cast<float>(cap);
    all.divergence = static_cast<textbrewer::Divergence>(divergence);
    all.parameter = static_cast<float>(parameter);
    all.label = -1;
    all.label_factor = 0;
    const int64_t* label = labels == nullptr ? nullptr : labels->data_ptr<int64_t>();
    const float* label_factor =
        labels == nullptr ? nullptr : label_factors->data_ptr<float>();
    const float* inverse = temperatures->data_ptr<float>();
    const float* factor = factors->data_ptr<float>();
    float* const first = result.data_ptr<float>();
    // libtorch's own threads, each with some of the rows.
    auto rows = at::TensorIteratorConfig()
                    .check_all_same_dtype(false)
                    .resize_outputs(false)
                    .add_output(divergences)
                    .build();
    rows.for_each(
        [&](char** data, const int64_t* strides, int64_t inner, int64_t outer) {
          std::vector<float> scratch(static_cast<size_t>(classes));
          for (int64_t i = 0; i < inner * outer; i++) {
            const auto offset = i % inner * strides[0] + i / inner * strides[1];
            auto* loss = reinterpret_cast<float*>(data[0] + offset);
            const auto index = loss - first;
            Row row = all;
            row.student += index * classes;
            row.teacher += index * classes;
            row.scratch = scratch.data();
            row.inverse_temperature = inverse[index];
            row.factor = factor[index];
            if (label != nullptr) {
              TORCH_CHECK(label[index] < classes, "no class has the label ", label[index]);
              row.label = label[index];
              row.label_factor = label_factor[index];
            }
            const auto losses = of_row(row);
            loss[0] = static_cast<float>(losses.divergence);
            loss[count] = static_cast<float>(losses.label);
          }
        },
        1);
    *losses = new at::Tensor(std::move(result));
  });
}
}
