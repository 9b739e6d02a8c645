//! Sums over batches, from which likeness follows.

use ndarray::{Array1, Array2};
use tch::{Device, Kind, Tensor};

use super::rows::{Rows, name};
use super::{FEATURE, PLACE};
use crate::error::{Error, Result, Side};
use crate::losses::unbiased_products;

/// How many examples are compared with each other at most, for their products are a square.
const AT_ONCE: i64 = 1024;
/// With fewer examples there is no estimate without bias.
const LEAST: i64 = 4;

/// The sums of all groups of examples so far.
#[derive(Debug, Default)]
pub(super) struct Sums {
    batches: usize,
    /// None until a batch has enough examples.
    hsic: Option<Hsic>,
}

/// `n · HSIC`, of a group or of several together.
#[derive(Debug)]
struct Hsic {
    /// Of each layer of the teacher (rows) and each of the student.
    both: Array2<f64>,
    /// Of each layer with itself.
    teacher: Array1<f64>,
    student: Array1<f64>,
}

impl Sums {
    /// Adds the examples of a batch.
    ///
    /// # Errors
    /// When the models have another number of layers than before.
    pub(super) fn add(&mut self, rows: &Rows) -> Result<()> {
        self.batches += 1;
        let groups = rows.count.div_euclid(AT_ONCE) + i64::from(rows.count % AT_ONCE != 0);
        for group in 0..groups {
            // From all over the batch, for neighbours are of one sequence.
            let of_group = |layers: &[Tensor]| -> Result<Vec<Tensor>> {
                let every = |rows: &Tensor| Ok(rows.f_slice(0, group, None, groups)?);
                layers.iter().map(every).collect()
            };
            let count = (rows.count - group + groups - 1) / groups;
            if count >= LEAST {
                let (teacher, student) = (of_group(&rows.teacher)?, of_group(&rows.student)?);
                self.add_hsic(Hsic::of(&teacher, &student, count)?)?;
            }
        }
        Ok(())
    }

    fn add_hsic(&mut self, more: Hsic) -> Result<()> {
        let Some(hsic) = &mut self.hsic else {
            self.hsic = Some(more);
            return Ok(());
        };
        if hsic.both.dim() != more.both.dim() {
            let layers = |(teacher, student): (usize, usize)| {
                format!("{teacher} tensors of the teacher and {student} of the student")
            };
            return Err(Error::shape(
                format!("{PLACE}, `{FEATURE}` of batch {}", self.batches),
                format!("{}, as before", layers(hsic.both.dim())),
                layers(more.both.dim()),
            ));
        }
        hsic.both += &more.both;
        hsic.teacher += &more.teacher;
        hsic.student += &more.student;
        Ok(())
    }

    /// The CKA of each layer of the teacher (rows) and each of the student.
    ///
    /// # Errors
    /// When no batch had enough examples, or a sum is not finite.
    pub(super) fn cka(self) -> Result<Array2<f64>> {
        let Some(hsic) = self.hsic else {
            let reason = match self.batches {
                0 => "there is none; give at least one".to_owned(),
                batches => format!(
                    "none of {batches} has {LEAST} examples that count (positions, or rows of a \
                     feature without positions); give larger ones"
                ),
            };
            return Err(Error::config(format!("{PLACE}, batches"), reason));
        };
        let sides = [
            (Side::Teacher, &hsic.teacher),
            (Side::Student, &hsic.student),
        ];
        for (side, sums) in sides {
            if let Some(index) = sums.iter().position(|sum| !sum.is_finite()) {
                let got = "NaN, infinite ones, or such whose squares are";
                return Err(Error::shape(name(side, index), "finite numbers", got));
            }
        }
        Ok(Array2::from_shape_fn(
            hsic.both.dim(),
            |(teacher, student)| {
                let lengths = hsic.teacher[teacher].sqrt() * hsic.student[student].sqrt();
                match lengths > 0.0 {
                    // Rounding may lead out of the range.
                    true => (hsic.both[[teacher, student]] / lengths).clamp(-1.0, 1.0),
                    false => 0.0,
                }
            },
        ))
    }
}

impl Hsic {
    /// Of `count` examples, the rows of each layer.
    fn of(teacher: &[Tensor], student: &[Tensor], count: i64) -> Result<Self> {
        let products = |layers: &[Tensor]| -> Result<Tensor> {
            let each = layers.iter().map(|rows| {
                // Without what all have in common: equal rows are exactly 0 then.
                let rows = rows.f_sub(&rows.f_narrow(0, 0, 1)?)?;
                Ok(unbiased_products(&rows)?.f_flatten(0, -1)?)
            });
            let each: Vec<Tensor> = each.collect::<Result<_>>()?;
            Ok(Tensor::f_stack(&each, 0)?)
        };
        let (teacher, student) = (products(teacher)?, products(student)?);
        let squares = |products: &Tensor| -> Result<Tensor> {
            Ok(products
                .f_square()?
                .f_sum_dim_intlist([1i64].as_slice(), false, None)?)
        };
        let on_host = |sums: &Tensor| -> Result<Array1<f64>> {
            let sums = sums.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
            let sums: Vec<f64> = Vec::try_from(&sums.f_flatten(0, -1)?)?;
            Ok(Array1::from(sums) / (count - 3) as f64)
        };
        let size = (teacher.size2()?.0 as usize, student.size2()?.0 as usize);
        let both = on_host(&teacher.f_mm(&student.f_tr()?)?)?;
        Ok(Hsic {
            both: both.into_shape_with_order(size).map_err(Error::other)?,
            teacher: on_host(&squares(&teacher)?)?,
            student: on_host(&squares(&student)?)?,
        })
    }
}
