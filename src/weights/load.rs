//! Loading tensors into the variables of a model.

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;
use tch::nn::VarStore;

use super::file::Described;
use super::pairing::Pairing;
use super::{Names, WeightsFile, prefix, state_dict};
use crate::error::{Context, Error, Result, shown};

/// Which differences between a file of weights and the model are allowed.
///
/// By default none is.
///
/// ```
/// use std::collections::BTreeMap;
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::weights::{load_into, LoadOptions};
///
/// let variables = VarStore::new(Device::Cpu);
/// let bias = (variables.root() / "dense").zeros("bias", &[2]);
/// // Another dtype, under the name that it has inside a task model.
/// let doubles = Tensor::from_slice(&[1f64, 2.0]);
/// let tensors = BTreeMap::from([("bert.dense.bias".to_owned(), doubles)]);
/// assert!(load_into(&variables, &tensors, "example", &LoadOptions::new()).is_err());
/// let options = LoadOptions::new().convert_dtype(true).base_prefix("bert");
/// load_into(&variables, &tensors, "example", &options)?;
/// assert_eq!(bias.double_value(&[1]), 2.0);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Convert weights of another dtype to the model's.
    pub convert_dtype: bool,
    /// Variables of the model that keep their values when the file has none for them.
    pub ignore_missing: Names,
    /// Weights of the file that are ignored when the model has no variable for them.
    pub ignore_unexpected: Names,
    /// The name of the model inside its task model, such as `bert`: `bert.encoder…` in the
    /// file also fits `encoder…` in the model, and the other way round.
    pub base_prefix: Option<String>,
    /// Take away what stands before the names in the file when none of them fits as it is:
    /// `_orig_mod.` of a model that was compiled, `module.` of data parallelism, or whatever the
    /// model was called inside another. The report and a warning name it.
    pub remove_prefix: bool,
}

impl LoadOptions {
    /// Options that allow no difference.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`convert_dtype`](Self::convert_dtype).
    #[must_use]
    pub fn convert_dtype(mut self, convert: bool) -> Self {
        self.convert_dtype = convert;
        self
    }

    /// Sets [`ignore_missing`](Self::ignore_missing).
    #[must_use]
    pub fn ignore_missing(mut self, names: Names) -> Self {
        self.ignore_missing = names;
        self
    }

    /// Sets [`ignore_unexpected`](Self::ignore_unexpected).
    #[must_use]
    pub fn ignore_unexpected(mut self, names: Names) -> Self {
        self.ignore_unexpected = names;
        self
    }

    /// Sets [`base_prefix`](Self::base_prefix).
    #[must_use]
    pub fn base_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.base_prefix = Some(prefix.into());
        self
    }

    /// Sets [`remove_prefix`](Self::remove_prefix).
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use tch::{nn::VarStore, Device, Tensor};
    /// use textbrewer::weights::{load_into, LoadOptions};
    ///
    /// let variables = VarStore::new(Device::Cpu);
    /// let bias = (variables.root() / "dense").zeros("bias", &[2]);
    /// let compiled = ("_orig_mod.dense.bias".to_owned(), Tensor::from_slice(&[1f32, 2.0]));
    /// let tensors = BTreeMap::from([compiled]);
    /// let error = load_into(&variables, &tensors, "example", &LoadOptions::new()).unwrap_err();
    /// assert!(error.to_string().contains("every name in it begins with `_orig_mod.`"));
    /// let options = LoadOptions::new().remove_prefix(true);
    /// let report = load_into(&variables, &tensors, "example", &options)?;
    /// assert_eq!(report.prefix.as_deref(), Some("_orig_mod."));
    /// assert_eq!(bias.double_value(&[1]), 2.0);
    /// # textbrewer::Result::Ok(())
    /// ```
    #[must_use]
    pub fn remove_prefix(mut self, remove: bool) -> Self {
        self.remove_prefix = remove;
        self
    }
}

/// What was loaded, and what was ignored as the [`LoadOptions`] allow.
///
/// ```
/// use std::collections::BTreeMap;
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::weights::{load_into, LoadOptions, Names};
///
/// let variables = VarStore::new(Device::Cpu);
/// variables.root().zeros("weight", &[2]);
/// variables.root().zeros("head", &[2]);
/// let tensors = BTreeMap::from(["weight", "old_head"].map(|name| {
///     (name.to_owned(), Tensor::from_slice(&[1f32, 2.0]))
/// }));
/// let options = LoadOptions::new()
///     .ignore_missing(Names::starting_with(["head"]))
///     .ignore_unexpected(Names::All);
/// let report = load_into(&variables, &tensors, "example", &options)?;
/// assert_eq!(report.loaded, ["weight"]);
/// assert_eq!(report.missing, ["head"]);
/// assert_eq!(report.unexpected, ["old_head"]);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// The model's variables that got a value, sorted.
    pub loaded: Vec<String>,
    /// The model's variables that are not in the file, sorted.
    pub missing: Vec<String>,
    /// The file's weights that the model has no variable for, sorted.
    pub unexpected: Vec<String>,
    /// What was taken away before the names in the file, as
    /// [`remove_prefix`](LoadOptions::remove_prefix) allows.
    pub prefix: Option<String>,
}

