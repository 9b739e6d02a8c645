//! Learning rates as functions of the optimizer steps done and of the run's length.

/// What a step's learning rates are multiplied by.
///
/// A factor on each parameter group's own base rate. Every `Fn(u64, u64) -> f64` of the steps
/// done and the steps of the whole run is one:
///
/// ```
/// use textbrewer::schedule::LrSchedule;
///
/// fn first_three(schedule: impl LrSchedule) -> Vec<f64> {
///     (0..3).map(|step| schedule.factor(step, 4)).collect()
/// }
/// assert_eq!(first_three(|step, _total| 0.5f64.powi(step as i32)), [1.0, 0.5, 0.25]);
/// assert_eq!(first_three(|step, total| 1.0 - step as f64 / total as f64), [1.0, 0.75, 0.5]);
/// ```
pub trait LrSchedule {
    /// The factor after `step` optimizer steps of a run of `total_steps`; the first step uses
    /// `factor(0, total_steps)`.
    ///
    /// A run asks for steps below `total_steps` only: for each before it is done, and at its
    /// beginning for the steps 0, 1, 2, 5, 10, 100, 1000, 10,000 and 100,000, of which the
    /// factors must be finite, and the same when the run is resumed.
    fn factor(&self, step: u64, total_steps: u64) -> f64;
}

impl<F: Fn(u64, u64) -> f64 + ?Sized> LrSchedule for F {
    fn factor(&self, step: u64, total_steps: u64) -> f64 {
        self(step, total_steps)
    }
}

/// Always 1.
///
/// ```
/// use textbrewer::schedule::{constant, LrSchedule};
///
/// assert_eq!([0, 1, 1000].map(|step| constant().factor(step, 1000)), [1.0, 1.0, 1.0]);
/// ```
pub fn constant() -> impl Fn(u64, u64) -> f64 + Copy + Send + Sync + 'static {
    |_, _| 1.0
}

/// From 0 up to 1 in `warmup` steps, then 1.
///
/// The first step uses 0: it changes nothing.
///
/// ```
/// use textbrewer::schedule::{constant_with_warmup, LrSchedule};
///
/// let schedule = constant_with_warmup(4);
/// let factors = [0, 1, 3, 4, 1000].map(|step| schedule.factor(step, 2000));
/// assert_eq!(factors, [0.0, 0.25, 0.75, 1.0, 1.0]);
/// ```
pub fn constant_with_warmup(
    warmup: u64,
) -> impl Fn(u64, u64) -> f64 + Copy + Send + Sync + 'static {
    move |step, _| warming_up(step, warmup).unwrap_or(1.0)
}

/// From 0 up to 1 in `warmup` steps, then in a straight line down to 0 at step `total`,
/// where it stays. The run's own length does not matter.
///
/// ```
/// use textbrewer::schedule::{linear_with_warmup, LrSchedule};
///
/// let schedule = linear_with_warmup(10, 110);
/// let factors = [0, 5, 10, 60, 110, 200].map(|step| schedule.factor(step, 300));
/// assert_eq!(factors, [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]);
/// ```
pub fn linear_with_warmup(
    warmup: u64,
    total: u64,
) -> impl Fn(u64, u64) -> f64 + Copy + Send + Sync + 'static {
    move |step, _| linear(step, warmup, total)
}

/// [`linear_with_warmup`] over the whole run, however long it is: `fraction` of its steps,
/// rounded down, warm up, and the factor reaches 0 at its end.
///
/// A fraction that is not between 0 and 1 makes every factor NaN, which optimizers refuse.
///
/// ```
/// use textbrewer::schedule::{linear_with_warmup_fraction, LrSchedule};
///
/// let schedule = linear_with_warmup_fraction(0.1);
/// let factors = [0, 5, 10, 55, 100].map(|step| schedule.factor(step, 100));
/// assert_eq!(factors, [0.0, 0.5, 1.0, 0.5, 0.0]);
/// ```
pub fn linear_with_warmup_fraction(
    fraction: f64,
) -> impl Fn(u64, u64) -> f64 + Copy + Send + Sync + 'static {
    move |step, total| match warmup_steps(fraction, total) {
        Some(warmup) => linear(step, warmup, total),
        None => f64::NAN,
    }
}

/// From 0 up to 1 in `warmup` steps, then along half a cosine down to 0 at step `total`. The
/// run's own length does not matter.
///
/// As in Hugging Face's schedule of this name, the cosine goes up again after `total`.
///
/// ```
/// use textbrewer::schedule::{cosine_with_warmup, LrSchedule};
///
/// let factor = |step| cosine_with_warmup(2, 10).factor(step, 20);
/// assert_eq!([0, 1, 2].map(factor), [0.0, 0.5, 1.0]);
/// assert!((factor(6) - 0.5).abs() < 1e-12); // half of the way down
/// assert!(factor(10).abs() < 1e-12);
/// ```
pub fn cosine_with_warmup(
    warmup: u64,
    total: u64,
) -> impl Fn(u64, u64) -> f64 + Copy + Send + Sync + 'static {
    move |step, _| cosine(step, warmup, total)
}

