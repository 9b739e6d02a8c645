//! What weight and temperature schedulers are.

use std::rc::Rc;

use tch::Tensor;

use crate::error::Result;
use crate::losses::Temperature;

/// A weight as a function of the progress of training, from 0 to 1.
///
/// ```
/// use std::rc::Rc;
/// use textbrewer::WeightFunction;
///
/// let late: WeightFunction = Rc::new(|progress| if progress < 0.5 { 0.0 } else { 1.0 });
/// assert_eq!((late(0.25), late(0.75)), (0.0, 1.0));
/// ```
pub type WeightFunction = Rc<dyn Fn(f64) -> f64>;

/// A temperature from the student's logits, the teacher's, and the base temperature.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::Temperature;
/// use textbrewer::{Presets, PresetSpec, TemperatureSchedule};
///
/// let spec = PresetSpec::from(("flsw", [1.0, 2.0]));
/// let schedule: Option<TemperatureSchedule> =
///     Presets::default().find_temperature_scheduler("temperature_scheduler", Some(&spec))?;
/// let logits = Tensor::from_slice2(&[[1.0, 0.0], [0.0, 1.0]]);
/// let temperature = schedule.map(|schedule| schedule(&logits, &logits, 4.0)).transpose()?;
/// assert!(matches!(temperature, Some(Temperature::Each(values)) if values.size() == [2]));
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub type TemperatureSchedule = Rc<dyn Fn(&Tensor, &Tensor, f64) -> Result<Temperature>>;
