//! What a training step costs, in numbers that are the same on every machine: operators of
//! libtorch, allocations of its tensors, and allocations of this crate.
//!
//! A needless clone, detach or read of a value makes one of these tests fail. When a change
//! makes a step cheaper, lower the number here.

#[path = "../../common/mod.rs"]
mod common;

use std::collections::BTreeMap;

use allocation_counter::AllocationInfo;
use common::device::device;
use common::tiny::{Net, batch, config, general, loader};
use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::config::LayerSelection;
use textbrewer::losses::{Temperature, hidden_mse, kd_ce, mmd};
use textbrewer::models::{BertConfig, BertInputs, BertModel};
use textbrewer::optim::{Optimizer, clip_grad_norm, param_groups};
use textbrewer::{
    AdamW, Batch, DataLoader, DistillationConfig, Distiller, GeneralDistiller, IntermediateMatch,
    LossReport, MemorySink, Model, Run, StepInfo, TrainingConfig,
};
use torch_meter::{Usage, measure};

/// The steps between two reads of the losses.
const INTERVAL: u64 = 20;

/// Operators by name, how often in [`INTERVAL`] steps.
type Operators = BTreeMap<String, i64>;

/// Logits and two matches: three terms.
fn distiller<'a>(
    teacher: &'a Net,
    student: &'a Net,
    config: TrainingConfig,
) -> GeneralDistiller<'a, Tensor, Net> {
    let matches = [
        IntermediateMatch::hidden(3, 1),
        IntermediateMatch::hidden([0, 3], [0, 1]).loss("nst"),
    ];
    let distill_config = DistillationConfig::default()
        .temperature(8.0)
        .intermediate_matches(matches);
    let config = config.log_interval(INTERVAL);
    general(teacher, student, config, distill_config).unwrap()
}

type TinyRun<'r, 'd> = Run<'r, GeneralDistiller<'d, Tensor, Net>>;

/// How many epochs of the five batches begin in an interval.
const EPOCHS: i64 = INTERVAL as i64 / 5;

fn nets() -> (Net, Net) {
    (Net::new(4, 5, 0.1), Net::new(2, 5, 0.2))
}

/// What `INTERVAL` steps of a long run cost: its beginning, its end and its checkpoint are
/// in both of two runs, and drop out of their difference.
fn engine_steps() -> (Usage, AllocationInfo) {
    engine_steps_of(|run| run)
}

fn engine_steps_of(
    change: impl for<'r, 'd> Fn(TinyRun<'r, 'd>) -> TinyRun<'r, 'd>,
) -> (Usage, AllocationInfo) {
    let run = |steps: u64| {
        let folder = tempfile::tempdir().unwrap();
        let (teacher, student) = nets();
        let mut distiller = distiller(&teacher, &student, config(folder.path()));
        let mut batches = loader(5);
        let run = || {
            let run = distiller.train(&mut batches).steps(steps);
            let run = run.schedule(|_, _| 0.5).optimizer(AdamW::new(1e-3));
            change(run.progress(false)).run().unwrap();
        };
        let mut usage = Usage::default();
        let allocated = allocation_counter::measure(|| usage = measure(run).1);
        (usage, allocated)
    };
    let (short, short_allocated) = run(2 * INTERVAL);
    let (long, long_allocated) = run(3 * INTERVAL);
    let allocated = AllocationInfo {
        count_total: long_allocated.count_total - short_allocated.count_total,
        ..AllocationInfo::default()
    };
    (less(&long, &short), allocated)
}

/// What the same steps cost in a plain loop, of the same calls for batch, losses, backward
/// pass and optimizer.
fn plain_steps() -> (Usage, AllocationInfo) {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let mut distiller = distiller(&teacher, &student, config(folder.path()));
    let mut optimizer = AdamW::new(1e-3);
    for group in param_groups(&student.variables, &[]) {
        optimizer.add_group(group).unwrap();
    }
    let mut batches = loader(5);
    let mut steps = |count: u64| {
        let mut done = 0;
        for epoch in 1.. {
            batches.start_epoch(epoch).unwrap();
            while let Some(batch) = batches.next_batch().unwrap() {
                let step = StepInfo::new(done, done, count, epoch);
                let batch = Batch::to_device(&batch, device()).unwrap();
                let report = distiller.train_on_batch(&batch, &step).unwrap();
                report.total().unwrap().backward();
                optimizer.step(0.5).unwrap();
                optimizer.zero_grad().unwrap();
                done += 1;
                if done == count {
                    return;
                }
            }
        }
    };
    // The state of the optimizer, and the gradients, are made in the first.
    steps(1);
    let mut usage = Usage::default();
    let allocated = allocation_counter::measure(|| usage = measure(|| steps(INTERVAL)).1);
    (usage, allocated)
}

