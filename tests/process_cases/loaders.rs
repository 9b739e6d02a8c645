//! What the loaders of the crate give two processes is what they give one.

use tch::{Kind, Tensor};
use textbrewer::{AdamW, DataLoader, Error, ExampleLoader, LineLoader, StreamLoader, TensorLoader};

use super::together::{Case, Process, Trained, two_are_one};
use crate::common::tiny::{INPUT, batch, loader};
use crate::common::waves;

fn train(process: &Process<'_>, loader: &mut dyn DataLoader<Batch = Tensor>) -> Trained {
    let student = process.student();
    process.train(process.trainer(&student), loader, |run| {
        // One and a half epochs.
        run.steps(9).optimizer(AdamW::new(0.01))
    })
}

/// `[2, 3]` tensors.
fn stacked(examples: &[&Tensor]) -> textbrewer::Result<Tensor> {
    Ok(Tensor::f_stack(examples, 0)?)
}

fn examples() -> Vec<Tensor> {
    let example = |index| waves(&[3, INPUT], index as f64 * 0.7).to_kind(Kind::Float);
    (0..24).map(example).collect()
}

fn of_examples(process: &Process<'_>) -> Trained {
    let loader = ExampleLoader::new(examples(), 2, stacked).unwrap();
    train(process, &mut loader.shuffle(5))
}

fn ahead(process: &Process<'_>) -> Trained {
    let loader = ExampleLoader::new(examples(), 2, stacked).unwrap();
    let loader = loader.shuffle(5).map_in_threads(2, |batch| Ok(batch * 2));
    train(process, &mut loader.prefetch(2))
}

fn of_rows(process: &Process<'_>) -> Trained {
    let rows = Tensor::stack(&examples(), 0);
    let loader = TensorLoader::new(vec![rows], 2).unwrap().shuffle(5);
    let mut loader = loader.map(|mut rows| rows.pop().ok_or_else(|| Error::other("no rows")));
    train(process, &mut loader)
}

fn of_lines(process: &Process<'_>) -> Trained {
    std::fs::create_dir_all(&process.folder).unwrap();
    let path = process.folder.join(format!("lines{}", process.rank()));
    let lines: String = (0..24).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, lines).unwrap();
    let loader = LineLoader::new([&path], 2).unwrap().shuffle(5);
    let mut loader = loader.map(|lines| {
        let examples = examples();
        let of = |text: &str| &examples[text.parse::<usize>().unwrap()];
        stacked(&lines.iter().map(|line| of(line.text())).collect::<Vec<_>>())
    });
    train(process, &mut loader)
}

fn of_a_stream(process: &Process<'_>) -> Trained {
    let open = |_| Ok(examples().into_iter().map(Ok));
    let loader = StreamLoader::new(2, open).unwrap().shuffle(5, 10);
    let mut loader = loader.map(|examples| stacked(&examples.iter().collect::<Vec<_>>()));
    train(process, &mut loader)
}

fn postprocessed(process: &Process<'_>) -> Trained {
    let student = process.student();
    process.train(
        process.trainer(&student),
        &mut loader(12).shuffle(3),
        |run| {
            run.epochs(2)
                .optimizer(AdamW::new(0.01))
                .batch_postprocessor(|one| Ok(one + batch(7)))
        },
    )
}

#[test]
fn give_two_processes_what_they_give_one() {
    let cases: [Case; 6] = [
        ("of_examples", of_examples),
        ("ahead", ahead),
        ("of_rows", of_rows),
        ("of_lines", of_lines),
        ("of_a_stream", of_a_stream),
        ("postprocessed", postprocessed),
    ];
    two_are_one("loaders::give_two_processes_what_they_give_one", &cases);
}
