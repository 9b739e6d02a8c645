//! Random configurations, adaptors and data: training ends with finite losses or with an
//! error that says what does not fit, and never with a panic.
//!
//! A case depends on the seed and its number alone. `RANDOM_CASES` is how many there are,
//! `RANDOM_SEED` the seed and `RANDOM_FIRST` the first number: a failure names those that
//! bring it back.

mod common;

#[path = "random_cases/configurations.rs"]
mod configurations;
#[path = "random_cases/models.rs"]
mod models;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::tiny::Net;
use models::Says;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};
use textbrewer::distiller::{EmdDistiller, Ensemble, Task};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::{
    Adam, AdamW, BasicDistiller, BasicTrainer, DataLoader, Distiller, Error, GeneralDistiller,
    MemorySink, MultiTaskDistiller, MultiTeacherDistiller, Result, Run, Sgd, TaskLoader,
    TrainSummary, VecLoader,
};

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().expect(name))
}

/// One of these, each as likely as the others.
fn one<'a, T>(random: &mut ChaCha8Rng, of: &'a [T]) -> &'a T {
    &of[random.random_range(0..of.len())]
}

#[test]
fn training_ends_with_finite_losses_or_an_error() {
    let (seed, first) = (number("RANDOM_SEED", 0), number("RANDOM_FIRST", 0));
    let cases = number("RANDOM_CASES", 1000);
    let folder = tempfile::tempdir().unwrap();
    let mut trained = 0;
    for index in first..first + cases {
        let random = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9) ^ index);
        let mut case = Case::new(random, &folder.path().join(index.to_string()));
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&case.run())));
        let again = format!("RANDOM_SEED={seed} RANDOM_FIRST={index} RANDOM_CASES=1\n{case}");
        match outcome {
            Ok(Ok(is_trained)) => trained += u64::from(is_trained),
            Ok(Err(complaint)) => panic!("{complaint}\n{again}"),
            Err(_) => panic!("a panic\n{again}"),
        }
        if cases == 1 {
            println!("{again}");
        }
    }
    println!("{cases} cases, {trained} of them trained");
    if cases >= 100 {
        // Cases that are all refused, or all fit, would test little.
        assert!(
            (cases / 3..cases * 9 / 10).contains(&trained),
            "{trained} trained"
        );
    }
}

/// Whether it was trained, or what is wrong with how it ended.
fn check(result: &Result<(TrainSummary, MemorySink)>) -> std::result::Result<bool, String> {
    match result {
        Ok((summary, sink)) => {
            let finite = |value: &f64| value.is_finite();
            if summary.global_steps == 0 || !summary.losses.values().all(finite) {
                return Err(format!("{summary:?}"));
            }
            let curve = sink.curve("scalar/total_loss");
            if curve.len() as u64 != summary.forward_steps {
                return Err(format!("{} losses of {summary:?}", curve.len()));
            }
            match curve.iter().all(|(_, value)| value.is_finite()) {
                true => Ok(true),
                false => Err(format!("{curve:?}")),
            }
        }
        // libtorch's words alone tell neither the place nor the remedy.
        Err(error) if is_of_libtorch(error) => Err(format!("libtorch's own words: {error}")),
        Err(error) if error.to_string().is_empty() => Err(format!("nothing said: {error:?}")),
        Err(error) => {
            if number("RANDOM_CASES", 0) > 0 {
                println!("{error}");
            }
            Ok(false)
        }
    }
}

fn is_of_libtorch(error: &Error) -> bool {
    match error {
        Error::Torch { context, .. } => context == "tensor operation",
        Error::Task { source, .. }
        | Error::Data { source, .. }
        | Error::Callback { source, .. } => {
            source.downcast_ref::<Error>().is_some_and(is_of_libtorch)
        }
        _ => false,
    }
}

/// Everything that is chosen at random.
struct Case {
    random: ChaCha8Rng,
    kind: &'static str,
    teachers: Vec<(Net, Says)>,
    student: (Net, Says),
    training: textbrewer::TrainingConfig,
    distillation: textbrewer::DistillationConfig,
    emd: textbrewer::EmdConfig,
    batches: Vec<Tensor>,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{}: {}",
            self.kind,
            self.training.to_json_string().unwrap()
        )?;
        writeln!(f, "{}", self.distillation.to_json_string().unwrap())?;
        writeln!(f, "{}", serde_json::to_string(&self.emd).unwrap())?;
        let teachers: Vec<_> = self.teachers.iter().map(|(_, says)| says).collect();
        let sizes: Vec<_> = self.batches.iter().map(Tensor::size).collect();
        write!(
            f,
            "teachers {teachers:?}\nstudent {:?}\nbatches {sizes:?}",
            self.student.1
        )
    }
}

