//! The transportation problem against every basic solution of small problems, against SciPy
//! on random ones (`tests/reference/transport.json`, made by `tests/reference/transport.py`),
//! and against what any optimum must satisfy.

#[path = "../../common/mod.rs"]
mod common;

use std::path::Path;

use common::read_cases;
use ndarray::{Array2, array};
use proptest::prelude::*;
use textbrewer::Error;
use textbrewer::transport::{TransportPlan, solve};

const EXACT: f64 = 1e-12;

fn normalised(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// Row and column sums are the weights, nothing is negative, the cost is that of the flow,
/// and no more cells are used than a basis has.
fn check_plan(plan: &TransportPlan, supply: &[f64], demand: &[f64], cost: &Array2<f64>) {
    assert_eq!(plan.flow.dim(), cost.dim());
    assert!(plan.flow.iter().all(|&flow| flow >= 0.0), "{}", plan.flow);
    let sums = plan.flow.rows().into_iter().map(|row| row.sum());
    for (got, expected) in sums.zip(normalised(supply)) {
        assert!((got - expected).abs() <= EXACT, "row: {got}, {expected}");
    }
    let sums = plan.flow.columns().into_iter().map(|column| column.sum());
    for (got, expected) in sums.zip(normalised(demand)) {
        assert!((got - expected).abs() <= EXACT, "column: {got}, {expected}");
    }
    let largest = cost.iter().fold(0.0, |a: f64, c| a.max(c.abs()));
    let total = (&plan.flow * cost).sum();
    assert!((plan.cost - total).abs() <= EXACT * largest);
    let used = plan.flow.iter().filter(|&&flow| flow > 0.0).count();
    assert!(used < supply.len() + demand.len(), "{}", plan.flow);
}

/// The least cost over every basic feasible solution: every choice of `rows + columns − 1`
/// cells that forms a tree, whose flows then follow leaf by leaf.
fn brute_force(supply: &[f64], demand: &[f64], cost: &Array2<f64>) -> f64 {
    let (rows, columns) = cost.dim();
    let weights: Vec<f64> = [normalised(supply), normalised(demand)].concat();
    let cells = rows * columns;
    let mut best = f64::INFINITY;
    for chosen in 0u32..1 << cells {
        if chosen.count_ones() as usize != rows + columns - 1 {
            continue;
        }
        let mut left: Vec<(usize, usize)> = (0..cells)
            .filter(|cell| chosen >> cell & 1 == 1)
            .map(|cell| (cell / columns, rows + cell % columns))
            .collect();
        let mut weights = weights.clone();
        let (mut total, mut feasible) = (0.0, true);
        while let Some((position, leaf)) = left.iter().enumerate().find_map(|(i, &(a, b))| {
            let degree = |node| left.iter().filter(|c| c.0 == node || c.1 == node).count();
            let leaf = [a, b].into_iter().find(|&node| degree(node) == 1)?;
            Some((i, leaf))
        }) {
            let (row, column) = left.remove(position);
            let flow = weights[leaf];
            feasible &= flow >= -1e-15;
            weights[row] -= flow;
            weights[column] -= flow;
            total += flow * cost[[row, column - rows]];
        }
        // What is left over is a cycle: no tree.
        if left.is_empty() && feasible {
            best = best.min(total);
        }
    }
    best
}

/// Prices `u`, `v` with `uᵢ + vⱼ ≤ cᵢⱼ` everywhere and equality where something flows, by
/// Bellman and Ford on the residual network. They exist exactly when the plan is optimal.
fn dual(flow: &Array2<f64>, cost: &Array2<f64>, tolerance: f64) -> Option<(Vec<f64>, Vec<f64>)> {
    let (rows, columns) = cost.dim();
    let (mut to_row, mut to_column) = (vec![0.0; rows], vec![0.0; columns]);
    for _ in 0..=rows + columns {
        let mut changed = false;
        for ((i, j), &c) in cost.indexed_iter() {
            if to_row[i] + c < to_column[j] - tolerance {
                to_column[j] = to_row[i] + c;
                changed = true;
            }
            if flow[[i, j]] > 0.0 && to_column[j] - c < to_row[i] - tolerance {
                to_row[i] = to_column[j] - c;
                changed = true;
            }
        }
        if !changed {
            return Some((to_row.iter().map(|u| -u).collect(), to_column));
        }
    }
    None
}

#[test]
fn scipy_finds_nothing_cheaper() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reference/transport.json");
    for case in read_cases(&path) {
        let list = |key: &str| -> Vec<f64> { serde_json::from_value(case[key].clone()).unwrap() };
        let rows: Vec<Vec<f64>> = serde_json::from_value(case["cost"].clone()).unwrap();
        let (supply, demand) = (list("supply"), list("demand"));
        let cost = Array2::from_shape_vec((supply.len(), demand.len()), rows.concat()).unwrap();
        let plan = solve(&supply, &demand, cost.view()).unwrap();
        check_plan(&plan, &supply, &demand, &cost);
        let expected = case["optimum"].as_f64().unwrap();
        let largest = cost.iter().fold(0.0, |a: f64, c| a.max(c.abs()));
        assert!(
            (plan.cost - expected).abs() <= EXACT * largest,
            "{} {:?}: {}, expected {expected}",
            case["kind"],
            cost.dim(),
            plan.cost
        );
    }
}

