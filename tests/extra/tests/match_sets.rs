//! Named sets of matches and rules for choosing layers.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use textbrewer::config::match_set_names;
use textbrewer::{
    DistillationConfig, Error, IntermediateMatch, LayerMap, Presets, ProjectionSpec, match_set,
};

/// What TextBrewer's files have, by `reference/match_sets.py`.
fn textbrewers() -> BTreeMap<String, Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/match_sets.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn config(matches: &Value) -> Result<DistillationConfig, Error> {
    DistillationConfig::from_json_str(&json!({ "intermediate_matches": matches }).to_string())
}

#[test]
fn every_set_is_textbrewers() {
    let expected = textbrewers();
    let names: Vec<_> = match_set_names().collect();
    assert_eq!(
        names,
        expected.keys().collect::<Vec<_>>(),
        "sorted, and all of them"
    );
    for (name, expected) in expected {
        let matches = match_set(&name).unwrap();
        assert_eq!(matches.len(), expected.len(), "{name}");
        for (i, (got, expected)) in matches.iter().zip(&expected).enumerate() {
            let label = format!("{name}[{i}]");
            let layers = |key: &str| expected[key].to_string();
            assert_eq!(got.layer_teacher.to_string(), layers("layer_T"), "{label}");
            assert_eq!(got.layer_student.to_string(), layers("layer_S"), "{label}");
            assert_eq!(got.feature, expected["feature"], "{label}");
            assert_eq!(got.loss.name, expected["loss"], "{label}");
            assert_eq!(Some(got.weight), expected["weight"].as_f64(), "{label}");
            let projection = got.proj.as_ref().map(ProjectionSpec::to_string);
            let wanted = expected.get("proj").map(Value::to_string);
            assert_eq!(projection, wanted, "{label}");
        }
        let given = config(&Value::from(expected)).unwrap().intermediate_matches;
        assert_eq!(matches, given, "{name}");
    }
}

