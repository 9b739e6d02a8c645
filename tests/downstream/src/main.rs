//! A student that is no transformer, a callback that stops early, and what users add of their
//! own: losses, a term, a distiller, a teacher that follows the student, and a head.

mod distiller;
mod dkd;
mod ema;
mod head;
mod term;

use std::cell::Cell;
use std::collections::BTreeMap;

use tch::nn::{self, Module, VarStore, RNN};
use tch::{Device, Kind, Tensor};
use textbrewer::distiller::DistillerBuilder;
use textbrewer::models::{Bert, BertConfig, BertInputs};
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, BoxError, DataLoader, DistillationConfig, Distiller, Flow,
    GeneralDistiller, IntermediateMatch, Model, Presets, ProjectionSpec, Result, TrainingConfig, VecLoader,
};

use distiller::FeaturesFirst;
use dkd::dkd;
use ema::Average;
use head::FirstToken;
use term::Length;

const VOCABULARY: i64 = 40;
const LABELS: i64 = 3;
const WIDTH: i64 = 16;

/// Logits, and the states of all positions.
struct Output {
    logits: Tensor,
    states: Vec<Tensor>,
}

/// A bidirectional GRU over word vectors.
#[derive(Debug)]
struct BiGru {
    words: nn::Embedding,
    gru: nn::GRU,
    classifier: nn::Linear,
}

impl BiGru {
    fn new(path: &nn::Path, width: i64) -> Self {
        let config = nn::RNNConfig { bidirectional: true, ..Default::default() };
        BiGru {
            words: nn::embedding(path / "words", VOCABULARY, width, Default::default()),
            gru: nn::gru(path / "gru", width, width / 2, config),
            classifier: nn::linear(path / "classifier", width, LABELS, Default::default()),
        }
    }
}

impl Model<Tensor> for BiGru {
    type Output = Output;

    fn forward(&self, batch: &Tensor, _train: bool) -> Result<Output> {
        let embedded = self.words.forward(batch);
        let (states, _) = self.gru.seq(&embedded);
        let logits = self.classifier.forward(&states.f_mean_dim(&[1i64][..], false, Kind::Float)?);
        Ok(Output { logits, states: vec![embedded, states] })
    }
}

fn adaptor(_batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new().logits(&output.logits).hidden(&output.states))
}

fn main() -> std::result::Result<(), BoxError> {
    tch::manual_seed(1);
    let folder = std::env::args().nth(1).ok_or("usage: downstream OUTPUT_DIR")?;
    let (teacher_vars, student_vars) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let teacher = BiGru::new(&teacher_vars.root(), WIDTH);
    let student = BiGru::new(&student_vars.root(), WIDTH);

    let presets = Presets::default().match_loss("l1", |student, teacher, _mask| {
        Ok(student.f_l1_loss(teacher, tch::Reduction::Mean)?)
    });
    let train_config = TrainingConfig::default().device(Device::Cpu).output_dir(folder);
    let distill_config = DistillationConfig::default()
        .intermediate_matches([IntermediateMatch::hidden(-1, -1).loss("l1")]);
    let mut loader = batches()?;

    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student_vars)
        .adaptor(adaptor)
        .presets(presets)
        .train_config(train_config.clone())
        .distill_config(distill_config)
        .build()?;
    let best = Cell::new(f64::INFINITY);
    let summary = distiller
        .train(&mut loader)
        .epochs(50)
        .optimizer(AdamW::new(0.02))
        .progress(false)
        .callback(|_student, checkpoint| {
            let loss = checkpoint.losses["total_loss"];
            let improved = loss < 0.98 * best.replace(loss.min(best.get()));
            Ok(if improved { Flow::Continue } else { Flow::Stop })
        })
        .run()?;
    if !summary.stopped_by_callback || summary.epochs >= 50 {
        return Err(format!("the callback did not stop it: {summary:?}").into());
    }

    own_parts(&teacher, &train_config)?;
    self_distillation(&train_config)?;
    own_head(&train_config)?;
    println!("stopped after {} epochs; distiller, term, loss, teacher and head work", summary.epochs);
    Ok(())
}

type Checked = std::result::Result<(), BoxError>;

fn expect(losses: &BTreeMap<String, f64>, names: &[&str]) -> Checked {
    match names.iter().find(|name| !losses.contains_key(**name)) {
        None => Ok(()),
        Some(name) => Err(format!("`{name}` is missing: {losses:?}").into()),
    }
}

