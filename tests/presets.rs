//! Names: TextBrewer's, a user's own, and those nobody knows.

mod common;

use common::{assert_close, elements, waves};
use tch::nn::VarStore;
use tch::{Device, Kind, Reduction, Tensor};
use textbrewer::config::PresetSpec;
use textbrewer::losses::{self, Temperature};
use textbrewer::{KdInput, Presets};

fn number(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

#[test]
fn a_users_own_losses_are_found_by_their_names() {
    let presets = Presets::default()
        .kd_loss("l1", |student, teacher, _temperature| {
            Ok(student.f_l1_loss(teacher, Reduction::Mean)?)
        })
        .match_loss("l1", |student, teacher, _mask| {
            Ok(student.f_l1_loss(teacher, Reduction::Sum)?)
        })
        .match_loss_on_several("first", None, |student, teacher, _mask| {
            Ok(student[0].f_l1_loss(&teacher[0], Reduction::Mean)?)
        });
    let (student, teacher) = (
        Tensor::from_slice(&[1.0, 2.0]),
        Tensor::from_slice(&[2.0, 5.0]),
    );
    let loss = presets.find_kd_loss("kd_loss_type", "l1").unwrap();
    let input = KdInput::new(&student, &teacher, 1.0).unwrap();
    assert_eq!(number(&loss.apply(&input).unwrap()), 2.0);

    let loss = presets.find_match_loss("loss", "l1").unwrap();
    let (student, teacher) = ([student], [teacher]);
    assert_eq!(number(&loss.apply(&student, &teacher, None).unwrap()), 4.0);
    let loss = presets.find_match_loss("loss", "first").unwrap();
    assert_eq!((loss.takes_lists(), loss.layers()), (true, None));
    assert_eq!(number(&loss.apply(&student, &teacher, None).unwrap()), 2.0);
}

#[test]
fn a_name_that_is_there_is_replaced_and_only_in_this_value() {
    let before = Presets::default();
    let after = before
        .clone()
        .weight_scheduler("linear_decay", |x| (1.0 - x).powi(2));
    let at_half = |presets: &Presets| {
        let found =
            presets.find_weight_scheduler("kd_loss_weight_scheduler", Some(&"linear_decay".into()));
        found.unwrap().unwrap()(0.5)
    };
    assert_eq!((at_half(&before), at_half(&after)), (0.5, 0.25));
}

#[test]
fn names_stand_for_the_functions_of_the_crate() {
    let presets = Presets::default();
    for name in ["fsp", "gram", "mmd", "nst"] {
        let loss = presets.find_match_loss("loss", name).unwrap();
        assert_eq!((loss.takes_lists(), loss.layers()), (true, Some(2)));
    }
    let kl = presets.find_kd_loss("kd_loss_type", "kl").unwrap();
    let (student, teacher) = (waves(&[2, 3, 4], 0.1), waves(&[2, 3, 4], 0.3));
    assert_eq!(
        number(
            &kl.apply(&KdInput::new(&student, &teacher, 2.0).unwrap())
                .unwrap()
        ),
        number(&losses::kd_kl(&student, &teacher, &Temperature::Constant(2.0)).unwrap()),
    );
}

/// The table in the documentation of [`Presets`]; `tests/book.rs` does the same for the book.
#[test]
fn the_documentation_lists_every_name() {
    let presets = Presets::default();
    let kinds: [(&str, Vec<&str>); 5] = [
        ("KD losses", presets.kd_losses().collect()),
        ("match losses", presets.match_losses().collect()),
        ("projections", presets.projections().collect()),
        ("weight schedulers", presets.weight_schedulers().collect()),
        (
            "temperature schedulers",
            presets.temperature_schedulers().collect(),
        ),
    ];
    let text = include_str!("../src/presets/mod.rs");
    for (kind, names) in &kinds {
        let start = format!("/// | {kind}");
        let row = text.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("there is no row of {kind}"));
        for name in names {
            let listed = row.contains(&format!("`{name}`"));
            assert!(listed, "`{name}` is not among the {kind}");
        }
    }
}