/// What one cost more than another; what it cost less has a negative number.
fn less(usage: &Usage, than: &Usage) -> Usage {
    let mut operators = usage.operators.clone();
    for (name, calls) in &than.operators {
        *operators.entry(name.clone()).or_default() -= calls;
    }
    operators.retain(|_, calls| *calls != 0);
    Usage {
        operators,
        allocations: usage.allocations - than.allocations,
        kept_bytes: usage.kept_bytes - than.kept_bytes,
        peak_bytes: usage.peak_bytes - than.peak_bytes,
    }
}

/// That no operator ran more often than is known.
fn assert_at_most(operators: &Operators, known: &[(&str, i64)]) {
    for (name, calls) in operators {
        let known = known.iter().find(|(known, _)| known == name);
        let most = known.map_or(0, |(_, most)| *most);
        assert!(
            *calls <= most,
            "{name}: {calls} times, {most} are known; all: {operators:#?}"
        );
    }
}

/// 1 where values are on a device from which they have to be read, and which has a random
/// generator of its own; 0 on the CPU.
fn elsewhere() -> i64 {
    i64::from(device() != Device::Cpu)
}

/// Reading a value makes the host wait for the device.
const READS: [&str; 4] = [
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
];

/// Besides what its plain loop needs, the engine copies the values of the terms and of their
/// sum, four in a step, into one tensor, and reads those of all steps together once per
/// interval: `stack`, which makes a view of each value, then `cat`, and the conversion of that
/// to double.
#[test]
fn the_engine_runs_few_operators_of_its_own() {
    let (engine, _) = engine_steps();
    let (plain, _) = plain_steps();
    let steps = INTERVAL as i64;
    let values = 4 * steps;
    let known = [
        ("aten::unsqueeze", values),
        ("aten::as_strided", values),
        ("aten::stack", steps),
        ("aten::cat", steps + 1),
        ("aten::to", 3),
        ("aten::_to_copy", 1 + elsewhere()),
        ("aten::copy_", 1 + elsewhere()),
        ("aten::empty_strided", 1 + elsewhere()),
    ];
    assert_at_most(&less(&engine, &plain).operators, &known);
}

#[test]
fn the_engine_makes_one_small_tensor_in_a_step() {
    let (engine, _) = engine_steps();
    let (plain, _) = plain_steps();
    let own = engine.allocations - plain.allocations;
    // The values of each step; those of all that are read together, and the same as double;
    // and at the beginning of an epoch the state of the random generator, to come back to.
    let most = INTERVAL as i64 + 2 + elsewhere() + EPOCHS * (1 + elsewhere());
    assert!(own <= most, "{own} tensors in {INTERVAL} steps");
}

#[test]
fn memory_does_not_grow_with_the_steps() {
    let (engine, _) = engine_steps();
    assert_eq!(engine.kept_bytes, 0);
    // Blocks of CUDA's allocator can be 1 MB larger than what they are for.
    let most = elsewhere() << 20;
    assert!(engine.peak_bytes.abs() <= most, "{}", engine.peak_bytes);
}

/// Names, values and what holds them, for three terms and their sum.
#[test]
fn the_engine_allocates_little() {
    let own = engine_steps().1.count_total as i64 - plain_steps().1.count_total as i64;
    let most = 24 * INTERVAL as i64 + 10 * EPOCHS * (1 + elsewhere());
    assert!(
        own <= most,
        "{own} allocations in {INTERVAL} steps, {most} are known"
    );
}

/// One fused operator for all parameters of a group.
#[test]
fn an_optimizer_step_runs_a_fixed_number_of_operators() {
    let (_, student) = nets();
    let mut optimizer = AdamW::new(1e-3);
    for group in param_groups(&student.variables, &[]) {
        optimizer.add_group(group).unwrap();
    }
    let variables = student.variables.trainable_variables();
    for variable in &variables {
        variable.square().sum(None).backward();
    }
    optimizer.step(1.0).unwrap();
    let (_, usage) = measure(|| optimizer.step(1.0).unwrap());
    let parameters = variables.len() as i64;
    let known = [
        ("aten::_fused_adamw_", 1),
        // On the CPU it looks up each parameter's count of steps; elsewhere all are counted
        // together, where they are.
        ("aten::_local_scalar_dense", parameters * (1 - elsewhere())),
        ("aten::item", parameters * (1 - elsewhere())),
        ("aten::_foreach_add_", elsewhere()),
    ];
    assert_at_most(&usage.operators, &known);
    assert_eq!(usage.allocations, 0, "{usage:#?}");
}

