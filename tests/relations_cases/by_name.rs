//! Losses with arguments, by name.

use textbrewer::{DistillationConfig, IntermediateMatch, LayerMap, Presets};

use crate::common::waves;

#[test]
fn relation_heads_are_48_where_nothing_is_said() {
    let presets = Presets::default();
    let layer = |seed| [waves(&[2, 3, 4, 96], seed)];
    let value = |loss: textbrewer::PresetSpec| {
        let loss = presets.find_match_loss("loss", loss).unwrap();
        loss.apply(&layer(0.1), &layer(0.5), None).unwrap()
    };
    assert_eq!(value("minilmv2".into()), value(("minilmv2", [48.0]).into()));
    assert_ne!(value("minilmv2".into()), value(("minilmv2", [32.0]).into()));
}

#[test]
fn a_loss_without_arguments_is_a_name_in_json_as_before() {
    let written = |loss: &str| {
        let json = format!(
            r#"{{"intermediate_matches": [{{"feature": "hidden", "layer_T": 0, "layer_S": 0,
                "loss": {loss}, "weight": 1}}]}}"#
        );
        let read = DistillationConfig::from_json_str(&json).unwrap();
        let text = read.to_json_string().unwrap();
        assert_eq!(DistillationConfig::from_json_str(&text).unwrap(), read);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        (
            value["intermediate_matches"][0]["loss"].to_string(),
            read.intermediate_matches[0].clone(),
        )
    };
    let (text, read) = written(r#""cos""#);
    assert_eq!(text, r#""cos""#);
    assert_eq!(read, IntermediateMatch::hidden(0, 0).loss("cos"));
    assert!(
        read.to_string().contains("loss : cos, weight : 1"),
        "{read}"
    );

    let (text, read) = written(r#"["crd", {"temperature": 0.5}]"#);
    assert_eq!(text, r#"["crd",{"temperature":0.5}]"#);
    assert_eq!(read.log_name(), "unweighted_hidden_crd_0_0");
    let shown = r#"loss : ["crd",{"temperature":0.5}], weight : 1"#;
    assert!(read.to_string().contains(shown), "{read}");

    let by_map = LayerMap::uniform(1, 1).unwrap().hidden(("crd", [0.5]));
    let expected = IntermediateMatch::hidden(1, 1).loss(("crd", [0.5]));
    assert_eq!(by_map, [expected]);
}