impl Case {
    fn new(mut random: ChaCha8Rng, folder: &Path) -> Self {
        let random = &mut random;
        let kinds = [
            "trainer", "basic", "general", "general", "teachers", "tasks", "emd",
        ];
        let kind = *one(random, &kinds);
        let teachers = match kind {
            "teachers" => random.random_range(1..4),
            "tasks" => 2,
            _ => 1,
        };
        let common = Says::random(random);
        let teachers: Vec<_> = (0..teachers)
            .map(|index| common.like(random).with_net(0.1 + index as f64))
            .collect();
        let student = common.like(random).with_net(0.7);
        let shape = [random.random_range(1..3), random.random_range(1..4), 3];
        let scale = *one(random, &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1e-20, 1e3, 1e30]);
        let batches = (0..random.random_range(1..5))
            .map(|seed| (common::waves(&shape, f64::from(seed)) * scale).to_kind(Kind::Float))
            .collect();
        let sizes = (&teachers[0].1, &student.1);
        let named = if kind == "teachers" {
            teachers.len()
        } else {
            1
        };
        let mut distillation = configurations::distillation(random, sizes, named);
        if kind == "basic" && random.random_bool(0.9) {
            distillation = distillation.intermediate_matches([]);
        }
        Case {
            training: configurations::training(random, folder),
            distillation,
            emd: configurations::emd(random, sizes),
            random: random.clone(),
            kind,
            teachers,
            student,
            batches,
        }
    }

    fn run(&mut self) -> Result<(TrainSummary, MemorySink)> {
        let random = &mut self.random;
        let (training, distillation) = (self.training.clone(), self.distillation.clone());
        // As a user gets them: from a file.
        let training = textbrewer::TrainingConfig::from_json_str(&training.to_json_string()?)?;
        let (teacher, says) = &self.teachers[0];
        let (student, student_says) = &self.student;
        let variables = &student.variables;
        let copies = self.batches.iter().map(Tensor::shallow_clone);
        let mut loader = VecLoader::new(copies.collect())?;
        if random.random() {
            loader = loader.shuffle(random.random());
        }
        match self.kind {
            "trainer" => {
                let mut distiller = BasicTrainer::builder(student, variables)
                    .train_config(training)
                    .adaptor(student_says.adaptor())
                    .build()?;
                train(&mut distiller, &mut loader, random)
            }
            "basic" => {
                let mut distiller = BasicDistiller::builder(teacher, student, variables)
                    .train_config(training)
                    .distill_config(distillation)
                    .teacher_adaptor(says.adaptor())
                    .student_adaptor(student_says.adaptor())
                    .build()?;
                train(&mut distiller, &mut loader, random)
            }
            "general" => {
                let mut distiller = GeneralDistiller::builder(teacher, student, variables)
                    .train_config(training)
                    .distill_config(distillation)
                    .teacher_adaptor(says.adaptor())
                    .student_adaptor(student_says.adaptor())
                    .build()?;
                train(&mut distiller, &mut loader, random)
            }
            "teachers" => {
                let mut builder = MultiTeacherDistiller::builder(student, variables)
                    .ensemble(ensemble(random, self.teachers.len()))
                    .student_adaptor(student_says.adaptor())
                    .train_config(training)
                    .distill_config(distillation);
                for (net, says) in &self.teachers {
                    builder = builder.teacher(net, says.adaptor());
                }
                train(&mut builder.build()?, &mut loader, random)
            }
            "tasks" => {
                let mut builder = MultiTaskDistiller::builder(student, variables)
                    .train_config(training)
                    .distill_config(distillation);
                for (name, (net, says)) in ["first", "second"].into_iter().zip(&self.teachers) {
                    let task = Task::new()
                        .teacher(net, says.adaptor())
                        .ensemble(ensemble(random, 1))
                        .student_adaptor(student_says.adaptor());
                    builder = builder.task(name, task);
                }
                let copies = self.batches.iter().map(Tensor::shallow_clone);
                let other = VecLoader::new(copies.collect())?;
                let mut loader = TaskLoader::new()
                    .task("first", loader)
                    .task("second", other)
                    .tau(*one(random, &[1.0, 0.0, 0.5, 2.0]))
                    .seed(random.random());
                train(&mut builder.build()?, &mut loader, random)
            }
            _ => {
                let mut distiller = EmdDistiller::builder(teacher, student, variables)
                    .train_config(training)
                    .distill_config(distillation.emd(self.emd.clone()))
                    .teacher_adaptor(says.adaptor())
                    .student_adaptor(student_says.adaptor())
                    .build()?;
                train(&mut distiller, &mut loader, random)
            }
        }
    }
}

fn ensemble(random: &mut ChaCha8Rng, teachers: usize) -> Ensemble {
    match random.random_range(0..6) {
        0 => Ensemble::MeanProbabilities {
            temperature: *one(random, &[1.0, 4.0, 0.1, 1e9]),
        },
        1 => Ensemble::Weighted(vec![0.5; teachers]),
        2 => Ensemble::Weighted(vec![
            *one(random, &[0.0, -1.0, 1.0]);
            random.random_range(0..3)
        ]),
        3 => Ensemble::Confidence,
        _ => Ensemble::MeanLogits,
    }
}

fn train<D: Distiller>(
    distiller: &mut D,
    loader: &mut dyn DataLoader<Batch = D::Batch>,
    random: &mut ChaCha8Rng,
) -> Result<(TrainSummary, MemorySink)> {
    let sink = MemorySink::new();
    // Mixed tasks have no end.
    let is_counted = loader.num_batches().is_some() && random.random();
    let mut run = Run::new(distiller, loader)
        .progress(false)
        .log_sink(sink.clone())
        .seed(random.random());
    run = match is_counted || random.random_bool(0.1) {
        true => run.epochs(random.random_range(1..3)),
        false => run.steps(random.random_range(1..4)),
    };
    let rate = *one(random, &[1e-3, 1e-2, 0.0, 1.0]);
    run = match random.random_range(0..4) {
        0 => run.optimizer(Adam::new(rate)),
        1 => run.optimizer(Sgd::new(rate)),
        2 => run.optimizer(Sgd::new(rate).momentum(0.9)),
        _ => run.optimizer(AdamW::new(rate)).no_decay(["bias"]),
    };
    if random.random() {
        run = run.schedule(linear_with_warmup(random.random_range(0..3), 4));
    }
    if random.random() {
        run = run.max_grad_norm(*one(random, &[1.0, 1e-3, 0.0]));
    }
    Ok((run.run()?, sink))
}