#[test]
fn every_set_is_valid_and_its_losses_are_known() {
    for name in match_set_names() {
        let matches = match_set(name).unwrap();
        for item in &matches {
            Presets::default()
                .find_match_loss(name, &item.loss)
                .unwrap();
        }
        let config = DistillationConfig::default().intermediate_matches(matches);
        config
            .validate()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn names_in_json_stand_for_their_matches() {
    let alone = config(&json!("L3_hidden_mse")).unwrap();
    assert_eq!(
        alone.intermediate_matches,
        match_set("L3_hidden_mse").unwrap()
    );

    let one =
        json!({"layer_T": -1, "layer_S": -1, "feature": "pooled", "loss": "cos", "weight": 2});
    let mixed = config(&json!(["L3_hidden_smmd", one, "L4t_hidden_mse"])).unwrap();
    let mut expected = match_set("L3_hidden_smmd").unwrap();
    expected.push(
        IntermediateMatch::new("pooled", -1, -1)
            .loss("cos")
            .weight(2.0),
    );
    expected.extend(match_set("L4t_hidden_mse").unwrap());
    assert_eq!(mixed.intermediate_matches, expected);

    let written: Value = serde_json::from_str(&mixed.to_json_string().unwrap()).unwrap();
    let written_matches = written["intermediate_matches"].as_array().unwrap();
    assert_eq!(written_matches.len(), 4 + 1 + 5);
    assert!(
        written_matches.iter().all(Value::is_object),
        "the names are expanded"
    );
    assert_eq!(config(&written["intermediate_matches"]).unwrap(), mixed);
}

#[test]
fn unknown_names_are_refused_with_their_place_and_all_known_names() {
    let known = match_set_names().collect::<Vec<_>>().join(", ");
    let error = match_set("L9_hidden_mse").unwrap_err().to_string();
    assert_eq!(
        error,
        format!("match_set: unknown match set `L9_hidden_mse`; known: {known}")
    );

    let shown = |matches: Value| config(&matches).unwrap_err().to_string();
    let error = shown(json!(["L3_hidden_mse", "l3_hidden_mse"]));
    let wanted = format!(
        "JSON text: intermediate_matches[1]: unknown match set `l3_hidden_mse`; known: {known} \
         at line 1 column "
    );
    assert!(error.starts_with(&wanted), "{error}");
    let error = shown(json!("none"));
    let wanted =
        "JSON text: intermediate_matches: unknown match set `none`; known: L3_attention_ce,";
    assert!(error.starts_with(wanted), "{error}");
    let error = shown(json!([3]));
    let wanted = "JSON text: intermediate_matches[0]: invalid type: integer `3`, expected an \
                  object of keys and values or the name of a match set";
    assert!(error.starts_with(wanted), "{error}");
}

/// Layers as they stand in the match.
fn layers(matches: &[IntermediateMatch]) -> Vec<(Vec<i64>, Vec<i64>)> {
    let both = |m: &IntermediateMatch| {
        let (teacher, student) = (m.layer_teacher.as_slice(), m.layer_student.as_slice());
        (teacher.to_vec(), student.to_vec())
    };
    matches.iter().map(both).collect()
}

#[test]
fn the_rules_give_textbrewers_sets() {
    let uniform = |student| LayerMap::uniform(12, student).unwrap().with_embeddings();
    let set = |name| match_set(name).unwrap();
    assert_eq!(uniform(3).hidden("hidden_mse"), set("L3_hidden_mse"));
    assert_eq!(uniform(6).hidden("hidden_mse"), set("L6_hidden_mse"));
    assert_eq!(uniform(4).pairs_of("mmd"), set("L4_hidden_smmd"));
    let tiny = uniform(4).proj(ProjectionSpec::linear(312, 768));
    assert_eq!(tiny.pairs_of("gram"), set("L4t_hidden_sgram"));
    assert_eq!(tiny.hidden("hidden_mse"), set("L4t_hidden_mse"));
    let every_second = LayerMap::from_pairs((1..=6).map(|i| (2 * i, 2 * i))).unwrap();
    assert_eq!(every_second.pairs_of("mmd"), set("es_hidden_smmd"));
}

#[test]
fn what_a_map_expands_into() {
    let map = LayerMap::from_pairs([(4, 1), (8, 2), (12, 3)])
        .unwrap()
        .weight(0.5);
    let nothing = map.hidden("cos");
    assert_eq!(
        layers(&nothing),
        [(vec![4], vec![1]), (vec![8], vec![2]), (vec![12], vec![3])]
    );
    assert!(
        nothing
            .iter()
            .all(|m| m.loss.name == "cos" && m.feature == "hidden" && m.weight == 0.5)
    );

    // BERT's list of attentions begins with that of the first layer.
    let attention = map.clone().with_embeddings().attention("attention_ce");
    assert_eq!(
        layers(&attention),
        [(vec![3], vec![0]), (vec![7], vec![1]), (vec![11], vec![2])]
    );
    assert!(
        attention
            .iter()
            .all(|m| m.loss.name == "attention_ce" && m.feature == "attention")
    );

    let neighbours = map.with_embeddings().neighbours_of("fsp");
    assert_eq!(
        layers(&neighbours),
        [
            (vec![0, 4], vec![0, 1]),
            (vec![4, 8], vec![1, 2]),
            (vec![8, 12], vec![2, 3])
        ]
    );
}

#[test]
fn rules_by_example() {
    let pairs = |map: Result<LayerMap, Error>| map.unwrap().pairs().to_vec();
    assert_eq!(pairs(LayerMap::uniform(5, 2)), [(3, 1), (5, 2)]);
    assert_eq!(pairs(LayerMap::uniform(2, 3)), [(1, 1), (2, 2), (2, 3)]);
    assert_eq!(pairs(LayerMap::last(12, 3, 3)), [(10, 1), (11, 2), (12, 3)]);
    assert_eq!(pairs(LayerMap::last(2, 3, 1)), [(2, 3)]);
    assert_eq!(pairs(LayerMap::skip(12, 2, 5)), [(5, 1), (10, 2)]);
}

#[test]
fn maps_that_cannot_work_are_refused() {
    let shown = |map: Result<LayerMap, Error>| map.unwrap_err().to_string();
    assert_eq!(
        shown(LayerMap::uniform(0, 3)),
        "LayerMap, teacher_layers: a model with 0 layers cannot be matched"
    );
    assert_eq!(
        shown(LayerMap::skip(12, 0, 1)),
        "LayerMap, student_layers: a model with 0 layers cannot be matched"
    );
    assert_eq!(
        shown(LayerMap::last(12, 3, 4)),
        "LayerMap::last, count: must be from 1 to 3, is 4: the teacher has 12 layers, the student 3"
    );
    assert!(LayerMap::last(12, 3, 0).is_err());
    assert_eq!(
        shown(LayerMap::skip(12, 5, 3)),
        "LayerMap::skip, step: must be from 1 to 2, is 3: the teacher has 12 layers, the student 5"
    );
    assert_eq!(
        shown(LayerMap::skip(3, 5, 1)),
        "LayerMap::skip: a teacher of 3 layers is too shallow for a student of 5"
    );
    assert_eq!(
        shown(LayerMap::from_pairs([(1, 1), (0, 2)])),
        "LayerMap::from_pairs[1]: (0, 2) is no pair of layers: they are counted from 1; to \
         match the embeddings use `with_embeddings`"
    );
    assert!(LayerMap::from_pairs([]).is_err());
}

fn check(map: &LayerMap, teacher: usize, student: usize) -> Result<(), TestCaseError> {
    for (t, s) in map.pairs() {
        prop_assert!(
            (1..=teacher).contains(t) && (1..=student).contains(s),
            "({t}, {s})"
        );
    }
    for pair in map.pairs().windows(2) {
        prop_assert!(pair[0].0 <= pair[1].0 && pair[0].1 < pair[1].1, "{pair:?}");
        prop_assert!(
            teacher < student || pair[0].0 < pair[1].0,
            "{pair:?} repeats a layer"
        );
    }
    let (teacher, student) = (teacher as i64, student as i64);
    // Positions in the lists: one more for hidden states, none negative.
    for (matches, more) in [
        (map.clone().with_embeddings().hidden("cos"), 1),
        (map.attention("attention_mse"), 0),
    ] {
        for (t, s) in layers(&matches) {
            prop_assert!(
                (0..teacher + more).contains(&t[0]) && (0..student + more).contains(&s[0])
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn rules_stay_in_range_and_in_order(teacher in 1usize..50, student in 1usize..50, n in 1usize..50) {
        let uniform = LayerMap::uniform(teacher, student).unwrap();
        check(&uniform, teacher, student)?;
        prop_assert_eq!(uniform.pairs().len(), student);
        prop_assert_eq!(uniform.pairs().last().copied(), Some((teacher, student)));

        let last = LayerMap::last(teacher, student, n);
        prop_assert_eq!(last.is_ok(), n <= teacher.min(student));
        if let Ok(last) = last {
            check(&last, teacher, student)?;
            prop_assert_eq!(last.pairs().len(), n);
            prop_assert_eq!(last.pairs().last().copied(), Some((teacher, student)));
        }
        let skip = LayerMap::skip(teacher, student, n);
        prop_assert_eq!(skip.is_ok(), n * student <= teacher);
        if let Ok(skip) = skip {
            check(&skip, teacher, student)?;
            prop_assert_eq!(skip.pairs().len(), student);
        }
    }
}
