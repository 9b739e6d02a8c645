//! Losses on embeddings and rankings.

use serde_json::Value;
use tch::{Kind, Tensor};
use textbrewer::Result;
use textbrewer::losses::{
    Temperature, cosent, cosines, dot_products, embedding_cosine, embedding_l2, embedding_mse,
    listwise_kl, margin_mse, matryoshka, regression_mse,
};

use super::case::{Case, Run};

pub fn known() -> Vec<(&'static str, Run)> {
    const PLAIN: Run = |case| {
        let args = |name: &str| case.arg(name);
        case.is(&loss_of(case, case.loss(), &args, &columns(case), None).unwrap());
    };
    let plain = [
        "embedding_mse",
        "embedding_l2",
        "embedding_cosine",
        "margin_mse",
        "distill_kl",
        "cosent",
        "cosine_similarity",
    ];
    plain
        .into_iter()
        .map(|name| (name, PLAIN))
        .chain([("matryoshka", of_all_sizes as Run)])
        .collect()
}

/// The student's embeddings, one for each column of texts.
fn columns(case: &Case<'_>) -> Vec<Tensor> {
    (0..case.count("embeddings"))
        .map(|index| case.input(&format!("embeddings.{index}")))
        .collect()
}

fn of_all_sizes(case: &Case<'_>) {
    let numbers = |name| case.arg(name).as_array().unwrap().iter();
    let sizes = numbers("dims").map(|size| size.as_i64().unwrap());
    let weights = numbers("weights").map(|weight| weight.as_f64().unwrap());
    let sizes: Vec<_> = sizes.zip(weights).collect();
    let name = case.arg("loss").as_str().unwrap();
    let given = case.arg("loss_args");
    let loss = matryoshka(&columns(case), &sizes, |embeddings, size| {
        loss_of(
            case,
            name,
            &|name: &str| &given[name],
            embeddings,
            Some(size),
        )
    });
    case.is(&loss.unwrap());
}

/// A loss by the file's name, on the embeddings; labels that are embeddings are cut to `size`.
fn loss_of<'a>(
    case: &Case<'_>,
    name: &str,
    args: &dyn Fn(&str) -> &'a Value,
    embeddings: &[Tensor],
    size: Option<i64>,
) -> Result<Tensor> {
    let labels = case.input("labels");
    match name {
        "embedding_mse" => on_embeddings(case, embeddings, size, embedding_mse),
        "embedding_l2" => on_embeddings(case, embeddings, size, embedding_l2),
        "embedding_cosine" => on_embeddings(case, embeddings, size, embedding_cosine),
        "margin_mse" => {
            let scores = scores(args, embeddings)?;
            let teachers = match args("labels").as_str().unwrap() {
                "scores" => labels,
                "margins" => {
                    let margins = labels.view([labels.size()[0], -1]);
                    Tensor::cat(&[margins.narrow(1, 0, 1).zeros_like(), -margins], 1)
                }
                other => panic!("labels `{other}`"),
            };
            margin_mse(&scores, &teachers, None)
        }
        "distill_kl" => {
            // By its definition; a matryoshka's arguments do not say so.
            assert!(args("temperature_squared").as_bool().unwrap_or(true));
            assert_eq!(args("divide_by").as_str().unwrap_or("rows"), "rows");
            let temperature = Temperature::Constant(args("temperature").as_f64().unwrap());
            listwise_kl(&scores(args, embeddings)?, &labels, &temperature, None)
        }
        "cosent" => {
            let similarities = similarity(args)(&embeddings[0], &embeddings[1])?;
            cosent(&similarities, &labels, args("scale").as_f64().unwrap())
        }
        "cosine_similarity" => regression_mse(&cosines(&embeddings[0], &embeddings[1])?, &labels),
        other => panic!("loss `{other}`"),
    }
}

/// Columns beside each other, with labels for all or for each.
fn on_embeddings(
    case: &Case<'_>,
    embeddings: &[Tensor],
    size: Option<i64>,
    loss: fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut embeddings = Tensor::stack(embeddings, 1);
    if case.has_input("projection_weight") {
        let bias = case.input("projection_bias");
        embeddings = embeddings.linear(&case.input("projection_weight"), Some(&bias));
    }
    let mut labels = case.input("labels");
    if labels.dim() == 2 {
        labels = labels.unsqueeze(1).repeat([1, embeddings.size()[1], 1]);
        if let Some(size) = size {
            labels = labels.narrow(-1, 0, size);
        }
    }
    loss(&embeddings, &labels)
}

type Similarity = fn(&Tensor, &Tensor) -> Result<Tensor>;

fn similarity<'a>(args: &dyn Fn(&str) -> &'a Value) -> Similarity {
    match args("similarity").as_str().unwrap() {
        "dot" => dot_products,
        "cosine" => cosines,
        other => panic!("similarity `{other}`"),
    }
}

/// Of the first column with all others.
fn scores<'a>(args: &dyn Fn(&str) -> &'a Value, embeddings: &[Tensor]) -> Result<Tensor> {
    let documents = Tensor::stack(&embeddings[1..], 1);
    let scores = similarity(args)(&embeddings[0], &documents)?;
    assert!(matches!(scores.kind(), Kind::Float | Kind::Double));
    Ok(scores)
}
