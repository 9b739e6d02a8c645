//! Finding the number of the layer in the name of a weight.

use crate::error::{Error, Result};

/// Matches names like `…encoder.layer.3.…`: the text before the number and the text after it.
#[derive(Debug, Clone)]
pub(super) struct LayerPattern<'p> {
    before: &'p str,
    after: &'p str,
}

impl<'p> LayerPattern<'p> {
    pub(super) fn new(pattern: &'p str) -> Result<Self> {
        match pattern.split_once("{}") {
            Some((before, after)) if !after.contains("{}") => Ok(LayerPattern { before, after }),
            _ => Err(Error::config(
                "layer_pattern",
                format!(
                    "must have `{{}}` once, where the number of the layer is, as in \
                     `encoder.layer.{{}}.`; is `{pattern}`"
                ),
            )),
        }
    }

    /// The pattern as the user wrote it.
    pub(super) fn shown(&self) -> String {
        format!("{}{{}}{}", self.before, self.after)
    }

    /// The pattern with `layer` in place of `{}`.
    pub(super) fn of(&self, layer: usize) -> String {
        format!("{}{layer}{}", self.before, self.after)
    }

    /// Splits the name of a weight into the text before the number of its layer, the number,
    /// and the text after it. `None` for a weight that is in no layer.
    pub(super) fn split<'n>(&self, name: &'n str) -> Option<(&'n str, usize, &'n str)> {
        let mut parts = name.match_indices(self.before).filter_map(|(start, _)| {
            let (prefix, _) = name.split_at_checked(start)?;
            let (front, rest) = name.split_at_checked(start + self.before.len())?;
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (number, behind) = rest.split_at_checked(digits)?;
            // Whole parts of a name only: `my_encoder.layer.1` is not `encoder.layer.1`.
            let whole = |edge: bool, part: &str| edge || part.is_empty();
            let begins = whole(prefix.ends_with('.'), prefix);
            let ends = behind.starts_with(self.after)
                && (!self.after.is_empty() || whole(behind.starts_with('.'), behind));
            let number = number.parse().ok()?;
            (begins && ends).then_some((front, number, behind))
        });
        parts.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_names() {
        let pattern = LayerPattern::new("encoder.layer.{}.").unwrap();
        assert_eq!(
            pattern.split("bert.encoder.layer.11.output.dense.bias"),
            Some(("bert.encoder.layer.", 11, ".output.dense.bias"))
        );
        assert_eq!(pattern.of(3), "encoder.layer.3.");
        for other in [
            "embeddings.position_embeddings.weight",
            "my_encoder.layer.1.bias",
            "encoder.layer.1",
            "encoder.layer.norm.bias",
            "encoder.layer.99999999999999999999999.bias",
        ] {
            assert_eq!(pattern.split(other), None, "{other}");
        }
        let open = LayerPattern::new("h.{}").unwrap();
        assert_eq!(open.split("h.2"), Some(("h.", 2, "")));
        assert_eq!(open.split("path.h.2.bias"), Some(("path.h.", 2, ".bias")));
        assert_eq!(open.split("h.2nd.bias"), None);
    }

    #[test]
    fn patterns_without_a_place_for_the_number_are_refused() {
        for pattern in ["", "encoder.layer.", "a.{}.b.{}."] {
            assert!(LayerPattern::new(pattern).is_err(), "{pattern}");
        }
    }
}
