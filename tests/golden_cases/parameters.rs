//! `display_parameters` against TextBrewer's: numbers, names, nesting and `(shared)` marks.

use serde_json::Value;
use tch::nn::{self, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::{ParameterNode, display_parameters};

use crate::common::golden;

fn kind(dtype: &str) -> Kind {
    match dtype {
        "float16" => Kind::Half,
        "bfloat16" => Kind::BFloat16,
        "float32" => Kind::Float,
        "float64" => Kind::Double,
        "uint8" => Kind::Uint8,
        "int8" => Kind::Int8,
        "int16" => Kind::Int16,
        "int32" => Kind::Int,
        "int64" => Kind::Int64,
        "bool" => Kind::Bool,
        other => panic!("no such dtype here: {other}"),
    }
}

fn tensors(parameters: &Value) -> Vec<(String, Tensor)> {
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for parameter in parameters.as_array().unwrap() {
        let name = parameter["name"].as_str().unwrap();
        let tensor = match parameter["shares"].as_str() {
            Some(other) => tensors
                .iter()
                .find(|(name, _)| name == other)
                .unwrap()
                .1
                .shallow_clone(),
            None => {
                let shape: Vec<i64> = serde_json::from_value(parameter["shape"].clone()).unwrap();
                Tensor::zeros(
                    shape,
                    (kind(parameter["dtype"].as_str().unwrap()), Device::Cpu),
                )
            }
        };
        tensors.push((name.to_owned(), tensor));
    }
    tensors
}

/// Level, name with its mark, and the three numbers.
type Row = (usize, String, Vec<String>);

/// `    --weight(shared):   <tab> 0 <tab> 0.00% <tab> 0.00`, two spaces per level. A level with a
/// single one below it has no numbers there; they are those of the next row.
fn rows_of_the_original(text: &str) -> Vec<Row> {
    let rows = text
        .lines()
        .filter(|line| line.trim_start().starts_with("--"));
    let rows = rows.map(|line| {
        let mut cells = line.split('\t');
        let label = cells.next().unwrap().trim_end();
        let name = label.trim_start();
        let level = (label.len() - name.len()) / 2;
        let name = name
            .trim_start_matches("--")
            .trim_end_matches(':')
            .to_owned();
        (
            level,
            name,
            cells.map(|cell| cell.trim().to_owned()).collect(),
        )
    });
    let mut rows: Vec<Row> = rows.collect();
    for i in (1..rows.len()).rev() {
        if rows[i - 1].2.is_empty() {
            rows[i - 1].2 = rows[i].2.clone();
        }
    }
    rows
}

fn rows_of_ours(text: &str) -> Vec<Row> {
    let rows = text.lines().skip(1);
    rows.map(|line| {
        let name = line.trim_start();
        let level = (line.len() - name.len()) / 2;
        let name = name.replace(" (shared)", "(shared)");
        let mut cells = name.split_whitespace();
        (
            level,
            cells.next().unwrap().to_owned(),
            cells.map(str::to_owned).collect(),
        )
    })
    .collect()
}

#[test]
fn tables_say_what_textbrewers_say() {
    let Some(path) = golden("parameters.json") else {
        return;
    };
    let text = std::fs::read_to_string(path).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let tensors = tensors(&golden["parameters"]);
    let displays = golden["displays"].as_array().unwrap();
    assert!(!displays.is_empty());
    for display in displays {
        let max_level = display["max_level"].as_u64().map(|level| level as usize);
        let report = display_parameters(&tensors, max_level);
        let shown = report.to_string();
        let expected = rows_of_the_original(display["text"].as_str().unwrap());
        assert!(expected.len() > 1, "{display}");
        let rows = rows_of_ours(&shown);
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(row, expected, "max_level {max_level:?}\n{shown}");
        }
        assert_eq!(rows.len(), expected.len(), "max_level {max_level:?}");
        assert_eq!(
            Some(report.root.count),
            display["total_parameters"].as_u64()
        );
        let megabytes = display["total_megabytes"].as_f64().unwrap();
        assert!(
            (report.root.megabytes - megabytes).abs() < 1e-12,
            "{}",
            report.root.megabytes
        );
        let widths: Vec<_> = shown.lines().map(str::len).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{shown}");
    }
}

fn leaves<'a>(node: &'a ParameterNode, found: &mut Vec<&'a ParameterNode>) {
    if node.children.is_empty() {
        found.push(node);
    }
    for child in &node.children {
        leaves(child, found);
    }
}

/// The tree has every level, whatever the table shows.
#[test]
fn the_tree_has_every_tensor_once() {
    let Some(path) = golden("parameters.json") else {
        return;
    };
    let text = std::fs::read_to_string(path).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let parameters = golden["parameters"].as_array().unwrap();
    let report = display_parameters(&tensors(&golden["parameters"]), Some(0));
    let mut found = Vec::new();
    leaves(&report.root, &mut found);
    assert_eq!(found.len(), parameters.len());
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap();
        let node = report
            .root
            .find(name)
            .unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(node.full_name, name);
        assert_eq!(node.shared, !parameter["shares"].is_null(), "{name}");
        let shape: Vec<u64> = serde_json::from_value(parameter["shape"].clone()).unwrap();
        let count = if node.shared {
            0
        } else {
            shape.iter().product()
        };
        assert_eq!(node.count, count, "{name}");
    }
    assert!(report.root.find("bert.no.such").is_none());
}

