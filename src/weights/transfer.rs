//! Initialising a student with weights of its teacher.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::layer_pattern::LayerPattern;
use super::transfer_source::Source;
use super::{Copied, Kept, KeptReason, Names, TransferReport, prefix, read, state_dict};
use crate::error::{Context, Error, Result};

/// Names of the layers in BERT, RoBERTa and ELECTRA, and in DistilBERT.
const PATTERNS: [&str; 2] = ["encoder.layer.{}.", "transformer.layer.{}."];

/// Copies chosen layers of a teacher into a student, and all other weights of the same name
/// and shape.
///
/// Layer `i` of the student gets the values of the teacher's layer `layers[i]`. Layers are
/// counted **from 0**, as in the names of the weights (`encoder.layer.0.…`) and unlike in
/// [`LayerMap`](crate::LayerMap). Embeddings, poolers, heads and all other weights outside the
/// layers are copied from the weight of the same name, if its shape is the same. The
/// [`TransferReport`] lists what was copied, and why the rest was not.
///
/// Values are converted to the student's dtype and device. Models and optimizers that hold
/// the student's variables see the new values. `LayerNorm.gamma` and `LayerNorm.beta` of
/// old checkpoints are read as `weight` and `bias`, and a prefix before all names of the teacher,
/// as those of a compiled model have it, is taken away with a warning.
///
/// ```
/// use tch::{nn::VarStore, Device};
/// use textbrewer::models::{Bert, BertConfig, SequenceClassification};
/// use textbrewer::weights::Transfer;
///
/// let config = BertConfig::default()
///     .vocab_size(50)
///     .hidden_size(8)
///     .num_attention_heads(2)
///     .intermediate_size(16);
/// let (teacher, student) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
/// let deep = config.clone().num_hidden_layers(6);
/// Bert::<SequenceClassification>::new(&teacher.root(), &deep)?;
/// Bert::<SequenceClassification>::new(&student.root(), &config.num_hidden_layers(3))?;
///
/// let report = Transfer::layers([0, 2, 4]).copy(&teacher, &student)?;
/// println!("{report}");
/// assert!(report.kept.is_empty());
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    layers: Vec<usize>,
    pattern: Option<String>,
    base_prefix: Option<String>,
    except: Names,
    strict: bool,
}

impl Transfer {
    /// Layer `i` of the student from the teacher's layer `layers[i]`, both counted from 0.
    /// An empty list copies only what is outside the layers.
    pub fn layers(layers: impl IntoIterator<Item = usize>) -> Self {
        Transfer {
            layers: layers.into_iter().collect(),
            pattern: None,
            base_prefix: None,
            except: Names::None,
            strict: false,
        }
    }

