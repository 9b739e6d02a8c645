//! The models, data and matches that are measured.

use clap::ValueEnum;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs};
use textbrewer::{DistillationConfig, IntermediateMatch, ProjectionSpec, Result, Side};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Shape {
    /// BERT-base into three of its layers, 32 × 128 tokens.
    RandomTokens,
    /// Four layers into two, hidden 64, 8 × 16 tokens.
    Tiny,
}

/// Which student, in place of the shape's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Student {
    /// As wide as the teacher: 3 layers of BERT-base, or 2 of `tiny`.
    Wide,
    /// 4 layers, hidden 312, intermediate 1,200, 12 heads, with linear projections to the
    /// teacher's width; for `random_tokens`.
    Small,
}

impl Student {
    pub fn name(self) -> &'static str {
        match self {
            Student::Wide => "wide",
            Student::Small => "small",
        }
    }
}

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Shape::RandomTokens => "random_tokens",
            Shape::Tiny => "tiny",
        }
    }

    pub fn threads(self) -> Option<i32> {
        (self == Shape::Tiny).then_some(1)
    }

    /// Steps of a run before the measured one.
    pub fn warm_up_steps(self) -> Option<u64> {
        (self == Shape::Tiny).then_some(50)
    }

    pub fn teacher(self, variables: &VarStore) -> Result<BertForSequenceClassification> {
        let layers = if self == Shape::Tiny { 4 } else { 12 };
        self.bert(variables, self.config(layers), Side::Teacher)
    }

    pub fn student(
        self,
        variables: &VarStore,
        student: Student,
    ) -> Result<BertForSequenceClassification> {
        let config = match student {
            Student::Wide => self.config(if self == Shape::Tiny { 2 } else { 3 }),
            Student::Small => self
                .config(4)
                .hidden_size(312)
                .intermediate_size(1_200)
                .num_attention_heads(12),
        };
        self.bert(variables, config, Side::Student)
    }

    fn config(self, layers: i64) -> BertConfig {
        // The default is BERT-base, with dropout 0.1.
        let config = BertConfig::default()
            .num_hidden_layers(layers)
            .num_labels(2);
        match self {
            Shape::RandomTokens => config,
            Shape::Tiny => config
                .vocab_size(1_000)
                .hidden_size(64)
                .num_attention_heads(2)
                .intermediate_size(128),
        }
    }

    fn bert(
        self,
        variables: &VarStore,
        config: BertConfig,
        side: Side,
    ) -> Result<BertForSequenceClassification> {
        let model = BertForSequenceClassification::new(&variables.root(), &config)?;
        // Projections ask for no other layers.
        let matches = self.matches(Student::Wide);
        let config = DistillationConfig::default().intermediate_matches(matches);
        Ok(model.output_hidden_states(config.layers(side, "hidden")))
    }

    pub fn matches(self, student: Student) -> Vec<IntermediateMatch> {
        let hidden = |teacher: i64, of_student: i64| {
            let matched = IntermediateMatch::hidden(teacher, of_student).loss("hidden_mse");
            match student {
                Student::Wide => matched,
                Student::Small => matched.proj(ProjectionSpec::linear(312, 768)),
            }
        };
        let nst = |teacher: i64, student: i64| {
            IntermediateMatch::hidden([teacher, teacher], [student, student]).loss("nst")
        };
        match self {
            Shape::RandomTokens => vec![hidden(0, 0), hidden(8, 2), nst(0, 0), nst(8, 2)],
            Shape::Tiny => vec![hidden(0, 0), hidden(4, 2)],
        }
    }

    /// The batches of an epoch, in main memory.
    pub fn batches(self, batch: Option<i64>, length: Option<i64>) -> Result<Vec<BertInputs>> {
        let (count, default_size, words) = match self {
            Shape::RandomTokens => (4, [32, 128], 100),
            Shape::Tiny => (20, [8, 16], 1_000),
        };
        let [default_batch, default_length] = default_size;
        let size = [
            batch.unwrap_or(default_batch),
            length.unwrap_or(default_length),
        ];
        let int64 = (Kind::Int64, Device::Cpu);
        let inputs = |_| {
            let inputs = BertInputs::new(Tensor::f_randint(words, size, int64)?);
            Ok(inputs
                .attention_mask(Tensor::f_ones(size, int64)?)
                .labels(Tensor::f_randint(2, [size[0]], int64)?))
        };
        (0..count).map(inputs).collect()
    }
}
