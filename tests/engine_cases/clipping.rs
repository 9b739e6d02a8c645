//! Clipping of gradients, with and without the projections.

use textbrewer::{DistillationConfig, Distiller, IntermediateMatch, ProjectionSpec, Sgd};

use crate::common::tiny::{Net, config, distance, fill, general, loader, numbers};

/// How far one step of plain gradient descent at learning rate 1 moves the student and the
/// projections: the norms of their gradients.
fn moved(max_grad_norm: Option<f64>, clip_projections: bool) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let matched = IntermediateMatch::hidden(3, 1)
        .weight(5.0)
        .proj(ProjectionSpec::linear(4, 5));
    let mut distiller = general(
        &teacher,
        &student,
        config(folder.path()).clip_projections(clip_projections),
        DistillationConfig::default().intermediate_matches([matched]),
    )
    .unwrap();
    fill(distiller.projections(), 0.4);
    let before = (
        numbers(&student.variables),
        numbers(distiller.projections()),
    );
    let mut batches = loader(1);
    let mut run = distiller
        .train(&mut batches)
        .optimizer(Sgd::new(1.0))
        .epochs(1);
    if let Some(norm) = max_grad_norm {
        run = run.max_grad_norm(norm);
    }
    run.run().unwrap();
    let of_student = distance(&before.0, &numbers(&student.variables));
    let of_projections = distance(&before.1, &numbers(distiller.projections()));
    (of_student, of_projections)
}

fn near(got: f64, expected: f64) -> bool {
    // Half a thousandth: differences of 32-bit weights, and the 1e-6 in the formula.
    (got - expected).abs() < 5e-4 * expected
}

#[test]
fn clipping_covers_the_student_and_the_projections_when_asked_to() {
    let free = moved(None, false);
    let norm = 0.1;
    assert!(free.0 > 3.0 * norm && free.1 > 3.0 * norm, "{free:?}");

    let clipped = moved(Some(norm), false);
    assert!(near(clipped.0, norm), "{clipped:?}");
    assert!(near(clipped.1, free.1), "{clipped:?}");

    let clipped = moved(Some(norm), true);
    assert!(near(clipped.0.hypot(clipped.1), norm), "{clipped:?}");
    // One factor for both: their proportion is what it was.
    assert!(near(clipped.0 / clipped.1, free.0 / free.1), "{clipped:?}");
}

#[test]
fn a_norm_of_zero_or_one_that_is_not_reached_clips_nothing() {
    let free = moved(None, false);
    for norm in [0.0, -1.0, 1e6] {
        let clipped = moved(Some(norm), false);
        assert!(near(clipped.0, free.0) && near(clipped.1, free.1), "{norm}");
    }
}
