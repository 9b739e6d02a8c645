//! From files to batches.

use std::path::{Path, PathBuf};

use textbrewer::models::BertInputs;
use textbrewer::{DataLoader, ExampleLoader};

use crate::features::{Cache, Features, features};
use crate::pieces::Pieces;
use crate::recipe::Recipe;
use crate::task::Task;
use crate::terminal::tell;
use crate::{Error, Result, sound};

/// The pool size of `group_by_length`, in batches.
const POOL: usize = 50;
/// The seed for choosing a part of the training set; not the run's seed, so that runs with
/// different seeds train on the same examples.
const SUBSET_SEED: u64 = 1234;

/// Records of a file and their features.
#[derive(Debug)]
pub struct Data<T: Task> {
    /// The file.
    pub file: PathBuf,
    /// Its records.
    pub records: Vec<T::Record>,
    /// Their features, the inputs of a model.
    pub features: Features<T::Feature>,
}

/// An input of the model to train on.
#[derive(Debug, Clone)]
pub struct Example<F> {
    /// Tells it from all others, whatever part of the files is trained on: the place of its record
    /// in the file, counted from 0 and on from file to file. The next windows of a long record have
    /// 2⁴⁰ more each.
    pub id: u64,
    /// What the model is shown.
    pub feature: F,
}

/// The records that are trained on, of all in the files.
#[derive(Debug, Clone)]
pub struct Chosen<R> {
    /// Their places.
    pub ids: Vec<u64>,
    /// They themselves.
    pub records: Vec<R>,
    /// The number of all.
    pub all: u64,
}

/// How far apart the ids of the windows of a record are.
const WINDOW: u64 = 1 << 40;

/// The files of a training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The training files.
    pub train: Vec<PathBuf>,
    /// The file to evaluate on after every epoch.
    pub dev: PathBuf,
}

/// A task, a tokenizer and a recipe: everything that batches depend on.
#[derive(Debug)]
pub struct Bench<'a, T> {
    /// The task.
    pub task: &'a T,
    /// The tokenizer.
    pub pieces: &'a Pieces,
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The folder of cached features, if they are cached.
    pub cache: Option<&'a Path>,
}

impl<'a, T: Task> Bench<'a, T> {
    /// Reads a file whose records are to be answered, all of them.
    ///
    /// # Errors
    /// When the file is invalid.
    pub fn read(&self, file: &Path) -> Result<Data<T>> {
        let records = self.task.read(file)?;
        sound::to_answer(self.task, file, &records)?;
        self.data(file, records, &[])
    }

    /// The features of records of a file, of which those at the positions `left_out` were left out.
    fn data(&self, file: &Path, records: Vec<T::Record>, left_out: &[usize]) -> Result<Data<T>> {
        let mut settings = format!(
            "{:?} {} {} {}",
            self.task,
            self.recipe.max_length,
            self.recipe.stride,
            records.len()
        );
        if !left_out.is_empty() {
            settings.push_str(&format!(" without {left_out:?}"));
        }
        let cache = self
            .cache
            .map(|folder| Cache::new(folder, file, self.pieces, &settings));
        let cache = cache.transpose()?;
        let features = features(self.task, &records, self.pieces, cache.as_ref())?;
        Ok(Data {
            file: file.to_path_buf(),
            records,
            features,
        })
    }

    /// Reads the training files; of the first only the part that the recipe asks for, the same in
    /// every run. Broken lines are left out, and with `labels` records and features without the
    /// truth.
    ///
    /// # Errors
    /// When a file is invalid, or there is nothing in it to train on.
    pub fn read_train(&self, files: &[PathBuf], labels: bool) -> Result<Vec<Example<T::Feature>>> {
        let mut train = Vec::new();
        let mut before = 0;
        for (number, file) in files.iter().enumerate() {
            let records = self.task.read(file)?;
            let all = records.len() as u64;
            let (records, left_out) = sound::to_learn(self.task, file, records, labels)?;
            let places = (0..).filter(|place| left_out.binary_search(place).is_err());
            let records = self.part(number, places.zip(records).collect())?;
            let (places, records): (Vec<usize>, Vec<_>) = records.into_iter().unzip();
            let ids = places.into_iter().map(|place| before + place as u64);
            train.push((
                self.data(file, records, &left_out)?,
                ids.collect::<Vec<_>>(),
            ));
            before += all;
        }
        let records: usize = train.iter().map(|(data, _)| data.records.len()).sum();
        let features = train.iter().map(|(data, _)| data.features.features.len());
        let features: usize = features.sum();
        tell(format_args!(
            "{records} records to train on ({features} features)"
        ));
        let mut examples = Vec::new();
        for (data, ids) in train {
            examples.extend(self.examples(data, &ids, labels)?);
        }
        Ok(examples)
    }

    /// The records to train on, as [`read_train`](Self::read_train) has them.
    ///
    /// # Errors
    /// When a file is invalid.
    pub fn train_records(&self, files: &[PathBuf], labels: bool) -> Result<Chosen<T::Record>> {
        let mut chosen = Chosen {
            ids: Vec::new(),
            records: Vec::new(),
            all: 0,
        };
        for (number, file) in files.iter().enumerate() {
            let records = self.task.read(file)?;
            let count = records.len() as u64;
            let records = (chosen.all..).zip(records);
            let learnt = records.filter(|(_, record)| sound::is_learnt(self.task, record, labels));
            for (id, record) in self.part(number, learnt.collect())? {
                chosen.ids.push(id);
                chosen.records.push(record);
            }
            chosen.all += count;
        }
        Ok(chosen)
    }

