//! A user's loss on logits at each position: labels, masks, weights, and the batch.

mod common;

use common::said::kd_loss_of;
use common::{elements, waves};
use tch::{Kind, Tensor};
use textbrewer::losses::Temperature;
use textbrewer::losses::support::{ScalarOps, at_temperature};
use textbrewer::{AdaptorOutput, DistillationConfig, KdInput, Logits, Presets, Result, StepInfo};

const ALPHA: f64 = 1.0;
const BETA: f64 = 8.0;
const TAU: f64 = 2.0;

fn step() -> StepInfo {
    StepInfo::new(6, 3, 12, 2)
}

/// Decoupled knowledge distillation ([Zhao et al. 2022](https://arxiv.org/abs/2203.08679)):
/// `τ² (α KL(true class or not) + β KL(among the other classes))`.
fn dkd(input: &KdInput<'_>) -> Result<Tensor> {
    let Temperature::Constant(tau) = input.temperature else {
        return Err(textbrewer::Error::other("dkd: one temperature for all"));
    };
    let labels = input.labels()?.f_unsqueeze(-1)?;
    let student = input.student.whole()?;
    let label = student
        .f_zeros_like()?
        .f_scatter(-1, &labels, &student.f_ones_like()?)?;
    let label = label.is_above(0.0)?;
    // Of the true class, of all others together, and of each among the others.
    let logs = |logits: &Tensor| -> Result<[Tensor; 3]> {
        let logits = at_temperature("dkd", logits, &input.temperature)?;
        let true_class = logits
            .f_log_softmax(-1, None)?
            .f_gather(-1, &labels, false)?;
        let others = logits.filled(&label, f64::NEG_INFINITY)?;
        let sums = [&others, &logits].map(|z| z.f_logsumexp([-1i64].as_slice(), true));
        let [others_sum, sum] = sums;
        let among = others.f_log_softmax(-1, None)?.filled(&label, 0.0)?;
        Ok([true_class, others_sum?.f_sub(&sum?)?, among])
    };
    let (p, q) = (logs(&input.teacher.whole()?)?, logs(&student)?);
    let divergence = |of: usize| -> Result<Tensor> {
        let each = p[of].f_exp()?.f_mul(&p[of].f_sub(&q[of])?)?;
        Ok(each.f_sum_dim_intlist([-1i64].as_slice(), false, None)?)
    };
    let binary = divergence(0)?.f_add(&divergence(1)?)?;
    let loss = binary.times(ALPHA)?.f_add(&divergence(2)?.times(BETA)?)?;
    Ok(loss.times(tau * tau)?)
}

/// The same of one position, in plain numbers.
fn dkd_of(student: &[f64], teacher: &[f64], label: usize) -> f64 {
    let softmax = |logits: &[f64]| -> Vec<f64> {
        let e: Vec<f64> = logits.iter().map(|z| (z / TAU).exp()).collect();
        e.iter().map(|x| x / e.iter().sum::<f64>()).collect()
    };
    let kl =
        |p: &[f64], q: &[f64]| -> f64 { p.iter().zip(q).map(|(p, q)| p * (p.ln() - q.ln())).sum() };
    let without = |logits: &[f64]| {
        let mut others = logits.to_vec();
        others.remove(label);
        softmax(&others)
    };
    let (p, q) = (softmax(teacher)[label], softmax(student)[label]);
    let binary = kl(&[p, 1.0 - p], &[q, 1.0 - q]);
    TAU * TAU * (ALPHA * binary + BETA * kl(&without(teacher), &without(student)))
}

fn presets() -> Presets {
    Presets::default().kd_loss_with_labels("dkd", dkd)
}

/// What the distillers do with the outputs of two adaptors.
fn loss(name: &str, student: &AdaptorOutput, teacher: &AdaptorOutput) -> Result<Tensor> {
    let config = DistillationConfig::default()
        .kd_loss_type(name)
        .temperature(TAU);
    kd_loss_of((student, teacher), config, presets(), (&(), &step()))
}

fn number(loss: Result<Tensor>) -> f64 {
    loss.unwrap_or_else(|error| panic!("{error}"))
        .double_value(&[])
}

fn output(logits: &Tensor) -> AdaptorOutput {
    AdaptorOutput::new().logits(logits)
}

