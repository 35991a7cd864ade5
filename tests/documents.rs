//! What the documents cite and link to exists.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every document of the project, from its top.
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
