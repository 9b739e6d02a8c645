//! The table of a model's parameters.

use std::fmt;

use super::node::ParameterNode;

/// The result of [`display_parameters`](crate::display_parameters). `Display` shows a table.
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

impl ParameterReport {
    /// The cells of a node's row.
    fn cells(&self, level: usize, node: &ParameterNode) -> [String; 4] {
        let indent = "  ".repeat(level);
        let mark = if node.shared { " (shared)" } else { "" };
        let ratio = match self.root.count {
            0 => 0.0,
            all => node.count as f64 / all as f64 * 100.0,
        };
        [
            format!("{indent}{}{mark}", node.name),
            thousands(&node.count.to_string()),
            format!("{ratio:.2}%"),
            thousands(&format!("{:.2}", node.megabytes)),
        ]
    }
}

impl fmt::Display for ParameterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["LAYER", "PARAMETERS", "RATIO", "MEMORY (MB)"].map(str::to_owned)];
        let nodes = self.root.rows(self.max_level);
        rows.extend(nodes.map(|(level, node)| self.cells(level, node)));
        // Room for millions; more is made for larger models.
        let mut widths = [0, 12, 7, 11];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let [label, count, ratio, memory] = widths;
        for (i, [a, b, c, d]) in rows.iter().enumerate() {
            let start = if i == 0 { "" } else { "\n" };
            write!(
                f,
                "{start}{a:<label$}  {b:>count$}  {c:>ratio$}  {d:>memory$}"
            )?;
        }
        Ok(())
    }
}

/// `1234567.89` as `1,234,567.89`.
fn thousands(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut text = String::with_capacity(number.len() + whole / 3);
    for (i, digit) in number.chars().enumerate() {
        if 0 < i && i < whole && (whole - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("12345678", "12,345,678"),
            ("0.25", "0.25"),
            ("123.4567", "123.4567"),
            ("1234.50", "1,234.50"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }
}