fn assert_near(what: &str, got: f64, expected: f64) {
    let near = (got - expected).abs() <= 1e-12 * expected.abs().max(1.0);
    assert!(near, "{what}: {got}, expected {expected}");
}

#[test]
fn of_classes_it_is_the_closed_form() {
    let (student, teacher) = (waves(&[3, 4], 0.1) * 3.0, waves(&[3, 4], 0.5) * 3.0);
    let classes = [2usize, 0, 3];
    let labels = Tensor::from_slice(&classes.map(|label| label as i64));
    let (s, t) = (elements(&student), elements(&teacher));
    let each: Vec<f64> = classes
        .iter()
        .enumerate()
        .map(|(i, &label)| dkd_of(&s[4 * i..4 * i + 4], &t[4 * i..4 * i + 4], label))
        .collect();
    let plain = output(&student).labels(&labels);
    let got = number(loss("dkd", &plain, &output(&teacher)));
    assert_near("mean", got, each.iter().sum::<f64>() / 3.0);

    let weights = [2.0, 0.0, 0.5];
    let weighted = plain.logits_weights(&Tensor::from_slice(&weights));
    let got = number(loss("dkd", &weighted, &output(&teacher)));
    let sum: f64 = each.iter().zip(weights).map(|(l, w)| l * w).sum();
    assert_near("weighted", got, sum / 2.5);
}

/// Labels of −100 where the mask is 0.
struct Tokens {
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    labels: Tensor,
    /// The mean of the plain numbers where the mask is 1.
    expected: f64,
}

fn tokens() -> Tokens {
    let (student, teacher) = (waves(&[2, 3, 4], 0.1) * 3.0, waves(&[2, 3, 4], 0.5) * 3.0);
    let labels = [1i64, -100, 3, 0, 2, -100];
    let mask = labels.map(|label| (label >= 0) as i64);
    let (s, t) = (elements(&student), elements(&teacher));
    let kept = labels.iter().enumerate().filter(|(_, label)| **label >= 0);
    let sum: f64 = kept
        .map(|(i, &label)| dkd_of(&s[4 * i..4 * i + 4], &t[4 * i..4 * i + 4], label as usize))
        .sum();
    Tokens {
        student,
        teacher,
        mask: Tensor::from_slice(&mask).view([2, 3]),
        labels: Tensor::from_slice(&labels).view([2, 3]),
        expected: sum / 4.0,
    }
}

#[test]
fn labels_travel_with_the_positions_that_a_mask_selects() {
    let Tokens {
        student,
        teacher,
        mask,
        labels,
        expected,
    } = tokens();
    let teacher = output(&teacher).logits_mask(&mask);
    for labels in [&labels, &labels.reshape([6])] {
        let student = output(&student).logits_mask(&mask).labels(labels);
        let got = number(loss("dkd", &student, &teacher));
        assert_near("masked", got, expected);
    }
}

#[test]
fn positions_without_a_label_are_left_out() {
    let Tokens {
        student,
        teacher,
        mask,
        labels,
        expected,
    } = tokens();
    let gradient = |mask_of_both: Option<&Tensor>, weights: Option<&Tensor>| {
        let leaf = student.copy().set_requires_grad(true);
        let (mut s, mut t) = (output(&leaf).labels(&labels), output(&teacher));
        if let Some(mask) = mask_of_both {
            (s, t) = (s.logits_mask(mask), t.logits_mask(mask));
        }
        if let Some(weights) = weights {
            s = s.logits_weights(weights);
        }
        let loss = loss("dkd", &s, &t).unwrap();
        loss.backward();
        (loss.double_value(&[]), elements(&leaf.grad()))
    };
    let (alone, by_label) = gradient(None, None);
    assert_near("by labels", alone, expected);
    assert_eq!((alone, by_label.clone()), gradient(Some(&mask), None));
    assert!(by_label[4..8].iter().all(|gradient| *gradient == 0.0));
    // With weights, of positions or of examples.
    for weights in [waves(&[2, 3], 0.7) + 1.5, Tensor::from_slice(&[3.0, 0.5])] {
        let (masked, by_mask) = gradient(Some(&mask), Some(&weights));
        assert_eq!(gradient(None, Some(&weights)), (masked, by_mask));
        assert_ne!(masked, alone);
    }
    // A mask may keep positions without a label.
    let all = mask.ones_like();
    assert_eq!(gradient(Some(&all), None), (alone, by_label));
}

