//! Two optimizers as one.

use std::collections::BTreeMap;
use std::fmt;

use tch::Tensor;

use super::{Optimizer, ParamGroup};
use crate::error::{Error, Result};
use crate::logging;

/// Two optimizers as one: a rule by names says which of them a parameter is for.
///
/// Each group is divided between them, with its options; what a group leaves open is each
/// optimizer's own. Both follow the run's schedule, clipping and loss scaling. A `Split` may be
/// divided once more. An optimizer for which the rule leaves no parameter is warned of at the first step.
///
/// The states are saved under `first.…` and `second.…`. The rule has to be the same when a run is
/// resumed.
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::optim::{AdamW, Sgd, Split};
/// use textbrewer::{from_fn, AdaptorOutput, BasicTrainer, Distiller, TrainingConfig, VecLoader};
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// # let variables = nn::VarStore::new(Device::Cpu);
/// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// # let model = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// # let mut trainer = BasicTrainer::builder(&model, &variables)
/// #     .train_config(config)
/// #     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.f_square()?)))
/// #     .build()?;
/// # let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
/// // Biases by SGD, everything else by AdamW.
/// let optimizer = Split::new(|name| name.ends_with("bias"), Sgd::new(0.1), AdamW::new(1e-3));
/// let run = trainer.train(&mut loader).epochs(2);
/// assert_eq!(run.optimizer(optimizer).run()?.global_steps, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Split<'a> {
    goes_first: Box<dyn Fn(&str) -> bool + 'a>,
    optimizers: [Box<dyn Optimizer + 'a>; 2],
    /// Those of both, in the order in which they were added.
    groups: Vec<ParamGroup>,
    /// Whether it was looked for an optimizer that has nothing to do.
    is_checked: bool,
}

/// What the keys of the two states begin with.
pub(crate) const SIDES: [&str; 2] = ["first", "second"];

impl<'a> Split<'a> {
    /// `first` for the parameters of whose names `goes_first` is true, `second` for the others.
    pub fn new(
        goes_first: impl Fn(&str) -> bool + 'a,
        first: impl Optimizer + 'a,
        second: impl Optimizer + 'a,
    ) -> Self {
        let mut split = Split {
            goes_first: Box::new(goes_first),
            optimizers: [Box::new(first), Box::new(second)],
            groups: Vec::new(),
            is_checked: false,
        };
        // Those that were lent may have groups.
        for optimizer in &split.optimizers {
            let groups = optimizer.groups().iter();
            split.groups.extend(groups.map(ParamGroup::shallow_clone));
        }
        split
    }

    /// Warns, at the first step, of a rule that leaves an optimizer without any parameter.
    fn check_rule(&mut self) {
        if std::mem::replace(&mut self.is_checked, true) || self.groups.is_empty() {
            return;
        }
        for (side, optimizer) in SIDES.iter().zip(&self.optimizers) {
            if optimizer.groups().is_empty() {
                logging::warn(format_args!(
                    "Split: the rule gives no parameter to the {side} optimizer"
                ));
            }
        }
    }
}

impl Optimizer for Split<'_> {
    fn add_group(&mut self, group: ParamGroup) -> Result<()> {
        let ParamGroup {
            name,
            parameters,
            options,
        } = group;
        let (first, second): (Vec<_>, Vec<_>) = parameters
            .into_iter()
            .partition(|(name, _)| (self.goes_first)(name));
        for (optimizer, part) in self.optimizers.iter_mut().zip([first, second]) {
            if part.is_empty() {
                continue;
            }
            let known = optimizer.groups().len();
            optimizer.add_group(ParamGroup::new(&*name, part).options(options.clone()))?;
            // As the optimizer has them: with the options filled in, and several where it is a
            // `Split` itself.
            let added = optimizer.groups().iter().skip(known);
            self.groups.extend(added.map(ParamGroup::shallow_clone));
        }
        Ok(())
    }

    fn groups(&self) -> &[ParamGroup] {
        &self.groups
    }

    fn zero_grad(&mut self) -> Result<()> {
        self.optimizers
            .iter_mut()
            .try_for_each(|optimizer| optimizer.zero_grad())
    }

    fn step(&mut self, learning_rate_factor: f64) -> Result<()> {
        self.check_rule();
        self.optimizers
            .iter_mut()
            .try_for_each(|optimizer| optimizer.step(learning_rate_factor))
    }

    fn step_unless(&mut self, learning_rate_factor: f64, found_infinity: &Tensor) -> Result<()> {
        self.check_rule();
        self.optimizers
            .iter_mut()
            .try_for_each(|optimizer| optimizer.step_unless(learning_rate_factor, found_infinity))
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for (side, optimizer) in SIDES.iter().zip(&self.optimizers) {
            let of_side = optimizer.state()?.into_iter();
            state.extend(of_side.map(|(key, tensor)| (format!("{side}.{key}"), tensor)));
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut sides = [BTreeMap::new(), BTreeMap::new()];
        for (key, tensor) in state {
            let side = key.split_once('.').and_then(|(side, key)| {
                let index = SIDES.iter().position(|known| *known == side)?;
                Some((sides.get_mut(index)?, key))
            });
            let Some((side, key)) = side else {
                return Err(Error::WeightsMismatch {
                    origin: "the state of two optimizers".to_owned(),
                    differences: vec![format!("`{key}` belongs to neither of them")],
                });
            };
            side.insert(key.to_owned(), tensor.shallow_clone());
        }
        let [first, second] = &mut self.optimizers;
        let [of_first, of_second] = &sides;
        let before = first.state()?;
        first.load_state(of_first)?;
        second.load_state(of_second).inspect_err(|_| {
            if let Err(error) = first.load_state(&before) {
                logging::warn(format_args!(
                    "the state of the first optimizer could not be put back: {error}"
                ));
            }
        })
    }
}

impl fmt::Debug for Split<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split")
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}
