//! The order of a model's names.

use std::cmp::Ordering;

/// Orders names level by level, and the numbers in them by value.
pub(super) fn natural_order(a: &str, b: &str) -> Ordering {
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
}
