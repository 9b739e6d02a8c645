// The divergence of a row and its gradient. Nothing of the standard library that has code in its
// headers may be used here: the linker would take one of the two compiled forms for all callers.
#include "divergence.h"

#include <cmath>
#include <cstring>

namespace {

using textbrewer::Divergence;
using textbrewer::Losses;
using textbrewer::Row;

constexpr float kLogOfZero = -1e30f;
// Sums of so many numbers are single precision, and are added up in double.
constexpr int64_t kBlock = 4096;

// e^x to the last digit or two (Cephes' polynomial); 0 where it would be subnormal, infinite above 88.
inline float exp_of(float x) {
  // Written so that NaN, which has no integer part, is kept out of the powers of 2.
  const float above = x > -87.33f ? x : -87.33f;
  const float kept = above < 88.0f ? above : 88.0f;
  const float shifted = kept * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (kept - n * 0.693359375f) - n * -2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  const float result = x < -87.33f ? 0.0f : (x > 88.0f ? INFINITY : y * power);
  return x == x ? result : x;
}

// log w for w above 0 and not subnormal (Cephes' polynomial).
inline float log_of(float w) {
  int32_t bits;
  memcpy(&bits, &w, sizeof bits);
  const int32_t exponent = (bits >> 23) - 126;
  bits = (bits & 0x7fffff) | 0x3f000000;
  float half;
  memcpy(&half, &bits, sizeof half);
  const bool is_small = half < 0.70710678f;
  const float z = (is_small ? half + half : half) - 1.0f;
  const float e = static_cast<float>(exponent) - (is_small ? 1.0f : 0.0f);
  float y = 7.0376836292e-2f;
  y = y * z - 1.1514610310e-1f;
  y = y * z + 1.1676998740e-1f;
  y = y * z - 1.2420140846e-1f;
  y = y * z + 1.4249322787e-1f;
  y = y * z - 1.6668057665e-1f;
  y = y * z + 2.0000714765e-1f;
  y = y * z - 2.4999993993e-1f;
  y = y * z + 3.3333331174e-1f;
  const float square = z * z;
  y = y * z * square - 0.5f * square;
  const float result = (z + (y - e * 2.12194440e-4f)) + e * 0.693359375f;
  return w == w ? result : w;
}

// log p - log m and log q - log m for the mixture m = share p + rest q, from log p - log q: of log m
// itself rounding would take as much as these are.
struct Gaps {
  float of_p;
  float of_q;
};

inline Gaps gaps_to_mixture(float gap, float share, float rest) {
  const bool is_p_larger = gap >= 0.0f;
  const float e = exp_of(is_p_larger ? -gap : gap);
  const float larger = -log_of(is_p_larger ? share + rest * e : rest + share * e);
  return {is_p_larger ? larger : larger + gap, is_p_larger ? larger - gap : larger};
}

// A class's part of the loss, and the derivative of the loss by log q but for what is the same
// multiple of q for all classes.
struct Part {
  float loss;
  float slope;
};

struct Forward {
  float entropy;  // 1 with the teacher's, 0 for a cross entropy
  Part operator()(float log_p, float log_q, float p, float) const {
    const bool is_masked = log_q <= kLogOfZero;
    const float known = is_masked ? 0.0f : log_q;
    return {p * (entropy * log_p - known), is_masked ? 0.0f : -p};
  }
};

struct Reverse {
  Part operator()(float log_p, float log_q, float, float q) const {
    const float part = q * (log_q - log_p);
    return {part, part};
  }
};

struct JensenShannon {
  float beta;
  Part operator()(float log_p, float log_q, float p, float q) const {
    const Gaps gaps = gaps_to_mixture(log_p - log_q, beta, 1.0f - beta);
    const float slope = (1.0f - beta) * q * gaps.of_q;
    return {beta * p * gaps.of_p + slope, slope};
  }
};

struct Skew {
  float alpha;
  Part operator()(float log_p, float log_q, float p, float q) const {
    const float gap = gaps_to_mixture(log_p - log_q, alpha, 1.0f - alpha).of_p;
    return {p * gap, (alpha - 1.0f) * q * exp_of(gap)};
  }
};

struct SkewReverse {
  float alpha;
  Part operator()(float log_p, float log_q, float, float q) const {
    const float gap = gaps_to_mixture(log_p - log_q, 1.0f - alpha, alpha).of_q;
    return {q * gap, q * (gap - alpha * exp_of(gap))};
  }
};

struct TotalVariation {
  Part operator()(float, float, float p, float q) const {
    const float gap = q - p;
    const float half = gap < 0.0f ? -0.5f : (gap > 0.0f ? 0.5f : gap);
    return {gap * half, half * q};
  }
};

template <typename Parts>
Losses run(const Row& row, const Parts& parts) {
  float* const s = row.student;
  const float* const t = row.teacher;
  const int64_t classes = row.classes;
  const float inverse = row.inverse_temperature;

  float largest_s = -INFINITY, largest_t = -INFINITY;
#pragma omp simd reduction(max : largest_s, largest_t)
  for (int64_t i = 0; i < classes; i++) {
    largest_s = s[i] > largest_s ? s[i] : largest_s;
    largest_t = t[i] > largest_t ? t[i] : largest_t;
  }

  double sum_s = 0, sum_t = 0;
  for (int64_t start = 0; start < classes; start += kBlock) {
    const int64_t end = start + kBlock < classes ? start + kBlock : classes;
    float a = 0, b = 0;
#pragma omp simd reduction(+ : a, b)
    for (int64_t i = start; i < end; i++) {
      a += exp_of((s[i] - largest_s) * inverse);
      b += exp_of((t[i] - largest_t) * inverse);
    }
    sum_s += a;
    sum_t += b;
  }
  // In two parts each: what rounding one number would take is the same for all classes, and adds up.
  const double of_s = log(sum_s), of_t = log(sum_t);
  const float log_s = static_cast<float>(of_s), rest_s = static_cast<float>(of_s - log_s);
  const float log_t = static_cast<float>(of_t), rest_t = static_cast<float>(of_t - log_t);
  const auto log_q_of = [=](float logit) {
    const float value = ((logit - largest_s) * inverse - log_s) - rest_s;
    return value < kLogOfZero ? kLogOfZero : value;
  };

  double loss = 0, slopes = 0, sum_q = 0;
  for (int64_t start = 0; start < classes; start += kBlock) {
    const int64_t end = start + kBlock < classes ? start + kBlock : classes;
    float a = 0, b = 0, c = 0;
#pragma omp simd reduction(+ : a, b, c)
    for (int64_t i = start; i < end; i++) {
      const float log_q = log_q_of(s[i]);
      const float value = ((t[i] - largest_t) * inverse - log_t) - rest_t;
      const float log_p = value < kLogOfZero ? kLogOfZero : value;
      const float q = exp_of(log_q);
      const Part part = parts(log_p, log_q, exp_of(log_p), q);
      a += part.loss;
      b += part.slope;
      c += q;
      row.scratch[i] = part.slope;
    }
    loss += a;
    slopes += b;
    sum_q += c;
  }
  // Of the label the logits are as they are, at a temperature of 1.
  const bool has_label = row.label >= 0;
  double of_label = 0, sum_plain = sum_s;
  if (has_label) {
    if (inverse != 1.0f) {
      sum_plain = 0;
      for (int64_t start = 0; start < classes; start += kBlock) {
        const int64_t end = start + kBlock < classes ? start + kBlock : classes;
        float a = 0;
#pragma omp simd reduction(+ : a)
        for (int64_t i = start; i < end; i++) {
          a += exp_of(s[i] - largest_s);
        }
        sum_plain += a;
      }
    }
    of_label = log(sum_plain) - (static_cast<double>(s[row.label]) - largest_s);
  }
  if (!row.wants_gradient) {
    return {loss, of_label};
  }
  // Divided by the sum of q, which is 1 but for rounding: where both agree the gradient is exactly 0, and
  // near there it has the digits that are left.
  const float of_all = static_cast<float>(slopes / sum_q);
  // Without a cap nothing is multiplied by its inverse: a masked class would be -inf times 0.
  const bool has_cap = row.cap > 0;
  const float inverse_cap = has_cap ? 1.0f / row.cap : 0.0f;
  const float factor = row.factor;
  if (!has_label) {
#pragma omp simd
    for (int64_t i = 0; i < classes; i++) {
      const float bent = has_cap ? s[i] * inverse_cap : 0.0f;
      const float gradient = row.scratch[i] - exp_of(log_q_of(s[i])) * of_all;
      s[i] = gradient * factor * (1.0f - bent * bent);
    }
    return {loss, of_label};
  }
  const float of_plain = row.label_factor / static_cast<float>(sum_plain);
  const float bent_label = has_cap ? s[row.label] * inverse_cap : 0.0f;
#pragma omp simd
  for (int64_t i = 0; i < classes; i++) {
    const float bent = has_cap ? s[i] * inverse_cap : 0.0f;
    const float gradient = row.scratch[i] - exp_of(log_q_of(s[i])) * of_all;
    const float plain = exp_of(s[i] - largest_s) * of_plain;
    s[i] = (gradient * factor + plain) * (1.0f - bent * bent);
  }
  s[row.label] -= row.label_factor * (1.0f - bent_label * bent_label);
  return {loss, of_label};
}

Losses run(const Row& row) {
  const float share = row.parameter;
  switch (row.divergence) {
    case Divergence::kCrossEntropy:
      return run(row, Forward{0.0f});
    case Divergence::kForward:
      return run(row, Forward{1.0f});
    case Divergence::kReverse:
      return run(row, Reverse{});
    case Divergence::kJensenShannon:
      return run(row, JensenShannon{share});
    case Divergence::kSkew:
      return run(row, Skew{share});
    case Divergence::kSkewReverse:
      return run(row, SkewReverse{share});
    case Divergence::kTotalVariation:
      return run(row, TotalVariation{});
  }
  return {NAN, NAN};
}

} // namespace

namespace textbrewer {

#ifdef TEXTBREWER_FOR_AVX2
Losses divergence_of_row_avx2(const Row& row) { return run(row); }
#else
Losses divergence_of_row(const Row& row) { return run(row); }
#endif

} // namespace textbrewer