fn batches() -> Result<VecLoader<Tensor>> {
    let batch = || Tensor::f_randint(VOCABULARY, [8, 10], (Kind::Int64, Device::Cpu));
    VecLoader::new((0..4).map(|_| batch()).collect::<std::result::Result<_, _>>()?)
}

/// A distiller, a term with a parameter, and a loss with labels: with a projection, with kept
/// teacher outputs, and resumed.
fn own_parts(teacher: &BiGru, config: &TrainingConfig) -> Checked {
    let config = config.clone().output_dir(config.output_dir.join("own")).ckpt_steps(4);
    let run = |temperature: f64, steps: u64| -> std::result::Result<_, BoxError> {
        let variables = VarStore::new(Device::Cpu);
        let student = BiGru::new(&variables.root(), WIDTH);
        // The label is a rule that the batch shows.
        let with_labels = |batch: &Tensor, output: &Output| {
            let labels = batch.f_select(1, 0)?.f_remainder_tensor(&Tensor::from(LABELS))?;
            Ok(adaptor(batch, output)?.labels(&labels))
        };
        let projection = ProjectionSpec::linear(WIDTH, WIDTH);
        let distill_config = DistillationConfig::default()
            .kd_loss_type("dkd")
            .temperature(temperature)
            .intermediate_matches([IntermediateMatch::hidden(1, 1).proj(projection)])
            .is_caching_logits(true)
            .cache_features(true);
        let mut distiller: FeaturesFirst<Tensor, BiGru> =
            DistillerBuilder::new(teacher, &student, &variables)
                .adaptor(with_labels)
                .presets(Presets::default().kd_loss_with_labels("dkd", dkd))
                .train_config(config.clone())
                .distill_config(distill_config)
                .term(Length::new(0.5)?)
                .build()?;
        let before = distiller.projections().variables()["projection.0.weight"].copy();
        let mut loader = batches()?;
        let run = distiller.train(&mut loader).steps(steps).optimizer(AdamW::new(0.01));
        let summary = run.progress(false).resume_or_start().run()?;
        let is_trained = !distiller.projections().variables()["projection.0.weight"].equal(&before);
        Ok((summary, is_trained))
    };
    let (summary, is_trained) = run(1.0, 8)?;
    let names = ["unweighted_kd_loss", "unweighted_hidden_hidden_mse_1_1", "length"];
    expect(&summary.losses, &names)?;
    if !is_trained || summary.cache_bytes.is_none() {
        return Err("the projection is not trained, or nothing is kept".into());
    }
    match run(2.0, 12) {
        Ok(_) => return Err("another temperature was resumed".into()),
        Err(error) if !error.to_string().contains("distiller.temperature") => return Err(error),
        Err(_) => {}
    }
    match run(1.0, 12)?.0.resumed_from {
        Some(8) => Ok(()),
        other => Err(format!("resumed from {other:?}").into()),
    }
}

/// The teacher follows the student.
fn self_distillation(config: &TrainingConfig) -> Checked {
    let (variables, averages) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let student = BiGru::new(&variables.root(), WIDTH);
    let teacher = BiGru::new(&averages.root(), WIDTH);
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
        .adaptor(adaptor)
        .train_config(config.clone())
        .build()?;
    let before = averages.variables()["classifier.weight"].copy();
    let mut loader = batches()?;
    let run = distiller.train(&mut loader).epochs(1).optimizer(AdamW::new(0.01)).progress(false);
    run.hook(Average::new(&variables, &averages, 0.1)).run()?;
    if averages.variables()["classifier.weight"].equal(&before) {
        return Err("the teacher does not follow".into());
    }
    Ok(())
}

/// The crate's BERT under a head that it does not have.
fn own_head(config: &TrainingConfig) -> Checked {
    let variables = VarStore::new(Device::Cpu);
    let bert = BertConfig::default().vocab_size(VOCABULARY).hidden_size(8).intermediate_size(8);
    let bert = bert.num_attention_heads(2).num_hidden_layers(1).num_labels(LABELS);
    let model = Bert::<FirstToken>::new(&variables.root(), &bert)?;
    let mut trainer = BasicTrainer::builder(&model, &variables)
        .adaptor(|_, output| Ok(AdaptorOutput::new().losses(&output.logits.f_square()?)))
        .train_config(config.clone())
        .build()?;
    let mut loader = batches()?.map(|tokens| Ok(BertInputs::new(tokens)));
    let run = trainer.train(&mut loader).epochs(1).optimizer(AdamW::new(0.01)).progress(false);
    expect(&run.run()?.losses, &["total_loss"])
}
