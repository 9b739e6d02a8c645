//! The best map of layers that keeps their order.

use ndarray::ArrayView2;

/// A row for each column, never above that of the column before, so that the sum of the values at
/// them is the largest; the topmost rows where sums are equal.
///
/// Column by column it keeps, for each row, the best sum of a map that ends at this row or above.
pub(super) fn in_order(values: ArrayView2<'_, f64>) -> Vec<usize> {
    let mut sums = vec![0.0; values.nrows()];
    let mut ends: Vec<Vec<usize>> = Vec::with_capacity(values.ncols());
    for column in values.columns() {
        let mut best: Option<(f64, usize)> = None;
        let mut ends_here = Vec::with_capacity(sums.len());
        for (row, (sum, value)) in sums.iter_mut().zip(column).enumerate() {
            let here = *sum + value;
            let (largest, end) = match best {
                Some(above) if above.0 >= here => above,
                _ => (here, row),
            };
            best = Some((largest, end));
            *sum = largest;
            ends_here.push(end);
        }
        ends.push(ends_here);
    }
    let mut row = values.nrows().saturating_sub(1);
    let back = ends.iter().rev().filter_map(|ends_here| {
        row = *ends_here.get(row)?;
        Some(row)
    });
    let mut rows: Vec<usize> = back.collect();
    rows.reverse();
    rows
}

#[cfg(test)]
mod tests {
    use super::in_order;
    use ndarray::{Array2, array};

    #[test]
    fn the_order_costs_as_little_as_it_can() {
        // The best of each column are 2, 0, 2: out of order.
        let values = array![[0.1, 0.9, 0.0], [0.6, 0.7, 0.2], [0.7, 0.1, 0.8]];
        assert_eq!(in_order(values.view()), [1, 1, 2]);
    }

    #[test]
    fn it_is_the_best_of_all_maps_in_order() {
        let mut state = 7u32;
        for case in 0..200 {
            let (rows, columns) = (1 + case % 5, 1 + case / 5 % 4);
            let values = Array2::from_shape_simple_fn((rows, columns), || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Few values, so that some sums are equal; negative ones too.
                f64::from(state >> 29) - 2.0
            });
            let got = in_order(values.view());
            let sum = |map: &[usize]| -> f64 {
                map.iter()
                    .enumerate()
                    .map(|(column, &row)| values[[row, column]])
                    .sum()
            };
            // In lexical order, so that the first of equal ones has the topmost rows.
            let all = (0..rows.pow(columns as u32)).map(|number| {
                let digit = |place: usize| number / rows.pow((columns - 1 - place) as u32) % rows;
                (0..columns).map(digit).collect::<Vec<_>>()
            });
            let in_order = all.filter(|map| map.is_sorted());
            let best = in_order.reduce(|best, map| if sum(&map) > sum(&best) { map } else { best });
            assert_eq!(got, best.unwrap(), "{values}");
        }
    }
}