#[test]
fn a_distiller_runs_the_models_and_the_losses_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let mut distiller = distiller(&teacher, &student, config(folder.path()));
    let (batch, step) = (batch(0).to_device(device()), StepInfo::new(0, 0, 1, 1));
    // A device takes memory for its matrix products when it is first asked for one.
    drop(distiller.train_on_batch(&batch, &step).unwrap());
    let (_, distilled) = measure(|| distiller.train_on_batch(&batch, &step).unwrap());
    let (_, by_hand) = measure(|| {
        let teacher = {
            let _guard = tch::no_grad_guard();
            teacher.forward(&batch, false).unwrap()
        };
        let student = student.forward(&batch, true).unwrap();
        let pair = |hidden: &[Tensor], layers: [usize; 2]| {
            layers.map(|layer| hidden[layer].shallow_clone())
        };
        let mut report = LossReport::new();
        let temperature = Temperature::Constant(8.0);
        report
            .add(
                "kd",
                kd_ce(&student.logits, &teacher.logits, &temperature).unwrap(),
                1.0,
            )
            .add(
                "mse",
                hidden_mse(&student.hidden[1], &teacher.hidden[3], None).unwrap(),
                1.0,
            )
            .add(
                "nst",
                mmd(
                    &pair(&student.hidden, [0, 1]),
                    &pair(&teacher.hidden, [0, 3]),
                    None,
                )
                .unwrap(),
                1.0,
            );
        report
    });
    let own = less(&distilled, &by_hand);
    assert_at_most(&own.operators, &[]);
    assert!(own.allocations <= 0, "{own:#?}");
}

/// But for the fused kernel of the CPU itself, which looks up each parameter's count of
/// steps; it is on the CPU there, and the kernels of other devices read theirs in place.
#[test]
fn a_step_reads_no_value() {
    let (engine, _) = engine_steps();
    let parameters = nets().1.variables.trainable_variables().len() as i64;
    for read in READS {
        let counts = match read {
            "aten::_local_scalar_dense" => INTERVAL as i64 * parameters * (1 - elsewhere()),
            _ => 0,
        };
        assert_eq!(
            engine.calls_of(read),
            counts,
            "{read}: {:#?}",
            engine.operators
        );
    }
}

/// The norm of the gradients is in the one transfer of the losses; the learning rate is no tensor.
#[test]
fn a_log_reads_no_value_of_its_own() {
    let (without, _) = engine_steps_of(|run| run.max_grad_norm(1.0));
    let (with, _) = engine_steps_of(|run| run.max_grad_norm(1.0).log_sink(MemorySink::new()));
    let known = [
        ("aten::reshape", INTERVAL as i64),
        ("aten::view", INTERVAL as i64),
    ];
    let own = less(&with, &without);
    assert_at_most(&own.operators, &known);
    assert!(!own.operators.is_empty(), "the norm is logged");
}

/// The one value that is read is the bound of the factor, which is on the CPU on every device.
#[test]
fn clipping_reads_no_value_of_a_gradient() {
    let (_, student) = nets();
    let variables = student.variables.trainable_variables();
    for variable in &variables {
        variable.square().sum(None).backward();
    }
    let (_, clipping) = measure(|| clip_grad_norm(&variables, 0.1).unwrap());
    let reads: i64 = READS.iter().map(|read| clipping.calls_of(read)).sum();
    assert!(reads <= 1, "{:#?}", clipping.operators);
}

/// Three views and their copy into one tensor, of a layer that is asked for; nothing of the others.
#[test]
fn queries_keys_and_values_cost_one_copy_where_they_are_asked_for() {
    let config = BertConfig::default()
        .vocab_size(30)
        .hidden_size(8)
        .intermediate_size(16)
        .num_attention_heads(2)
        .num_hidden_layers(3);
    let inputs = || BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]]).to_device(device()));
    let forward = |layers: LayerSelection| {
        let variables = VarStore::new(device());
        let model = BertModel::new(&variables.root(), &config).unwrap();
        let (model, inputs) = (model.output_qkv(layers), inputs());
        drop(model.forward(&inputs, true));
        let (output, usage) = measure(|| model.forward(&inputs, true).unwrap());
        assert_eq!(output.last_hidden_state.size(), [1, 3, 8]);
        usage
    };
    let none = forward(LayerSelection::None);
    assert_eq!(none.calls_of("aten::stack"), 0);
    let own = less(&forward([1].into()), &none);
    assert_eq!((own.allocations, own.calls_of("aten::stack")), (1, 1));
    let copies = ["aten::view", "aten::stack", "aten::cat"];
    let other = own
        .operators
        .keys()
        .filter(|name| !copies.contains(&name.as_str()));
    assert_eq!(other.collect::<Vec<_>>(), [""; 0], "{:#?}", own.operators);
}

/// That the meter sees what the others look for.
#[test]
fn the_meter_counts() {
    let tensor = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]);
    let (_, usage) = measure(|| tensor.copy().double_value(&[0]));
    assert_eq!(usage.calls_of("aten::_local_scalar_dense"), 1, "{usage:?}");
    assert!(usage.calls() > 1);
    assert_eq!((usage.allocations, usage.kept_bytes), (1, 0), "{usage:?}");
    let (kept, usage) = measure(|| &tensor + &tensor);
    assert!(usage.kept_bytes >= 16 && usage.kept_bytes == usage.peak_bytes);
    assert_eq!(kept.size(), [4]);
}
