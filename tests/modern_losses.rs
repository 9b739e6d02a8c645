//! Losses that TextBrewer lacks, against what the references compute: `golden/modern_losses.json`.
//!
//! A case of a loss that is not known here is a failure, by its name. So is one of a known loss with
//! arguments that nobody reads.

mod common;

#[path = "modern_cases/case.rs"]
mod case;
#[path = "modern_cases/on_logits.rs"]
mod on_logits;

use std::collections::BTreeMap;

use case::{Case, cases};
use tch::Kind;

/// What is to be done, by the name of the loss.
fn known() -> BTreeMap<&'static str, case::Run> {
    on_logits::known().into_iter().collect()
}

/// Losses of the file that are not here yet.
const NOT_YET: [&str; 0] = [];

#[test]
fn all_cases_come_to_what_the_references_say() {
    let known = known();
    let mut wrong = Vec::new();
    let mut run = 0;
    for json in cases() {
        let loss = json["loss"].as_str().unwrap_or_default();
        if NOT_YET.contains(&loss) {
            continue;
        }
        let Some(check) = known.get(loss) else {
            wrong.push(format!(
                "{}: the loss `{loss}` is not known",
                case::label(&json)
            ));
            continue;
        };
        for kind in [Kind::Double, Kind::Float] {
            let case = Case::new(&json, kind);
            check(&case);
            wrong.extend(case.wrong());
            run += 1;
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(run > 0, "no case");
}