/// [`cosine_with_warmup`] over the whole run, however long it is: `fraction` of its steps,
/// rounded down, warm up, and the factor reaches 0 at its end.
///
/// A fraction that is not between 0 and 1 makes every factor NaN, which optimizers refuse.
///
/// ```
/// use textbrewer::schedule::{cosine_with_warmup_fraction, LrSchedule};
///
/// let factor = |step| cosine_with_warmup_fraction(0.2).factor(step, 10);
/// assert_eq!([0, 1, 2].map(factor), [0.0, 0.5, 1.0]);
/// assert!((factor(6) - 0.5).abs() < 1e-12);
/// ```
pub fn cosine_with_warmup_fraction(
    fraction: f64,
) -> impl Fn(u64, u64) -> f64 + Copy + Send + Sync + 'static {
    move |step, total| match warmup_steps(fraction, total) {
        Some(warmup) => cosine(step, warmup, total),
        None => f64::NAN,
    }
}

fn linear(step: u64, warmup: u64, total: u64) -> f64 {
    warming_up(step, warmup).unwrap_or_else(|| {
        let left = total.saturating_sub(step);
        left as f64 / decay_steps(warmup, total)
    })
}

fn cosine(step: u64, warmup: u64, total: u64) -> f64 {
    warming_up(step, warmup).unwrap_or_else(|| {
        let progress = (step - warmup) as f64 / decay_steps(warmup, total);
        (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
    })
}

/// The part of the steps that warms up, rounded down as in TextBrewer's examples.
fn warmup_steps(fraction: f64, total: u64) -> Option<u64> {
    let is_fraction = (0.0..=1.0).contains(&fraction);
    is_fraction.then_some((fraction * total as f64) as u64)
}

/// The factor while `step` is below `warmup`.
fn warming_up(step: u64, warmup: u64) -> Option<f64> {
    (step < warmup).then(|| step as f64 / warmup as f64)
}

fn decay_steps(warmup: u64, total: u64) -> f64 {
    total.saturating_sub(warmup).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `transformers.optimization`, written from its documentation in floating point.
    fn hugging_face(kind: &str, warmup: i64, total: i64, step: i64) -> f64 {
        if step < warmup {
            return step as f64 / warmup.max(1) as f64;
        }
        let span = (total - warmup).max(1) as f64;
        match kind {
            "constant" => 1.0,
            "linear" => ((total - step) as f64 / span).max(0.0),
            _ => {
                let progress = (step - warmup) as f64 / span;
                (0.5 * (1.0 + (std::f64::consts::PI * 0.5 * 2.0 * progress).cos())).max(0.0)
            }
        }
    }

    #[test]
    fn factors_are_hugging_faces() {
        for (warmup, total) in [(0, 10), (3, 10), (10, 10), (12, 10), (0, 0), (1, 1), (0, 1)] {
            for step in 0..25 {
                let close = |kind, factor: f64| {
                    let wanted = hugging_face(kind, warmup as i64, total as i64, step as i64);
                    assert!(
                        (factor - wanted).abs() <= 1e-12 * wanted.abs(),
                        "{kind} {warmup}/{total}, step {step}: {factor}, not {wanted}"
                    );
                };
                // The length of the run does not matter to these.
                let of = |schedule: &dyn LrSchedule| schedule.factor(step, 7);
                close("constant", of(&constant_with_warmup(warmup)));
                close("linear", of(&linear_with_warmup(warmup, total)));
                close("cosine", of(&cosine_with_warmup(warmup, total)));
            }
        }
    }

    #[test]
    fn landmarks() {
        let cosine = cosine_with_warmup(2, 6);
        let wanted = [0.0, 0.5, 1.0, 0.853_553_390_593_273_8, 0.5];
        for (step, wanted) in wanted.into_iter().enumerate() {
            assert!((cosine.factor(step as u64, 6) - wanted).abs() < 1e-15);
        }
        assert!(cosine.factor(6, 6).abs() < 1e-15);
        assert_eq!(constant().factor(7, 8), 1.0);
        assert_eq!(linear_with_warmup(5, 5).factor(5, 5), 0.0);
        assert_eq!(linear_with_warmup(0, 4).factor(0, 4), 1.0);
    }

    #[test]
    fn a_fraction_warms_up_in_whole_steps_of_the_run() {
        for (fraction, total, warmup) in [(0.1, 39, 3), (0.29, 100, 28), (0.0, 5, 0), (1.0, 5, 5)] {
            for step in 0..=total {
                let bits = |schedule: &dyn LrSchedule| schedule.factor(step, total).to_bits();
                assert_eq!(
                    bits(&linear_with_warmup_fraction(fraction)),
                    bits(&linear_with_warmup(warmup, total)),
                );
                assert_eq!(
                    bits(&cosine_with_warmup_fraction(fraction)),
                    bits(&cosine_with_warmup(warmup, total)),
                );
            }
        }
        for none in [-0.1, 1.1, 10.0, f64::NAN] {
            assert!(linear_with_warmup_fraction(none).factor(3, 10).is_nan());
            assert!(cosine_with_warmup_fraction(none).factor(3, 10).is_nan());
        }
    }

    #[test]
    fn a_boxed_closure_is_a_schedule() {
        let boxed: Box<dyn Fn(u64, u64) -> f64> = Box::new(|step, total| (step * total) as f64);
        let schedule: &dyn LrSchedule = &boxed;
        assert_eq!(schedule.factor(3, 5), 15.0);
    }
}
