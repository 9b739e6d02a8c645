//! What cannot be is an error at the match.

use textbrewer::{DistillationConfig, Distiller, IntermediateMatch, Presets};

use crate::common::tiny::{first_line, folder};
use crate::common::waves;
use crate::{MATCHED, alone, batch, with_distiller};

/// The first line of what comes of a match with this loss.
fn refused(loss: &str) -> String {
    let folder = folder();
    let json = MATCHED.replace(r#"["minilmv2", 6]"#, loss);
    first_line(with_distiller(&json, folder.path(), |_, _, _| ()))
}

#[test]
fn arguments_that_cannot_be_are_refused_with_their_key() {
    let _alone = alone();
    let place = "intermediate_matches[0].loss: ";
    for (loss, expected) in [
        (r#""minilm""#, "`minilm` needs `heads`; it takes (heads)"),
        (
            r#"["minilmv2", 2.5]"#,
            "`minilmv2` relation_heads: must be a whole number from 1 to 65536, is 2.5",
        ),
        (
            r#"["minilmv2", {"heads": 12}]"#,
            "`minilmv2` has no parameter `heads`; it takes (relation_heads = 48)",
        ),
        (
            r#"["crd", 0]"#,
            "`crd` temperature: must be a finite number above 0, is 0",
        ),
        (
            r#"["hidden_mse", 1]"#,
            "`hidden_mse` was given 1 arguments; it takes no arguments",
        ),
    ] {
        assert_eq!(refused(loss), format!("{place}{expected}"));
    }
    let not_finite = IntermediateMatch::new("qkv", 0, 0).loss(("minilmv2", [f64::NAN]));
    let config = DistillationConfig::default().intermediate_matches([not_finite]);
    let error = first_line(config.validate());
    assert!(
        error.starts_with("intermediate_matches[0].loss[1]: "),
        "{error}"
    );
}

#[test]
fn layers_that_do_not_fit_are_refused_at_the_match() {
    let _alone = alone();
    let folder = folder();
    let json = MATCHED.replace('6', "5");
    let error = with_distiller(&json, folder.path(), |distiller, _, _| {
        let step = textbrewer::StepInfo::new(0, 0, 1, 0);
        first_line(distiller.train_on_batch(&batch(3), &step))
    });
    assert_eq!(
        error.unwrap(),
        "intermediate_matches[0]: minilmv2: expected widths that can be cut into 5 heads \
         (`relation_heads`, at least 1), got student [3, 5, 24] and teacher [3, 5, 48]"
    );

    let presets = Presets::default();
    let apply = |loss: textbrewer::PresetSpec, student: &[i64], teacher: &[i64]| {
        let loss = presets.find_match_loss("loss", loss).unwrap();
        let (student, teacher) = ([waves(student, 0.1)], [waves(teacher, 0.5)]);
        first_line(loss.apply(&student, &teacher, None))
    };
    assert_eq!(
        apply("minilmv2".into(), &[2, 4, 48], &[2, 3, 4, 48]),
        "minilmv2: expected queries, keys and values of a layer in one tensor, \
         [batch, 3, length, width], got student [2, 4, 48] and teacher [2, 3, 4, 48]"
    );
    let error = apply("crd".into(), &[2, 4, 6], &[2, 4, 6]);
    assert!(
        error.starts_with("crd: expected embeddings [batch, width] "),
        "{error}"
    );
    let error = apply("crd".into(), &[2, 4], &[2, 6]);
    assert!(error.contains("`proj` where the widths differ"), "{error}");
    let error = apply("crd".into(), &[1, 4], &[1, 4]);
    assert!(error.contains("at least 2 examples"), "{error}");
}
