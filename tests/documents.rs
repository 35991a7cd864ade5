//! Everything that the documents cite and link to exists.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every document of the project, with its path from the root.
fn documents() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_docs = fs::read_dir(top.join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let in_docs = in_docs.map(|name| format!("docs/{}", name.to_str().unwrap()));
    let beside = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tools/guest/README.md"].map(str::to_owned);
    let paths = in_docs.filter(|path| path.ends_with(".md")).chain(beside);
    let found: Vec<_> = paths.map(|path| (fs::read_to_string(top.join(&path)).unwrap(), path)).collect();
    assert!(found.len() > 7, "the documents were found");
    found.into_iter().map(|(text, path)| (path, text)).collect()
}

/// Every `P-n` in a text.
fn rules(text: &str) -> BTreeSet<u32> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    text.split("P-").skip(1).filter_map(digits).collect()
}

#[test]
fn rules_of_the_protocol_are_numbered_without_gaps_and_those_that_are_cited_exist() {
    let documents = documents();
    let (_, protocol) = documents.iter().find(|(path, _)| path == "docs/PROTOCOL.md").unwrap();
    let heads = protocol.lines().filter_map(|line| line.strip_prefix("- **")?.split("**").next());
    let drawn: BTreeSet<u32> = heads.flat_map(rules).collect();
    assert!(drawn.len() > 40 && drawn.iter().zip(1..).all(|(&rule, place)| rule == place));
    for (path, text) in &documents {
        let unknown: Vec<_> = rules(text).difference(&drawn).copied().collect();
        assert!(unknown.is_empty(), "{path} cites {unknown:?}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut found = Vec::new();
    for (path, text) in documents() {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            let is_elsewhere = link.contains("://") || file.is_empty();
            if !is_elsewhere && !document.parent().unwrap().join(file).exists() {
                found.push(format!("{path}: {link}"));
            }
        }
    }
    assert!(found.is_empty(), "links to nothing: {found:#?}");
}

/// The rows of the tables below a heading, cell by cell.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let level = heading.split(' ').next().unwrap();
    let (_, below) = text.split_once(&format!("\n{heading}\n")).expect(heading);
    let end = below.find(&format!("\n{level} ")).unwrap_or(below.len());
    let lines = below[..end].lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    lines.map(|line| line.split(" | ").collect()).collect()
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The tests that a cell cites, each with the file that it must be in: `path` `name` `name`, `path` `name`.
fn citations(cell: &str) -> Vec<(&str, &str)> {
    let mut path = None;
    let mut found = Vec::new();
    for word in quoted(cell) {
        if word.contains('/') {
            path = Some(word);
        } else {
            found.push((path.expect("a path comes before a name"), word));
        }
    }
    found
}

#[test]
fn every_row_of_the_parity_tables_cites_a_test_that_exists() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(top.join("docs/QEMU.md")).unwrap();
    let patches = rows(&text, "### The 36 patches");
    let numbers: Vec<_> = patches.iter().filter_map(|row| row[0].parse::<u32>().ok()).collect();
    assert_eq!(numbers, (1..=36).collect::<Vec<_>>());
    let mut missing = Vec::new();
    let rows = rows(&text, "## Parity");
    let with_tests = rows.iter().filter(|row| row.len() == 4 && row[3] != "test");
    for row in with_tests {
        let cited = citations(row[3]);
        if cited.is_empty() {
            missing.push(format!("{} cites nothing", row[0]));
        }
        for (path, name) in cited {
            let file = fs::read_to_string(top.join(path)).unwrap_or_default();
            let is_there = if path.ends_with(".rs") {
                file.contains(&format!("fn {name}("))
            } else {
                file.contains(name)
            };
            if !is_there {
                missing.push(format!("{}: {path} {name}", row[0]));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The first block of JSON below a line.
#[cfg(feature = "cli")]
fn json_below(text: &str, line: &str) -> serde_json::Value {
    let (_, below) = text.split_once(line).expect(line);
    let block = below.split("```").nth(1).unwrap().strip_prefix("json").unwrap();
    serde_json::from_str(block).unwrap()
}

#[cfg(feature = "cli")]
#[test]
fn the_json_of_an_inspected_capture_is_the_one_in_the_document() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(top.join("docs/QEMU.md")).unwrap();
    let capture = "tests/fixtures/qemu/device-on-channels";
    let command = ["qemu", "inspect", capture, "--json", "-"];
    let program = assert_cmd::cargo::cargo_bin!("ringlift");
    let output = std::process::Command::new(program).args(command).current_dir(top).output();
    let found: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!(json_below(&text, &format!("The JSON, of the capture `{capture}`:")), found);
}
