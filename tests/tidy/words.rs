//! Words that may occur only in some files, or in none.

use std::fs;
use std::path::Path;

use super::names;
use super::shape::identifiers;
use super::source::{Source, Tree};

/// Where unsafe code is argued.
pub(crate) const UNSAFE: [&str; 3] = ["buffer/region.rs", "ring/uring.rs", "vfio/sys.rs"];

/// Unsafe code elsewhere, and files of [`UNSAFE`] that do not expect the lint with a reason.
pub(crate) fn unsafe_code(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        if UNSAFE.contains(&&*source.name) {
            let is_argued = source.file.attrs.iter().any(|attribute| {
                let lint = |list: &syn::MetaList| list.tokens.to_string().starts_with("unsafe_code , reason");
                attribute.path().is_ident("expect") && attribute.meta.require_list().is_ok_and(lint)
            });
            if !is_argued {
                found.push(format!("src/{} does not expect unsafe_code with a reason", source.name));
            }
            continue;
        }
        let words = identifiers(source).into_iter();
        let found_here = words.filter(|(word, _)| matches!(&**word, "unsafe" | "unsafe_code"));
        found.extend(found_here.map(|(word, line)| format!("{}: {word}", source.at(line))));
    }
    found
}

/// tokio outside the module that connects.
pub(crate) fn tokio(sources: &[Source]) -> Vec<String> {
    let outside = sources.iter().filter(|source| source.room() != "net");
    let words = outside.flat_map(|source| identifiers(source).into_iter().map(move |word| (source, word)));
    let found = words.filter(|(_, (word, _))| word == "tokio" || word.starts_with("tokio_"));
    found.map(|(source, (word, line))| format!("{}: {word}", source.at(line))).collect()
}

/// Files of the command that reach past the library's public API.
pub(crate) fn command_past_the_api(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.tree() == Tree::Command) {
        for (number, line) in source.code_lines() {
            if line.contains("#[path") || line.contains("include!(") {
                found.push(format!("{}: {}", source.at(number), line.trim()));
            }
        }
        let inside = names::written(source)
            .into_iter()
            .filter(|named| named.path.starts_with(&["ringlift".into(), "internals".into()]));
        found.extend(inside.map(|named| format!("{}: {}", source.at(named.line), named.path.join("::"))));
    }
    found
}

/// Lints that are allowed instead of expected: an expected one warns when it is no longer needed.
pub(crate) fn allowed_lints(sources: &[Source]) -> Vec<String> {
    lines(sources, |line| line.contains("#[allow(") || line.contains("#![allow("))
}

/// What is unwrapped or left for later.
pub(crate) fn left_for_later(sources: &[Source]) -> Vec<String> {
    // split in halves, so that a search finds violations and not this rule
    const WORDS: [&str; 6] = [
        ".unwrap()",
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    lines(sources, |line| WORDS.iter().any(|word| line.contains(word)))
}

fn lines(sources: &[Source], is_broken: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let broken = source.code_lines().filter(|(_, line)| is_broken(line));
        found.extend(broken.map(|(number, line)| format!("{}: {}", source.at(number), line.trim())));
    }
    found
}

/// Rules of the protocol that are cited but missing from `protocol`. Tests cite rules, too.
pub(crate) fn cited_rules(files: &[(String, String)], protocol: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in files {
        for (number, line) in text.lines().enumerate() {
            for cited in line.split("P-").skip(1) {
                let digits: String = cited.chars().take_while(char::is_ascii_digit).collect();
                if !digits.is_empty() && !protocol.contains(&format!("**P-{digits}**")) {
                    found.push(format!("src/{name}:{}: P-{digits}", number + 1));
                }
            }
        }
    }
    found
}

pub(crate) fn protocol() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md");
    fs::read_to_string(path).expect("the protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> Vec<Source> {
        vec![Source::new(name, text)]
    }

    const ARGUED: &str = "#![expect(\n    unsafe_code,\n    reason = \"maps memory\"\n)]\n";

    #[test]
    fn unsafe_code_is_found_outside_its_files_and_has_a_reason_in_them() {
        let code = [
            "fn f() { unsafe { g() } }",
            "unsafe fn f() {}",
            "unsafe impl A for B {}",
            "#![expect(unsafe_code, reason = \"\")]",
            "fn f() { m!(unsafe { g() }) }",
        ];
        for text in code {
            assert_eq!(unsafe_code(&one("wire/text.rs", text)).len(), 1, "{text}");
        }
        assert!(unsafe_code(&one("wire/text.rs", "// unsafe\nfn f() {} /* unsafe */")).is_empty());
        let argued = format!("{ARGUED}fn f() {{ unsafe {{ g() }} }}");
        assert!(unsafe_code(&one("vfio/sys.rs", &argued)).is_empty());
        assert_eq!(unsafe_code(&one("vfio/sys.rs", "fn f() { unsafe { g() } }")).len(), 1);
    }

    #[test]
    fn tokio_is_found_outside_net() {
        for text in ["use tokio::net::TcpStream;", "use tokio_uring as t;", "use {tokio as x};"] {
            assert_eq!(tokio(&one("worker/a.rs", text)).len(), 1, "{text}");
            assert!(tokio(&one("net/a.rs", text)).is_empty());
        }
        assert!(tokio(&one("worker/a.rs", "// tokio::net")).is_empty());
    }

    #[test]
    fn the_command_reaches_for_nothing_inside() {
        for text in [
            "#[path = \"../../wire/mod.rs\"]\nmod wire;",
            "include!(\"../../time.rs\");",
            "use ringlift::{internals::Pool};",
        ] {
            assert_eq!(command_past_the_api(&one("bin/ringlift/a.rs", text)).len(), 1, "{text}");
        }
        assert!(
            command_past_the_api(&one("bin/ringlift/a.rs", "use ringlift::Sender; use crate::args;"))
                .is_empty()
        );
        assert!(command_past_the_api(&one("wire/a.rs", "include!(\"b.rs\");")).is_empty());
    }

    #[test]
    fn a_lint_that_is_allowed_is_found_and_one_that_is_expected_is_not() {
        assert_eq!(
            allowed_lints(&one("a.rs", "#[allow(dead_code)]\nfn f() {}")),
            ["src/a.rs:1: #[allow(dead_code)]"]
        );
        assert_eq!(allowed_lints(&one("a.rs", "#![allow(dead_code)]")).len(), 1);
        assert!(allowed_lints(&one("a.rs", "#[expect(dead_code, reason = \"\")]\nfn f() {}")).is_empty());
    }

    #[test]
    fn what_is_unwrapped_or_left_for_later_is_found_outside_tests() {
        for text in
            ["fn f() { g().unwrap() }", concat!("fn f() { to", "do!() }"), concat!("fn f() {} // TO", "DO")]
        {
            assert_eq!(left_for_later(&one("a.rs", text)).len(), 1, "{text}");
        }
        assert!(left_for_later(&one("a.rs", "fn f() { g().unwrap_or(1) }")).is_empty());
        assert!(
            left_for_later(&one("a.rs", "#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }")).is_empty()
        );
    }

    #[test]
    fn a_rule_that_is_cited_and_not_there_is_found() {
        let files = [("a.rs".to_owned(), "// P-1, P-2\n// UTP-8 P-x".to_owned())];
        assert_eq!(cited_rules(&files, "**P-1** is one."), ["src/a.rs:1: P-2", "src/a.rs:2: P-8"]);
    }
}
