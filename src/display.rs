//! Counting the parameters of a model.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use tch::Tensor;
use tch::nn::VarStore;

use crate::weights::state_dict;

/// Named tensors for [`display_parameters`], converted from a `&VarStore` or a list of
/// `(String, Tensor)`.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::{display_parameters, NamedTensors};
///
/// let tensors = vec![("scale".to_owned(), Tensor::from_slice(&[1f32, 2.0]))];
/// let report = display_parameters(NamedTensors::from(&tensors), None);
/// assert_eq!(report.root.count, 2);
/// ```
#[derive(Debug)]
pub struct NamedTensors(Vec<(String, Tensor)>);

/// Sorted by name, with numbers by value: `layer.2` before `layer.10`.
impl From<&VarStore> for NamedTensors {
    fn from(store: &VarStore) -> Self {
        let mut tensors = state_dict(store);
        tensors.sort_by(|(a, _), (b, _)| natural_order(a, b));
        NamedTensors(tensors)
    }
}

/// In the order given.
impl From<&[(String, Tensor)]> for NamedTensors {
    fn from(tensors: &[(String, Tensor)]) -> Self {
        NamedTensors(
            tensors
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                .collect(),
        )
    }
}

/// In the order given.
impl From<&Vec<(String, Tensor)>> for NamedTensors {
    fn from(tensors: &Vec<(String, Tensor)>) -> Self {
        tensors.as_slice().into()
    }
}

/// One level of a name, such as `layer` in `encoder.layer.0.weight`, and what is below it.
///
/// ```
/// use tch::{nn, Device};
/// use textbrewer::{display_parameters, ParameterNode};
///
/// let store = nn::VarStore::new(Device::Cpu);
/// nn::linear(store.root() / "dense", 256, 1024, Default::default());
/// let report = display_parameters(&store, None);
/// let dense: &ParameterNode = &report.root.children[0];
/// assert_eq!((dense.name.as_str(), dense.count), ("dense", 256 * 1024 + 1024));
/// let weight = dense.find("weight").unwrap();
/// assert_eq!((weight.full_name.as_str(), weight.megabytes), ("dense.weight", 1.0));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ParameterNode {
    /// The last part of the name; `model` at the root.
    pub name: String,
    /// The whole name; `model` at the root.
    pub full_name: String,
    /// Elements of the tensors here and below. A shared tensor is counted where it comes first.
    pub count: u64,
    /// Size of the tensors in memory, in units of 1024² bytes.
    pub megabytes: f64,
    /// The level below, in order.
    pub children: Vec<ParameterNode>,
    /// Whether this tensor was counted before, under another name.
    pub shared: bool,
}

impl ParameterNode {
    fn new(name: &str, full_name: String) -> Self {
        ParameterNode {
            name: name.to_owned(),
            full_name,
            count: 0,
            megabytes: 0.0,
            children: Vec::new(),
            shared: false,
        }
    }

    /// The node below this one with the given name, such as `encoder.layer.0` at the root.
    ///
    /// ```
    /// use tch::{nn, Device};
    /// use textbrewer::display_parameters;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// nn::linear(store.root() / "pooler" / "dense", 4, 4, Default::default());
    /// let report = display_parameters(&store, None);
    /// assert_eq!(report.root.find("pooler.dense").unwrap().count, 20);
    /// ```
    pub fn find(&self, name: &str) -> Option<&ParameterNode> {
        let mut node = self;
        for part in name.split('.') {
            node = node.children.iter().find(|child| child.name == part)?;
        }
        Some(node)
    }

    fn add(&mut self, name: &str, tensor: Measured, shared: bool) {
        let mut node = self;
        node.grow(&tensor);
        let mut end = 0;
        for part in name.split('.') {
            end += part.len();
            let index = match node.children.iter().position(|child| child.name == part) {
                Some(index) => index,
                None => {
                    let full_name = name.get(..end).unwrap_or(name).to_owned();
                    node.children.push(ParameterNode::new(part, full_name));
                    node.children.len() - 1
                }
            };
            node = &mut node.children[index];
            node.grow(&tensor);
            end += 1;
        }
        node.shared |= shared;
    }

    fn grow(&mut self, tensor: &Measured) {
        self.count += tensor.count;
        self.megabytes += tensor.megabytes;
    }

    fn rows(&self, level: usize, max_level: Option<usize>, rows: &mut Vec<Row>) {
        let open = max_level.is_none_or(|max| level < max);
        // A level with a single child would only repeat its numbers.
        let repeated =
            open && matches!(self.children.as_slice(), [only] if only.count == self.count);
        let mark = if self.shared { " (shared)" } else { "" };
        rows.push(Row {
            label: format!("{}{}{mark}", "  ".repeat(level), self.name),
            numbers: (!repeated).then_some((self.count, self.megabytes)),
        });
        if open {
            for child in &self.children {
                child.rows(level + 1, max_level, rows);
            }
        }
    }
}

