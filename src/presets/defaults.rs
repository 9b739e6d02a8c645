//! The names that [`Presets::default`] knows.

use tch::Tensor;

use super::kd_loss::KdLoss;
use super::{Presets, kd_presets, match_loss, taid};
use crate::error::Result;
use crate::losses::check::share;
use crate::losses::{self, Divergence, Temperature};
use crate::projection;
use crate::schedule::{temperature, weight};

impl Default for Presets {
    fn default() -> Self {
        Presets::empty()
            .with_kd_loss("ce", KdLoss::divergence(Divergence::CrossEntropy))
            .kd_loss_with_mean("mse", losses::mse_at_each, losses::kd_mse)
            .with_kd_loss(
                "kl",
                KdLoss::divergence(Divergence::Kl)
                    .and_mean(losses::kd_kl)
                    .with_own_square(),
            )
            .kd_loss_with_mean("bce", losses::bce_at_each, losses::kd_bce)
            .kd_loss_with_mean(
                "regression_mse",
                |student, teacher, _| losses::regression_mse_at_each(student, teacher),
                |student, teacher, _| losses::regression_mse(student, teacher),
            )
            .kd_loss_with_mean(
                "smooth_l1",
                |student, teacher, _| losses::smooth_l1_at_each(student, teacher),
                |student, teacher, _| losses::smooth_l1(student, teacher),
            )
            .with_kd_loss("forward_kl", KdLoss::divergence(Divergence::ForwardKl))
            .with_kd_loss("reverse_kl", KdLoss::divergence(Divergence::ReverseKl))
            .with_kd_loss(
                "total_variation",
                KdLoss::divergence(Divergence::TotalVariation),
            )
            .divergence_with_share("generalized_jsd", "beta", 0.5, Divergence::GeneralizedJsd)
            .divergence_with_share("skew_kl", "alpha", 0.1, Divergence::SkewKl)
            .divergence_with_share("skew_reverse_kl", "alpha", 0.1, Divergence::SkewReverseKl)
            .divergence_with_share("adaptive_kl", "mu", 0.5, Divergence::AdaptiveKl)
            .kd_preset(
                "taid",
                &[
                    ("t_start", Some(0.4)),
                    ("t_end", Some(1.0)),
                    ("alpha", Some(5e-4)),
                    ("beta", Some(0.99)),
                    ("disable_adaptive", Some(0.0)),
                ],
                |given| {
                    taid::taid(
                        (argument(given, 0), argument(given, 1)),
                        (argument(given, 2), argument(given, 3)),
                        argument(given, 4),
                    )
                },
            )
            .kd_preset(
                "dkd",
                &[
                    ("alpha", Some(1.0)),
                    ("beta", Some(8.0)),
                    ("warm_up", Some(0.0)),
                ],
                |given| kd_presets::dkd(argument(given, 0), argument(given, 1), argument(given, 2)),
            )
            .kd_preset("nkd", &[("gamma", Some(1.5))], |given| {
                kd_presets::nkd(argument(given, 0))
            })
            .kd_preset(
                "dist",
                &[("beta", Some(1.0)), ("gamma", Some(1.0))],
                |given| kd_presets::dist(argument(given, 0), argument(given, 1)),
            )
            .match_loss("attention_mse", losses::attention_mse)
            .match_loss("attention_mse_sum", losses::attention_mse_sum)
            .match_loss("attention_ce", losses::attention_ce)
            .match_loss("attention_ce_mean", losses::attention_ce_mean)
            .match_loss("hidden_mse", losses::hidden_mse)
            .match_loss("cos", losses::cos)
            .match_loss("pkd", losses::pkd)
            .match_loss("rkd_distance", losses::rkd_distance)
            .match_loss("rkd_angle", losses::rkd_angle)
            .match_loss("pkt", losses::pkt)
            .match_loss("sp", losses::sp)
            .match_loss("cka", losses::cka)
            .match_loss("cka_unbiased", losses::cka_unbiased)
            .match_loss_on_several("fsp", Some(2), losses::fsp)
            .match_loss_on_several("gram", Some(2), losses::fsp)
            .match_loss_on_several("mmd", Some(2), losses::mmd)
            .match_loss_on_several("nst", Some(2), losses::mmd)
            .match_preset("minilm", &[("heads", None)], |given| {
                match_loss::minilm(argument(given, 0))
            })
            .match_preset("minilmv2", &[("relation_heads", Some(48.0))], |given| {
                match_loss::minilmv2(argument(given, 0))
            })
            .match_preset("crd", &[("temperature", Some(0.07))], |given| {
                match_loss::crd(argument(given, 0))
            })
            .projection("linear", projection::linear)
            .projection("relu", projection::relu)
            .projection("tanh", projection::tanh)
            .weight_scheduler("linear_decay", weight::linear_decay)
            .weight_scheduler("linear_growth", weight::linear_growth)
            .temperature_scheduler("constant", &[], |_| temperature::constant)
            .temperature_scheduler(
                "flsw",
                &[("beta", None), ("gamma", None), ("eps", Some(1e-4))],
                |given| {
                    temperature::flsw(argument(given, 0), argument(given, 1), argument(given, 2))
                },
            )
            .temperature_scheduler("cwsm", &[("beta", None)], |given| {
                temperature::cwsm(argument(given, 0))
            })
    }
}

impl Presets {
    /// A divergence that takes a number from 0 to 1.
    fn divergence_with_share(
        self,
        name: &str,
        parameter: &'static str,
        default: f64,
        divergence: fn(f64) -> Divergence,
    ) -> Self {
        self.kd_preset(name, &[(parameter, Some(default))], move |given| {
            let share = share(parameter, argument(given, 0))?;
            Ok(KdLoss::divergence(divergence(share)))
        })
    }

    /// A loss per position that has its mean from one operator where nothing is weighted.
    fn kd_loss_with_mean(
        self,
        name: &str,
        at_each: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor> + 'static,
        mean: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor> + 'static,
    ) -> Self {
        self.with_kd_loss(name, KdLoss::with_mean(at_each, mean).in_parts())
    }
}

/// There are as many arguments as parameters, so the NaN is never seen.
fn argument(given: &[f64], index: usize) -> f64 {
    given.get(index).copied().unwrap_or(f64::NAN)
}