#[test]
fn a_temperature_of_each_is_that_of_the_positions_with_labels() {
    let Tokens {
        student,
        teacher,
        labels,
        ..
    } = tokens();
    let presets = Presets::default().kd_loss_with_labels("ce", |input| {
        let logits = |logits: &Logits| at_temperature("ce", &logits.whole()?, &input.temperature);
        let logs = logits(&input.student)?.f_log_softmax(-1, None)?;
        let products = logits(&input.teacher)?.f_softmax(-1, None)?.f_mul(&logs)?;
        assert_eq!(input.labels()?, Tensor::from_slice(&[1i64, 3, 0, 2]));
        Ok(products
            .f_sum_dim_intlist([-1i64].as_slice(), false, None)?
            .f_neg()?)
    });
    let with_labels = presets.find_kd_loss("kd_loss_type", "ce").unwrap();
    let weighted = Presets::default();
    let weighted = weighted.find_kd_loss("kd_loss_type", "ce").unwrap();
    for temperature in [
        waves(&[2, 3], 0.4) + 2.0,
        Tensor::from_slice(&[1.5, 4.0]),
        Tensor::from(3.0),
    ] {
        let input = || KdInput::new(&student, &teacher, temperature.shallow_clone()).unwrap();
        let got = number(with_labels.apply(&input().with_labels(&labels)));
        let weights = labels.ge(0).to_kind(Kind::Double);
        let expected = number(weighted.apply(&input().with_weights(&weights)));
        assert_near("loss", got, expected);
    }
}

#[test]
fn no_label_at_all_is_0_and_other_losses_see_all_positions() {
    let Tokens {
        student, teacher, ..
    } = tokens();
    let none = Tensor::full([2, 3], -100, (Kind::Int64, tch::Device::Cpu));
    let unlabelled = output(&student).labels(&none);
    assert_eq!(number(loss("dkd", &unlabelled, &output(&teacher))), 0.0);
    for name in Presets::default().kd_losses() {
        let with = number(loss(name, &unlabelled, &output(&teacher)));
        let without = number(loss(name, &output(&student), &output(&teacher)));
        assert_eq!(with, without, "{name}");
    }
}

#[test]
fn weights_of_0_and_1_give_what_a_mask_gives() {
    let Tokens {
        student,
        teacher,
        mask,
        labels,
        expected,
    } = tokens();
    // Without a mask, every label has to be a class.
    let classes = labels.clamp_min(0);
    let gradient = |mask_of_both: Option<&Tensor>, weights: Option<&Tensor>, labels: &Tensor| {
        let leaf = student.copy().set_requires_grad(true);
        let (mut s, mut t) = (output(&leaf).labels(labels), output(&teacher));
        if let Some(mask) = mask_of_both {
            (s, t) = (s.logits_mask(mask), t.logits_mask(mask));
        }
        if let Some(weights) = weights {
            s = s.logits_weights(weights);
        }
        let loss = loss("dkd", &s, &t).unwrap();
        loss.backward();
        (loss.double_value(&[]), elements(&leaf.grad()))
    };
    let (masked, by_mask) = gradient(Some(&mask), None, &labels);
    let (weighted, by_weight) = gradient(None, Some(&mask), &classes);
    let both = gradient(Some(&mask), Some(&mask.to_kind(Kind::Double)), &labels);
    for got in [masked, weighted, both.0] {
        assert_near("loss", got, expected);
    }
    for ((a, b), c) in by_mask.iter().zip(&by_weight).zip(&both.1) {
        assert!(
            (a - b).abs() < 1e-12 && (a - c).abs() < 1e-12,
            "{a} {b} {c}"
        );
    }
    assert!(by_weight[4..8].iter().all(|gradient| *gradient == 0.0));
}

