//! Top-k log-probabilities of servers.

use tch::Tensor;
use textbrewer::teacher_file::{Recording, TeacherFile, TopKLines};
use textbrewer::{Logits, Result};

struct Case(tempfile::TempDir);

impl Case {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("answers.jsonl"), text).unwrap();
        Case(folder)
    }

    /// Of a vocabulary of ten tokens.
    fn lines(&self) -> TopKLines {
        TopKLines::new(self.0.path().join("answers.jsonl"), 10)
    }

    fn record(&self, lines: TopKLines) -> Result<TeacherFile> {
        lines.record(Recording::new(self.0.path().join("teacher")))
    }

    fn error(&self, lines: TopKLines) -> String {
        let error = self.record(lines).unwrap_err().to_string();
        assert!(error.contains("answers.jsonl"), "{error}");
        assert!(!self.0.path().join("teacher").exists());
        error
    }
}

/// Classes, their logarithms, and the tail, of each position of an example.
fn read(file: &TeacherFile, id: u64) -> Vec<(Vec<i64>, Vec<f64>, f64)> {
    let said = file.read(&[id]).unwrap();
    let Logits::TopK(top) = &said.logits[0] else {
        panic!("{said:?}");
    };
    let positions = top.indices().size()[1];
    let doubles = |tensor: Tensor| Vec::<f64>::try_from(tensor.to_kind(tch::Kind::Double)).unwrap();
    let of_one = |position| {
        let place = |tensor: &Tensor| tensor.get(0).get(position);
        (
            Vec::try_from(place(top.indices())).unwrap(),
            doubles(place(top.log_probabilities())),
            top.log_tail().double_value(&[0, position]),
        )
    };
    (0..positions).map(of_one).collect()
}

/// In float16.
fn close(got: f64, wanted: f64) -> bool {
    got == wanted || (got - wanted).abs() <= wanted.abs() / 2048.0
}

/// Whatever the format, these are the positions.
fn check(file: &TeacherFile, id: u64, name: &str) {
    let positions = read(file, id);
    assert_eq!(positions.len(), 2, "{name}");
    let (classes, logs, tail) = &positions[0];
    assert_eq!((classes[0], classes[1]), (7, 2), "{name}");
    assert!(
        close(logs[0], -0.5) && close(logs[1], -1.5),
        "{name}: {logs:?}"
    );
    assert!(
        close(*tail, (1.0 - (-0.5f64).exp() - (-1.5f64).exp()).ln()),
        "{name}: {tail}"
    );
    let (classes, logs, tail) = &positions[1];
    assert_eq!(classes[0], 4, "{name}");
    assert!(
        close(logs[0], -0.25) && logs[1] == f64::NEG_INFINITY,
        "{name}: {logs:?}"
    );
    assert!(
        close(*tail, (1.0 - (-0.25f64).exp()).ln()),
        "{name}: {tail}"
    );
}

