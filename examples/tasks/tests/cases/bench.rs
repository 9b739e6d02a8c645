//! An example, a tiny encoder, and a folder for what is made of it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tch::Device;
use tch::nn::VarStore;
use tempfile::TempDir;
use textbrewer::models::{BertConfig, BertModel};
use textbrewer::weights;

use super::common::example::{Finished, executable, finish};
use super::common::record;

pub const WORDS: &str = "[PAD] [UNK] [CLS] [SEP] [MASK] a the film plot is very good bad dull great \
    funny cold warm who where lives in anna london berlin works at bank . ? 王 明 住 在 北 京 上 \
    海 谁 哪 里 的 人 说 。 ？";

/// A folder with an encoder, a recipe, data, and room for models.
pub struct Bench {
    folder: TempDir,
    example: &'static str,
}

impl Bench {
    pub fn new(example: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench { folder, example };
        std::fs::create_dir(bench.path("data")).unwrap();
        let variables = VarStore::new(Device::Cpu);
        let config = sizes(BertConfig::default());
        tch::manual_seed(1);
        let model = BertModel::new(&variables.root(), &config).unwrap();
        model
            .save_pretrained(&variables, bench.path("encoder"))
            .unwrap();
        bench.write(
            "encoder/vocab.txt",
            WORDS.split_whitespace().collect::<Vec<_>>().join("\n"),
        );
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The example with `@name` for the path of a name in the folder.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(executable(self.example));
        for argument in arguments.split_whitespace() {
            match argument.strip_prefix('@') {
                Some(name) => command.arg(self.path(name)),
                None => command.arg(argument),
            };
        }
        command
    }

    pub fn run(&self, arguments: &str) -> Finished {
        finish(self.command(arguments))
    }

    pub fn out(&self, arguments: &str) -> String {
        let finished = self.run(arguments);
        assert_eq!(finished.code, Some(0), "{arguments}: {}", finished.err);
        finished.out
    }

    pub fn fails_with(&self, arguments: &str, expected: &[&str]) {
        let finished = self.run(arguments);
        assert_eq!(finished.code, Some(1), "{arguments}: {}", finished.out);
        for expected in expected {
            assert!(
                finished.err.contains(expected),
                "{arguments}: {}",
                finished.err
            );
        }
    }

    /// A figure of `evaluate`.
    pub fn figure(&self, name: &str, arguments: &str) -> f64 {
        let out = self.out(&format!("evaluate --cache-dir none {arguments}"));
        let line = out
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("no `{name}` in {out}"));
        line.trim().parse().unwrap()
    }

    pub fn results(&self, model: &str) -> Value {
        self.json(&format!("{model}/results.json"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Trains a teacher, a student on labels, and distills another; checks what all examples
    /// promise of it. `dev` is the file with the truth, `main` the figure of a model.
    pub fn whole_way(&self, dev: &str, main: &str) {
        let common = "--data-dir @data --epochs 2 --batch-size 4 --max-length 32 \
                      --stride 8 --cache-dir @features";
        let out = self.out(&format!(
            "train --encoder @encoder --output-dir @teacher {common}"
        ));
        assert!(out.contains("saved in"), "{out}");
        self.out(&format!(
            "train --encoder @teacher --recipe labels --output-dir @labels {common}"
        ));
        self.out(&format!(
            "distill --teacher @teacher --output-dir @student {common}"
        ));
        for model in ["teacher", "labels", "student"] {
            let results = self.results(model);
            let said = results["metrics"][main].as_f64().unwrap();
            let again = self.figure(main, &format!("--model @{model} --file @data/{dev}"));
            assert!((said - again).abs() < 1e-3, "{model}: {said} and {again}");
            assert_eq!(results["curve"].as_array().unwrap().len(), 2);
            assert!(self.path(&format!("{model}/vocab.txt")).exists());
        }
        // It was trained: layers of the teacher, but with other values.
        let layers = |model: &str| -> Vec<_> {
            let weights = self.path(&format!("{model}/model.safetensors"));
            weights::read(weights).unwrap().into_iter().collect()
        };
        let (teacher, student) = (layers("teacher"), layers("student"));
        assert!(student.len() < teacher.len());
        assert_ne!(student, layers("labels"));
        // Four files: train and dev by two tokenizer folders (the encoder's, the teacher's) whose
        // files are equal are two.
        let kept = std::fs::read_dir(self.path("features")).unwrap().count();
        assert_eq!(kept, 2);

        self.out(&format!(
            "predict --model @student --file @data/{dev} --output @predictions --cache-dir none"
        ));
        let of_file = self.figure(
            main,
            &format!("--predictions @predictions --file @data/{dev}"),
        );
        let of_model = self.figure(main, &format!("--model @student --file @data/{dev}"));
        assert!(
            (of_file - of_model).abs() < 1e-3,
            "{of_file} and {of_model}"
        );
    }

    /// The other students and distillers end well.
    pub fn variants(&self) {
        let common = "--data-dir @data --epochs 1 --batch-size 4 --max-length 32 --stride 8 \
                      --cache-dir none";
        let distill = format!("distill --teacher @teacher {common}");
        self.out(&format!(
            "{distill} --teacher @teacher --output-dir @of_two"
        ));
        self.out(&format!("{distill} --recipe emd --output-dir @by_emd"));
        self.out(&format!("{distill} --student T6 --output-dir @t6"));
        let values = weights::read(self.path("t6/model.safetensors")).unwrap();
        assert_eq!(
            values.len(),
            weights::read(self.path("teacher/model.safetensors"))
                .unwrap()
                .len()
        );
    }
}

/// For `tests/same_bytes.sh`.
impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            record::folder("", self.folder.path());
        }
    }
}

/// Six tiny layers.
pub fn sizes(config: BertConfig) -> BertConfig {
    config
        .vocab_size(WORDS.split_whitespace().count() as i64)
        .hidden_size(8)
        .num_attention_heads(2)
        .intermediate_size(16)
        .num_hidden_layers(6)
        .max_position_embeddings(64)
}

pub fn sentences(rounds: usize) -> String {
    let mut text = "sentence\tlabel\n".to_owned();
    for _ in 0..rounds {
        for (words, label) in [
            ("good", 1),
            ("great", 1),
            ("funny", 1),
            ("bad", 0),
            ("dull", 0),
            ("cold", 0),
        ] {
            text.push_str(&format!("the film is very {words} .\t{label}\n"));
        }
    }
    text
}
