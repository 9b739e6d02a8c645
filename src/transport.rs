//! The transportation problem, solved exactly.
//!
//! Rows have a supply, columns have a demand, and moving one unit from row `i` to column `j`
//! costs `cᵢⱼ`. [`solve`] finds the cheapest plan. When rows and columns are layers, and costs
//! are the distances of their features, this is the earth mover's distance that
//! [`EmdDistiller`](crate::distiller::EmdDistiller) trains on.
//!
//! Matrices are of the `ndarray` crate, version 0.16.

use std::cmp::Ordering;

use ndarray::{Array2, ArrayView2};

use crate::error::{Error, Result};

/// A cheapest plan.
///
/// ```
/// use ndarray::{array, Axis};
/// use textbrewer::transport;
///
/// let plan = transport::solve(&[3.0, 1.0], &[1.0, 1.0], array![[0.0, 2.0], [0.0, 0.0]].view())?;
/// // Everything the rows have is moved: 3/4 and 1/4.
/// assert_eq!(plan.flow.sum_axis(Axis(1)), array![0.75, 0.25]);
/// // The second row serves the second column for nothing; the first has to help out.
/// assert_eq!(plan.flow[[0, 1]], 0.25);
/// assert_eq!(plan.cost, 0.5);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TransportPlan {
    /// How much is moved from each row to each column. Entries are at least 0 and sum to 1; at
    /// most `rows + columns − 1` of them are above 0.
    pub flow: Array2<f64>,
    /// The cost of the plan: `Σ flowᵢⱼ · costᵢⱼ`.
    pub cost: f64,
}

/// Finds the plan of least cost from `supply` to `demand`:
///
/// > minimise Σ fᵢⱼ cᵢⱼ with fᵢⱼ ≥ 0, Σⱼ fᵢⱼ = supplyᵢ / Σ supply, Σᵢ fᵢⱼ = demandⱼ / Σ demand
///
/// Both sides are divided by their sums, so any two lists of weights can be matched; a weight
/// of 0 moves nothing. Costs may be negative. The same input always gives the same plan; which
/// of several cheapest plans that is, is not specified.
///
/// # Method
/// The simplex method on the transportation tableau (the MODI method) from a least-cost
/// start. Weights and costs are first turned into integers, counted in units of less than 2⁻⁸⁰
/// of the whole weight and of the largest cost even for a million rows and columns; nothing is
/// rounded from there on. (Dividing by the sums rounds once; weights that are small multiples of
/// one number, such as uniform ones, are not even divided.) Supplies and demands are then
/// perturbed by less than one unit, so that no proper subset of the rows ever balances a subset
/// of the columns exactly. Every pivot therefore moves something and lowers the total cost,
/// which is an integer. So no basis is visited twice, and the method ends at an optimum of the
/// problem in those units. In practice the number of pivots is a small multiple of
/// `rows + columns`; each pivot looks at every cell once.
///
/// # Shape
/// `cost`: `[supply.len(), demand.len()]`.
///
/// # Errors
/// [`Error::Config`] for a weight that is negative or not finite, weights that are all 0, and a
/// cost that is not finite; [`Error::Shape`] when the sizes do not fit. To forbid a move, give
/// it a large cost instead of infinity.
///
/// ```
/// use ndarray::array;
/// use textbrewer::transport;
///
/// // Three teacher layers, two student layers.
/// let cost = array![[1.0, 5.0], [2.0, 3.0], [6.0, 1.0]];
/// let plan = transport::solve(&[1.0, 1.0, 1.0], &[0.5, 0.5], cost.view())?;
/// // The middle layer is split evenly.
/// let expected = array![[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]] / 6.0;
/// assert!((plan.flow - expected).iter().all(|difference| difference.abs() < 1e-12));
/// assert!((plan.cost - 9.0 / 6.0).abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn solve(supply: &[f64], demand: &[f64], cost: ArrayView2<'_, f64>) -> Result<TransportPlan> {
    check_weights("supply", supply)?;
    check_weights("demand", demand)?;
    if cost.dim() != (supply.len(), demand.len()) {
        return Err(Error::shape(
            "cost of a transportation problem",
            format!(
                "a row for each of the {} supplies and a column for each of the {} demands",
                supply.len(),
                demand.len()
            ),
            format!("{:?}", cost.shape()),
        ));
    }
    if let Some(((row, column), value)) = cost.indexed_iter().find(|(_, c)| !c.is_finite()) {
        return Err(Error::config(
            format!("cost[[{row}, {column}]]"),
            format!("must be a finite number, is {value}; forbid a move by a large cost"),
        ));
    }
    let problem = Integers::new(supply, demand, cost);
    let mut tableau = Tableau::start(&problem);
    while let Some(entering) = tableau.price() {
        tableau.pivot(entering);
    }
    let mut flow = Array2::zeros(cost.dim());
    for cell in &tableau.basis {
        flow[[cell.row, cell.column]] = problem.amount(cell.flow);
    }
    let cost = flow.iter().zip(cost).map(|(flow, cost)| flow * cost).sum();
    Ok(TransportPlan { flow, cost })
}

