//! The tree of a model's parameters.

use super::measured::Measured;

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
    pub(super) fn new(name: &str, full_name: String) -> Self {
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

    pub(super) fn add(&mut self, name: &str, tensor: Measured, shared: bool) {
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

    /// This node and those below it, each with its level, in the order of a table.
    pub(super) fn rows(&self, max_level: Option<usize>) -> impl Iterator<Item = (usize, &Self)> {
        let mut open = vec![(0, self)];
        std::iter::from_fn(move || {
            let (level, node) = open.pop()?;
            if max_level.is_none_or(|max| level < max) {
                let below = node.children.iter().rev();
                open.extend(below.map(|child| (level + 1, child)));
            }
            Some((level, node))
        })
    }
}
