//! Losses on every kind of logits.

use crate::common::said::kd_loss_of;
use crate::common::{elements, waves};
use tch::{Kind, Tensor};
use textbrewer::logits::{FromHidden, TopK};
use textbrewer::{AdaptorOutput, DistillationConfig, Logits, Presets, Result};

use crate::{from_hidden, step, top_k};

fn kd(
    config: DistillationConfig,
    student: AdaptorOutput,
    teacher: AdaptorOutput,
) -> Result<Tensor> {
    let presets = Presets::default().kd_loss_per_position("top", |input| match &input.teacher {
        Logits::TopK(top) => {
            // −Σ over the k of p log q.
            let logs = input.student.whole()?.f_log_softmax(-1, None)?;
            let logs = logs.f_gather(-1, top.indices(), false)?;
            let products = top.log_probabilities().f_exp()?.f_mul(&logs)?.f_neg()?;
            Ok(products.f_sum_dim_intlist([-1i64].as_slice(), false, None)?)
        }
        other => Err(textbrewer::Error::other(format!("top: {other:?}"))),
    });
    kd_loss_of((&student, &teacher), config, presets, (&(), &step()))
}

fn output(logits: impl Into<Logits>) -> AdaptorOutput {
    AdaptorOutput::new().logits(logits)
}

#[test]
fn a_loss_takes_the_kind_that_it_is_made_for() {
    let config = || DistillationConfig::default().kd_loss_type("top");
    let mask = Tensor::from_slice2(&[[1i64, 0, 1], [0, 1, 0]]);
    let (logs, ids) = waves(&[2, 3, 5], 0.7)
        .log_softmax(-1, None)
        .topk(2, -1, true, true);
    let top = || TopK::new(&ids, &logs, &waves(&[2, 3], 0.1)).unwrap();
    let student_logs = Logits::from(from_hidden())
        .whole()
        .unwrap()
        .log_softmax(-1, None);
    let products = logs.exp() * student_logs.gather(-1, &ids, false);
    let each = elements(&products.sum_dim_intlist([-1i64].as_slice(), false, None));
    let loss = |mask: Option<&Tensor>| {
        let (mut student, mut teacher) = (output(from_hidden()), output(top()));
        if let Some(mask) = mask {
            (student, teacher) = (student.logits_mask(mask), teacher.logits_mask(mask));
        }
        kd(config(), student, teacher).unwrap().double_value(&[])
    };
    assert!((loss(None) + each.iter().sum::<f64>() / 6.0).abs() < 1e-12);
    assert!((loss(Some(&mask)) + (each[0] + each[2] + each[4]) / 3.0).abs() < 1e-12);
}

#[test]
fn a_loss_on_all_classes_takes_logits_from_hidden_states_and_refuses_the_rest() {
    let config = || DistillationConfig::default().temperature(2.0);
    let student = || output(waves(&[2, 3, 5], 0.1));
    let whole = Logits::from(from_hidden()).whole().unwrap();
    let value = |loss: Result<Tensor>| loss.unwrap().double_value(&[]);
    for config in [
        config(),
        config().temperature_scheduler(("flsw", [1.0, 2.0])),
    ] {
        let made = kd(config.clone(), student(), output(from_hidden()));
        let given = kd(config.clone(), student(), output(&whole));
        assert_eq!(value(made), value(given));
        // Some positions at a time sums are in another order.
        let made = value(kd(config.clone(), output(from_hidden()), student()));
        let given = value(kd(config, output(&whole), student()));
        assert!((made - given).abs() < 1e-14, "{made}, {given}");
    }
    let labels = Tensor::zeros([2, 3], (Kind::Int64, tch::Device::Cpu));
    let shift = config().probability_shift(true);
    let made = kd(
        shift.clone(),
        student().labels(&labels),
        output(from_hidden()),
    );
    let given = kd(shift.clone(), student().labels(&labels), output(&whole));
    assert_eq!(value(made), value(given));

    let refused = "logits: expected scores of all classes, got the 2 most likely ones alone";
    let labelled = || student().labels(&labels);
    for (config, place) in [
        (config().kd_loss_type("mse"), "kd_loss_type `mse`"),
        (config().kd_loss_type("dist"), "kd_loss_type `dist`"),
        (config().kd_loss_type("nkd"), "kd_loss_type `nkd`"),
        (config().standardize_logits(true), "standardize_logits"),
        (
            config().temperature_scheduler(("flsw", [1.0, 2.0])),
            "temperature_scheduler",
        ),
        (shift, "probability_shift"),
    ] {
        let error = kd(config, labelled(), output(top_k())).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("{place}: {refused}")),
            "{message}"
        );
        let remedy = match place.starts_with("kd_loss_type") {
            true => "(use a loss that takes `Logits::TopK`, such as `forward_kl`)".to_owned(),
            false => format!("(leave `{place}` out, or give whole logits)"),
        };
        assert!(message.ends_with(&remedy), "{message}");
    }
    let reverse = config().kd_loss_type("reverse_kl");
    let error = kd(reverse, student(), output(crate::sample())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "reverse_kl: expected the teacher's logits or its top k (of a sample `forward_kl`, `kl` and \
         `ce` can be estimated), got a sample of its classes"
    );
}

/// A model in training may have its output matrix in both adaptors: as teacher it gets nothing.
#[test]
fn a_teachers_output_matrix_gets_no_gradient() {
    let weight = || waves(&[5, 4], 0.6).set_requires_grad(true);
    let (of_student, of_teacher) = (weight(), weight());
    let logits = |weight: &Tensor| output(FromHidden::new(&waves(&[2, 4], 0.1), weight).unwrap());
    let teacher = logits(&of_teacher);
    let student = output(FromHidden::new(&waves(&[2, 4], 0.5), &of_student).unwrap());
    kd(DistillationConfig::default(), student, teacher)
        .unwrap()
        .backward();
    assert!(of_student.grad().defined() && !of_teacher.grad().defined());
}

#[test]
fn a_loss_on_hidden_states_and_matrix_gets_both_in_one_kind() {
    let presets = Presets::default().kd_loss_per_position("parts", |input| {
        let Logits::FromHidden(parts) = &input.student else {
            return Err(textbrewer::Error::other("no parts"));
        };
        let product = parts.hidden().f_matmul(&parts.weight().f_tr()?)?;
        Ok(product.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)?)
    });
    let half = |tensor: Tensor| tensor.to_kind(Kind::BFloat16);
    let hidden = half(waves(&[2, 3, 4], 0.1));
    let parts = FromHidden::new(&hidden, &half(waves(&[5, 4], 0.6))).unwrap();
    let config = DistillationConfig::default().kd_loss_type("parts");
    let both = (&output(parts), &output(waves(&[2, 3, 5], 0.1)));
    assert!(kd_loss_of(both, config, presets, (&(), &step())).is_ok());
}