fn check_weights(name: &str, weights: &[f64]) -> Result<()> {
    for (index, &weight) in weights.iter().enumerate() {
        if !(weight.is_finite() && weight >= 0.0) {
            return Err(Error::config(
                format!("{name}[{index}]"),
                format!("must be a finite number, at least 0, is {weight}"),
            ));
        }
    }
    if weights.iter().all(|&weight| weight == 0.0) {
        let reason = "at least one weight must be above 0; there is nothing to move";
        return Err(Error::config(name, reason));
    }
    Ok(())
}

/// The problem in integers, with supplies and demands perturbed so that there are no ties.
struct Integers {
    supply: Vec<i128>,
    demand: Vec<i128>,
    cost: Array2<i128>,
    /// The factor of a unit of weight: more than twice the perturbation of any flow.
    unit: i128,
    /// Units in the whole weight.
    whole: i128,
}

/// Sums stay below 2 to this power, so that results of a few of them fit an `i128`.
const BITS: i32 = 124;

impl Integers {
    fn new(supply: &[f64], demand: &[f64], cost: ArrayView2<'_, f64>) -> Self {
        let (rows, columns) = cost.dim();
        // The supply of each row grows by `columns`, the demand of each column but the last by
        // 1, and that of the last by the rest. A flow is the supply of some rows minus the
        // demand of some columns other than the last, so it is perturbed by
        // `columns · #rows − #columns`, which is 0 only when both numbers are 0.
        let moves = (rows * columns) as i128;
        let unit = 2 * moves + 1;
        let spare = |factor: i128| BITS - (128 - factor.leading_zeros() as i32);
        let (supply, demand, whole) = exact(supply, demand, unit).unwrap_or_else(|| {
            let bits = spare(unit).min(100);
            (share(supply, bits), share(demand, bits), 1 << bits)
        });
        let move_all = |weights: Vec<i128>, by: i128| -> Vec<i128> {
            let weights = weights.into_iter();
            weights.map(|weight| weight * unit + by).collect()
        };
        let supply = move_all(supply, columns as i128);
        let mut demand = move_all(demand, 1);
        if let Some(last) = demand.last_mut() {
            *last += moves - columns as i128;
        }
        // A potential is a sum of at most `rows + columns` costs.
        let bits_of_cost = spare((rows + columns) as i128);
        let largest = cost
            .iter()
            .fold(0.0, |largest: f64, c| largest.max(c.abs()));
        let largest = if largest > 0.0 { largest } else { 1.0 };
        let cost = cost.map(|c| (c / largest * 2f64.powi(bits_of_cost)).round() as i128);
        Integers {
            supply,
            demand,
            cost,
            unit,
            whole,
        }
    }

    /// A flow of the perturbed problem as a fraction of the whole, without the perturbation.
    fn amount(&self, flow: i128) -> f64 {
        let units = (flow + self.unit / 2).div_euclid(self.unit);
        units as f64 / self.whole as f64
    }
}

/// Both sides as fractions of the product of their sums, without rounding, if the numbers fit.
/// They do for uniform weights and others that are small multiples of one number.
fn exact(supply: &[f64], demand: &[f64], unit: i128) -> Option<(Vec<i128>, Vec<i128>, i128)> {
    let (supply, demand) = (multiples(supply)?, multiples(demand)?);
    let (given, taken): (i128, i128) = (supply.iter().sum(), demand.iter().sum());
    let whole = given.checked_mul(taken)?;
    if whole.checked_mul(unit)? >= 1 << BITS {
        return None;
    }
    let supply = supply.iter().map(|weight| weight * taken).collect();
    let demand = demand.iter().map(|weight| weight * given).collect();
    Some((supply, demand, whole))
}

/// The weights as multiples of their greatest common divisor; `None` when they are too far
/// apart.
fn multiples(weights: &[f64]) -> Option<Vec<i128>> {
    let largest = weights.iter().fold(0.0, |largest: f64, &w| largest.max(w));
    // Scaling by a power of two is exact.
    let factor = 2f64.powi(90 - largest.log2() as i32);
    let whole = |&weight: &f64| {
        let scaled = weight * factor;
        let kept = scaled.is_finite() && scaled.fract() == 0.0 && (scaled > 0.0 || weight == 0.0);
        kept.then_some(scaled as i128)
    };
    let weights: Vec<i128> = weights.iter().map(whole).collect::<Option<_>>()?;
    let divisor = weights.iter().fold(0, |a, &b| common_divisor(a, b)).max(1);
    Some(weights.iter().map(|weight| weight / divisor).collect())
}

