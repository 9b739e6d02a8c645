//! Terms and distillers of a user's own, outside the crate: what the core knows cannot be
//! forgotten.

mod common;
#[path = "own_cases/losses.rs"]
mod losses;
#[path = "own_cases/mine.rs"]
mod mine;
#[path = "own_cases/needs.rs"]
mod needs;
#[path = "own_cases/state.rs"]
mod state;
#[path = "own_cases/traps.rs"]
mod traps;

use common::close;
use common::tiny::{batch, config, loader, losses_of};
use mine::{Mine, Scaled, distill_config, mine, nets};
use tch::Tensor;
use textbrewer::optim::Optimizer;
use textbrewer::{AdamW, DistillationConfig, Distiller, GeneralDistiller, MemorySink, Model, Run};

#[test]
fn a_term_of_ones_own_is_in_the_total_with_its_weight_and_its_parameters_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let term = Scaled::new(0.5);
    let scale = term.scale();
    let before = scale.copy();
    let distiller = mine(&teacher, &student, config(folder.path()), |builder| {
        builder.distill_config(distill_config()).term(term)
    })
    .unwrap();
    let log = MemorySink::new();
    let mut optimizer = AdamW::new(0.05);
    let mut batches = loader(3);
    let mut erased: Box<dyn Distiller<Batch = Tensor, Student = _>> = Box::new(distiller);
    let summary = Run::new(erased.as_mut(), &mut batches)
        .optimizer(&mut optimizer)
        .log_sink(log.clone())
        .epochs(4)
        .callback(|student: &common::tiny::Net, _| student.forward(&batch(0), false).map(drop))
        .run()
        .unwrap();
    assert_eq!(summary.global_steps, 12);
    let groups: Vec<_> = optimizer.groups().iter().map(|g| g.name.as_str()).collect();
    assert_eq!(groups, ["decay", "projection.0", "scaled"]);
    assert!(!scale.equal(&before), "its parameter is trained");

    let at = |name: &str, step: usize| log.curve(&format!("scalar/{name}"))[step].1;
    for step in 0..12 {
        let total = at("unweighted_kd_loss", step)
            + at("unweighted_hidden_hidden_mse_1_3", step)
            + 0.25 * at("unweighted_hard_label_loss", step)
            + 0.5 * at("scaled", step)
            + 0.01 * at("size", step);
        assert!(close(at("total_loss", step), total), "step {step}");
    }
    assert!(at("total_loss", 11) < at("total_loss", 0));
}

#[test]
fn its_losses_are_those_of_the_crates_own_distiller() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let config_of = |name| config(folder.path().join(name).as_path());
    let distilling = DistillationConfig::default().temperature_scheduler(("flsw", [1.0, 2.0]));
    let mut usual = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config_of("usual"))
        .distill_config(distilling.clone())
        .adaptor(mine::with_losses)
        .build()
        .unwrap();
    let mut own = mine(&teacher, &student, config_of("own"), |builder| {
        builder.distill_config(distilling)
    })
    .unwrap();
    let (usual, mut own) = (
        losses_of(&mut usual, &batch(0)),
        losses_of(&mut own, &batch(0)),
    );
    let size = own.remove("size").unwrap();
    *own.get_mut("total").unwrap() -= 0.01 * size;
    assert_eq!(
        usual.keys().collect::<Vec<_>>(),
        own.keys().collect::<Vec<_>>()
    );
    for (name, loss) in usual {
        assert!(close(own[&name], loss), "{name}");
    }
}

#[test]
fn the_builder_checks_for_it_what_it_checks_for_the_crates_own() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let built = |distilling: DistillationConfig| -> textbrewer::Result<Mine<'_>> {
        mine(&teacher, &student, config(folder.path()), |builder| {
            builder.distill_config(distilling)
        })
    };
    let error = built(distill_config().kd_loss_type("kd")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kd_loss_type: unknown KD loss `kd`; known: adaptive_kl, bce, ce, dist, dkd, forward_kl, \
         generalized_jsd, kl, mse, nkd, regression_mse, reverse_kl, skew_kl, skew_reverse_kl, \
         smooth_l1, taid, total_variation"
    );
}

#[test]
fn two_terms_or_parameters_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let built = |terms: [Scaled; 2]| {
        let [first, second] = terms;
        let result = GeneralDistiller::builder(&teacher, &student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(common::tiny::adapt)
            .term(first)
            .term(second)
            .build();
        result.map(drop).unwrap_err().to_string()
    };
    assert_eq!(
        built([Scaled::new(0.5), Scaled::new(0.5)]),
        "term `scaled`: there are two of this name; give each a name of its own"
    );
    assert_eq!(
        built([Scaled::new(0.5), Scaled::new(0.5).named("hard_labels")]),
        "term `hard_labels`: is one of the crate's own; choose another name"
    );
    assert_eq!(
        built([Scaled::new(0.5), Scaled::new(0.5).named("other")]),
        "term `other`: its parameter `scale` has the name of another one, of the student or of \
         a term; give it a name of its own"
    );
    let mut frozen = Scaled::new(0.5);
    frozen.freeze();
    let result = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(common::tiny::adapt)
        .term(frozen)
        .build();
    assert_eq!(
        result.map(drop).unwrap_err().to_string(),
        "term `scaled`: its parameter `scale` cannot be trained: it has no gradient of its own; \
         make it in a `VarStore`, or leave it out of `param_groups`"
    );
}