/// Copies the weights of a safetensors file into `variables`; see [`load_into`].
///
/// # Errors
/// Those of [`read`](super::read) and of [`load_into`].
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::weights::{load_file, save, LoadOptions};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// save(&path, &[("bias", Tensor::from_slice(&[1f32, 2.0]))], &Default::default())?;
/// let variables = VarStore::new(Device::Cpu);
/// let bias = variables.root().zeros("bias", &[2]);
/// let report = load_file(&variables, &path, &LoadOptions::new())?;
/// assert_eq!(report.loaded, ["bias"]);
/// assert_eq!(bias.double_value(&[1]), 2.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_file(
    variables: &VarStore,
    path: impl AsRef<Path>,
    options: &LoadOptions,
) -> Result<LoadReport> {
    load_opened(variables, &mut WeightsFile::open(path.as_ref())?, options)
}

/// Reads only those tensors of the file that fit a variable, so it needs no more memory than
/// the model does.
pub(crate) fn load_opened(
    variables: &VarStore,
    file: &mut WeightsFile,
    options: &LoadOptions,
) -> Result<LoadReport> {
    let origin = file.path().display().to_string();
    let described = file.described()?;
    load(variables, &described, &origin, options, |name| {
        file.tensor(name)
    })
}

/// Copies `tensors` into `variables` after checking that every name, shape and dtype fits.
///
/// Values are copied into the existing variables, on their device and in their dtype, so
/// models and optimizers that hold them see the new values. `LayerNorm.gamma` and
/// `LayerNorm.beta` of old checkpoints are read as `weight` and `bias`, and saved
/// `position_ids` buffers are ignored.
///
/// `origin` names the source of the tensors in errors.
///
/// ```
/// use std::collections::BTreeMap;
/// use tch::{nn, Device, Tensor};
/// use textbrewer::weights::{load_into, LoadOptions};
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let bias = variables.root().zeros("bias", &[2]);
/// let tensors = BTreeMap::from([("bias".to_owned(), Tensor::from_slice(&[1f32, 2.0]))]);
/// load_into(&variables, &tensors, "example", &LoadOptions::new())?;
/// assert_eq!(bias.double_value(&[1]), 2.0);
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// [`Error::WeightsMismatch`] with everything that differs; then nothing is changed.
pub fn load_into(
    variables: &VarStore,
    tensors: &BTreeMap<String, Tensor>,
    origin: &str,
    options: &LoadOptions,
) -> Result<LoadReport> {
    let described = describe(tensors)?;
    load(variables, &described, origin, options, |name| {
        let tensor = tensors.get(name).map(Tensor::shallow_clone);
        tensor.ok_or_else(|| Error::other(format!("no tensor `{}`", shown(name))))
    })
}

/// Checks that [`load_into`] would succeed, without changing anything.
///
/// # Errors
/// Those of [`load_into`].
pub(crate) fn check_fit(
    variables: &VarStore,
    tensors: &BTreeMap<String, Tensor>,
    origin: &str,
) -> Result<()> {
    let state = state_dict(variables);
    let described = describe(tensors)?;
    let options = LoadOptions::new();
    Pairing::new(&state, &described, &options).check(&options, origin)
}

fn describe(tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Described>> {
    let described = tensors.iter().map(|(name, tensor)| {
        let kind = tensor.f_kind().context(|| format!("`{}`", shown(name)))?;
        let size = tensor.size();
        Ok((name.clone(), Described { size, kind }))
    });
    described.collect()
}

/// `tensor_named` returns a tensor of `described` by its name.
fn load(
    variables: &VarStore,
    described: &BTreeMap<String, Described>,
    origin: &str,
    options: &LoadOptions,
    mut tensor_named: impl FnMut(&str) -> Result<Tensor>,
) -> Result<LoadReport> {
    let state = state_dict(variables);
    let pairing = Pairing::new(&state, described, options);
    pairing.check(options, origin)?;
    let prefix = Some(pairing.removed).filter(|prefix| !prefix.is_empty());
    if let Some(prefix) = prefix {
        prefix::warn(origin, prefix);
    }
    // All tensors are read before any variable is written, so that a file that cannot be read
    // to its end changes nothing.
    let tensors = pairing.pairs.iter().map(|pair| tensor_named(pair.source));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let _no_grad = tch::no_grad_guard();
    for (pair, tensor) in pairing.pairs.iter().zip(tensors) {
        let mut variable = pair.variable.shallow_clone();
        variable
            .f_copy_(&tensor)
            .context(|| format!("loading `{}` from {origin}", pair.name))?;
    }
    let loaded = pairing.pairs.iter().map(|pair| pair.name.to_owned());
    Ok(LoadReport {
        loaded: loaded.collect(),
        missing: pairing.missing.iter().map(|&n| n.to_owned()).collect(),
        unexpected: pairing.unexpected.iter().map(|&n| n.to_owned()).collect(),
        prefix: prefix.map(str::to_owned),
    })
}
