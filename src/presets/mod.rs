//! What names in a configuration stand for.

mod arguments;
mod defaults;
mod head_gradients;
mod in_parts;
mod kd_input;
mod kd_loss;
mod kd_presets;
mod lookup;
mod match_loss;
mod part;
mod schedule;
mod taid;

pub use kd_input::KdInput;
pub use kd_loss::KdLoss;
pub(crate) use kd_loss::{Besides, Learned};
pub(crate) use kd_presets::cross_entropy_in_parts;
pub use match_loss::MatchLoss;
pub use schedule::{TemperatureSchedule, WeightFunction};

pub(crate) use taid::SharedSchedule;

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use tch::Tensor;
use tch::nn::Path;

use self::arguments::Parametric;
use crate::error::Result;
use crate::losses::Temperature;
use crate::projection::{ProjectionBuilder, ProjectionForward};

/// What the names in a configuration stand for: losses, projections and schedulers.
///
/// [`Presets::default`] knows TextBrewer's names. Functions of one's own are added under
/// names of one's own; a name that is there already is replaced. A value, not a global
/// table: two distillers may differ.
///
/// | | names |
/// |---|---|
/// | KD losses | `ce`, `mse`, `kl`; `forward_kl`, `reverse_kl`, `generalized_jsd` (`beta` = 0.5), `skew_kl`, `skew_reverse_kl` (`alpha` = 0.1), `adaptive_kl` (`mu` = 0.5), `total_variation`, `taid` (`t_start` = 0.4, `t_end` = 1, `alpha` = 5e-4, `beta` = 0.99, `disable_adaptive` = 0); with labels `dkd` (`alpha` = 1, `beta` = 8, `warm_up` = 0) and `nkd` (`gamma` = 1.5); `dist` (`beta` = 1, `gamma` = 1); `bce` for several labels; `regression_mse`, `smooth_l1` for numbers, without temperature |
/// | KD losses that take a teacher's [top k](crate::logits::TopK) | `ce`, `kl`, `forward_kl`, `reverse_kl`, `generalized_jsd`, `skew_kl`, `skew_reverse_kl`, `adaptive_kl`, `total_variation` |
/// | KD losses that take a [sample](crate::logits::Sample) | `ce`, `kl`, `forward_kl` |
/// | match losses | `attention_mse`, `attention_mse_sum`, `attention_ce`, `attention_ce_mean`, `hidden_mse`, `cos`, `pkd`, `rkd_distance`, `rkd_angle`, `pkt`, `sp`, `cka`, `cka_unbiased`, `fsp` = `gram`, `mmd` = `nst`; on queries, keys and values `minilm` (`heads`) and `minilmv2` (`relation_heads` = 48); on embeddings `crd` (`temperature` = 0.07) |
/// | projections | `linear`, `relu`, `tanh` |
/// | weight schedulers | `linear_decay`, `linear_growth` |
/// | temperature schedulers | `constant`, `flsw` (`beta`, `gamma`, `eps` = 1e-4), `cwsm` (`beta`) |
///
/// ```
/// use tch::Tensor;
/// use textbrewer::Presets;
///
/// let presets = Presets::default()
///     .match_loss("l1", |student, teacher, _mask| {
///         Ok(student.f_l1_loss(teacher, tch::Reduction::Mean)?)
///     })
///     .weight_scheduler("late", |x| if x < 0.5 { 0.0 } else { 1.0 });
/// let late = presets.find_weight_scheduler("kd_loss_weight_scheduler", Some(&"late".into()))?;
/// assert_eq!(late.map(|weight| weight(0.75)), Some(1.0));
/// # Ok::<(), textbrewer::Error>(())
/// ```
#[derive(Clone)]
pub struct Presets {
    kd_losses: BTreeMap<String, Parametric<KdLoss>>,
    match_losses: BTreeMap<String, Parametric<MatchLoss>>,
    projections: BTreeMap<String, ProjectionBuilder>,
    weight_schedulers: BTreeMap<String, WeightFunction>,
    temperature_schedulers: BTreeMap<String, Parametric<TemperatureSchedule>>,
}

impl Presets {
    /// No names at all.
    ///
    /// ```
    /// use textbrewer::Presets;
    ///
    /// let presets = Presets::empty().weight_scheduler("square", |x| x * x);
    /// assert!(presets.find_weight_scheduler("weight", Some(&"square".into())).is_ok());
    /// assert!(presets.find_weight_scheduler("weight", Some(&"linear_decay".into())).is_err());
    /// ```
    pub fn empty() -> Self {
        Presets {
            kd_losses: BTreeMap::new(),
            match_losses: BTreeMap::new(),
            projections: BTreeMap::new(),
            weight_schedulers: BTreeMap::new(),
            temperature_schedulers: BTreeMap::new(),
        }
    }

