//! Layers that are compared by CKA, and the map that follows.

mod common;
#[path = "layer_likeness_cases/mistakes.rs"]
mod mistakes;

use common::waves;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::losses::cka_unbiased;
use textbrewer::{AdaptorOutput, Feature, LayerLikeness, LayerMap, Result, backend, from_fn};

/// What the models say: a batch is the layers of the teacher and those of the student.
type Said = (Vec<Tensor>, Vec<Tensor>);

/// Compares layers that are given, under a mask or none.
fn likeness_of(batches: Vec<Said>, mask: Option<&Tensor>) -> Result<LayerLikeness> {
    let teacher =
        from_fn(|said: &Said, _train| Ok(said.0.iter().map(Tensor::shallow_clone).collect()));
    let student =
        from_fn(|said: &Said, _train| Ok(said.1.iter().map(Tensor::shallow_clone).collect()));
    let adaptor = |_: &Said, layers: &Vec<Tensor>| {
        let output = AdaptorOutput::new().hidden(layers);
        Ok(match mask {
            Some(mask) => output.inputs_mask(mask),
            None => output,
        })
    };
    LayerLikeness::between(
        &teacher,
        adaptor,
        &student,
        adaptor,
        batches.into_iter().map(Ok),
    )
}

/// Numbers that have nothing to do with each other.
fn noise(size: &[i64], seed: u64) -> Tensor {
    let mut random = StdRng::seed_from_u64(seed);
    let count = size.iter().product::<i64>();
    let numbers: Vec<f64> = (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
    Tensor::from_slice(&numbers).view(size)
}

/// Layers `[.., size]` of two models that have something in common.
fn layers(before: &[i64], seed: u64) -> Said {
    let size = |width| [before, &[width]].concat();
    let common = noise(&size(3), seed);
    let layer = |width: i64, number: u64| {
        let mixed = common.matmul(&noise(&[3, width], number));
        mixed + noise(&size(width), seed + number) * 0.5
    };
    let teacher = vec![layer(7, 10), layer(7, 20), layer(7, 30)];
    let student = vec![layer(4, 40), layer(4, 50)];
    (teacher, student)
}

fn copied((teacher, student): &Said) -> Said {
    let of = |layers: &[Tensor]| layers.iter().map(Tensor::shallow_clone).collect();
    (of(teacher), of(student))
}

/// The same choice of rows, or another change, in all layers.
fn each((teacher, student): &Said, change: impl Fn(&Tensor) -> Tensor) -> Said {
    (
        teacher.iter().map(&change).collect(),
        student.iter().map(&change).collect(),
    )
}

fn assert_close(got: &LayerLikeness, expected: &LayerLikeness, within: f64) {
    assert_eq!(got.cka().dim(), expected.cka().dim());
    for (got, expected) in got.cka().iter().zip(expected.cka()) {
        assert!((got - expected).abs() < within, "{got} for {expected}");
    }
}

#[test]
fn of_one_batch_it_is_the_loss() {
    let said = layers(&[9], 3);
    let likeness = likeness_of(vec![copied(&said)], None).unwrap();
    assert_eq!(likeness.cka().dim(), (3, 2));
    for ((teacher, student), got) in likeness.cka().indexed_iter() {
        let loss = cka_unbiased(&said.1[student], &said.0[teacher], None).unwrap();
        let expected = 1.0 - loss.double_value(&[]);
        assert!(
            (got - expected).abs() < 1e-12,
            "{teacher} {student}: {got} for {expected}"
        );
    }
}

/// `HSIC₁` as Nguyen et al. 2021 write it, from the products of the rows.
fn hsic(one: &Tensor, other: &Tensor) -> f64 {
    let n = one.size()[0] as f64;
    let products = |rows: &Tensor| {
        let products = rows.mm(&rows.tr());
        &products - products.diag(0).diag(0)
    };
    let (k, l) = (products(one), products(other));
    let sum = |tensor: &Tensor| tensor.sum(Kind::Double).double_value(&[]);
    let trace = sum(&(&k * l.tr()));
    (trace + sum(&k) * sum(&l) / ((n - 1.0) * (n - 2.0)) - 2.0 / (n - 2.0) * sum(&k.mm(&l)))
        / (n * (n - 3.0))
}

#[test]
fn of_several_batches_it_is_the_ratio_of_sums() {
    // Batches of other sizes; one is too small to say anything.
    let batches: Vec<Said> = [(9, 3), (3, 1), (5, 2), (6, 9)]
        .map(|(count, seed)| layers(&[count], seed))
        .into();
    let likeness = likeness_of(batches.iter().map(copied).collect(), None).unwrap();
    let sum = |of: &dyn Fn(&Said) -> (f64, f64)| -> f64 {
        batches
            .iter()
            .map(of)
            .filter(|(n, _)| *n > 3.0)
            .map(|(n, value)| n * value)
            .sum()
    };
    for ((teacher, student), got) in likeness.cka().indexed_iter() {
        let between = |one: &dyn Fn(&Said) -> Tensor, other: &dyn Fn(&Said) -> Tensor| {
            sum(&|said| {
                let (one, other) = (one(said), other(said));
                (one.size()[0] as f64, hsic(&one, &other))
            })
        };
        let t = |said: &Said| said.0[teacher].shallow_clone();
        let s = |said: &Said| said.1[student].shallow_clone();
        let expected = between(&t, &s) / (between(&t, &t) * between(&s, &s)).sqrt();
        assert!(
            (got - expected).abs() < 1e-12,
            "{teacher} {student}: {got} for {expected}"
        );
    }
}

#[test]
fn small_batches_say_the_same_as_a_large_one() {
    // More numbers than examples in a batch: with the bias everything would be alike.
    let shared = noise(&[960, 40], 1);
    let [teacher, student, other] = [2, 3, 4].map(|seed| noise(&[960, 40], seed));
    let said = (
        vec![other, teacher + &shared],
        vec![noise(&[960, 40], 5), student + &shared],
    );
    let whole = likeness_of(vec![copied(&said)], None).unwrap();
    let parts = (0..60).map(|part| each(&said, |rows| rows.narrow(0, part * 16, 16)));
    let parts = likeness_of(parts.collect(), None).unwrap();
    assert_close(&parts, &whole, 0.05);
    assert!((whole.cka()[[1, 1]] - 0.25).abs() < 0.05, "{whole}");
    assert!(parts.cka()[[0, 1]].abs() < 0.05, "{parts}");
    let biased = textbrewer::losses::cka(
        &said.1[1].narrow(0, 0, 16),
        &said.0[0].narrow(0, 0, 16),
        None,
    );
    assert!(biased.unwrap().double_value(&[]) < 0.5);
}

#[test]
fn padding_counts_nowhere() {
    let said = layers(&[4, 5], 4);
    let mask = Tensor::from_slice2(&[
        [1i64, 1, 1, 0, 0],
        [1, 1, 1, 1, 1],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]);
    let kept = mask.flatten(0, -1).nonzero().squeeze_dim(1);
    let removed = each(&said, |layer| layer.flatten(0, 1).index_select(0, &kept));
    let expected = likeness_of(vec![removed], None).unwrap();
    let padding = mask.eq(0).unsqueeze(2);
    let padded = each(&said, |layer| layer.masked_fill(&padding, f64::NAN));
    let masked = likeness_of(vec![padded], Some(&mask)).unwrap();
    assert_close(&masked, &expected, 1e-12);
    let unmasked = likeness_of(vec![said], None).unwrap();
    assert!((unmasked.cka()[[1, 1]] - expected.cka()[[1, 1]]).abs() > 1e-3);
}

#[test]
fn a_features_own_mask_goes_first() {
    let said = layers(&[2, 5], 4);
    let model = from_fn(|said: &Said, _train| Ok(copied(said)));
    let own = Tensor::from_slice2(&[[1i64, 1, 1, 0, 0], [1, 1, 1, 1, 1]]);
    let others = own.flip([1]);
    let expected = likeness_of(vec![copied(&said)], Some(&own)).unwrap();
    let got = LayerLikeness::between(
        &model,
        |_, said: &Said| Ok(AdaptorOutput::new().hidden(&said.0)),
        &model,
        |_, said: &Said| {
            let hidden = Feature::new(&said.1).mask(&own);
            Ok(AdaptorOutput::new().inputs_mask(&others).hidden(hidden))
        },
        [Ok(copied(&said))],
    );
    assert_eq!(got.unwrap(), expected);
}

#[test]
fn a_large_batch_is_taken_in_parts_of_all_of_it() {
    let said = layers(&[50, 41], 2);
    let flat = each(&said, |layer| layer.flatten(0, 1));
    let parts = (0..3).map(|part| each(&flat, |rows| rows.slice(0, part, None, 3)));
    let expected = likeness_of(parts.collect(), None).unwrap();
    let got = likeness_of(vec![said], None).unwrap();
    assert_close(&got, &expected, 1e-12);
}

#[test]
fn layers_that_are_alike_are_found() {
    let seen = |seed| noise(&[4, 8, 5], seed).to_kind(Kind::Float);
    let teacher: Vec<Tensor> = (0..6).map(seen).collect();
    // Turned, mixed with another, scaled and moved; of a student in 16 bits, but for one layer.
    let turn = noise(&[5, 3], 9).to_kind(Kind::Float);
    let of = |layer: usize, other: usize| {
        let mixed = &teacher[layer] + &teacher[other] * 0.2;
        (mixed.matmul(&turn) * 3.0 + 1.0).to_kind(Kind::BFloat16)
    };
    let student = vec![of(0, 5), of(2, 0), of(3, 1).to_kind(Kind::Double), of(5, 2)];
    let likeness = likeness_of(vec![(teacher, student)], None).unwrap();
    let map = likeness.layer_map();
    assert_eq!(map, LayerMap::from_pairs([(2, 1), (3, 2), (5, 3)]).unwrap());
    let table = likeness.to_string();
    let marked: Vec<usize> = table
        .lines()
        .map(|line| line.matches('*').count())
        .collect();
    assert_eq!(marked, [0, 1, 0, 1, 1, 0, 1, 0], "{table}");
}

#[test]
fn a_layer_that_says_nothing_is_like_no_other() {
    let in_32_bits = each(&layers(&[1000], 3), |layer| layer.to_kind(Kind::Float));
    let (teacher, mut student) = in_32_bits;
    // The mean of so many is rounded.
    let same = (noise(&[1, 8], 5) * 300.0).to_kind(Kind::Float);
    student[1] = same.expand([1000, 8], false);
    let likeness = likeness_of(vec![(teacher, student)], None).unwrap();
    assert_eq!(likeness.cka().column(1).to_vec(), [0.0; 3]);
    assert!(likeness.cka()[[0, 0]] > 0.0);
}

#[test]
fn models_answer_as_when_they_are_tested() {
    let variables = VarStore::new(Device::Cpu);
    let weight = variables.root().ones("weight", &[7, 7]);
    let model = from_fn(|batch: &Tensor, train| {
        let first = batch.f_matmul(&weight)?;
        Ok(vec![batch.f_dropout(0.5, train)?, first])
    });
    let adaptor = |_: &Tensor, layers: &Vec<Tensor>| {
        assert!(weight.requires_grad() && !layers[1].requires_grad());
        Ok(AdaptorOutput::new().hidden(layers))
    };
    let batch = waves(&[6, 7], 0.2).to_kind(Kind::Float);
    let before = backend::random_state(Device::Cpu).unwrap();
    let likeness = LayerLikeness::between(&model, adaptor, &model, adaptor, [Ok(batch)]).unwrap();
    assert_eq!(backend::random_state(Device::Cpu).unwrap(), before);
    assert!((likeness.cka()[[0, 0]] - 1.0).abs() < 1e-6);
    assert!((&weight * 2.0).requires_grad());
}
