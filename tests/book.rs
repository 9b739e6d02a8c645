//! The README and the book: their links lead somewhere, and nothing that has a name is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use textbrewer::config::match_set_names;
use textbrewer::{DistillationConfig, Presets, TrainingConfig};

const BOOK: &str = "docs/book/src";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Markdown files below a folder, with their paths from the root.
fn markdown(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = Path::new(folder).join(entry.unwrap().file_name());
        if root().join(&path).is_dir() {
            found.extend(markdown(path.to_str().unwrap()));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn documents() -> Vec<PathBuf> {
    let names = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ];
    let mut documents: Vec<_> = names.iter().map(PathBuf::from).collect();
    documents.extend(markdown("docs"));
    documents
}

/// The lines outside blocks of code, without what stands in back quotes.
fn prose(text: &str) -> String {
    let mut kept = String::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    let outside = kept.split('`').step_by(2);
    outside.collect::<Vec<_>>().join("`")
}

/// What `[text](target)` and `![text](target)` point at.
fn targets(text: &str) -> Vec<String> {
    let text = prose(text);
    let parts = text.split("](").skip(1);
    let targets = parts.filter_map(|part| part.split_once(')').map(|(target, _)| target));
    targets.map(|target| target.trim().to_owned()).collect()
}

/// The names that GitHub and mdBook give to the headings of a document: small letters, digits,
/// `-` and `_`, with `-` for blanks, and a number after those that were there before.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut times = BTreeMap::<String, usize>::new();
    let mut found = BTreeSet::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if in_code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let slug: String = (heading.trim().to_lowercase().chars())
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let before = times.entry(slug.clone()).or_default();
        found.insert(match *before {
            0 => slug,
            count => format!("{slug}-{count}"),
        });
        *before += 1;
    }
    found
}

/// What is wrong with a link of a document.
fn fault(document: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };
    let folder = document.parent().unwrap_or(Path::new(""));
    let path = match file {
        "" => document.to_owned(),
        file => folder.join(file),
    };
    if !root().join(&path).exists() {
        return Some("there is no such file".to_owned());
    }
    // The book is also read where only its own files are.
    let is_inside = file.is_empty() || !file.starts_with("..");
    if document.starts_with(BOOK) && !is_inside {
        return Some("leads out of the book".to_owned());
    }
    let anchor = anchor?;
    let known = anchors(&read(&path));
    (!known.contains(anchor)).then(|| format!("no such heading; there are {known:?}"))
}

