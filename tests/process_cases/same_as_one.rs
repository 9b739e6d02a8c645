//! Several processes come to what one comes to with as many batches in a step.

use std::path::Path;

use textbrewer::distributed::ProcessGroup;
use textbrewer::logging::LogAxis;
use textbrewer::{AdamW, DistillationConfig, Distiller, MemorySink};

use crate::common::ranks::in_processes;
use crate::common::tiny::{
    Net, config, fill_projections, general, loader, numbers, projected_numbers,
};

/// What a training came to.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Result {
    weights: Vec<f64>,
    losses: Vec<(String, f64, u64)>,
}

fn distillation() -> DistillationConfig {
    let text = r#"{"temperature": 4, "intermediate_matches": [
        {"layer_T": 1, "layer_S": 0, "feature": "hidden", "loss": "hidden_mse", "weight": 1,
         "proj": ["linear", 4, 6]}]}"#;
    DistillationConfig::from_json_str(text).unwrap()
}

fn train(folder: &Path, group: Option<&ProcessGroup>, of_a_step: u64) -> Result {
    let rank = group.map_or(0, ProcessGroup::rank);
    let teacher = Net::new(3, 6, 0.5);
    // The first process's student is the one that counts.
    let student = Net::new(2, 4, 0.25 + rank as f64);
    let config = config(folder).gradient_accumulation_steps(of_a_step);
    let mut distiller = general(&teacher, &student, config, distillation()).unwrap();
    if rank == 0 {
        fill_projections(&distiller);
    }
    let losses = MemorySink::new();
    let mut loader = loader(8);
    let mut run = distiller
        .train(&mut loader)
        .epochs(2)
        .optimizer(AdamW::new(0.01))
        .max_grad_norm(0.5)
        .log_axis(LogAxis::OptimizerStep)
        .log_sink(losses.clone());
    if let Some(group) = group {
        run = run.process_group(group);
    }
    run.run().unwrap();
    let mut weights = numbers(&student.variables);
    weights.extend(projected_numbers(&distiller));
    Result {
        weights,
        losses: losses.scalars(),
    }
}

fn results(test: &str, world_size: usize) -> Option<Vec<Result>> {
    let folder = in_processes(test, world_size, |group, folder| {
        let result = train(&folder.join("run"), Some(group), 1);
        let path = folder.join(format!("{}.json", group.rank()));
        std::fs::write(path, serde_json::to_string(&result).unwrap()).unwrap();
    })?;
    let of = |rank: usize| {
        let path = folder.path().join(format!("{rank}.json"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    Some((0..world_size).map(of).collect())
}

#[test]
fn two_are_one_to_the_bit() {
    let Some(results) = results("same_as_one::two_are_one_to_the_bit", 2) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let one = train(folder.path(), None, 2);
    assert_eq!(results[0].weights, one.weights);
    assert_eq!(results[1].weights, one.weights);
    let losses = |result: &Result| {
        let mut losses = result.losses.clone();
        losses.retain(|(name, ..)| !name.contains("per_second"));
        losses
    };
    assert_eq!(losses(&results[0]), losses(&one));
    assert!(results[1].losses.is_empty());
}
