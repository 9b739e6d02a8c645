//! Mixing several tasks in one stream of batches.

use std::fmt;

use crate::error::{Error, Result};

use super::task_sampler::TaskSampler;
use super::{DataLoader, TaskBatch, not_started};

type Names<'a> = Box<dyn Iterator<Item = String> + 'a>;
type OwnOrder<'a> = Box<dyn Fn() -> Names<'a> + 'a>;

/// Mixes the batches of several tasks endlessly: a task whose loader is exhausted starts its
/// next epoch. Train with [`steps`](crate::Run::steps).
///
/// The task of each batch is drawn with probability `nᵢ^τ / Σⱼ nⱼ^τ`, where `nᵢ` is the number
/// of batches of task `i`; if one of these numbers is unknown, with equal probabilities.
/// [`order`](Self::order) sets a fixed order instead.
///
/// [`start_epoch`](DataLoader::start_epoch) restarts everything: each loader at its epoch 1,
/// and the draws from the seed and the epoch. One random number is drawn for each batch.
/// The same seed and epoch therefore give the same tasks, and a position is restored by
/// starting the same epoch and taking as many batches, provided that the loaders repeat
/// their epochs, as those of this crate do.
///
/// Teacher outputs can be cached (`is_caching_logits`) when every loader keeps its batches, as
/// [`fixed`](DataLoader::fixed) ones do.
///
/// Several processes draw the same tasks, and have the batches in turn
/// ([`shard`](DataLoader::shard)). The batches of the others are skipped, so `prefetch` and
/// `map_in_threads` belong around the `TaskLoader` there, not around the loaders of its tasks.
///
/// All loaders must have the same batch type; use [`map`](DataLoader::map) to convert or
/// postprocess the batches of a task.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::data::{DataLoader, TaskLoader, VecLoader};
///
/// # fn main() -> textbrewer::Result<()> {
/// let ones = |count: i64| (0..count).map(|_| Tensor::from_slice(&[1f32])).collect();
/// let mnli = VecLoader::new(ones(300))?.shuffle(1);
/// let sst2 = VecLoader::new(ones(100))?.shuffle(2).map(|batch| Ok(batch.f_neg()?));
/// let mut loader = TaskLoader::new()
///     .task("mnli", mnli)
///     .task("sst2", sst2)
///     .tau(0.5)
///     .seed(42);
/// for batch in loader.epoch(1)?.take(10) {
///     let batch = batch?;
///     let expected = if batch.task == "mnli" { 1.0 } else { -1.0 };
///     assert_eq!(batch.batch.double_value(&[0]), expected);
/// }
/// # Ok(())
/// # }
/// ```
pub struct TaskLoader<'a, B> {
    tasks: Vec<Task<'a, B>>,
    tau: f64,
    seed: u64,
    own_order: Option<OwnOrder<'a>>,
    next: Option<NextTask<'a>>,
    last: Option<u64>,
}

struct Task<'a, B> {
    name: String,
    loader: Box<dyn DataLoader<Batch = B> + 'a>,
    epoch: u64,
}

enum NextTask<'a> {
    Drawn(Box<TaskSampler>),
    Named(Names<'a>),
}

impl<'a, B> TaskLoader<'a, B> {
    /// A loader without tasks. Add at least one.
    pub fn new() -> Self {
        TaskLoader {
            tasks: Vec::new(),
            tau: 1.0,
            seed: 0,
            own_order: None,
            next: None,
            last: None,
        }
    }

    /// Adds a task. Names must be unique.
    #[must_use]
    pub fn task(
        mut self,
        name: impl Into<String>,
        loader: impl DataLoader<Batch = B> + 'a,
    ) -> Self {
        self.tasks.push(Task {
            name: name.into(),
            loader: Box::new(loader),
            epoch: 0,
        });
        self
    }

    /// Sets the exponent τ of a task's size. With 1, the default, every batch is equally
    /// likely; with 0 every task is.
    #[must_use]
    pub fn tau(mut self, tau: f64) -> Self {
        self.tau = tau;
        self
    }

    /// Sets the seed of the draws, by default 0. It does not affect the tasks' loaders.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets a fixed order of tasks, by their names, instead of random draws. The order is
    /// repeated after its end, and restarted in every epoch.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::data::{DataLoader, TaskLoader, VecLoader};
    ///
    /// # fn main() -> textbrewer::Result<()> {
    /// let loader = || VecLoader::new(vec![Tensor::from(1)]);
    /// let tasks = || Ok::<_, textbrewer::Error>(TaskLoader::new().task("qa", loader()?).task("ner", loader()?));
    ///
    /// let mut alternating = tasks()?.order(["qa", "ner", "ner"]);
    /// # let names = |loader: &mut TaskLoader<'_, Tensor>| -> textbrewer::Result<Vec<String>> {
    /// #     loader.epoch(1)?.take(5).map(|batch| Ok(batch?.task)).collect()
    /// # };
    /// # assert_eq!(names(&mut alternating)?, ["qa", "ner", "ner", "qa", "ner"]);
    /// // A closure, by way of an iterator.
    /// let mut count = 0;
    /// let mut curriculum = tasks()?.order(std::iter::repeat_with(move || {
    ///     count += 1;
    ///     if count <= 1000 { "qa" } else { "ner" }
    /// }));
    /// # assert_eq!(names(&mut curriculum)?, ["qa"; 5]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn order<I>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<String> + 'a>,
        I::IntoIter: Clone + 'a,
    {
        let names = names.into_iter();
        self.own_order = Some(Box::new(move || {
            Box::new(names.clone().cycle().map(Into::into))
        }));
        self
    }