    /// Adds a loss on logits, for `kd_loss_type`: a function of student, teacher and temperature
    /// that gives one number for all positions. Weights of positions are an error with it.
    pub fn kd_loss(
        self,
        name: impl Into<String>,
        loss: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor> + 'static,
    ) -> Self {
        self.with_kd_loss(name, KdLoss::on_all(loss))
    }

    /// Adds a loss on logits, for `kd_loss_type`: a function of a [`KdInput`] that gives the loss
    /// at each position, `[batch]` or `[batch, length]`. The mean is taken outside it, weighted
    /// by [`logits_weights`](crate::AdaptorOutput::logits_weights) if there are any.
    ///
    /// ```
    /// use tch::{Reduction, Tensor};
    /// use textbrewer::{KdInput, Presets};
    ///
    /// let presets = Presets::default().kd_loss_per_position("l1", |input| {
    ///     let (student, teacher) = (input.student.whole()?, input.teacher.whole()?);
    ///     let distances = student.f_l1_loss(&teacher, Reduction::None)?;
    ///     Ok(distances.f_sum_dim_intlist([-1i64].as_slice(), false, None)?)
    /// });
    /// let logits = |values: [f64; 2]| Tensor::from_slice(&values).f_view([2, 1]);
    /// let weights = Tensor::from_slice(&[3.0, 1.0]);
    /// let input = KdInput::new(logits([1.0, 2.0])?, logits([0.0, 7.0])?, 1.0)?;
    /// let input = input.with_weights(&weights);
    /// let loss = presets.find_kd_loss("kd_loss_type", "l1")?.apply(&input)?;
    /// assert_eq!(loss.double_value(&[]), (3.0 * 1.0 + 1.0 * 5.0) / 4.0);
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn kd_loss_per_position(
        self,
        name: impl Into<String>,
        loss: impl for<'a> Fn(&KdInput<'a>) -> Result<Tensor> + 'static,
    ) -> Self {
        self.with_kd_loss(name, KdLoss::per_position(loss))
    }

    /// Adds a loss on logits that needs labels, for `kd_loss_type`: as
    /// [`kd_loss_per_position`](Self::kd_loss_per_position), at the positions whose label is not
    /// negative.
    ///
    /// Negative labels, such as −100, mark positions that have none. These are left out of the
    /// mean, as PyTorch's `ignore_index` does: the logits of both models, temperature, weights and
    /// labels are selected before the loss is called, which sees logits `[selected, classes]` and
    /// labels `[selected]`. Where no position has a label, the loss is 0. On a GPU the host waits to
    /// be told how many labels there are.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::{KdInput, Presets};
    ///
    /// // How far the student's logit of the true class is from the teacher's.
    /// let presets = Presets::default().kd_loss_with_labels("true_class", |input| {
    ///     let labels = input.labels()?.f_unsqueeze(-1)?;
    ///     let of_class = |logits: Tensor| logits.f_gather(-1, &labels, false);
    ///     let teacher = of_class(input.teacher.whole()?)?;
    ///     let distances = of_class(input.student.whole()?)?.f_sub(&teacher)?.f_abs()?;
    ///     Ok(distances.f_squeeze_dim(-1)?)
    /// });
    /// let student = Tensor::from_slice2(&[[1.0, 2.0], [5.0, 6.0]]);
    /// let input = KdInput::new(&student, student.f_zeros_like()?, 1.0)?;
    /// let input = input.with_labels(&Tensor::from_slice(&[1i64, -100]));
    /// let loss = presets.find_kd_loss("kd_loss_type", "true_class")?.apply(&input)?;
    /// assert_eq!(loss.double_value(&[]), 2.0);
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn kd_loss_with_labels(
        self,
        name: impl Into<String>,
        loss: impl for<'a> Fn(&KdInput<'a>) -> Result<Tensor> + 'static,
    ) -> Self {
        self.with_kd_loss(name, KdLoss::at_labels(loss))
    }

    /// Adds a loss on logits that takes arguments, for `kd_loss_type`: as
    /// [`kd_loss_per_position`](Self::kd_loss_per_position) for the function that `build` makes.
    ///
    /// `parameters` are its arguments in order, each with its default if it may be left out. `build`
    /// gets as many numbers as there are parameters, and refuses those that cannot work.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::{Error, KdInput, Presets};
    ///
    /// let presets = Presets::default().kd_loss_with_parameters(
    ///     "power",
    ///     &[("exponent", Some(2.0))],
    ///     |given| {
    ///         let exponent = given.first().copied().unwrap_or(2.0);
    ///         if exponent <= 0.0 {
    ///             return Err(Error::config("exponent", format!("must be above 0, is {exponent}")));
    ///         }
    ///         Ok(move |input: &KdInput<'_>| {
    ///             let differences = input.student.whole()?.f_sub(&input.teacher.whole()?)?;
    ///             let powers = differences.f_abs()?.f_pow(&Tensor::from(exponent))?;
    ///             Ok(powers.f_mean_dim([-1i64].as_slice(), false, None)?)
    ///         })
    ///     },
    /// );
    /// let logits = |values: [f64; 2]| Tensor::from_slice(&values).f_view([1, 2]);
    /// let input = KdInput::new(logits([0.0, 1.0])?, logits([2.0, 1.0])?, 1.0)?;
    /// let loss = presets.find_kd_loss("kd_loss_type", ("power", [3.0]))?;
    /// assert_eq!(loss.apply(&input)?.double_value(&[]), 4.0);
    /// assert_eq!(
    ///     presets.find_kd_loss("kd_loss_type", ("power", [0.0])).unwrap_err().to_string(),
    ///     "kd_loss_type: `power` exponent: must be above 0, is 0",
    /// );
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn kd_loss_with_parameters<F>(
        self,
        name: impl Into<String>,
        parameters: &[(&str, Option<f64>)],
        build: impl Fn(&[f64]) -> Result<F> + 'static,
    ) -> Self
    where
        F: for<'a> Fn(&KdInput<'a>) -> Result<Tensor> + 'static,
    {
        self.kd_preset(name, parameters, move |given| {
            Ok(KdLoss::per_position(build(given)?))
        })
    }

    fn with_kd_loss(self, name: impl Into<String>, loss: KdLoss) -> Self {
        self.kd_preset(name, &[], move |_| Ok(loss.clone()))
    }

    fn kd_preset(
        mut self,
        name: impl Into<String>,
        parameters: &[(&str, Option<f64>)],
        build: impl Fn(&[f64]) -> Result<KdLoss> + 'static,
    ) -> Self {
        self.kd_losses
            .insert(name.into(), Parametric::new(parameters, build));
        self
    }

    /// Adds a loss on one layer a side, for `loss` in `intermediate_matches`: student,
    /// teacher, mask.
    pub fn match_loss(
        self,
        name: impl Into<String>,
        loss: impl Fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor> + 'static,
    ) -> Self {
        self.with_match_loss(name, MatchLoss::on_one(loss))
    }

    /// Adds a loss on one layer a side that takes arguments, as
    /// [`kd_loss_with_parameters`](Self::kd_loss_with_parameters) does for losses on logits.
    ///
    /// ```
    /// use tch::{Kind, Tensor};
    /// use textbrewer::Presets;
    ///
    /// let presets = Presets::default().match_loss_with_parameters(
    ///     "power",
    ///     &[("exponent", Some(2.0))],
    ///     |given| {
    ///         let exponent = Tensor::from(given.first().copied().unwrap_or(2.0));
    ///         Ok(move |student: &Tensor, teacher: &Tensor, _mask: Option<&Tensor>| {
    ///             let distances = student.f_sub(teacher)?.f_abs()?;
    ///             Ok(distances.f_pow(&exponent)?.f_mean(None::<Kind>)?)
    ///         })
    ///     },
    /// );
    /// let loss = presets.find_match_loss("intermediate_matches[0].loss", ("power", [3.0]))?;
    /// let layer = |value: f64| [Tensor::from_slice(&[value])];
    /// assert_eq!(loss.apply(&layer(1.0), &layer(3.0), None)?.double_value(&[]), 8.0);
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn match_loss_with_parameters<F>(
        self,
        name: impl Into<String>,
        parameters: &[(&str, Option<f64>)],
        build: impl Fn(&[f64]) -> Result<F> + 'static,
    ) -> Self
    where
        F: Fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor> + 'static,
    {
        self.match_preset(name, parameters, move |given| {
            Ok(MatchLoss::on_one(build(given)?))
        })
    }

    /// Adds a loss on a list of layers a side; `layers` says how many, if that is fixed.
    pub fn match_loss_on_several(
        self,
        name: impl Into<String>,
        layers: Option<usize>,
        loss: impl Fn(&[Tensor], &[Tensor], Option<&Tensor>) -> Result<Tensor> + 'static,
    ) -> Self {
        self.with_match_loss(name, MatchLoss::on_several(layers, loss))
    }

    fn with_match_loss(self, name: impl Into<String>, loss: MatchLoss) -> Self {
        self.match_preset(name, &[], move |_| Ok(loss.clone()))
    }

    fn match_preset(
        mut self,
        name: impl Into<String>,
        parameters: &[(&str, Option<f64>)],
        build: impl Fn(&[f64]) -> Result<MatchLoss> + 'static,
    ) -> Self {
        self.match_losses
            .insert(name.into(), Parametric::new(parameters, build));
        self
    }

    /// Adds a projection, for `proj` in `intermediate_matches`. The builder makes its
    /// variables under the path that it is given, from the student's size to the teacher's.
    ///
    /// ```
    /// use tch::nn::{Init, Path, VarStore};
    /// use tch::{Device, Kind, Tensor};
    /// use textbrewer::{Presets, ProjectionForward, Result};
    ///
    /// fn without_bias(path: &Path<'_>, dim_in: i64, dim_out: i64) -> Result<ProjectionForward> {
    ///     let weight = path.f_var("weight", &[dim_in, dim_out], Init::Const(0.5))?;
    ///     Ok(Box::new(move |state| Ok(state.f_matmul(&weight)?)))
    /// }
    ///
    /// let presets = Presets::default().projection("without_bias", without_bias);
    /// let variables = VarStore::new(Device::Cpu);
    /// let field = "intermediate_matches[0].proj";
    /// let projection =
    ///     presets.make_projection(field, "without_bias", &variables.root(), 4, 2)?;
    /// let state = Tensor::ones([3, 4], (Kind::Float, Device::Cpu));
    /// assert_eq!(projection.forward(&state)?.size(), [3, 2]);
    /// # Ok::<(), textbrewer::Error>(())
    /// ```
    pub fn projection(
        mut self,
        name: impl Into<String>,
        build: impl Fn(&Path<'_>, i64, i64) -> Result<ProjectionForward> + 'static,
    ) -> Self {
        self.projections.insert(name.into(), Rc::new(build));
        self
    }

    /// Adds a weight as a function of the progress of training, from 0 to 1, for
    /// `kd_loss_weight_scheduler` and `hard_label_weight_scheduler`.
    pub fn weight_scheduler(
        mut self,
        name: impl Into<String>,
        scheduler: impl Fn(f64) -> f64 + 'static,
    ) -> Self {
        self.weight_schedulers
            .insert(name.into(), Rc::new(scheduler));
        self
    }

    /// Adds a temperature scheduler, for `temperature_scheduler`.
    ///
    /// `parameters` are its arguments in order, each with its default if it may be left
    /// out. `build` gets as many numbers as there are parameters, and returns the function
    /// of student logits, teacher logits and base temperature.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use tch::Tensor;
    /// use textbrewer::losses::Temperature;
    /// use textbrewer::Presets;
    ///
    /// let presets = Presets::default().temperature_scheduler(
    ///     "scaled",
    ///     &[("factor", Some(2.0))],
    ///     |arguments| {
    ///         let factor = arguments.first().copied().unwrap_or(2.0);
    ///         move |_student: &Tensor, _teacher: &Tensor, base: f64| {
    ///             Ok(Temperature::Constant(base * factor))
    ///         }
    ///     },
    /// );
    /// # let _ = presets;
    /// ```
    pub fn temperature_scheduler<F>(
        mut self,
        name: impl Into<String>,
        parameters: &[(&str, Option<f64>)],
        build: impl Fn(&[f64]) -> F + 'static,
    ) -> Self
    where
        F: Fn(&Tensor, &Tensor, f64) -> Result<Temperature> + 'static,
    {
        let build =
            move |given: &[f64]| -> Result<TemperatureSchedule> { Ok(Rc::new(build(given))) };
        self.temperature_schedulers
            .insert(name.into(), Parametric::new(parameters, build));
        self
    }
}

impl fmt::Debug for Presets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presets")
            .field("kd_losses", &self.kd_losses.keys())
            .field("match_losses", &self.match_losses.keys())
            .field("projections", &self.projections.keys())
            .field("weight_schedulers", &self.weight_schedulers.keys())
            .field(
                "temperature_schedulers",
                &self.temperature_schedulers.keys(),
            )
            .finish()
    }
}
