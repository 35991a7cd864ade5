//! The library names settings, the command names its options: no message of the library mentions an option of
//! `ringlift`.

use std::fs;
use std::path::{Path, PathBuf};

/// The string literals of a Rust source, with their lines. Comments are left out.
fn literals(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut line) = (Vec::new(), 1);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' => line += 1,
            '/' if rest.peek() == Some(&'/') => while rest.next_if(|c| *c != '\n').is_some() {},
            // a char literal, which may be a quote; a lifetime has no second quote
            '\'' => {
                let mut ahead = rest.clone();
                let escaped = ahead.next() == Some('\\');
                if escaped {
                    ahead.next();
                }
                if escaped || ahead.next() == Some('\'') {
                    rest.nth(if escaped { 1 } else { 0 });
                    while rest.next_if(|c| *c != '\'').is_some() {}
                    rest.next();
                }
            }
            '"' => {
                let (begin, mut literal) = (line, String::new());
                while let Some(c) = rest.next().filter(|c| *c != '"') {
                    line += usize::from(c == '\n');
                    literal.push(c);
                    if c == '\\' {
                        let escaped = rest.next().unwrap_or_default();
                        line += usize::from(escaped == '\n');
                        literal.push(escaped);
                    }
                }
                found.push((begin, literal));
            }
            _ => {}
        }
    }
    found
}

/// Whether it contains an option, or a `ringlift` command line.
fn is_typed(literal: &str) -> bool {
    let is_option = literal.match_indices("--").any(|(at, _)| {
        let before = literal[..at].chars().next_back();
        let after = literal[at + 2..].chars().next();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '-')
            && after.is_some_and(|c| c.is_ascii_lowercase())
    });
    let commands = ["recv", "send", "qemu", "devices", "demo"];
    is_option || commands.iter().any(|command| literal.contains(&format!("ringlift {command}")))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("src/bin") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn nothing_that_the_library_says_names_an_option_of_the_command() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 50, "this reads the source");
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        let typed = literals(&text).into_iter().filter(|(_, literal)| is_typed(literal));
        found.extend(typed.map(|(line, literal)| format!("{}:{line}: {literal}", file.display())));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn literals_are_told_from_comments_and_quotes() {
    let text =
        "// say \"no\"\nlet a = '\"'; let b: &'static str = \"x \\\" y\";\nf('\\'', \"two\\\n lines\")";
    let found: Vec<String> = literals(text).into_iter().map(|(_, literal)| literal).collect();
    assert_eq!(found, ["x \\\" y", "two\\\n lines"]);
}

#[test]
fn options_and_commands_are_told_from_other_words() {
    for typed in ["use a smaller --pool", "--deadline", "`ringlift recv` listens"] {
        assert!(is_typed(typed), "{typed}");
    }
    for other in ["a -- b", "x--y", "-incoming", "ringlift needs Linux 5.11", "----"] {
        assert!(!is_typed(other), "{other}");
    }
}