    /// Of the first file the part that the recipe asks for.
    fn part<R: Clone>(&self, file: usize, records: Vec<R>) -> Result<Vec<R>> {
        let size = self.recipe.train_size.filter(|_| file == 0);
        match size.filter(|size| *size < records.len()) {
            Some(size) => part(records, size),
            None => Ok(records),
        }
    }

    /// The features of records with these ids, with `labels` only those that have labels.
    fn examples(
        &self,
        data: Data<T>,
        ids: &[u64],
        labels: bool,
    ) -> Result<Vec<Example<T::Feature>>> {
        let Features { features, records } = data.features;
        let all = features.len();
        if all == 0 {
            return Err(Error::file(&data.file, "no examples in it to train on"));
        }
        let mut examples = Vec::with_capacity(all);
        let mut last = (None, 0);
        for (feature, record) in features.into_iter().zip(records) {
            let window = match last {
                (Some(before), window) if before == record => window + 1,
                _ => 0,
            };
            last = (Some(record), window);
            if !labels || self.task.is_labelled(&feature) {
                let id = ids.get(record).copied().unwrap_or_default() + window * WINDOW;
                examples.push(Example { id, feature });
            }
        }
        if examples.is_empty() {
            let truth = self.task.truth();
            let reason = format!("no truth in it to train on: expected {truth}");
            return Err(Error::file(&data.file, reason));
        }
        let left_out = all - examples.len();
        if left_out > 0 {
            let file = data.file.display();
            log::warn!("{file}: {left_out} of {all} features have no truth and are left out");
        }
        Ok(examples)
    }

    /// Reads what is evaluated on. All records are there, so that predictions are in step with the
    /// lines, and those with the truth are measured.
    ///
    /// # Errors
    /// When the file is invalid, or records have no labels.
    pub fn read_truth(&self, file: &Path) -> Result<Data<T>> {
        let records = self.task.read(file)?;
        sound::to_measure(self.task, file, &records)?;
        self.data(file, records, &[])
    }

    /// Reads what is evaluated on while training.
    ///
    /// # Errors
    /// Those of [`read_truth`](Self::read_truth).
    pub fn read_dev(&self, file: &Path) -> Result<Data<T>> {
        let records = self.task.read(file)?;
        let measured = sound::to_measure(self.task, file, &records)?;
        let dev = self.data(file, records, &[])?;
        tell(format_args!("{measured} records to evaluate on"));
        Ok(dev)
    }

    /// Batches to train on, shuffled anew in every epoch, of which each of so many processes takes
    /// its share.
    ///
    /// # Errors
    /// When there are no examples to train on.
    pub fn training(
        &self,
        train: Vec<Example<T::Feature>>,
        processes: usize,
    ) -> Result<impl DataLoader<Batch = BertInputs> + use<'a, T>> {
        let (task, pieces) = (self.task, self.pieces);
        let collate = move |examples: &[&Example<T::Feature>]| {
            let features: Vec<_> = examples.iter().map(|example| &example.feature).collect();
            let batch = batch(task, pieces, &features)?;
            Ok(batch.ids(examples.iter().map(|example| example.id).collect()))
        };
        let few = train.len() < self.recipe.batch_size.saturating_mul(processes);
        let loader = self.loader(train, collate)?;
        Ok(if few { loader } else { loader.drop_last() })
    }

    /// All examples once for a teacher to be recorded, in the batches that the first epoch of a
    /// training has, so that the numbers are the same to the bit there.
    ///
    /// # Errors
    /// When there are no examples.
    pub fn recording(
        &self,
        train: Vec<Example<T::Feature>>,
    ) -> Result<impl DataLoader<Batch = BertInputs> + use<'a, T>> {
        let (task, pieces) = (self.task, self.pieces);
        let collate = move |examples: &[&Example<T::Feature>]| {
            let encoded = examples
                .iter()
                .map(|example| task.encoded(&example.feature));
            let batch = pieces.batch(&encoded.collect::<Vec<_>>())?;
            Ok(batch.ids(examples.iter().map(|example| example.id).collect()))
        };
        self.loader(train, collate)
    }

    fn loader<C>(
        &self,
        train: Vec<Example<T::Feature>>,
        collate: C,
    ) -> Result<ExampleLoader<Example<T::Feature>, C>>
    where
        C: Fn(&[&Example<T::Feature>]) -> textbrewer::Result<BertInputs>,
    {
        let task = self.task;
        let loader = ExampleLoader::new(train, self.recipe.batch_size, collate)?;
        let loader = loader.shuffle(self.recipe.seed);
        Ok(match self.recipe.group_by_length {
            true => {
                loader.group_by_length(POOL, |example| task.encoded(&example.feature).ids.len())
            }
            false => loader,
        })
    }

    /// A batch of these features.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn batch(&self, features: &[&T::Feature]) -> textbrewer::Result<BertInputs> {
        batch(self.task, self.pieces, features)
    }
}

fn batch<T: Task>(
    task: &T,
    pieces: &Pieces,
    features: &[&T::Feature],
) -> textbrewer::Result<BertInputs> {
    let encoded: Vec<_> = features
        .iter()
        .map(|feature| task.encoded(feature))
        .collect();
    let length = encoded.iter().map(|encoded| encoded.ids.len()).max();
    let inputs = pieces.batch(&encoded)?;
    task.targets(features, length.unwrap_or_default(), inputs)
}

/// A random part, the same in every run: the first batch of a shuffled pass.
fn part<R: Clone>(records: Vec<R>, size: usize) -> Result<Vec<R>> {
    let copy = |batch: &[&R]| Ok(batch.iter().map(|record| (*record).clone()).collect());
    let mut loader = ExampleLoader::new(records, size, copy)?.shuffle(SUBSET_SEED);
    let mut batches = loader.epoch(1)?;
    Ok(batches.next().unwrap_or_else(|| Ok(Vec::new()))?)
}