fn problems(
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) -> impl Strategy<Value = (Vec<f64>, Vec<f64>, Array2<f64>)> {
    // Few different numbers, so that ties, equal costs and weights of 0 are common.
    let weight = || prop_oneof![2 => (0u8..4).prop_map(f64::from), 1 => 0.0..1.0f64];
    let cost = || prop_oneof![2 => (-1i8..3).prop_map(f64::from), 1 => -1.0..1.0f64];
    (rows, columns).prop_flat_map(move |(rows, columns)| {
        let weights = |len| {
            prop::collection::vec(weight(), len).prop_filter("nothing to move", |weights| {
                weights.iter().any(|&w| w > 0.0)
            })
        };
        let cost = prop::collection::vec(cost(), rows * columns);
        (weights(rows), weights(columns), cost).prop_map(move |(supply, demand, cost)| {
            let cost = Array2::from_shape_vec((rows, columns), cost).unwrap();
            (supply, demand, cost)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn no_basic_solution_is_cheaper((supply, demand, cost) in problems(1..4, 1..5)) {
        let plan = solve(&supply, &demand, cost.view()).unwrap();
        check_plan(&plan, &supply, &demand, &cost);
        let expected = brute_force(&supply, &demand, &cost);
        prop_assert!((plan.cost - expected).abs() <= EXACT, "{}, expected {expected}", plan.cost);
    }

    #[test]
    fn prices_prove_the_optimum((supply, demand, cost) in problems(1..13, 1..13)) {
        let plan = solve(&supply, &demand, cost.view()).unwrap();
        check_plan(&plan, &supply, &demand, &cost);
        let (u, v) = dual(&plan.flow, &cost, 1e-13).expect("a cycle that lowers the cost");
        for ((i, j), &c) in cost.indexed_iter() {
            let slack = c - u[i] - v[j];
            prop_assert!(slack >= -EXACT, "[{i}, {j}]: {slack}");
            prop_assert!(plan.flow[[i, j]] == 0.0 || slack <= EXACT, "[{i}, {j}]: {slack}");
        }
        let weighted = |weights: &[f64], prices: &[f64]| -> f64 {
            normalised(weights).iter().zip(prices).map(|(w, p)| w * p).sum()
        };
        let dual_cost = weighted(&supply, &u) + weighted(&demand, &v);
        prop_assert!((plan.cost - dual_cost).abs() <= 1e-11, "{} and {dual_cost}", plan.cost);

        let (a, b) = (normalised(&supply), normalised(&demand));
        let product: f64 = cost.indexed_iter().map(|((i, j), c)| a[i] * b[j] * c).sum();
        prop_assert!(plan.cost <= product + EXACT);
        prop_assert_eq!(&plan, &solve(&supply, &demand, cost.view()).unwrap());
    }

    #[test]
    fn scaling_weights_and_costs_changes_nothing_but_the_scale(
        (supply, demand, cost) in problems(1..6, 1..6), exponent in -300i32..300
    ) {
        // A power of two, so that the numbers are the same to the last bit.
        let factor = 2f64.powi(exponent);
        let scaled: Vec<f64> = supply.iter().map(|weight| weight * factor).collect();
        let plan = solve(&supply, &demand, cost.view()).unwrap();
        let other = solve(&scaled, &demand, (&cost * factor).view()).unwrap();
        prop_assert_eq!(&plan.flow, &other.flow);
        prop_assert!((plan.cost - other.cost / factor).abs() <= EXACT);
    }
}

#[test]
fn every_tie_at_once_ends() {
    for size in [1, 2, 7, 40] {
        let weights = vec![1.0; size];
        let cost = Array2::from_elem((size, size), 3.0);
        let plan = solve(&weights, &weights, cost.view()).unwrap();
        check_plan(&plan, &weights, &weights, &cost);
        assert!((plan.cost - 3.0).abs() <= EXACT);
    }
}

#[test]
fn an_assignment_that_is_best_on_the_diagonal_is_the_diagonal() {
    let cost = Array2::from_shape_fn((12, 12), |(i, j)| (i as f64 - j as f64).abs());
    let plan = solve(&[1.0; 12], &[1.0; 12], cost.view()).unwrap();
    assert_eq!(plan.cost, 0.0);
    let expected = Array2::from_diag_elem(12, 1.0 / 12.0);
    assert!((&plan.flow - &expected).iter().all(|d| d.abs() <= EXACT));
}

#[test]
fn uniform_weights_leave_no_crumbs() {
    // A third is not twice a sixth in floating point; the plan must not patch the difference.
    for (rows, columns) in [(6, 3), (12, 4), (24, 6), (9, 3)] {
        let cost = Array2::from_shape_fn((rows, columns), |(i, j)| {
            (i as f64 / rows as f64 - j as f64 / columns as f64).powi(2)
        });
        let supply = vec![1.0 / rows as f64; rows];
        let demand = vec![1.0 / columns as f64; columns];
        let plan = solve(&supply, &demand, cost.view()).unwrap();
        let used: Vec<f64> = plan
            .flow
            .iter()
            .copied()
            .filter(|&flow| flow > 0.0)
            .collect();
        assert_eq!(used, supply, "{}", plan.flow);
    }
}

#[test]
fn a_row_that_gives_all_is_copied_from_the_demand() {
    let cost = array![[3.0, 1.0, 2.0], [0.0, 0.0, 0.0]];
    let plan = solve(&[5.0, 0.0], &[1.0, 2.0, 1.0], cost.view()).unwrap();
    assert_eq!(plan.flow, array![[0.25, 0.5, 0.25], [0.0, 0.0, 0.0]]);
    assert_eq!(plan.cost, 1.75);
}

#[test]
fn weights_and_costs_of_very_different_sizes_keep_their_digits() {
    // A forbidden move beside costs of ordinary size: the ordinary ones still decide.
    let cost = array![[1.0, 2.0, 1e25], [1e25, 1.0, 3.0], [2.0, 1e25, 1.0]];
    let plan = solve(&[1.0; 3], &[1.0; 3], cost.view()).unwrap();
    assert!((plan.cost - 1.0).abs() <= EXACT);
    // A weight far below the precision of the sum still gets its own flow.
    let plan = solve(
        &[1.0, 1e-20],
        &[1.0, 1e-20],
        array![[0.0, 1.0], [1.0, 0.0]].view(),
    )
    .unwrap();
    assert!((plan.flow[[1, 1]] / 1e-20 - 1.0).abs() < 1e-9);
    let huge = [f64::MAX, f64::MAX, 0.0];
    let plan = solve(&huge, &[1.0], array![[1.0], [2.0], [3.0]].view()).unwrap();
    assert_eq!(plan.cost, 1.5);
}

#[test]
fn problems_of_a_size_no_model_has_are_solved() {
    // Whole numbers: most basic solutions of this are degenerate.
    let cost = Array2::from_shape_fn((60, 45), |(i, j)| ((i * 7 + j * 13) % 11) as f64);
    let supply: Vec<f64> = (0..60).map(|i| (i % 4) as f64).collect();
    let demand: Vec<f64> = (0..45).map(|j| (j % 3) as f64).collect();
    let plan = solve(&supply, &demand, cost.view()).unwrap();
    check_plan(&plan, &supply, &demand, &cost);
    assert!(dual(&plan.flow, &cost, 1e-12).is_some());
}

#[test]
fn mistakes_are_named() {
    let cost = array![[1.0, 2.0], [3.0, 4.0]];
    let fails = |supply: &[f64], demand: &[f64], cost: &Array2<f64>, wanted: &[&str]| {
        let error = solve(supply, demand, cost.view()).unwrap_err();
        let message = error.to_string();
        for part in wanted {
            assert!(message.contains(part), "{message}: no `{part}`");
        }
        error
    };
    fails(&[1.0, f64::NAN], &[1.0, 1.0], &cost, &["supply[1]", "NaN"]);
    fails(&[1.0, 1.0], &[-1.0, 2.0], &cost, &["demand[0]", "-1"]);
    fails(
        &[1.0, f64::INFINITY],
        &[1.0, 1.0],
        &cost,
        &["supply[1]", "inf"],
    );
    fails(
        &[0.0, 0.0],
        &[1.0, 1.0],
        &cost,
        &["supply", "nothing to move"],
    );
    fails(
        &[],
        &[],
        &Array2::zeros((0, 0)),
        &["supply", "nothing to move"],
    );
    let error = fails(&[1.0], &[1.0, 1.0], &cost, &["1 supplies", "[2, 2]"]);
    assert!(matches!(error, Error::Shape { .. }));
    let infinite = array![[1.0, 2.0], [f64::INFINITY, 4.0]];
    fails(
        &[1.0, 1.0],
        &[1.0, 1.0],
        &infinite,
        &["cost[[1, 0]]", "large cost"],
    );
    let unknown = array![[1.0, f64::NAN], [1.0, 4.0]];
    fails(&[1.0, 1.0], &[1.0, 1.0], &unknown, &["cost[[0, 1]]", "NaN"]);
}
