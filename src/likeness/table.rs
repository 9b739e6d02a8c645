//! Likeness as a table.

use std::fmt;

use super::LayerLikeness;

/// A row for each layer of the teacher and a column for each of the student, from the embeddings
/// (0) on. In each column the largest is marked by `*`. The last row is the
/// [`layer_map`](LayerLikeness::layer_map).
impl fmt::Display for LayerLikeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest: Vec<f64> = self.cka.columns().into_iter().map(largest).collect();
        // Numbers and marks are in columns of their own.
        let header = (0..self.cka.ncols()).map(|student| format!("{student} "));
        let mut rows = vec![("TEACHER / STUDENT".to_owned(), header.collect())];
        for (teacher, row) in self.cka.rows().into_iter().enumerate() {
            let cells = row.iter().zip(&largest).map(|(cka, largest)| {
                let mark = if cka == largest { '*' } else { ' ' };
                format!("{cka:.3}{mark}")
            });
            rows.push((teacher.to_string(), cells.collect()));
        }
        let map = self.layer_map();
        let layers = map.pairs().iter().map(|(teacher, _)| format!("{teacher} "));
        // The embeddings have no layer.
        let cells: Vec<String> = [String::new()].into_iter().chain(layers).collect();
        rows.push(("LAYER MAP".to_owned(), cells));

        let cells = rows.iter().flat_map(|(_, cells)| cells);
        let width = cells.map(String::len).max().unwrap_or(0) + 1;
        let labels = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        for (index, (label, cells)) in rows.iter().enumerate() {
            let cells: String = cells.iter().map(|cell| format!("{cell:>width$}")).collect();
            let line = format!("{label:<labels$}{cells}");
            let start = if index == 0 { "" } else { "\n" };
            write!(f, "{start}{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn largest(column: ndarray::ArrayView1<'_, f64>) -> f64 {
    column.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn columns_line_up_and_the_best_are_marked() {
        let likeness = LayerLikeness {
            cka: array![[1.0, 0.25, -0.01], [0.5, 0.75, 0.98], [0.4, 0.8, 0.9]],
        };
        let table = "\
TEACHER / STUDENT      0       1       2
0                  1.000*  0.250  -0.010
1                  0.500   0.750   0.980*
2                  0.400   0.800*  0.900
LAYER MAP                      1       1";
        assert_eq!(likeness.to_string(), table);
    }
}
