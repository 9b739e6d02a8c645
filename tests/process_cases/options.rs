//! Options of a run, and students with odd variables, in two processes as in one.

use tch::nn::{self, Init, ModuleT, VarStore};
use tch::{Kind, Tensor};
use textbrewer::optim::{GroupOptions, LossScaling, Optimizer, ParamGroup};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::weights::state_dict;
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DistillationConfig, Distiller, GeneralDistiller, Model,
    OnNonFinite, Result, Sgd, TrainingConfig, VecLoader, from_fn,
};

use super::together::{
    Case, Process, Trained, found, leave, several_are_close_to_one, two_are_one,
};
use crate::common::device::device;
use crate::common::ranks::in_processes;
use crate::common::tiny::{
    Net, Output, batches, config, fill, first_line, general, loader, numbers, square,
};
use crate::common::{close, elements};

/// A student with a variable that is used twice, a frozen one, and a running mean.
#[derive(Debug)]
struct Odd {
    variables: VarStore,
    table: Tensor,
    frozen: Tensor,
    mean: Tensor,
}

impl Odd {
    fn new(seed: f64) -> Self {
        let variables = VarStore::new(device());
        let root = variables.root();
        let odd = Odd {
            table: root.var("table", &[3, 3], Init::Const(0.0)),
            frozen: root.var("frozen", &[3, 3], Init::Const(0.0)),
            mean: root.zeros_no_train("mean", &[1]),
            variables,
        };
        fill(&odd.variables, seed);
        let _ = odd.frozen.set_requires_grad(false);
        odd
    }
}

impl Model<Tensor> for Odd {
    type Output = Tensor;

    fn forward(&self, batch: &Tensor, train: bool) -> Result<Tensor> {
        if train {
            let _guard = tch::no_grad_guard();
            let now = batch.mean(Kind::Float);
            let mut mean = self.mean.shallow_clone();
            let _ = mean.f_mul_(&Tensor::from(0.5))?.f_add_(&(now * 0.5))?;
        }
        let hidden = batch.matmul(&self.table).tanh().matmul(&self.frozen);
        Ok(hidden.matmul(&self.table.tr()))
    }
}

fn squares(_: &Tensor, output: &Tensor) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new().losses(&output.square()))
}

fn odd<'a>(student: &'a Odd, config: TrainingConfig) -> BasicTrainer<'a, Tensor, Odd> {
    BasicTrainer::builder(student, &student.variables)
        .train_config(config)
        .adaptor(squares)
        .build()
        .unwrap()
}

fn odd_variables(process: &Process<'_>) -> Trained {
    let student = Odd::new(0.25 + process.rank() as f64);
    let mut trained = process.train(odd(&student, process.config()), &mut loader(12), |run| {
        run.epochs(2)
            .optimizer(AdamW::new(0.01))
            .no_decay(["table"])
            .schedule(linear_with_warmup(3, 12))
            .max_grad_norm(0.1)
    });
    // The running mean is of fewer batches. It comes last, or first: look for its one number.
    let mean = student.mean.double_value(&[0]).to_bits();
    trained.weights.retain(|bits| *bits != mean);
    trained
}

fn scaled(process: &Process<'_>) -> Trained {
    let (teacher, student) = (Net::new(3, 6, 0.5), process.student());
    let config = process.config();
    let distiller = general(&teacher, &student, config, Default::default()).unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.epochs(2)
            .optimizer(AdamW::new(0.01))
            .loss_scaling(LossScaling::new().initial_scale(1024.0))
            .max_grad_norm(0.5)
    })
}

/// Batches that weigh by how many of their examples are kept.
fn weighed(process: &Process<'_>) -> Trained {
    let (teacher, student) = (Net::new(3, 6, 0.5), process.student());
    let adaptor = |batch: &Tensor, output: &Output| {
        let weights =
            batch
                .narrow(-1, 0, 1)
                .abs()
                .mean_dim([1i64, 2].as_slice(), false, Kind::Float);
        Ok(AdaptorOutput::new()
            .logits(&output.logits)
            .logits_weights(&weights))
    };
    let distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(process.config())
        .distill_config(DistillationConfig::default().kd_loss_type("reverse_kl"))
        .adaptor(adaptor)
        .build()
        .unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.epochs(2).optimizer(Sgd::new(0.5)).max_grad_norm(0.5)
    })
}

fn groups(process: &Process<'_>) -> Trained {
    let student = process.student();
    process.train(process.trainer(&student), &mut loader(12), |run| {
        run.epochs(2)
            .optimizer(Sgd::new(0.1).momentum(0.9))
            .on_non_finite(OnNonFinite::SkipStep)
            .param_groups_by(|name| match name.contains("head") {
                true => GroupOptions::new().learning_rate(0.02),
                false => GroupOptions::new(),
            })
    })
}

/// The last layer is trained from the third step on.
fn thawing(process: &Process<'_>) -> Trained {
    let student = process.student();
    let head = || {
        let all = student.variables.variables().into_iter();
        all.filter(|(name, _)| name.contains("head"))
    };
    for (_, tensor) in head() {
        let _ = tensor.set_requires_grad(false);
    }
    let distiller = BasicTrainer::builder(&student, &student.variables)
        .train_config(process.config())
        .adaptor(square)
        .build()
        .unwrap();
    let mut optimizer = AdamW::new(0.01);
    let all = ParamGroup::new("all", state_dict(&student.variables));
    optimizer.add_group(all).unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.epochs(1)
            .optimizer(optimizer)
            .after_step(|student: &Net, step| {
                if step.global_step == 2 {
                    for (_, tensor) in student.variables.variables() {
                        let _ = tensor.set_requires_grad(true);
                    }
                }
                Ok(())
            })
    })
}