#[test]
fn weights_of_examples_are_those_of_all_their_positions() {
    let Tokens {
        student,
        teacher,
        mask,
        ..
    } = tokens();
    let of_examples = Tensor::from_slice(&[3.0, 0.5]);
    let of_positions = of_examples.unsqueeze(1).expand([2, 3], false).copy();
    for name in presets().kd_losses().filter(|name| *name != "dkd") {
        for masked in [false, true] {
            let with = |weights: &Tensor| {
                let (mut s, mut t) = (output(&student).logits_weights(weights), output(&teacher));
                if masked {
                    (s, t) = (s.logits_mask(&mask), t.logits_mask(&mask));
                }
                number(loss(name, &s, &t))
            };
            assert_eq!(with(&of_examples), with(&of_positions), "{name}");
        }
    }
}

/// Every loss of the crate, weighted: by its unweighted value on one position at a time.
#[test]
fn the_losses_of_the_crate_can_be_weighted() {
    let (student, teacher) = (waves(&[2, 3, 4], 0.1) * 3.0, waves(&[2, 3, 4], 0.5) * 3.0);
    let weights = waves(&[2, 3], 0.7) + 1.5;
    for name in presets().kd_losses().filter(|name| *name != "dkd") {
        let (mut sum, mut total) = (0.0, 0.0);
        for (batch, position) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
            let only = |logits: &Tensor| output(&logits.get(batch).get(position).unsqueeze(0));
            let weight = weights.double_value(&[batch, position]);
            sum += weight * number(loss(name, &only(&student), &only(&teacher)));
            total += weight;
        }
        let weighted = output(&student).logits_weights(&weights);
        let got = number(loss(name, &weighted, &output(&teacher)));
        assert_near(name, got, sum / total);
        // Weights that are all alike change nothing but the last bits.
        let alike = output(&student).logits_weights(&(weights.ones_like() * 0.3));
        let got = number(loss(name, &alike, &output(&teacher)));
        let plain = number(loss(name, &output(&student), &output(&teacher)));
        assert_near(name, got, plain);
    }
}

#[test]
fn all_weights_of_0_are_a_loss_of_0() {
    let Tokens {
        student,
        teacher,
        labels,
        ..
    } = tokens();
    for name in presets().kd_losses() {
        let leaf = student.copy().set_requires_grad(true);
        let nothing = output(&leaf)
            .labels(&labels.clamp_min(0))
            .logits_weights(&Tensor::from_slice(&[0i64, 0]));
        let loss = loss(name, &nothing, &output(&teacher)).unwrap();
        assert_eq!(loss.double_value(&[]), 0.0, "{name}");
        loss.backward();
        assert!(elements(&leaf.grad()).iter().all(|g| *g == 0.0), "{name}");
    }
}

#[test]
fn each_of_several_logits_has_its_own_labels_and_weights() {
    let (student, teacher) = (waves(&[3, 4], 0.1) * 3.0, waves(&[3, 4], 0.5) * 3.0);
    let (first, second) = (
        Tensor::from_slice(&[2i64, 0, 3]),
        Tensor::from_slice(&[1i64, 1, 0]),
    );
    let weights = Tensor::from_slice(&[1.0, 2.0, 4.0]);
    let one = |labels: &Tensor, weights: &Tensor| {
        let student = output(&student).labels(labels).logits_weights(weights);
        number(loss("dkd", &student, &output(&teacher)))
    };
    let both = || {
        output(&student)
            .logits(&student)
            .labels(&first)
            .labels(&second)
    };
    let teachers = output(&teacher).logits(&teacher);
    let got = number(loss("dkd", &both().logits_weights(&weights), &teachers));
    let expected = one(&first, &weights) + one(&second, &weights);
    assert_near("one tensor of weights for both", got, expected);
    let other = Tensor::from_slice(&[0.0, 1.0, 0.0]);
    let of_each = both().logits_weights(&weights).logits_weights(&other);
    let expected = one(&first, &weights) + one(&second, &other);
    assert_near(
        "one for each",
        number(loss("dkd", &of_each, &teachers)),
        expected,
    );
}

