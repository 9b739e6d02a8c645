//! Contrastive distillation with a memory of all examples, which the test keeps.

use tch::Tensor;
use textbrewer::losses::crd;

use super::case::{Case, Run};

pub fn known() -> Vec<(&'static str, Run)> {
    vec![("crd", with_a_memory)]
}

fn with_a_memory(case: &Case<'_>) {
    let embedding = |side: &str, of: &str| {
        let bias = case.input(&format!("embed_{of}_bias"));
        let rows = case
            .input(side)
            .linear(&case.input(&format!("embed_{of}_weight")), Some(&bias));
        &rows
            / rows
                .square()
                .sum_dim_intlist([1i64].as_slice(), true, None)
                .sqrt()
    };
    let (student, teacher) = (embedding("student", "s"), embedding("teacher", "t"));
    let contrast = case.input("contrast");
    assert_eq!(contrast.size()[1] as f64, case.number("negatives") + 1.0);
    let (temperature, samples) = (case.number("temperature"), case.number("samples"));
    let side = |embeddings: &Tensor, memory: &str, normalizer: &str| {
        let memory = case.input(memory);
        let candidates = memory.index(&[Some(&contrast)]);
        let normalizer = case.arg(normalizer).as_f64();
        crd(embeddings, &candidates, temperature, samples, normalizer).unwrap()
    };
    let loss = side(&student, "memory_teacher", "z_student")
        + side(&teacher, "memory_student", "z_teacher");
    case.is(&loss);
    // How a memory is kept is the caller's.
    let momentum = case.number("momentum");
    let indices = case.input("indices");
    for (name, rows) in [("memory_student", &student), ("memory_teacher", &teacher)] {
        let memory = case.input(name).copy();
        let moved = memory.index_select(0, &indices) * momentum + rows.detach() * (1.0 - momentum);
        let length = moved
            .square()
            .sum_dim_intlist([1i64].as_slice(), true, None)
            .sqrt();
        case.output_is(name, &memory.index_copy(0, &indices, &(&moved / length)));
    }
}