#[test]
fn a_store_is_sorted_by_number_and_knows_its_shared_tensors() {
    let store = VarStore::new(Device::Cpu);
    for i in [10, 2, 0] {
        nn::linear(store.root() / "layer" / i, 2, 3, Default::default());
    }
    let first = store.variables().remove("layer.2.weight").unwrap();
    let mut variables = store.variables_.lock().unwrap();
    variables
        .named_variables
        .insert("tied.weight".to_owned(), first);
    drop(variables);
    let report = display_parameters(&store, None);
    assert_eq!(
        report.to_string(),
        "\
LAYER                  PARAMETERS    RATIO  MEMORY (MB)
model                          27  100.00%         0.00
  layer                        27  100.00%         0.00
    0                           9   33.33%         0.00
      bias                      3   11.11%         0.00
      weight                    6   22.22%         0.00
    2                           9   33.33%         0.00
      bias                      3   11.11%         0.00
      weight                    6   22.22%         0.00
    10                          9   33.33%         0.00
      bias                      3   11.11%         0.00
      weight                    6   22.22%         0.00
  tied                          0    0.00%         0.00
    weight (shared)             0    0.00%         0.00"
    );
}

#[test]
fn named_tensors_keep_their_order_and_kinds_count_in_bytes() {
    let half = Tensor::zeros([512, 1024], (Kind::Half, Device::Cpu));
    let double = Tensor::zeros([512, 1024], (Kind::Double, Device::Cpu));
    let list = vec![("b".to_owned(), double), ("a".to_owned(), half)];
    let report = display_parameters(list.as_slice(), None);
    let levels: Vec<_> = report
        .root
        .children
        .iter()
        .map(|c| (c.name.as_str(), c.megabytes))
        .collect();
    assert_eq!(levels, [("b", 4.0), ("a", 1.0)]);
    assert_eq!(report.root.megabytes, 5.0);
}

#[test]
fn models_without_anything_to_count_are_shown_too() {
    let empty = "\
LAYER    PARAMETERS    RATIO  MEMORY (MB)
model             0    0.00%         0.00";
    assert_eq!(
        display_parameters(&VarStore::new(Device::Cpu), None).to_string(),
        empty
    );
    assert_eq!(display_parameters(&Vec::new(), Some(2)).to_string(), empty);

    // Tensors without elements share nothing, though all are at the same address; one
    // that was never given a value has nothing to count; sparse ones have no one address.
    let eye = Tensor::eye(3, (Kind::Float, Device::Cpu));
    let nothing = || Tensor::zeros([0, 3], (Kind::Float, Device::Cpu));
    let list = vec![
        ("x.first".to_owned(), nothing()),
        ("x.second".to_owned(), nothing()),
        ("undefined".to_owned(), Tensor::new()),
        ("coo".to_owned(), eye.to_sparse(None, None::<&[i64]>, None)),
        ("csr".to_owned(), eye.to_sparse_csr(None)),
        ("csc".to_owned(), eye.to_sparse_csc(None)),
        ("mkldnn".to_owned(), eye.to_mkldnn()),
    ];
    let report = display_parameters(&list, None);
    assert_eq!(report.root.count, 36);
    let mut found = Vec::new();
    leaves(&report.root, &mut found);
    assert_eq!(found.len(), 7);
    assert!(found.iter().all(|node| !node.shared), "{found:?}");
}

#[test]
fn large_numbers_are_grouped_and_line_up() {
    // Many elements at one place in memory.
    let large = Tensor::zeros([1], (Kind::Half, Device::Cpu)).expand([1 << 40], false);
    let report = display_parameters(&vec![("large".to_owned(), large)], None);
    assert_eq!(
        report.to_string(),
        "\
LAYER           PARAMETERS    RATIO   MEMORY (MB)
model    1,099,511,627,776  100.00%  2,097,152.00
  large  1,099,511,627,776  100.00%  2,097,152.00"
    );
}

/// A tensor may be called like the level that others are on.
#[test]
fn a_level_with_a_tensor_of_its_own_counts_both() {
    let tensor = |n: i64| Tensor::zeros([n], (Kind::Float, Device::Cpu));
    let list = vec![("a".to_owned(), tensor(2)), ("a.b".to_owned(), tensor(3))];
    let report = display_parameters(&list, None);
    assert_eq!(report.root.count, 5);
    assert_eq!(report.root.find("a").unwrap().count, 5);
    assert_eq!(report.root.find("a.b").unwrap().count, 3);
}