#[test]
fn all_formats_say_the_same() {
    let vllm = r#"[null, {"7": {"logprob": -0.5, "rank": 1, "decoded_token": "seven"}, "2": {"logprob": -1.5,
        "rank": 2, "decoded_token": "two"}}, {"4": {"logprob": -0.25, "rank": 1, "decoded_token": null}}]"#;
    let chat = r#"{"content": [{"token": "seven", "logprob": -0.5, "bytes": [1], "top_logprobs": [
        {"token": "two", "logprob": -1.5, "bytes": [2]}, {"token": "seven", "logprob": -0.5, "bytes": [1]}]},
        {"token": " four", "logprob": -0.25, "bytes": null, "top_logprobs": []}], "refusal": null}"#;
    let completion = r#"{"tokens": ["seven", " four"], "token_logprobs": [-0.5, -0.25], "text_offset": [0, 5],
        "top_logprobs": [{"seven": -0.5, "two": -1.5}, {" four": -0.25, "two": -9999.0}]}"#;
    let echoed = r#"{"top_logprobs": [null, {"token_id:7": -0.5, "token_id:2": -1.5}, {"token_id:4": -0.25}]}"#;
    let axolotl = r#"[[{"token": "token_id:7", "logprob": -0.5}, {"token": "token_id:2", "logprob": -1.5}],
        [{"token": "token_id:4", "logprob": -0.25}]]"#;
    let lines = [
        ("vllm", format!(r#"{{"id": 5, "prompt_logprobs": {vllm}}}"#)),
        (
            "vllm chat",
            format!(
                r#"{{"id": "chatcmpl-1", "custom_id": "5", "choices": [{{"index": 0, "logprobs": null}}], "prompt_logprobs": {vllm}}}"#
            ),
        ),
        (
            "vllm completion",
            format!(
                r#"{{"id": "5", "choices": [{{"logprobs": null, "prompt_logprobs": {vllm}}}]}}"#
            ),
        ),
        (
            "chat",
            format!(r#"{{"id": 5, "choices": [{{"logprobs": {chat}}}], "prompt_logprobs": null}}"#),
        ),
        (
            "batch",
            format!(
                r#"{{"id": "batch_req_1", "custom_id": "5", "error": null, "response": {{"status_code": 200, "body": {{"id": "chatcmpl-1", "choices": [{{"logprobs": {chat}}}]}}}}}}"#
            ),
        ),
        (
            "only the list",
            format!(r#"{{"id": 5, "logprobs": {chat}}}"#),
        ),
        (
            "completion",
            format!(r#"{{"id": 5, "choices": [{{"logprobs": {completion}}}]}}"#),
        ),
        (
            "echo",
            format!(r#"{{"id": 5, "choices": [{{"logprobs": {echoed}}}]}}"#),
        ),
        ("axolotl", format!(r#"{{"id": 5, "logprobs": {axolotl}}}"#)),
        (
            "axolotl's own name",
            format!(r#"{{"id": 5, "teacher": {axolotl}}}"#),
        ),
    ];
    for (name, line) in lines {
        let case = Case::new(&line.replace('\n', " "));
        let vocabulary = [("seven", 7), ("two", 2), (" four", 4)];
        let mut lines = case.lines().tokens(vocabulary);
        if name.ends_with("name") {
            lines = lines.field("teacher");
        }
        let file = case.record(lines).unwrap();
        assert_eq!(
            file.columns()[0].to_string(),
            "logits.0.top2: the top 2 of 10 classes at temperature 1, at each position of a mask"
        );
        check(&file, 5, name);
    }
}

#[test]
fn lines_have_different_lengths_and_positions_different_tokens() {
    let text = r#"{"id": 1, "prompt_logprobs": [null, {"7": {"logprob": -0.5}}]}

{"id": 0, "prompt_logprobs": [null, {"1": {"logprob": -3}, "7": {"logprob": -0.5}, "2": {"logprob": -1.5}}, {"0": {"logprob": -9}}, {}]}
"#;
    let case = Case::new(text);
    let file = case.record(case.lines()).unwrap();
    assert_eq!((read(&file, 1).len(), read(&file, 0).len()), (1, 3));
    let first = &read(&file, 0)[0];
    assert_eq!(first.0, [7, 2, 1]);
    assert_eq!(read(&file, 0)[2].2, 0.0);

    // The rest of more tokens than are kept is in the tail.
    let recording = Recording::new(case.0.path().join("two")).top_k(2, 1.0);
    let file = case.lines().record(recording).unwrap();
    let (classes, logs, tail) = &read(&file, 0)[0];
    assert_eq!((classes.as_slice(), logs.len()), (&[7, 2][..], 2));
    assert!(
        close(*tail, (1.0 - (-0.5f64).exp() - (-1.5f64).exp()).ln()),
        "{tail}"
    );

    let file = case
        .lines()
        .by_position()
        .record(Recording::new(case.0.path().join("places")))
        .unwrap();
    assert_eq!((read(&file, 0).len(), read(&file, 1).len()), (1, 3));
}

#[test]
fn a_small_tail_is_exact() {
    let text = r#"{"id": 1, "prompt_logprobs": [null, {"7": {"logprob": -1e-9}}, {"7": {"logprob": -1e-5}, "3": {"logprob": -13.8155105}}, {"1": {"logprob": -1e-4}, "2": {"logprob": -9}}]}"#;
    let case = Case::new(text);
    let file = case.record(case.lines()).unwrap();
    let positions = read(&file, 1);
    assert!(close(positions[0].2, 1e-9f64.ln()), "{}", positions[0].2);
    assert!(close(positions[1].2, 9e-6f64.ln()), "{}", positions[1].2);
    // Above 1 by rounding.
    assert_eq!(positions[2].2, f64::NEG_INFINITY);
}

#[test]
fn unknown_tokens_are_told_or_counted_to_the_tail() {
    let text = r#"{"id": 1, "choices": [{"logprobs": {"top_logprobs": [{"a": -0.5, "b": -1.5}, {"c": -1}, {"b": -1}]}}]}"#;
    let case = Case::new(text);
    let error = case.error(case.lines());
    assert!(
        error.contains(
            "has 4 tokens that are not in the vocabulary, 3 different ones: `a`, `b`, `c`; give"
        ),
        "{error}"
    );
    assert!(error.contains("TopKLines::tokens"), "{error}");
    let lines = || case.lines().tokens([("a", 3)]);
    let error = case.error(lines());
    assert!(
        error.contains("has 3 tokens that are not in the vocabulary, 2 different ones: `b`, `c`;")
            && error.contains("unknown_into_tail"),
        "{error}"
    );
    let error = case.error(lines().tokens([("a", 3), ("b", 4)]));
    assert!(
        error.contains("has 1 token that is not in the vocabulary: `c`;"),
        "{error}"
    );
    let many = r#"{"id": 1, "logprobs": [{"a": -4, "b": -4, "c": -4, "d": -4, "e": -4, "f": -4}]}"#;
    let error = {
        let case = Case::new(many);
        case.error(case.lines())
    };
    assert!(
        error.contains("has 6 tokens that are not in the vocabulary: `a`, `b`, `c`, `d`, `e`, …;"),
        "{error}"
    );
    let file = case.record(lines().unknown_into_tail()).unwrap();
    let positions = read(&file, 1);
    assert_eq!(positions[0].0, [3]);
    assert!(close(positions[0].2, (1.0 - (-0.5f64).exp()).ln()));
    assert_eq!(
        (positions[1].1[0], positions[1].2),
        (f64::NEG_INFINITY, 0.0)
    );
}

#[test]
fn what_is_wrong_is_told_with_line_and_remedy() {
    let of_position =
        |position: &str| format!(r#"{{"id": 1, "prompt_logprobs": [null, {position}]}}"#);
    let cases = [
        (
            r#"{"prompt_logprobs": [null, {}]}"#.to_owned(),
            "line 1 has no `id` and no `custom_id`",
        ),
        (
            r#"{"id": "request-1", "prompt_logprobs": [null, {}]}"#.to_owned(),
            "has the id `request-1`, which is no whole number",
        ),
        (
            r#"{"id": -1, "prompt_logprobs": [null, {}]}"#.to_owned(),
            "has the id `-1`",
        ),
        (
            format!("{}\n{}\n", of_position("{}"), of_position("{}")),
            "line 2 has the id 1 of line 1 again",
        ),
        (
            r#"{"id": 1}"#.to_owned(),
            "line 1 has no `prompt_logprobs`, `logprobs` or `top_logprobs`",
        ),
        (
            r#"{"id": 1, "prompt_logprobs": [null]}"#.to_owned(),
            "line 1 has no position",
        ),
        (
            r#"{"id": 1, "prompt_logprobs": 3}"#.to_owned(),
            "has no list of positions in `prompt_logprobs`",
        ),
        (
            r#"{"id": 1, "prompt_logprobs": [{}], "logprobs": [{}]}"#.to_owned(),
            "has `prompt_logprobs` and `logprobs`",
        ),
        (
            r#"{"id": 1, "choices": [{}, {}]}"#.to_owned(),
            "has 2 `choices`",
        ),
        (
            r#"{"custom_id": "1", "error": null, "response": {"status_code": 500, "body": {"error": {"message": "overloaded"}}}}"#.to_owned(),
            "line 1 is an answer with status 500 (`overloaded`): ask again, or remove the line",
        ),
        (
            r#"{"custom_id": "1", "response": {"status_code": 400, "body": {"object": "error", "message": "too long"}}}"#.to_owned(),
            "line 1 is an answer with status 400 (`too long`): ask again",
        ),
        (
            r#"{"custom_id": "1", "response": null, "error": {"code": "batch_expired"}}"#.to_owned(),
            "line 1 is an answer with an error (`batch_expired`): ask again",
        ),
        (
            r#"{"id": 1, "choices": [{"logprobs": null}]}"#.to_owned(),
            "line 1 has `logprobs` that is null: ask the server for `logprobs` and `top_logprobs`",
        ),
        (
            r#"{"id": 1, "choices": [{"logprobs": null}], "prompt_logprobs": null}"#.to_owned(),
            "line 1 has `logprobs` that is null: ask the server for `logprobs` and `top_logprobs`",
        ),
        (
            r#"{"id": 1, "prompt_logprobs": null}"#.to_owned(),
            "line 1 has `prompt_logprobs` that is null: ask the server for `prompt_logprobs`",
        ),
        (of_position("null"), "has a position that is no list"),
        (
            of_position("{\"10\": {\"logprob\": -1}}"),
            "has the token 10, and the vocabulary has 0 to 9",
        ),
        (
            of_position("{\"x\": {\"logprob\": -1}}"),
            "has `x` for the id of a token",
        ),
        (
            of_position("{\"1\": {\"logprob\": null}}"),
            "has no number for the token `1`",
        ),
        (
            of_position("{\"1\": {\"logprob\": 0.5}}"),
            "has 0.5 for token 1, and no `logprob` is above 0",
        ),
        (
            of_position("{\"1\": {\"logprob\": -0.1}, \"2\": {\"logprob\": -0.2}}"),
            "sum to 1.724 at a position",
        ),
        (
            of_position(
                "[{\"token\": \"token_id:1\", \"logprob\": -2}, {\"token\": \"token_id:1\", \"logprob\": -2}]",
            ),
            "has the token 1 twice",
        ),
        (
            of_position("[{\"token\": \"token_id:1\"}]"),
            "has a token without a number `logprob`",
        ),
        (
            of_position("[{\"logprob\": -1}]"),
            "has an entry without a `token`",
        ),
        (of_position("[3]"), "has a token that is no object"),
        ("[1]".to_owned(), "line 1 cannot be read"),
        (
            of_position("{\"1\": {\"logprob\": -Infinity}}"),
            "line 1 cannot be read",
        ),
        ("\n".to_owned(), "has no lines"),
    ];
    for (text, expected) in cases {
        let case = Case::new(&text);
        let error = case.error(case.lines());
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

/// Nobody can make another temperature of the numbers, and no adaptor said one.
#[test]
fn another_temperature_is_refused_before_anything_is_read() {
    let case = Case::new("no JSON");
    let recording = Recording::new(case.0.path().join("teacher")).top_k(2, 4.0);
    let error = case.lines().record(recording).unwrap_err().to_string();
    let expected =
        "answers of a server are at temperature 1; leave `top_k(2, 4)` out, or take it at 1";
    assert!(error.contains(expected), "{error}");
}

/// One position with many tokens does not blow up all others.
#[test]
fn fillers_are_limited() {
    let many: Vec<String> = (0..1000)
        .map(|id| format!("\"{id}\": {{\"logprob\": -9}}"))
        .collect();
    let none = vec!["{}"; 1000].join(",");
    let text = format!(
        "{{\"id\": 1, \"prompt_logprobs\": [{{{}}}]}}\n{{\"id\": 2, \"prompt_logprobs\": [{none}]}}\n",
        many.join(",")
    );
    let case = Case::new(&text);
    let lines = || TopKLines::new(case.0.path().join("answers.jsonl"), 1000);
    let error = case.error(lines());
    assert!(
        error.contains("line 2 has 0 tokens at 1000 positions"),
        "{error}"
    );
    let recording = Recording::new(case.0.path().join("teacher")).top_k(4, 1.0);
    assert_eq!(lines().record(recording).unwrap().len(), 2);
}
