//! Mistakes that `build` finds.

use tch::{Cuda, Device};
use textbrewer::{
    AdamW, BasicDistiller, BasicTrainer, DistillationConfig, Distiller, GeneralDistiller,
    IntermediateMatch, PresetSpec, ProjectionSpec,
};

use crate::common::tiny::{Net, adapt, config, first_line, general, loader, square};
use textbrewer::distributed::ProcessGroup;

fn build(distill_config: DistillationConfig) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    first_line(general(
        &teacher,
        &student,
        config(folder.path()),
        distill_config,
    ))
}

fn with_match(matched: IntermediateMatch) -> DistillationConfig {
    DistillationConfig::default().intermediate_matches([matched])
}

#[test]
fn unknown_names_are_answered_with_those_that_are_known() {
    let base = DistillationConfig::default;
    let table = [
        (
            base().kd_loss_type("cross_entropy"),
            "kd_loss_type: unknown KD loss `cross_entropy`",
        ),
        (
            with_match(IntermediateMatch::hidden(0, 0).loss("l2")),
            "intermediate_matches[0].loss: unknown match loss `l2`",
        ),
        (
            with_match(IntermediateMatch::hidden(0, 0).proj(ProjectionSpec::new("conv", 4, 4))),
            "intermediate_matches[0].proj: unknown projection `conv`",
        ),
        (
            base().kd_loss_weight_scheduler("exponential"),
            "kd_loss_weight_scheduler: unknown weight scheduler `exponential`",
        ),
        (
            base().hard_label_weight_scheduler("exponential"),
            "hard_label_weight_scheduler: unknown weight scheduler `exponential`",
        ),
        (
            base().temperature_scheduler("fslw"),
            "temperature_scheduler: unknown temperature scheduler `fslw`",
        ),
    ];
    for (distill_config, message) in table {
        // Which names these are is tested in `tests/presets.rs`.
        let got = build(distill_config);
        assert!(got.starts_with(&format!("{message}; known: ")), "{got}");
    }
}

#[test]
fn wrong_arguments_of_schedulers_are_answered_with_the_right_ones() {
    let base = DistillationConfig::default;
    let table = [
        (
            base().temperature_scheduler(("flsw", [1.0])),
            "temperature_scheduler: `flsw` needs `gamma`; it takes (beta, gamma, eps = 0.0001)",
        ),
        (
            base().temperature_scheduler(("flsw", [1.0, 2.0, 3.0, 4.0])),
            "temperature_scheduler: `flsw` was given 4 arguments; \
             it takes (beta, gamma, eps = 0.0001)",
        ),
        (
            base().temperature_scheduler(PresetSpec::new("cwsm").named([("gamma", 1.0)])),
            "temperature_scheduler: `cwsm` has no parameter `gamma`; it takes (beta)",
        ),
        (
            base().kd_loss_weight_scheduler(("linear_decay", [1.0])),
            "kd_loss_weight_scheduler: `linear_decay` takes no arguments",
        ),
    ];
    for (distill_config, message) in table {
        assert_eq!(build(distill_config), message);
    }
}

#[test]
fn a_loss_takes_one_layer_or_a_list_but_not_the_other() {
    let table = [
        (
            IntermediateMatch::hidden(0, 0).loss("nst"),
            "intermediate_matches[0].layer_T: the loss `nst` takes a list of 2 layers",
        ),
        (
            IntermediateMatch::hidden([0, 1, 2], [0, 0, 1]).loss("fsp"),
            "intermediate_matches[0].layer_T: the loss `fsp` takes a list of 2 layers",
        ),
        (
            IntermediateMatch::hidden([0, 0], [1, 1]).loss("hidden_mse"),
            "intermediate_matches[0].layer_T: the loss `hidden_mse` takes one layer, not a list",
        ),
        (
            IntermediateMatch::hidden(0, [1, 1]).loss("nst"),
            "intermediate_matches[0]: layer_T (0) and layer_S ([1,1]) must both be one layer, \
             or lists of the same length",
        ),
    ];
    for (matched, message) in table {
        assert_eq!(build(with_match(matched)), message);
    }
}