/// Words of a message, with `{}` for each number, and for what the program puts in.
fn pattern(text: &str) -> String {
    let text = text.replace("\\\"", "\"");
    let mut parts = text.split('{');
    let mut pattern = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_name = |name: &str| {
            name.chars()
                .all(|c| c.is_alphanumeric() || "_:?.#".contains(c))
        };
        let filled_in = part.split_once('}').filter(|(name, _)| is_name(name));
        pattern.push_str(filled_in.map_or("{", |_| "{}"));
        pattern.push_str(filled_in.map_or(part, |(_, rest)| rest));
    }
    let is_number = |word: &str| word.parse::<u64>().is_ok();
    let words = pattern.split_whitespace();
    let words = words.map(|word| if is_number(word) { "{}" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// A chapter says what to do about a message, and the crate may have come to say it otherwise.
#[test]
fn messages_in_the_book_are_those_of_the_crate() {
    let mut source = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                // Lines that are continued are one.
                for part in fs::read_to_string(path).unwrap().split("\\\n") {
                    source.push_str(part.trim_start());
                }
            }
        }
    }
    let source = pattern(&source);
    let chapter = read(format!("{BOOK}/processes.md"));
    let table = chapter.split_once("| message | what to do |").unwrap().1;
    let messages = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| `"));
    let mut count = 0;
    for message in messages {
        count += 1;
        let message = message.split_once("` |").unwrap().0;
        // What stands in quotes is filled in, and the ranks of several are listed before `of`.
        let quoted = message.split_once('"').map(|(before, rest)| {
            let after = rest.split_once('"').unwrap().1;
            format!("{before}\"{{}}\"{after}")
        });
        let listed = message
            .strip_prefix("processes ")
            .and_then(|ranks| ranks.split_once(" of "));
        let message = match (quoted, listed) {
            (Some(quoted), _) => quoted,
            (_, Some((_, rest))) => format!("{{}} of {rest}"),
            _ => message.to_owned(),
        };
        assert!(source.contains(&pattern(&message)), "{}", pattern(&message));
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn every_link_leads_somewhere() {
    let mut faults = Vec::new();
    let mut links = 0;
    for document in documents() {
        for target in targets(&read(&document)) {
            links += 1;
            if let Some(fault) = fault(&document, &target) {
                faults.push(format!("{}: ({target}): {fault}", document.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(links > 60, "only {links} links were found");
}

#[test]
fn faults_of_links_are_seen() {
    let (readme, chapter) = (Path::new("README.md"), Path::new(BOOK).join("losses.md"));
    assert_eq!(fault(readme, "https://example.org/nothing"), None);
    assert_eq!(fault(readme, "docs/book/src/losses.md#on-logits"), None);
    assert_eq!(fault(&chapter, "#on-logits"), None);
    let is_fault = |document: &Path, target, part: &str| {
        let fault = fault(document, target).unwrap_or_default();
        assert!(fault.contains(part), "{target}: {fault}");
    };
    is_fault(readme, "docs/book/src/lossses.md", "no such file");
    is_fault(
        readme,
        "docs/book/src/losses.md#on-logit",
        "no such heading",
    );
    is_fault(&chapter, "#on-logit", "no such heading");
    is_fault(&chapter, "../../../README.md", "out of the book");

    let text =
        "# A `b` & c\n```text\n# no heading, [no](link)\n```\n## A b c\n# a b  c\n[x](y) `[n](o)`";
    assert_eq!(targets(text), ["y"]);
    let expected = ["a-b--c", "a-b-c", "a-b--c-1"].map(str::to_owned);
    assert_eq!(anchors(text), expected.into());
}

/// Chapters that the table of contents names, and those that are there; and the programs of all
/// that have any are compiled.
#[test]
fn chapters_are_in_the_summary_and_programs_are_compiled() {
    let listed: BTreeSet<_> = targets(&read(format!("{BOOK}/SUMMARY.md")))
        .into_iter()
        .collect();
    let files = markdown(BOOK).into_iter().map(|path| {
        let name = path.strip_prefix(BOOK).unwrap();
        name.to_str().unwrap().to_owned()
    });
    let there: BTreeSet<_> = files.filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(listed, there);

    let compiled = read("src/book.rs") + &read("examples/tasks/src/lib.rs");
    for name in there {
        let has_programs = read(format!("{BOOK}/{name}")).contains("```rust");
        let is_compiled = compiled.contains(&format!("../{BOOK}/{name}\""));
        assert_eq!(
            is_compiled, has_programs,
            "src/book.rs, or examples/tasks/src/lib.rs, and the programs of {name}"
        );
    }
}

/// `tests/losses.rs: a_function`, in back quotes: where the book says what holds it to its word.
#[test]
fn tests_that_the_book_names_are_there() {
    let chapter = read(format!("{BOOK}/choosing-a-loss.md"));
    let mut count = 0;
    for code in chapter
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
    {
        if let Some((file, function)) = code.split_once(".rs: ") {
            let is_there = read(format!("{file}.rs")).contains(&format!("fn {function}("));
            assert!(is_there, "{file}.rs has no function {function}");
            count += 1;
        }
    }
    assert!(count > 30, "only {count} names were found");
}

/// Fails unless a table of the chapter has a row whose first cell has each of the names.
fn assert_rows<'a>(chapter: &str, names: impl IntoIterator<Item = &'a str>) {
    let text = read(format!("{BOOK}/{chapter}"));
    let cells = text.lines().filter_map(|line| line.strip_prefix("| "));
    let first: Vec<_> = cells.filter_map(|line| line.split(" | ").next()).collect();
    let mut count = 0;
    for name in names {
        let is_there = first.iter().any(|cell| cell.contains(&format!("`{name}`")));
        assert!(is_there, "{BOOK}/{chapter} has no row of `{name}`");
        count += 1;
    }
    assert!(count > 1, "no names to look for in {chapter}");
}

#[test]
fn every_preset_has_its_row() {
    let presets = Presets::default();
    assert_rows("losses.md", presets.kd_losses());
    assert_rows("losses.md", presets.match_losses());
    assert_rows("losses.md", presets.projections());
    assert_rows("schedules.md", presets.weight_schedulers());
    assert_rows("schedules.md", presets.temperature_schedulers());
    assert_rows("configurations.md", match_set_names());
}

/// The keys that an error about an unknown one names.
fn keys_in(error: &str) -> Vec<&str> {
    let (_, known) = error
        .split_once("expected one of")
        .unwrap_or_else(|| panic!("{error}"));
    known.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_key_of_the_configurations_has_its_row() {
    let training = TrainingConfig::from_json_str(r#"{"?": 0}"#)
        .unwrap_err()
        .to_string();
    assert_rows("configurations.md", keys_in(&training));
    for unknown in [
        r#"{"?": 0}"#,
        r#"{"emd": {"?": 0}}"#,
        r#"{"intermediate_matches": [{"?": 0}]}"#,
    ] {
        let error = DistillationConfig::from_json_str(unknown)
            .unwrap_err()
            .to_string();
        assert_rows("configurations.md", keys_in(&error));
    }
}
