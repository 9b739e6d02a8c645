//! The named sets of matches in TextBrewer's examples.

use super::{IntermediateMatch, Layers, ProjectionSpec};
use crate::error::{Error, Result};

/// Size of a teacher's hidden states in all sets: BERT base.
const TEACHER_HIDDEN: i64 = 768;

/// Pairs of positions, teacher's first. The embeddings come first; sets of attentions, and
/// those that begin with `es`, leave them out.
const L3: &[(i64, i64)] = &[(0, 0), (4, 1), (8, 2), (12, 3)];
const L4: &[(i64, i64)] = &[(0, 0), (3, 1), (6, 2), (9, 3), (12, 4)];
const L6: &[(i64, i64)] = &[(0, 0), (2, 1), (4, 2), (6, 3), (8, 4), (10, 5), (12, 6)];
const SMALL: &[(i64, i64)] = &[(0, 0), (2, 2), (4, 4), (6, 6), (8, 8), (10, 10), (12, 12)];

/// What the matches of a set compare.
#[derive(Clone, Copy)]
enum Compared {
    Attention,
    Hidden,
    /// The same, without the embeddings.
    HiddenLayers,
    /// Each hidden state paired with itself, for losses on two layers.
    Twice,
    TwiceLayers,
}

use Compared::{Attention, Hidden, HiddenLayers, Twice, TwiceLayers};

/// Name, layers, what is compared, loss, and the student's size if it is projected.
type Row = (
    &'static str,
    &'static [(i64, i64)],
    Compared,
    &'static str,
    Option<i64>,
);

/// In the order of their names.
const SETS: [Row; 21] = [
    ("L3_attention_ce", L3, Attention, "attention_ce", None),
    (
        "L3_attention_ce_mean",
        L3,
        Attention,
        "attention_ce_mean",
        None,
    ),
    ("L3_attention_mse", L3, Attention, "attention_mse", None),
    (
        "L3_attention_mse_sum",
        L3,
        Attention,
        "attention_mse_sum",
        None,
    ),
    ("L3_hidden_mse", L3, Hidden, "hidden_mse", None),
    ("L3_hidden_smmd", L3, Twice, "mmd", None),
    ("L3l_hidden_mse", L3, Hidden, "hidden_mse", Some(1024)),
    ("L3n_hidden_mse", L3, Hidden, "hidden_mse", Some(384)),
    ("L4_attention_ce", L4, Attention, "attention_ce", None),
    (
        "L4_attention_ce_mean",
        L4,
        Attention,
        "attention_ce_mean",
        None,
    ),
    ("L4_attention_mse", L4, Attention, "attention_mse", None),
    (
        "L4_attention_mse_sum",
        L4,
        Attention,
        "attention_mse_sum",
        None,
    ),
    ("L4_hidden_smmd", L4, Twice, "mmd", None),
    ("L4t_hidden_mse", L4, Hidden, "hidden_mse", Some(312)),
    ("L4t_hidden_sgram", L4, Twice, "gram", Some(312)),
    ("L6_hidden_mse", L6, Hidden, "hidden_mse", None),
    ("L6_hidden_smmd", L6, Twice, "mmd", None),
    (
        "es_hidden_mse",
        SMALL,
        HiddenLayers,
        "hidden_mse",
        Some(256),
    ),
    ("es_hidden_smmd", SMALL, TwiceLayers, "mmd", None),
    ("small_hidden_mse", SMALL, Hidden, "hidden_mse", Some(256)),
    ("small_hidden_smmd", SMALL, Twice, "mmd", None),
];

/// A named set of matches, as in TextBrewer's examples, for a teacher of twelve layers and
/// hidden size 768 (BERT base). All weights are 1.
///
/// | name | student |
/// |---|---|
/// | `L3_…`, `L4_…`, `L6_…` | 3, 4 or 6 layers, as wide as the teacher |
/// | `L3n_…`, `L3l_…` | 3 layers; hidden size 384, 1024 |
/// | `L4t_…` | 4 layers, hidden size 312 ("tiny") |
/// | `small_…`, `es_…` | 12 layers, hidden size 256 (ELECTRA small); every second layer, `es` without the embeddings |
///
/// | name | losses |
/// |---|---|
/// | `…_hidden_mse` | `hidden_mse`; for `L3`, `L3n`, `L3l`, `L4t`, `L6`, `small`, `es` |
/// | `…_hidden_smmd` | `mmd`, each layer with itself; for `L3`, `L4`, `L6`, `small`, `es` |
/// | `…_hidden_sgram` | `gram`, each layer with itself; for `L4t` |
/// | `…_attention_mse`, `_mse_sum`, `_ce`, `_ce_mean` | the loss of that name; for `L3`, `L4` |
///
/// Hidden states are counted as BERT returns them, the embeddings first. The sets of
/// **attentions count layers from 1**: in TextBrewer's examples the adaptor's list of
/// attentions begins with an unused element. Either do the same (for example, insert the first
/// attention twice), or use [`LayerMap::attention`](super::LayerMap::attention), which counts
/// from 0 as in the list that BERT returns.
///
/// In JSON a name stands for its matches: `"intermediate_matches": "L3_hidden_mse"`, or
/// `["L3_hidden_mse", {…}]`. [`match_set_names`] lists all names.
///
/// # Errors
/// [`Error::UnknownPreset`] with all names when there is no such set.
///
/// ```
/// use textbrewer::{match_set, DistillationConfig};
///
/// let matches = match_set("L3n_hidden_mse")?;
/// assert_eq!(matches[1].layer_teacher.as_slice(), [4]);
///
/// let config = DistillationConfig::default().intermediate_matches(matches);
/// let same = DistillationConfig::from_json_str(
///     r#"{"intermediate_matches": "L3n_hidden_mse"}"#,
/// )?;
/// assert_eq!(config, same);
/// # textbrewer::Result::Ok(())
/// ```
pub fn match_set(name: &str) -> Result<Vec<IntermediateMatch>> {
    find(name).ok_or_else(|| Error::UnknownPreset {
        field: "match_set".to_owned(),
        kind: "match set",
        name: name.to_owned(),
        known: match_set_names().map(str::to_owned).collect(),
    })
}

/// The names that [`match_set`] knows, sorted.
///
/// ```
/// use textbrewer::config::match_set_names;
///
/// assert!(match_set_names().any(|name| name == "small_hidden_smmd"));
/// ```
pub fn match_set_names() -> impl Iterator<Item = &'static str> {
    SETS.iter().map(|(name, ..)| *name)
}

pub(super) fn find(name: &str) -> Option<Vec<IntermediateMatch>> {
    let (_, layers, compared, loss, width) = SETS.iter().find(|(known, ..)| *known == name)?;
    let skipped = match compared {
        Hidden | Twice => 0,
        Attention | HiddenLayers | TwiceLayers => 1,
    };
    let matches = layers.iter().skip(skipped).map(|&(teacher, student)| {
        let (feature, teacher, student) = match compared {
            Attention => ("attention", Layers::One(teacher), Layers::One(student)),
            Hidden | HiddenLayers => ("hidden", Layers::One(teacher), Layers::One(student)),
            Twice | TwiceLayers => ("hidden", [teacher; 2].into(), [student; 2].into()),
        };
        let mut matching = IntermediateMatch::new(feature, teacher, student).loss(*loss);
        matching.proj = width.map(|width| ProjectionSpec::linear(width, TEACHER_HIDDEN));
        matching
    });
    Some(matches.collect())
}
