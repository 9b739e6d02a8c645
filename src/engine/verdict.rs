//! What callbacks return.

use super::Flow;

/// What a callback returns: whether to go on, and how good the student is.
///
/// `()`, a [`Flow`], a metric as a number, and both as a pair become one, so callbacks write
/// `Ok(())`, `Ok(Flow::Stop)`, `Ok(0.87)` or `Ok((0.87, Flow::Continue))`.
///
/// ```
/// use textbrewer::{Flow, Verdict};
///
/// let verdict = Verdict::from((0.87, Flow::Stop));
/// assert_eq!((verdict.metric, verdict.flow), (Some(0.87), Flow::Stop));
/// assert_eq!(Verdict::from(()), Verdict::default());
/// assert_eq!(Verdict::from(0.5).flow, Flow::Continue);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether training goes on.
    pub flow: Flow,
    /// How good the student is, for [`Run::keep`](crate::Run::keep), early stopping and
    /// `best.safetensors`. One that is not finite counts as none.
    pub metric: Option<f64>,
}

impl From<()> for Verdict {
    fn from((): ()) -> Self {
        Verdict::default()
    }
}

impl From<Flow> for Verdict {
    fn from(flow: Flow) -> Self {
        Verdict { flow, metric: None }
    }
}

impl From<f64> for Verdict {
    fn from(metric: f64) -> Self {
        Verdict {
            flow: Flow::Continue,
            metric: Some(metric),
        }
    }
}

impl From<(f64, Flow)> for Verdict {
    fn from((metric, flow): (f64, Flow)) -> Self {
        Verdict {
            flow,
            metric: Some(metric),
        }
    }
}
