//! Matching layers of a student to layers of a teacher.

use textbrewer::{DistillationConfig, LayerMap, ProjectionSpec};

use crate::recipe::{PROJECTION_RATE, Recipe};
use crate::{Error, Result};

impl Recipe {
    /// The matches for models with these numbers of layers and widths.
    ///
    /// # Errors
    /// When a match is invalid.
    pub fn distill_config(
        &self,
        (teacher_layers, teacher_width): (usize, i64),
        (student_layers, student_width): (usize, i64),
    ) -> Result<DistillationConfig> {
        let mut config = self.distillation.clone();
        check_layers(&config, teacher_layers, student_layers)?;
        if self.hidden_matches.is_empty() {
            return Ok(config);
        }
        let map = if student_layers <= teacher_layers {
            LayerMap::uniform(teacher_layers, student_layers)?
        } else {
            // A deeper student: each layer of the teacher is matched by one of the student's.
            let own = |layer: usize| layer * student_layers / teacher_layers;
            LayerMap::from_pairs((1..=teacher_layers).map(|layer| (layer, own(layer))))?
        };
        let map = map.with_embeddings();
        // When the student is as wide as the teacher no projection is needed.
        let fitted = match student_width == teacher_width {
            true => map.clone(),
            false => {
                let projection = ProjectionSpec::linear(student_width, teacher_width);
                map.clone().proj(projection.learning_rate(PROJECTION_RATE))
            }
        };
        for loss in &self.hidden_matches {
            config.intermediate_matches.extend(match loss.as_str() {
                // It compares similarities between positions, whose size does not depend on the width.
                "nst" | "mmd" => map.pairs_of(loss),
                "fsp" | "gram" => fitted.neighbours_of(loss),
                _ => fitted.hidden(loss),
            });
        }
        config.validate()?;
        Ok(config)
    }
}

/// Checks that models with these numbers of layers have all layers in the configuration's matches.
/// With several teachers only those of the first are checked.
fn check_layers(
    config: &DistillationConfig,
    teacher_layers: usize,
    student_layers: usize,
) -> Result<()> {
    let matches = config.intermediate_matches.iter().enumerate();
    for (number, one) in matches.filter(|(_, one)| one.teacher == 0) {
        for (whose, layers, count) in [
            ("teacher", &one.layer_teacher, teacher_layers),
            ("student", &one.layer_student, student_layers),
        ] {
            let feature = &one.feature;
            let count = match feature.as_str() {
                // The embeddings' output is the first.
                "hidden" => count + 1,
                "attention" => count,
                _ => continue,
            } as i64;
            let is_missing = |layer: &&i64| !(-count..count).contains(*layer);
            if let Some(layer) = layers.as_slice().iter().find(is_missing) {
                return Err(Error::invalid(format!(
                    "intermediate_matches[{number}]: the {whose} has no layer {layer} of \
                     `{feature}`, it has 0 to {}",
                    count - 1
                )));
            }
        }
    }
    Ok(())
}