#[test]
fn gradients_are_those_of_central_differences() {
    let Tokens {
        student,
        teacher,
        mask,
        labels,
        ..
    } = tokens();
    let weights = waves(&[2, 3], 0.3) + 1.5;
    let teacher = output(&teacher).logits_mask(&mask);
    for name in presets().kd_losses() {
        let value = |student: &Tensor| {
            let student = output(student).logits_mask(&mask).labels(&labels);
            loss(name, &student.logits_weights(&weights), &teacher).unwrap()
        };
        let leaf = student.copy().set_requires_grad(true);
        value(&leaf).backward();
        for (index, gradient) in elements(&leaf.grad()).into_iter().enumerate() {
            let moved = |by: f64| {
                let nearby = student.copy();
                let _ = nearby.view([-1]).get(index as i64).g_add_scalar_(by);
                value(&nearby).double_value(&[])
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let near = (gradient - difference).abs() <= 1e-8 + 1e-6 * difference.abs();
            assert!(
                near,
                "{name}, {index}: {gradient}, by differences {difference}"
            );
        }
    }
}

#[test]
fn a_loss_finds_the_batch_and_the_step() {
    let presets = Presets::default().kd_loss_per_position("of the batch", |input| {
        let batch: &(Tensor, i64) = input.batch()?;
        assert_eq!(input.step, step());
        Ok(batch.0.times(batch.1)?)
    });
    let config = DistillationConfig::default().kd_loss_type("of the batch");
    let logits = output(&waves(&[2, 4], 0.1));
    let both = (&logits, &logits);
    let batch = (Tensor::from_slice(&[1.0, 3.0]), 5i64);
    let loss = kd_loss_of(both, config.clone(), presets.clone(), (&batch, &step()));
    assert_eq!(number(loss), 10.0);
    let error = kd_loss_of(both, config, presets, (&3i64, &step())).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("batch of a loss on logits: expected the loader's batches"));
}

#[test]
fn what_cannot_be_is_told() {
    let logits = waves(&[2, 3, 4], 0.1);
    let presets = Presets::default()
        .kd_loss("one number", textbrewer::losses::kd_ce)
        .kd_loss_per_position("of each class", |input| input.student.whole())
        .kd_loss_with_labels("dkd", dkd);
    let message = |name: &str, student: AdaptorOutput| {
        let config = DistillationConfig::default().kd_loss_type(name);
        let both = (&student, &output(&logits));
        let result = kd_loss_of(both, config, presets.clone(), (&(), &step()));
        result.unwrap_err().to_string()
    };
    let weights = Tensor::from_slice(&[1.0, 2.0]);
    assert_eq!(
        message("one number", output(&logits).logits_weights(&weights)),
        "logits_weights: expected a loss that is computed at each position \
         (`kd_loss_per_position` registers it), got a loss that gives one number for all \
         positions (`kd_loss`)"
    );
    assert_eq!(
        message("of each class", output(&logits)),
        "kd_loss_type `of each class`: losses at the positions of logits: expected [2, 3], one for \
         each position (a mean or sum over the classes), got [2, 3, 4]"
    );
    assert_eq!(
        message("ce", output(&logits).logits_weights(&waves(&[3], 0.1))),
        "logits_weights: expected one for each position, [2, 3], or for each example, got [3]"
    );
    let negative = Tensor::from_slice(&[1.0, -1.0]);
    assert_eq!(
        message("ce", output(&logits).logits_weights(&negative)),
        "logits_weights: expected numbers of at least 0, got -1"
    );
    let two = output(&logits)
        .logits_weights(&weights)
        .logits_weights(&weights);
    assert_eq!(
        message("ce", two),
        "logits_weights: expected one tensor of weights, or one for each of the 1 tensors of \
         logits, got 2 tensors"
    );
    let without = message("dkd", output(&logits));
    assert!(without.contains("`labels`"), "{without}");
    assert_eq!(
        message(
            "dkd",
            output(&logits).labels(&Tensor::from_slice(&[1i64, 2]))
        ),
        "labels of logits: expected [2, 3], one for each position, got [2]"
    );
    // A loss that asks for no labels does not mind.
    let student = output(&logits).labels(&Tensor::from_slice(&[1i64, 2]));
    let config = DistillationConfig::default();
    let both = (&student, &output(&logits));
    let _ = kd_loss_of(both, config, presets, (&(), &step())).unwrap();
}

#[test]
fn the_teacher_gets_no_gradient() {
    let teacher = waves(&[3, 4], 0.5).set_requires_grad(true);
    let student = waves(&[3, 4], 0.1).set_requires_grad(true);
    for name in Presets::default().kd_losses() {
        loss(name, &output(&student), &output(&teacher))
            .unwrap()
            .backward();
        assert!(!teacher.grad().defined(), "{name}");
    }
    assert!(student.grad().defined());
}
