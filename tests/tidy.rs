//! The house's own rules, read off the source: who may know whom, where unsafe code lives, how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Rust files with their text, by their path below `src/`.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below src").display().to_string();
                files.push((name, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    assert!(files.len() > 50, "this reads the source");
    files.sort();
    files
}

/// Files that are compiled for tests alone, by what their names begin with: those whose parent declares them so.
fn test_modules(sources: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources {
        let folder = match name.rsplit_once('/') {
            Some((folder, "mod.rs" | "main.rs")) => format!("{folder}/"),
            None if name == "lib.rs" => String::new(),
            _ => format!("{}/", name.trim_end_matches(".rs")),
        };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            if let Some((_, module)) = pair[1].strip_suffix(';').and_then(|line| line.rsplit_once("mod ")) {
                found.extend([format!("{folder}{module}.rs"), format!("{folder}{module}/")]);
            }
        }
    }
    found
}

/// What comes before a file's tests.
fn without_tests(text: &str) -> &str {
    let is_module = |at: &usize| {
        let declared = text[*at..].lines().nth(2).unwrap_or("");
        declared.contains("mod ") && declared.ends_with('{')
    };
    let end = text.match_indices("\n#[cfg(test)]\n").map(|(at, _)| at).find(is_module);
    &text[..end.unwrap_or(text.len())]
}

/// Every file of the program itself, without tests.
fn program() -> Vec<(String, String)> {
    let all = sources();
    let tests = test_modules(&all);
    let is_program = |name: &str| !tests.iter().any(|test| name.starts_with(test.as_str()));
    let own = all.into_iter().filter(|(name, _)| is_program(name));
    own.map(|(name, text)| (name, without_tests(&text).to_owned())).collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Every rule that is broken, as `file:line: what`.
fn broken(rule: impl Fn(&str, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in program() {
        for (number, line) in text.lines().enumerate() {
            if is_comment(line) {
                continue;
            }
            if let Some(what) = rule(&name, line) {
                found.push(format!("src/{name}:{}: {what}", number + 1));
            }
        }
    }
    found
}

/// The modules of this crate that a line names from outside: `crate::wire::…` is `wire`.
fn named_modules(line: &str) -> Vec<&str> {
    let word = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    line.split("crate::")
        .skip(1)
        .map(|rest| &rest[..word(rest)])
        .filter(|module| module.starts_with(char::is_lowercase))
        .collect()
}

/// What each room may know of the others. A room that is not named here (`engine`) may know all.
const MAY_KNOW: [(&str, &[&str]); 14] = [
    ("time", &[]),
    ("limits", &[]),
    ("error", &["limits", "phase", "time", "wire", "vfio"]),
    ("wire", &["limits", "error", "time"]),
    ("session", &["limits", "error", "phase", "time", "wire"]),
    ("buffer", &["limits", "error"]),
    ("ring", &["limits", "error", "time", "buffer", "cancel"]),
    ("channel", &["limits", "error", "time", "buffer", "ring", "net", "wire"]),
    ("vfio", &["limits", "error", "wire"]),
    ("descriptor", &["limits", "error"]),
    ("source", &["limits", "error", "vfio", "descriptor"]),
    ("sink", &["limits", "error", "vfio", "descriptor", "source"]),
    ("report", &["limits", "error", "time"]),
    ("net", &["limits", "error", "phase", "time", "wire", "cancel", "ring"]),
];

#[test]
fn no_room_knows_more_than_it_may() {
    let found = broken(|name, line| {
        let room = name.split(['/', '.']).next().expect("a name");
        let (_, allowed) = MAY_KNOW.iter().find(|(named, _)| *named == room)?;
        let stranger =
            named_modules(line).into_iter().find(|module| *module != room && !allowed.contains(module))?;
        Some(format!("{room} knows {stranger}"))
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_command_uses_the_librarys_public_api_alone() {
    let found = broken(|name, line| {
        let is_include = line.contains("#[path") || line.contains("include!(");
        (name.starts_with("bin/") && is_include).then(|| line.trim().to_owned())
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn tokio_stays_in_the_rendezvous() {
    let found = broken(|name, line| {
        let is_used = line.contains("tokio::") || line.contains("tokio_uring");
        (is_used && !name.starts_with("net/")).then(|| line.trim().to_owned())
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn unsafe_code_stays_in_three_files() {
    const UNSAFE: [&str; 3] = ["buffer/region.rs", "ring/uring.rs", "vfio/sys.rs"];
    let found = broken(|name, line| {
        let code = line.split("//").next().unwrap_or(line);
        let is_unsafe =
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "unsafe_code"]
                .iter()
                .any(|word| code.contains(word));
        (is_unsafe && !UNSAFE.contains(&name)).then(|| line.trim().to_owned())
    });
    assert!(found.is_empty(), "{found:#?}");
    for name in UNSAFE {
        let (_, text) = sources().into_iter().find(|(found, _)| found == name).expect("a file");
        assert!(
            text.contains("#![expect(\n    unsafe_code") || text.contains("#![expect(unsafe_code"),
            "{name}"
        );
    }
}

#[test]
fn nothing_is_allowed_that_could_be_expected() {
    let found = broken(|_, line| {
        (line.contains("#[allow(") || line.contains("#![allow(")).then(|| line.trim().to_owned())
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_is_unwrapped_or_left_for_later() {
    // in halves, so that a search for them finds what is broken and not the rule
    const WORDS: [&str; 6] = [
        ".unwrap()",
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        "dbg!(",
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    let found = broken(|_, line| {
        WORDS.iter().find(|word| line.contains(**word)).map(|word| format!("{word} in {}", line.trim()))
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_file_says_what_it_is_and_fits_in_a_head() {
    const LINES_MAX: usize = 420;
    let mut found = Vec::new();
    for (name, text) in program() {
        if !text.lines().take(6).any(|line| line.starts_with("//! ")) {
            found.push(format!("src/{name} does not say what it is"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            found.push(format!("src/{name} has {lines} lines before its tests"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The rules of `docs/PROTOCOL.md` that the code and the tests cite are there.
#[test]
fn every_cited_rule_of_the_protocol_exists() {
    let protocol = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md");
    let protocol = fs::read_to_string(protocol).expect("the protocol");
    let mut found = Vec::new();
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for cited in line.split("P-").skip(1) {
                let digits: String = cited.chars().take_while(char::is_ascii_digit).collect();
                if !digits.is_empty() && !protocol.contains(&format!("**P-{digits}**")) {
                    found.push(format!("src/{name}:{}: P-{digits}", number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