fn common_divisor(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The weights as integers that sum to exactly `2^bits`. The rounding error of the division is
/// added to the largest weight.
fn share(weights: &[f64], bits: i32) -> Vec<i128> {
    let largest = weights.iter().fold(0.0, |largest: f64, &w| largest.max(w));
    // Divided by the largest first: the sum of the weights may overflow to infinity.
    let sum: f64 = weights.iter().map(|weight| weight / largest).sum();
    let part = |weight: &f64| (weight / largest / sum * 2f64.powi(bits)).round() as i128;
    let mut parts: Vec<i128> = weights.iter().map(part).collect();
    let rest = (1i128 << bits) - parts.iter().sum::<i128>();
    if let Some(position) = weights.iter().position(|&weight| weight == largest) {
        parts[position] += rest;
    }
    parts
}

/// A cell of the tableau that is in the basis: an edge of a spanning tree of rows and columns.
#[derive(Clone, Copy)]
struct Cell {
    row: usize,
    column: usize,
    flow: i128,
}

/// A basic solution. Nodes of its tree are the rows, then the columns.
struct Tableau<'a> {
    problem: &'a Integers,
    basis: Vec<Cell>,
    /// For each node the edge to its parent, and the parent; `None` for the root, row 0.
    parents: Vec<Option<(usize, usize)>>,
    depths: Vec<usize>,
    potentials: Vec<i128>,
}

impl<'a> Tableau<'a> {
    /// Fills the cheapest cells first. Each step exhausts a row or a column, never both before
    /// the last one, so this gives a spanning tree.
    fn start(problem: &'a Integers) -> Self {
        let (rows, columns) = problem.cost.dim();
        let (mut supply, mut demand) = (problem.supply.clone(), problem.demand.clone());
        let mut cells: Vec<_> = problem.cost.indexed_iter().collect();
        cells.sort_by_key(|&(place, &cost)| (cost, place));
        let mut basis = Vec::with_capacity(rows + columns - 1);
        for ((row, column), _) in cells {
            let flow = supply[row].min(demand[column]);
            if flow > 0 {
                supply[row] -= flow;
                demand[column] -= flow;
                basis.push(Cell { row, column, flow });
            }
        }
        let nodes = rows + columns;
        let mut tableau = Tableau {
            problem,
            basis,
            parents: vec![None; nodes],
            depths: vec![0; nodes],
            potentials: vec![0; nodes],
        };
        tableau.grow();
        tableau
    }

    /// Roots the tree at row 0 and sets potentials so that `u + v = cost` in its cells.
    fn grow(&mut self) {
        let rows = self.problem.supply.len();
        let mut neighbours = vec![Vec::new(); self.parents.len()];
        for (edge, cell) in self.basis.iter().enumerate() {
            neighbours[cell.row].push((edge, rows + cell.column));
            neighbours[rows + cell.column].push((edge, cell.row));
        }
        self.parents[0] = None;
        self.potentials[0] = 0;
        self.depths[0] = 0;
        let mut open = vec![0];
        while let Some(node) = open.pop() {
            for &(edge, next) in &neighbours[node] {
                if self.parents[node].is_some_and(|(up, _)| up == edge) {
                    continue;
                }
                let cell = self.basis[edge];
                let cost = self.problem.cost[[cell.row, cell.column]];
                self.parents[next] = Some((edge, node));
                self.depths[next] = self.depths[node] + 1;
                self.potentials[next] = cost - self.potentials[node];
                open.push(next);
            }
        }
    }

    /// The cell that saves most per unit, the first of several; `None` when no cell saves.
    fn price(&self) -> Option<(usize, usize)> {
        let rows = self.problem.supply.len();
        let saving = |(row, column): (usize, usize), cost: &i128| {
            self.potentials[row] + self.potentials[rows + column] - cost
        };
        let cells = self.problem.cost.indexed_iter();
        let mut best = (0, None);
        for (place, cost) in cells {
            let saved = saving(place, cost);
            if saved > best.0 {
                best = (saved, Some(place));
            }
        }
        best.1
    }

    /// Moves as much as possible through the cell `(row, column)`, which replaces the cell that
    /// becomes empty.
    fn pivot(&mut self, (row, column): (usize, usize)) {
        // Walk up from both ends to where they meet. Every second edge loses what the new cell
        // gets, starting with the first one on each side.
        let rows = self.problem.supply.len();
        let mut ends = [row, rows + column];
        let (mut losing, mut gaining) = (Vec::new(), Vec::new());
        let mut climbed = [0usize; 2];
        while ends[0] != ends[1] {
            let side = match self.depths[ends[0]].cmp(&self.depths[ends[1]]) {
                Ordering::Less => 1,
                Ordering::Equal | Ordering::Greater => 0,
            };
            let Some((edge, up)) = self.parents[ends[side]] else {
                break; // Two nodes of one tree meet at the root at the latest.
            };
            if climbed[side].is_multiple_of(2) {
                losing.push(edge);
            } else {
                gaining.push(edge);
            }
            climbed[side] += 1;
            ends[side] = up;
        }
        let Some(&leaving) = losing.iter().min_by_key(|&&edge| self.basis[edge].flow) else {
            return; // The edges next to the two ends are losing ones.
        };
        let flow = self.basis[leaving].flow;
        for edge in losing {
            self.basis[edge].flow -= flow;
        }
        for edge in gaining {
            self.basis[edge].flow += flow;
        }
        self.basis[leaving] = Cell { row, column, flow };
        self.grow();
    }
}