    fn check_tasks(&self) -> Result<()> {
        if self.tasks.is_empty() {
            let reason = "none was given; add at least one with `TaskLoader::task`";
            return Err(Error::config("tasks", reason));
        }
        for (index, task) in self.tasks.iter().enumerate() {
            let before = self.tasks.iter().take(index);
            if before.into_iter().any(|other| other.name == task.name) {
                let reason = "was given twice; give every task a name of its own";
                return Err(Error::config(format!("task `{}`", task.name), reason));
            }
            if task.loader.num_batches() == Some(0) {
                return Err(task.is_empty());
            }
        }
        Ok(())
    }

    /// The index of the next task.
    fn next_task(&mut self) -> Result<usize> {
        let name = match self.next.as_mut().ok_or_else(not_started)? {
            NextTask::Drawn(sampler) => return Ok(sampler.draw()),
            NextTask::Named(names) => names.next(),
        };
        let name = name.ok_or_else(|| Error::config("order", "names no task"))?;
        let position = self.tasks.iter().position(|task| task.name == name);
        position.ok_or_else(|| Error::UnknownPreset {
            field: "order".to_owned(),
            kind: "task",
            name,
            known: sorted_names(&self.tasks),
        })
    }
}

impl<B> Task<'_, B> {
    fn start(&mut self, epoch: u64) -> Result<()> {
        let started = self.loader.start_epoch(epoch);
        started.map_err(|error| self.error(error))?;
        self.epoch = epoch;
        Ok(())
    }

    fn next_batch(&mut self) -> Result<B> {
        let mut batch = self.loader.next_batch();
        if let Ok(None) = batch {
            self.start(self.epoch + 1)?;
            batch = self.loader.next_batch();
        }
        let batch = batch.map_err(|error| self.error(error))?;
        batch.ok_or_else(|| self.gave_nothing())
    }

    fn skip(&mut self) -> Result<()> {
        let mut skipped = self.loader.skip(1);
        if let Ok(0) = skipped {
            self.start(self.epoch + 1)?;
            skipped = self.loader.skip(1);
        }
        match skipped.map_err(|error| self.error(error))? {
            0 => Err(self.gave_nothing()),
            _ => Ok(()),
        }
    }

    fn error(&self, error: Error) -> Error {
        Error::Task {
            task: self.name.clone(),
            source: Box::new(error),
        }
    }

    /// Of a loader that has just been begun.
    fn gave_nothing(&self) -> Error {
        match self.loader.num_batches() {
            None | Some(0) => self.is_empty(),
            Some(announced) => {
                let reason = format!(
                    "its loader announced {announced} batches and gave none; `num_batches` has \
                     to say how many an epoch has"
                );
                Error::protocol(format!("task `{}`", self.name), reason)
            }
        }
    }

    fn is_empty(&self) -> Error {
        let reason = "its loader has no batch; is the data set empty, or smaller than a batch \
                      with `drop_last`?";
        Error::config(format!("task `{}`", self.name), reason)
    }
}

fn sorted_names<B>(tasks: &[Task<'_, B>]) -> Vec<String> {
    let mut names: Vec<_> = tasks.iter().map(|task| task.name.clone()).collect();
    names.sort_unstable();
    names
}

impl<B> DataLoader for TaskLoader<'_, B> {
    type Batch = TaskBatch<B>;

    /// Unknown, since the batches do not end.
    fn num_batches(&self) -> Option<usize> {
        None
    }

    /// # Errors
    /// When there are no tasks, two have the same name, one has no batches, `tau` is not
    /// finite, or a task's loader fails to start.
    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.next = None;
        self.check_tasks()?;
        let sizes: Vec<_> = self.tasks.iter().map(|t| t.loader.num_batches()).collect();
        let next = match &self.own_order {
            Some(order) => NextTask::Named(order()),
            None => {
                let sampler = TaskSampler::new(&sizes, self.tau, self.seed, epoch)?;
                NextTask::Drawn(Box::new(sampler))
            }
        };
        for task in &mut self.tasks {
            task.start(1)?;
        }
        self.next = Some(next);
        Ok(())
    }

    /// # Errors
    /// When the task's loader fails, or the order names an unknown task. The next call
    /// continues with the next task in the order.
    fn next_batch(&mut self) -> Result<Option<TaskBatch<B>>> {
        self.last = None;
        let index = self.next_task()?;
        let tasks = self.tasks.len() as u64;
        let task = self.tasks.get_mut(index).ok_or_else(not_started)?;
        let batch = task.next_batch()?;
        // One numbering for all tasks: the batches of task i have the numbers i, i + n, i + 2n, …
        let id = task.loader.batch_id();
        self.last = id.and_then(|id| id.checked_mul(tasks)?.checked_add(index as u64));
        Ok(Some(TaskBatch::new(task.name.as_str(), batch)))
    }

    /// No batch is made: tasks are drawn, and the loader of each skips one batch.
    fn skip(&mut self, batches: u64) -> Result<u64> {
        self.last = None;
        for _ in 0..batches {
            let index = self.next_task()?;
            let task = self.tasks.get_mut(index).ok_or_else(not_started)?;
            task.skip()?;
        }
        Ok(batches)
    }

    /// Whether the loaders of all tasks do.
    fn keeps_batches(&self) -> bool {
        self.tasks.iter().all(|task| task.loader.keeps_batches())
    }

    /// The number is unique among the batches of all tasks, unlike that of the task's loader.
    fn batch_id(&self) -> Option<u64> {
        self.last
    }
}

impl<B> Default for TaskLoader<'_, B> {
    fn default() -> Self {
        TaskLoader::new()
    }
}

impl<B> fmt::Debug for TaskLoader<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks: Vec<_> = self.tasks.iter().map(|task| &task.name).collect();
        f.debug_struct("TaskLoader")
            .field("tasks", &tasks)
            .field("tau", &self.tau)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