    /// Sets where the number of a layer is in the names of weights: `{}` stands for it, and
    /// anything may precede the pattern.
    /// Default `encoder.layer.{}.`, as in BERT, RoBERTa and ELECTRA, or `transformer.layer.{}.`
    /// for a student that has layers of that name, as in DistilBERT.
    #[must_use]
    pub fn layer_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// The name of the model inside its task model, such as `bert`: then `encoder…` of the
    /// student also comes from `bert.encoder…` of the teacher, and the other way round.
    #[must_use]
    pub fn base_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.base_prefix = Some(prefix.into());
        self
    }

    /// Sets which weights of the student keep their values in any case, such as those of a
    /// head.
    #[must_use]
    pub fn except(mut self, names: Names) -> Self {
        self.except = names;
        self
    }

    /// Whether it is an error when a weight of the student is not copied, unless it was
    /// [excepted](Self::except). Default false.
    #[must_use]
    pub fn strict(mut self, on: bool) -> Self {
        self.strict = on;
        self
    }

    /// Copies from the teacher's variables into the student's.
    ///
    /// # Errors
    /// [`Error::Config`] when the pattern does not contain exactly one `{}`, the teacher lacks
    /// a chosen layer, or the student has fewer layers than were chosen.
    /// [`Error::WeightsMismatch`] when no weight fits or, if [`strict`](Self::strict), not all
    /// do. Then nothing is changed.
    pub fn copy(&self, teacher: &VarStore, student: &VarStore) -> Result<TransferReport> {
        let teacher = state_dict(teacher).into_iter().collect();
        self.run(&teacher, "the teacher", &state_dict(student))
    }

    /// Copies from a safetensors file of the teacher into the student's variables.
    ///
    /// # Errors
    /// Those of [`read`] and of [`copy`](Self::copy).
    ///
    /// ```
    /// use tch::{nn::VarStore, Device, Tensor};
    /// use textbrewer::weights::{save, Transfer};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("teacher.safetensors");
    /// let layers = [1f32, 2.0, 3.0].map(Tensor::from);
    /// let names = ["h.0.bias", "h.1.bias", "h.2.bias"];
    /// save(&path, &names.into_iter().zip(&layers).collect::<Vec<_>>(), &Default::default())?;
    ///
    /// let student = VarStore::new(Device::Cpu);
    /// let bias = (student.root() / "h" / 0).zeros("bias", &[]);
    /// Transfer::layers([2]).layer_pattern("h.{}.").copy_file(&path, &student)?;
    /// assert_eq!(bias.double_value(&[]), 3.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn copy_file(
        &self,
        teacher: impl AsRef<Path>,
        student: &VarStore,
    ) -> Result<TransferReport> {
        let path = teacher.as_ref();
        self.run(
            &read(path)?,
            &path.display().to_string(),
            &state_dict(student),
        )
    }

    /// Copies between tensors by name, such as those that [`read`] returns and
    /// [`save`](super::save) takes. The student's tensors are changed in place.
    ///
    /// # Errors
    /// Those of [`copy`](Self::copy).
    pub fn copy_tensors(
        &self,
        teacher: &BTreeMap<String, Tensor>,
        student: &BTreeMap<String, Tensor>,
    ) -> Result<TransferReport> {
        let student: Vec<_> = student
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        self.run(teacher, "the teacher", &student)
    }

    /// `student` is sorted by name.
    fn run(
        &self,
        teacher: &BTreeMap<String, Tensor>,
        origin: &str,
        student: &[(String, Tensor)],
    ) -> Result<TransferReport> {
        let pattern = self.pattern_for(student)?;
        self.check_layers(&pattern, teacher, student)?;

        let names = student.iter().map(|(name, _)| name.as_str()).collect();
        let (source, prefix) = Source::new(teacher, self.base_prefix.as_deref(), &names);
        if let Some(prefix) = prefix {
            prefix::warn(origin, prefix);
        }
        let mut report = TransferReport::default();
        let mut values = Vec::new();
        let _no_grad = tch::no_grad_guard();
        for (name, variable) in student {
            match self.choose(&pattern, &source, name, variable)? {
                Ok((from, tensor)) => {
                    // All values are read and converted before any is written: an error
                    // changes nothing, and student and teacher may share tensors.
                    let value = variable.f_empty_like().and_then(|mut value| {
                        value.f_copy_(tensor)?;
                        Ok(value)
                    });
                    let value = value.context(|| format!("copying `{from}` of {origin}"))?;
                    values.push((variable, value));
                    report.copied.push(Copied {
                        from: from.to_owned(),
                        to: name.clone(),
                    });
                }
                Err(reason) => report.kept.push(Kept {
                    name: name.clone(),
                    reason,
                }),
            }
        }

        let nothing = values.is_empty();
        let unwanted = |kept: &&Kept| nothing || kept.reason != KeptReason::Excepted;
        let unwanted: Vec<_> = report.kept.iter().filter(unwanted).collect();
        if nothing || (self.strict && !unwanted.is_empty()) {
            return Err(Error::WeightsMismatch {
                origin: origin.to_owned(),
                differences: unwanted
                    .into_iter()
                    .map(|kept| format!("`{}`: {}", kept.name, kept.reason))
                    .collect(),
            });
        }
        for ((variable, value), copied) in values.into_iter().zip(&report.copied) {
            let mut variable = variable.shallow_clone();
            variable
                .f_copy_(&value)
                .context(|| format!("copying `{}` of {origin}", copied.from))?;
        }
        Ok(report)
    }

    fn pattern_for(&self, student: &[(String, Tensor)]) -> Result<LayerPattern<'_>> {
        if let Some(pattern) = &self.pattern {
            return LayerPattern::new(pattern);
        }
        let [usual, other] = PATTERNS;
        let (usual, other) = (LayerPattern::new(usual)?, LayerPattern::new(other)?);
        let has = |pattern: &LayerPattern<'_>| {
            let mut names = student.iter().map(|(name, _)| name);
            names.any(|name| pattern.split(name).is_some())
        };
        Ok(if !has(&usual) && has(&other) {
            other
        } else {
            usual
        })
    }

    /// The teacher's weight for one of the student's, or why there is none.
    fn choose<'t>(
        &self,
        pattern: &LayerPattern<'_>,
        source: &Source<'t>,
        name: &str,
        variable: &Tensor,
    ) -> Result<std::result::Result<(&'t str, &'t Tensor), KeptReason>> {
        if self.except.contains(name) {
            return Ok(Err(KeptReason::Excepted));
        }
        let wanted = match pattern.split(name) {
            None => name.to_owned(),
            Some((before, layer, after)) => match self.layers.get(layer) {
                Some(chosen) => format!("{before}{chosen}{after}"),
                None => return Ok(Err(KeptReason::LayerNotChosen(layer))),
            },
        };
        let Some((from, tensor)) = source.find(&wanted) else {
            return Ok(Err(KeptReason::Absent(wanted)));
        };
        let (teacher, student) = (tensor.size(), variable.size());
        if teacher != student {
            return Ok(Err(KeptReason::Shape { teacher, student }));
        }
        let kind = |tensor: &Tensor| tensor.f_kind().context(|| format!("`{name}`"));
        let (teacher, student) = (kind(tensor)?, kind(variable)?);
        if teacher != student && !(is_float(teacher) && is_float(student)) {
            return Ok(Err(KeptReason::Dtype { teacher, student }));
        }
        Ok(Ok((from, tensor)))
    }

    /// Checks that the teacher has every chosen layer, and the student a layer for each.
    fn check_layers(
        &self,
        pattern: &LayerPattern<'_>,
        teacher: &BTreeMap<String, Tensor>,
        student: &[(String, Tensor)],
    ) -> Result<()> {
        let number = |name: &String| pattern.split(name).map(|(_, layer, _)| layer);
        let teachers: BTreeSet<usize> = teacher.keys().filter_map(number).collect();
        let students = student.iter().map(|(name, _)| name).filter_map(number);
        let students: BTreeSet<usize> = students.collect();
        for (i, &chosen) in self.layers.iter().enumerate() {
            for (whose, layer, there) in [("teacher", chosen, &teachers), ("student", i, &students)]
            {
                if !there.contains(&layer) {
                    let there: Vec<_> = there.iter().map(usize::to_string).collect();
                    let there = match there.as_slice() {
                        [] => format!(
                            "no weight of it is named `{}`; set `layer_pattern`",
                            pattern.shown()
                        ),
                        _ => format!("it has {}", there.join(", ")),
                    };
                    return Err(Error::config(
                        format!("Transfer::layers[{i}] = {chosen}"),
                        format!(
                            "the {whose} has no layer {layer} (`{}`); {there}",
                            pattern.of(layer)
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn is_float(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Half
            | Kind::BFloat16
            | Kind::Float
            | Kind::Double
            | Kind::Float8e5m2
            | Kind::Float8e4m3fn
    )
}