#[test]
fn a_loss_says_how_many_states_it_takes() {
    let presets = Presets::default();
    let states = [waves(&[2, 3, 4], 0.1), waves(&[2, 3, 4], 0.2)];
    let apply = |name: &str, count: usize| {
        let loss = presets.find_match_loss("loss", name).unwrap();
        let error = loss.apply(&states[..count], &states, None).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        apply("cos", 1),
        "match loss, states a side: expected 1 (one layer, not a list), got student 1 and \
         teacher 2"
    );
    assert_eq!(
        apply("nst", 1),
        "match loss, states a side: expected 2 (a list of 2 layers), got student 1 and teacher 2"
    );
}

#[test]
fn unknown_names_are_refused_with_those_that_are_known() {
    let presets = Presets::default().kd_loss("mine", losses::kd_mse);
    let variables = VarStore::new(Device::Cpu);
    let spec = PresetSpec::new("flws");
    let listed = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
    let cases = [
        (
            presets.find_kd_loss("kd_loss_type", "kd").err(),
            "kd_loss_type: unknown KD loss `kd`",
            listed(&mut presets.kd_losses()),
        ),
        (
            presets.find_match_loss("matches[1].loss", "cosine").err(),
            "matches[1].loss: unknown match loss `cosine`",
            listed(&mut presets.match_losses()),
        ),
        (
            presets
                .make_projection("proj", "gelu", &variables.root(), 2, 3)
                .err(),
            "proj: unknown projection `gelu`",
            listed(&mut presets.projections()),
        ),
        (
            presets
                .find_weight_scheduler("hard_label_weight_scheduler", Some(&"linear".into()))
                .err(),
            "hard_label_weight_scheduler: unknown weight scheduler `linear`",
            listed(&mut presets.weight_schedulers()),
        ),
        (
            presets
                .find_temperature_scheduler("temperature_scheduler", Some(&spec))
                .err(),
            "temperature_scheduler: unknown temperature scheduler `flws`",
            listed(&mut presets.temperature_schedulers()),
        ),
    ];
    for (error, expected, known) in cases {
        let expected = format!("{expected}; known: {known}");
        assert_eq!(error.unwrap().to_string(), expected);
    }
    let names: Vec<&str> = presets.kd_losses().collect();
    assert!(names.is_sorted() && names.contains(&"mine") && names.contains(&"ce"));
}

#[test]
fn no_name_is_no_schedule() {
    let presets = Presets::default();
    assert!(
        presets
            .find_weight_scheduler("field", None)
            .unwrap()
            .is_none()
    );
    let found = presets.find_temperature_scheduler("field", None).unwrap();
    assert!(found.is_none());
}

