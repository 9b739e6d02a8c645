// Rows of two distributions, without libtorch: compiled once for each kind of processor.
#pragma once

#include <cstdint>

namespace textbrewer {

// The numbers of `divergence.rs`.
enum class Divergence : int {
  kCrossEntropy = 0,
  kForward = 1,
  kReverse = 2,
  kJensenShannon = 3,
  kSkew = 4,
  kSkewReverse = 5,
  kTotalVariation = 6,
};

struct Row {
  // Logits, which the gradient takes the place of if it is wanted.
  float* student;
  const float* teacher;
  // As many numbers, to be written over.
  float* scratch;
  int64_t classes;
  float inverse_temperature;
  bool wants_gradient;
  // What the gradient is multiplied by.
  float factor;
  // The logits are cap * tanh(z / cap), and the gradient is that of z; no cap is 0.
  float cap;
  Divergence divergence;
  float parameter;
  // A class whose cross entropy is learned as well, or a negative number; its gradient is multiplied
  // by this factor and added.
  int64_t label;
  float label_factor;
};

struct Losses {
  double divergence;
  double label;
};

// The losses of a row.
Losses divergence_of_row(const Row& row);
#ifdef TEXTBREWER_HAS_AVX2
Losses divergence_of_row_avx2(const Row& row);
#endif

} // namespace textbrewer