/// Each of two processes has three batches, of which two make a step, and the last one another.
fn remainder(process: &Process<'_>) -> Trained {
    let (teacher, student) = (Net::new(3, 6, 0.5), process.student());
    let config = process.config().step_on_remainder(true);
    let distiller = general(&teacher, &student, config, Default::default()).unwrap();
    let trained = process.train(distiller, &mut loader(6), |run| {
        run.epochs(2).optimizer(AdamW::new(0.01))
    });
    assert_eq!(trained.steps, 4);
    trained
}

/// Of the ten batches the last two make no step, and only those use a variable.
fn left_over(process: &Process<'_>) -> Trained {
    let student = process.student();
    let extra = student
        .variables
        .root()
        .var("extra", &[1], Init::Const(1.0));
    let extra_of = |batch: &Tensor| match batch.abs().max().double_value(&[]) > 10.0 {
        true => extra.shallow_clone(),
        false => Tensor::from(0.0f32),
    };
    let distiller = BasicTrainer::builder(&student, &student.variables)
        .train_config(process.config())
        .adaptor(|batch: &Tensor, output: &Output| {
            Ok(AdaptorOutput::new().losses(&(output.logits.square() + extra_of(batch))))
        })
        .build()
        .unwrap();
    let mut all = batches(10);
    for large in &mut all[8..] {
        *large *= 100;
    }
    let trained = process.train(distiller, &mut VecLoader::new(all).unwrap(), |run| {
        run.epochs(3).optimizer(AdamW::new(0.1))
    });
    assert_eq!(extra.double_value(&[0]), 1.0, "no step has its gradient");
    trained
}

#[test]
fn mean_the_same() {
    let cases: [Case; 5] = [
        ("odd_variables", odd_variables),
        ("scaled", scaled),
        ("weighed", weighed),
        ("groups", groups),
        ("thawing", thawing),
    ];
    two_are_one("options::mean_the_same", &cases);
}

#[test]
fn a_remainder_makes_a_step_or_is_dropped() {
    let name = "options::a_remainder_makes_a_step_or_is_dropped";
    let cases: [Case; 2] = [("remainder", remainder), ("left_over", left_over)];
    several_are_close_to_one(name, (2, 2), &cases);
}

/// Running statistics are of the first process's batches, in all processes.
#[test]
fn statistics_are_those_of_the_first() {
    let name = "options::statistics_are_those_of_the_first";
    let folder = in_processes(name, 2, |group, folder| {
        let student = Odd::new(group.rank() as f64);
        let mut means = Vec::new();
        odd(&student, config(folder))
            .train(&mut loader(6))
            .epochs(1)
            .optimizer(Sgd::new(0.1))
            .callback(|student: &Odd, _| {
                means.extend(elements(&student.mean));
                Ok(())
            })
            .process_group(group)
            .run()
            .unwrap();
        means.extend(elements(&student.mean));
        means.push(numbers(&student.variables).iter().sum());
        leave(folder, group, &means);
    });
    let Some(folder) = folder else { return };
    let means: Vec<Vec<f64>> = found(folder.path(), 2);
    assert_eq!(means[0], means[1]);
    let mut mean = elements(&Odd::new(0.0).mean)[0];
    for index in [0, 2, 4] {
        let batch = crate::common::tiny::batch(index);
        mean = 0.5 * mean + 0.5 * batch.mean(Kind::Double).double_value(&[]);
    }
    assert!(close(means[0][0], mean), "{} and {mean}", means[0][0]);
}

/// libtorch writes into the statistics of its batch normalization without a trace.
#[test]
fn batch_normalization_is_that_of_the_first() {
    let name = "options::batch_normalization_is_that_of_the_first";
    let folder = in_processes(name, 2, |group, folder| {
        let variables = VarStore::new(device());
        let norm = nn::batch_norm1d(variables.root(), 3, Default::default());
        let model =
            from_fn(|batch: &Tensor, train| Ok(norm.forward_t(&batch.f_reshape([-1, 3])?, train)));
        BasicTrainer::builder(&model, &variables)
            .train_config(config(folder))
            .adaptor(squares)
            .build()
            .unwrap()
            .train(&mut loader(6))
            .epochs(1)
            .optimizer(Sgd::new(0.1))
            .process_group(group)
            .run()
            .unwrap();
        leave(folder, group, &numbers(&variables));
    });
    let Some(folder) = folder else { return };
    let all: Vec<Vec<f64>> = found(folder.path(), 2);
    assert_eq!(all[0], all[1]);
}

/// c10d would take the numbers of one for those of another.
#[test]
fn variables_of_another_layout_are_refused() {
    let name = "options::variables_of_another_layout_are_refused";
    let folder = in_processes(name, 2, |group, folder| {
        let variables = VarStore::new(device());
        let mut weight = variables.root().ones("weight", &[3, 3]);
        if !group.is_first() {
            let turned = weight.detach().tr().contiguous().tr();
            weight.set_data(&turned);
        }
        let model = from_fn(|batch: &Tensor, _| Ok(batch.f_matmul(&weight)?));
        let mut trainer = BasicTrainer::builder(&model, &variables)
            .train_config(config(folder))
            .adaptor(squares)
            .build()
            .unwrap();
        let mut loader = loader(6);
        let run = trainer
            .train(&mut loader)
            .epochs(1)
            .optimizer(Sgd::new(0.1));
        leave(folder, group, &first_line(run.process_group(group).run()));
    });
    let Some(folder) = folder else { return };
    for said in found::<String>(folder.path(), 2) {
        assert!(
            said.contains("comparing the order and layout of the variables"),
            "{said}"
        );
    }
}