#[test]
fn arguments_go_by_position_or_by_name() {
    let presets = Presets::default().temperature_scheduler(
        "echo",
        &[("a", None), ("b", Some(7.0))],
        |arguments| {
            let shown = arguments.to_vec();
            move |_student: &Tensor, _teacher: &Tensor, _base: f64| {
                Ok(Temperature::Each(Tensor::from_slice(&shown)))
            }
        },
    );
    let logits = waves(&[2, 3], 0.1);
    let arguments = |spec: PresetSpec| {
        let found = presets.find_temperature_scheduler("temperature_scheduler", Some(&spec));
        match found.unwrap().unwrap()(&logits, &logits, 1.0).unwrap() {
            Temperature::Each(values) => elements(&values),
            other => panic!("{other:?}"),
        }
    };
    let echo = || PresetSpec::new("echo");
    assert_eq!(arguments(echo().positional([1.0])), [1.0, 7.0]);
    assert_eq!(arguments(echo().positional([1.0, 2.0])), [1.0, 2.0]);
    assert_eq!(arguments(echo().named([("a", 1.0)])), [1.0, 7.0]);
    assert_eq!(
        arguments(echo().named([("b", 2.0), ("a", 1.0)])),
        [1.0, 2.0]
    );
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let presets = Presets::default();
    let refused = |spec: PresetSpec| {
        let found = presets.find_temperature_scheduler("temperature_scheduler", Some(&spec));
        found.err().unwrap().to_string()
    };
    let flsw = || PresetSpec::new("flsw");
    assert_eq!(
        refused(flsw().positional([1.0])),
        "temperature_scheduler: `flsw` needs `gamma`; it takes (beta, gamma, eps = 0.0001)"
    );
    assert_eq!(
        refused(flsw().positional([1.0; 4])),
        "temperature_scheduler: `flsw` was given 4 arguments; it takes (beta, gamma, eps = 0.0001)"
    );
    assert_eq!(
        refused(flsw().named([("beta", 1.0), ("gama", 2.0)])),
        "temperature_scheduler: `flsw` has no parameter `gama`; it takes (beta, gamma, eps = 0.0001)"
    );
    assert_eq!(
        refused(flsw().named([("gamma", 2.0)])),
        "temperature_scheduler: `flsw` needs `beta`; it takes (beta, gamma, eps = 0.0001)"
    );
    let weight = PresetSpec::new("linear_decay").positional([2.0]);
    let found = presets.find_weight_scheduler("kd_loss_weight_scheduler", Some(&weight));
    assert_eq!(
        found.err().unwrap().to_string(),
        "kd_loss_weight_scheduler: `linear_decay` takes no arguments"
    );
    assert_eq!(
        refused(PresetSpec::new("constant").positional([1.0])),
        "temperature_scheduler: `constant` was given 1 arguments; it takes no arguments"
    );
}

#[test]
fn a_left_out_eps_is_textbrewers() {
    let presets = Presets::default();
    let (student, teacher) = (waves(&[3, 5], 0.1) * 1e-3, waves(&[3, 5], 0.5) * 1e-3);
    let values = |spec: PresetSpec| {
        let found = presets.find_temperature_scheduler("temperature_scheduler", Some(&spec));
        match found.unwrap().unwrap()(&student, &teacher, 4.0).unwrap() {
            Temperature::Each(values) => values,
            other => panic!("{other:?}"),
        }
    };
    let flsw = || PresetSpec::new("flsw");
    let left_out = values(flsw().positional([1.0, 2.0]));
    assert_eq!(left_out, values(flsw().positional([1.0, 2.0, 1e-4])));
    assert_ne!(left_out, values(flsw().positional([1.0, 2.0, 1e-3])));
}

#[test]
fn temperatures_are_computed_without_gradient() {
    let presets = Presets::default();
    let student = waves(&[2, 3, 5], 0.1).set_requires_grad(true);
    let teacher = waves(&[2, 3, 5], 0.5);
    for spec in [
        PresetSpec::new("flsw").positional([1.0, 2.0]),
        PresetSpec::new("cwsm").positional([1.0]),
    ] {
        let found = presets.find_temperature_scheduler("temperature_scheduler", Some(&spec));
        match found.unwrap().unwrap()(&student, &teacher, 4.0).unwrap() {
            Temperature::Each(values) => {
                assert!(!values.requires_grad());
                assert_eq!(values.size(), [2, 3]);
                // The weights' mean goes out of it again.
                assert!((values.mean(None).double_value(&[]) - 4.0).abs() < 1e-12);
            }
            other => panic!("{other:?}"),
        }
    }
    let spec = PresetSpec::new("constant");
    let found = presets.find_temperature_scheduler("temperature_scheduler", Some(&spec));
    let temperature = found.unwrap().unwrap()(&student, &teacher, 4.0).unwrap();
    assert!(matches!(temperature, Temperature::Constant(4.0)));
}

