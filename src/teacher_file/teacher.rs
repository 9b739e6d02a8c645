//! A file as a teacher.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::TeacherFile;
use super::column::{Column, Origin};
use super::recorded::Recorded;
use super::run::no_ids;
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::error::Result;
use crate::model::Model;

type Masks<'a, B> = Box<dyn Fn(&B) -> Result<AdaptorOutput> + 'a>;

/// What [`TeacherFile::teacher`] returns: a teacher whose outputs are read from a file. All distillers
/// take it, alone or among others.
pub struct FileTeacher<'a, B> {
    recorded: Rc<Recorded>,
    masks: Masks<'a, B>,
}
impl<'a, B: Batch> FileTeacher<'a, B> {
    pub(super) fn new(file: TeacherFile, masks: Masks<'a, B>) -> Self {
        let mut heads = Vec::new();
        let columns = file
            .columns()
            .iter()
            .enumerate()
            .filter(|(_, column)| match column.of {
                // The first of several forms.
                Origin::Logits { head } => {
                    let is_first = !heads.contains(&head);
                    heads.push(head);
                    is_first
                }
                Origin::Feature { .. } => true,
            });
        FileTeacher {
            recorded: Rc::new(Recorded {
                columns: RefCell::new(columns.map(|(place, _)| place).collect()),
                file: file.clone(),
            }),
            masks,
        }
    }

    /// Uses this form of logits, by the name of its column, such as `logits.0.top16`
    /// ([`TeacherFile::columns`]).
    ///
    /// # Errors
    /// When there is no such column.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::teacher_file::{Recording, Stored};
    /// use textbrewer::{AdaptorOutput, Ids, Logits, Model};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let recording = Recording::new(folder.path()).logits(Stored::Float32).top_k(2, 1.0);
    /// let mut recorder = recording.begin()?;
    /// let logits = Tensor::from_slice2(&[[0.5f32, -0.5, 3.0]]);
    /// recorder.add(&[0], &AdaptorOutput::new().logits(&logits))?;
    /// let file = recorder.finish()?;
    ///
    /// let teacher = file.teacher(|_: &Ids| Ok(AdaptorOutput::new())).using("logits.0.top2")?;
    /// let said = teacher.forward(&Ids::from(vec![0]), false)?;
    /// assert!(matches!(&said.logits[0], Logits::TopK(top) if top.k() == 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn using(self, name: &str) -> Result<Self> {
        let columns = self.recorded.file.columns();
        let place = columns.iter().position(|column| column.name == name);
        let is_logits = |column: &&Column| matches!(column.of, Origin::Logits { .. });
        let place = place.filter(|place| columns.get(*place).as_ref().is_some_and(is_logits));
        let Some((place, column)) = place.and_then(|place| Some((place, columns.get(place)?)))
        else {
            let names = columns
                .iter()
                .filter(is_logits)
                .map(|column| column.name.as_str());
            let names: Vec<&str> = names.collect();
            let reason = format!("has no logits `{name}`, but {}", names.join(", "));
            return Err(super::wrong(self.recorded.file.folder(), reason));
        };
        // In its place, so that several heads stay in their order.
        let same = |used: &&mut usize| columns.get(**used).is_some_and(|used| used.of == column.of);
        if let Some(used) = self.recorded.columns.borrow_mut().iter_mut().find(same) {
            *used = place;
        }
        Ok(self)
    }
}

impl<B: Batch> Model<B> for FileTeacher<'_, B> {
    type Output = AdaptorOutput;

    fn forward(&self, batch: &B, _train: bool) -> Result<AdaptorOutput> {
        let ids = batch.ids().ok_or_else(no_ids)?;
        self.recorded.forward(ids, (self.masks)(batch)?)
    }

    fn recorded(&self) -> Option<Rc<Recorded>> {
        Some(Rc::clone(&self.recorded))
    }
}

impl<B> fmt::Debug for FileTeacher<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTeacher")
            .field("recorded", &self.recorded)
            .finish_non_exhaustive()
    }
}
