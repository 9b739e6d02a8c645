//! A student that is no transformer, a loss and a distiller of one's own, and a callback
//! that stops early.

use std::cell::Cell;

use tch::nn::{self, Module, VarStore, RNN};
use tch::{Device, Kind, Tensor};
use textbrewer::distiller::{Pair, Parts, SharedLosses, DistillerBuilder};
use textbrewer::{
    AdamW, AdaptorOutput, BoxError, DistillationConfig, Distiller, Error, Flow, GeneralDistiller,
    IntermediateMatch, LossReport, Model, Presets, Result, StepInfo, TrainingConfig, VecLoader,
};

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

/// The usual losses, and one that keeps the student's logits small.
struct Decayed<'a> {
    pair: Pair<'a, Tensor, BiGru>,
    losses: SharedLosses,
    config: TrainingConfig,
}

impl<'a> TryFrom<Parts<'a, Tensor, BiGru>> for Decayed<'a> {
    type Error = Error;

    fn try_from(parts: Parts<'a, Tensor, BiGru>) -> Result<Self> {
        let device = parts.train_config.device;
        Ok(Decayed {
            losses: SharedLosses::new(&parts.distill_config, &parts.presets, device, 1)?,
            pair: parts.pair,
            config: parts.train_config,
        })
    }
}

impl Distiller for Decayed<'_> {
    type Batch = Tensor;
    type Student = BiGru;

    fn train_on_batch(&mut self, batch: &Tensor, step: &StepInfo) -> Result<LossReport> {
        let teacher = self.pair.run_teacher(batch, step)?;
        let student = self.pair.run_student(batch)?;
        let size = student.logits[0].whole()?.f_square()?.f_mean(Kind::Float)?;
        let mut report =
            self.losses.report(&teacher, std::slice::from_ref(&teacher), &student, batch, step)?;
        report.add("logits_size", size, 0.01);
        Ok(report)
    }

    fn config(&self) -> &TrainingConfig {
        &self.config
    }

    fn student(&self) -> &BiGru {
        self.pair.student()
    }

    fn variables(&self) -> &VarStore {
        self.pair.variables()
    }
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
    let batches = (0..4)
        .map(|_| Tensor::f_randint(VOCABULARY, [8, 10], (Kind::Int64, Device::Cpu)))
        .collect::<std::result::Result<_, _>>()?;
    let mut loader = VecLoader::new(batches)?;

    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student_vars)
        .adaptor(adaptor)
        .presets(presets.clone())
        .train_config(train_config.clone())
        .distill_config(distill_config.clone())
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

    let mut own: Decayed = DistillerBuilder::new(&teacher, &student, &student_vars)
        .adaptor(adaptor)
        .presets(presets)
        .train_config(train_config)
        .distill_config(distill_config)
        .build()?;
    let run = own.train(&mut loader).steps(6).optimizer(AdamW::new(0.01)).progress(false);
    let losses = run.run()?.losses;
    if !losses.contains_key("logits_size") || !losses.contains_key("unweighted_hidden_l1_-1_-1") {
        return Err(format!("a loss is missing: {losses:?}").into());
    }
    println!("stopped after {} epochs; {} losses of its own distiller", summary.epochs, losses.len());
    Ok(())
}