#[test]
fn flsw_of_vectors_that_agree_is_no_nan() {
    // With an `eps` of 0 rounding takes 1 − cos below 0 here or there.
    let logits = waves(&[200, 7], 0.1).to_kind(Kind::Float) * 100.0;
    let flsw = textbrewer::schedule::temperature::flsw(1.0, 0.5, 0.0);
    match flsw(&logits, &logits, 4.0).unwrap() {
        Temperature::Each(values) => assert!(elements(&values).iter().all(|v| v.is_finite())),
        other => panic!("{other:?}"),
    }
    let error = flsw(&logits, &waves(&[1, 7], 0.1), 4.0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "temperature schedule `flsw`: expected logits of one shape, got student [200, 7] and \
         teacher [1, 7]"
    );
}

#[test]
fn projections_compute_what_their_names_say() {
    let presets = Presets::default();
    let state = waves(&[3, 4, 6], 0.3).to_kind(Kind::Float);
    for name in ["linear", "relu", "tanh"] {
        let variables = VarStore::new(Device::Cpu);
        let path = variables.root().sub("projection").sub(3);
        let projection = presets
            .make_projection("intermediate_matches[3].proj", name, &path, 6, 9)
            .unwrap();
        let found = variables.variables();
        let weight = &found["projection.3.weight"];
        let bias = &found["projection.3.bias"];
        assert_eq!(found.len(), 2);
        assert_eq!((weight.size(), bias.size()), (vec![9, 6], vec![9]));
        assert!(elements(bias).iter().all(|&value| value == 0.0));
        tch::no_grad(|| {
            let _ = bias.shallow_clone().fill_(0.05);
        });

        let linear = state.matmul(&weight.tr()) + 0.05;
        let expected = match name {
            "relu" => linear.clamp_min(0.0),
            "tanh" => linear.tanh(),
            _ => linear,
        };
        let projected = projection.forward(&state).unwrap();
        assert_close(name, &projected, &expected);
        projected.sum(None).backward();
        assert!(weight.grad().defined() && bias.grad().defined());
        assert_eq!((projection.dim_in(), projection.dim_out()), (6, 9));
        assert!(format!("{projection:?}").contains(name));
    }
}

#[test]
fn new_projections_have_weights_of_berts_spread() {
    let variables = VarStore::new(Device::Cpu);
    let presets = Presets::default();
    presets
        .make_projection("proj", "linear", &variables.root(), 300, 400)
        .unwrap();
    let weight = &variables.variables()["weight"];
    // 120 000 draws: the mean is within 5 standard errors, the deviation within 2 %.
    assert!(weight.mean(None).double_value(&[]).abs() < 5.0 * 0.02 / 120_000f64.sqrt());
    let deviation = weight.std(true).double_value(&[]);
    assert!((deviation - 0.02).abs() < 4e-4, "{deviation}");
}

#[test]
fn projections_refuse_what_does_not_fit() {
    let presets = Presets::default();
    let variables = VarStore::new(Device::Cpu);
    let root = variables.root();
    let make = |dim_in, dim_out| presets.make_projection("proj", "linear", &root, dim_in, dim_out);
    let error = make(4, 3)
        .unwrap()
        .forward(&waves(&[2, 5], 0.1))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "projection `linear` from 4 to 3: expected the student's state [.., 4] (the second \
         element of `proj` is the student's size, the third the teacher's), got [2, 5]"
    );
    assert_eq!(
        make(0, 3).unwrap_err().to_string(),
        "proj: `linear` needs positive sizes, got 0 and 3"
    );

    let presets = presets.projection("same", |_path, _dim_in, _dim_out| {
        Ok(Box::new(|state| Ok(state.shallow_clone())))
    });
    let projection = presets
        .make_projection("proj", "same", &root, 4, 3)
        .unwrap();
    assert_eq!(
        projection
            .forward(&waves(&[2, 4], 0.1))
            .unwrap_err()
            .to_string(),
        "projection `same` from 4 to 3: expected its function to return [.., 3], got [2, 4]"
    );
}

#[test]
fn debug_shows_the_names() {
    let shown = format!("{:?}", Presets::default().kd_loss("mine", losses::kd_ce));
    for part in ["\"mine\"", "\"hidden_mse\"", "\"tanh\"", "\"cwsm\""] {
        assert!(shown.contains(part), "{shown}");
    }
}