/// The result of [`display_parameters`]. `Display` shows a table.
///
/// ```
/// use tch::{nn, Device};
/// use textbrewer::display_parameters;
///
/// let store = nn::VarStore::new(Device::Cpu);
/// nn::linear(store.root() / "dense", 4, 2, Default::default());
/// let mut report = display_parameters(&store, None);
/// assert!(report.to_string().contains("weight"));
/// report.max_level = Some(1); // the table shows less, the tree is the same
/// assert!(!report.to_string().contains("weight"));
/// assert_eq!(report.root.find("dense.weight").unwrap().count, 8);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ParameterReport {
    /// The root of the tree; its count is the model's.
    pub root: ParameterNode,
    /// How many levels below the root the table shows; `None` for all.
    pub max_level: Option<usize>,
}

/// Counts a model's parameters by the levels of their names.
///
/// The table shows `max_level` levels below the root, or all; the tree always has all.
/// Tensors that share memory are counted where they come first, and marked `(shared)` after
/// that.
///
/// ```
/// use tch::{nn, Device};
/// use textbrewer::display_parameters;
///
/// let store = nn::VarStore::new(Device::Cpu);
/// nn::linear(store.root() / "dense", 256, 512, Default::default());
/// nn::layer_norm(store.root() / "norm", vec![512], Default::default());
/// let report = display_parameters(&store, Some(1));
/// assert_eq!(report.root.count, 256 * 512 + 512 + 512 + 512);
/// assert_eq!(report.to_string(), "\
/// LAYER      PARAMETERS    RATIO  MEMORY (MB)
/// model         132,608  100.00%         0.51
///   dense       131,584   99.23%         0.50
///   norm          1,024    0.77%         0.00");
/// ```
pub fn display_parameters(
    source: impl Into<NamedTensors>,
    max_level: Option<usize>,
) -> ParameterReport {
    let NamedTensors(tensors) = source.into();
    let mut seen = HashSet::new();
    let mut root = ParameterNode::new("model", "model".to_owned());
    for (name, tensor) in &tensors {
        let measured = Measured::of(tensor);
        let shared = measured
            .address
            .is_some_and(|address| !seen.insert(address));
        let counted = if shared {
            Measured::default()
        } else {
            measured
        };
        root.add(name, counted, shared);
    }
    ParameterReport { root, max_level }
}

#[derive(Default)]
struct Measured {
    count: u64,
    megabytes: f64,
    address: Option<usize>,
}

impl Measured {
    fn of(tensor: &Tensor) -> Self {
        // An undefined tensor has no size, kind or address.
        if !tensor.defined() {
            return Measured::default();
        }
        let count = tensor.numel();
        let bytes = tensor.f_kind().map_or(0, |kind| kind.elt_size_in_bytes());
        // Sparse and other special tensors have no single address, and asking for it panics.
        // `is_set_to` compares addresses, so it fails, harmlessly, where there is none.
        let dense = count > 0 && matches!(tensor.f_is_set_to(tensor), Ok(true));
        let address = dense.then(|| tensor.data_ptr() as usize);
        Measured {
            count: count as u64,
            megabytes: (count * bytes) as f64 / (1024.0 * 1024.0),
            // Tensors without memory, such as those on the device `meta`, are not shared.
            address: address.filter(|&address| address != 0),
        }
    }
}

struct Row {
    label: String,
    numbers: Option<(u64, f64)>,
}

impl fmt::Display for ParameterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = Vec::new();
        self.root.rows(0, self.max_level, &mut rows);
        let longest = rows.iter().map(|row| row.label.chars().count()).max();
        let width = longest.unwrap_or(0).max("LAYER".len());
        write!(
            f,
            "{:<width$}  {:>12}  {:>7}  {:>11}",
            "LAYER", "PARAMETERS", "RATIO", "MEMORY (MB)"
        )?;
        for Row { label, numbers } in &rows {
            let Some((count, megabytes)) = numbers else {
                write!(f, "\n{label}")?;
                continue;
            };
            let ratio = if self.root.count == 0 {
                0.0
            } else {
                *count as f64 / self.root.count as f64 * 100.0
            };
            write!(
                f,
                "\n{label:<width$}  {:>12}  {ratio:>6.2}%  {megabytes:>11.2}",
                thousands(*count)
            )?;
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Orders names level by level, and the numbers in them by value.
fn natural_order(a: &str, b: &str) -> Ordering {
    let by_level = a
        .split('.')
        .zip(b.split('.'))
        .map(|(a, b)| compare_parts(a, b))
        .find(|order| order.is_ne());
    // Names that differ only in how a number is written still need a fixed order.
    by_level
        .unwrap_or_else(|| a.split('.').count().cmp(&b.split('.').count()))
        .then_with(|| a.cmp(b))
}

fn compare_parts(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        let (x, rest_a) = split_run(a);
        let (y, rest_b) = split_run(b);
        let order = match (x.parse::<u128>(), y.parse::<u128>()) {
            (Ok(x), Ok(y)) => x.cmp(&y),
            _ => x.cmp(y),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// The digits, or the other characters, that a text starts with, and the rest.
fn split_run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| c.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_level_and_number() {
        let sorted = [
            "a",
            "a.b",
            "a.b.c",
            "layer.2.w",
            "layer.10.w",
            "layer.x",
            "layer02",
            "layer2",
            "layer10",
            "layer_a",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(natural_order(a, b), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }
}