#[test]
fn what_needs_a_process_group_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let base = || config(folder.path());
    let student = Net::new(2, 4, 0.2);
    for (train_config, message) in [
        (
            base().data_parallel(true),
            "data_parallel: is true: start a process for each device (`torchrun`, `srun`, \
             `distributed::Launch`) and give the run `.process_group(&ProcessGroup::from_env()?)`",
        ),
        (
            base().local_rank(0),
            "local_rank: is 0: start a process for each device",
        ),
    ] {
        let trainer = BasicTrainer::builder(&student, &student.variables);
        let trainer = trainer.train_config(train_config).adaptor(square).build();
        let mut loader = loader(2);
        let mut trainer = trainer.unwrap();
        let run = trainer.train(&mut loader).steps(1);
        let shown = first_line(run.optimizer(AdamW::new(0.1)).run());
        assert!(shown.starts_with(message), "{shown}");
    }
    // With a group they mean what it does.
    let group = ProcessGroup::from_env().unwrap();
    let as_group = base().local_rank(0).data_parallel(true);
    for (train_config, works) in [(as_group, true), (base().local_rank(1), false)] {
        let trainer = BasicTrainer::builder(&student, &student.variables);
        let trainer = trainer.train_config(train_config).adaptor(square).build();
        let mut loader = loader(2);
        let mut trainer = trainer.unwrap();
        let run = trainer.train(&mut loader).steps(1);
        let run = run.optimizer(AdamW::new(0.1)).process_group(&group);
        match run.run() {
            Ok(_) => assert!(works),
            error => assert_eq!(
                first_line(error),
                "local_rank: is 1, but this process has 0 in its group (it trains alone: was it started by \
                 torchrun or `launch`?); leave it at -1, the group \
                 knows it"
            ),
        }
    }
}

#[test]
fn keeping_the_teachers_outputs_must_make_sense() {
    let base = DistillationConfig::default;
    let matched = || with_match(IntermediateMatch::hidden(0, 0));
    let table = [
        (
            matched().is_caching_logits(true),
            "is_caching_logits: it keeps logits only, but `intermediate_matches` needs \
             the teacher's features at every step; set `cache_features` as well, which takes more \
             memory, or leave caching off",
        ),
        (
            base().cache_features(true),
            "cache_features: needs `is_caching_logits` = true",
        ),
        (
            base().cache_limit_mb(1),
            "cache_limit_mb: needs `is_caching_logits` = true",
        ),
    ];
    for (distill_config, message) in table {
        assert_eq!(build(distill_config), message);
    }
}

#[test]
fn a_distiller_of_logits_refuses_matches() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let built = BasicDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder.path()))
        .distill_config(with_match(IntermediateMatch::hidden(0, 0)))
        .adaptor(adapt)
        .build();
    assert_eq!(
        first_line(built),
        "intermediate_matches: BasicDistiller matches logits only; use GeneralDistiller"
    );
}

#[test]
fn a_missing_adaptor_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let builder = || {
        GeneralDistiller::builder(&teacher, &student, &student.variables)
            .train_config(config(folder.path()))
    };
    assert_eq!(
        first_line(builder().student_adaptor(adapt).build()),
        "teacher_adaptor: none was given; say what the model's output means"
    );
    assert_eq!(
        first_line(builder().teacher_adaptor(adapt).build()),
        "student_adaptor: none was given; say what the model's output means"
    );
    let trainer = BasicTrainer::builder(&student, &student.variables);
    let trainer = trainer.train_config(config(folder.path()));
    assert_eq!(
        first_line(trainer.build()),
        "adaptor: none was given; call `adaptor`"
    );
}

#[test]
fn a_device_that_is_not_there_or_not_the_models_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let with_device = |device| {
        let train_config = config(folder.path()).device(device);
        let distill_config = DistillationConfig::default();
        first_line(general(&teacher, &student, train_config, distill_config))
    };
    let shown = with_device(Device::Cuda(99));
    let found = Cuda::device_count().max(0);
    assert_eq!(
        shown,
        format!(
            "device: `cuda:99` is not there: libtorch finds {found} CUDA device(s) here; choose \
             another, or leave the key out to get CUDA where there is one and the CPU otherwise"
        )
    );
    // Where there is a first CUDA device, the student on the CPU does not fit it.
    let shown = with_device(Device::Cuda(0));
    let reason = match Cuda::is_available() {
        true => "the student's variables are on Cpu",
        false => "`cuda:0` is not there",
    };
    assert!(shown.contains(reason), "{shown}");
}
