//! Which module at the top of `src/` may import which, and that the whole has no circles.
//!
//! A module that is missing from the table breaks the rule: a new one needs a line here.

use std::collections::{BTreeMap, BTreeSet};

use super::names;
use super::source::{Source, Tree};

/// What a module may import, and the exceptions with their reasons.
pub(crate) struct Rules {
    pub(crate) may_know: &'static [(&'static str, &'static [&'static str])],
    /// Module, what it imports against the rule, and why. An exception that is no longer needed must be deleted.
    pub(crate) exceptions: &'static [(&'static str, &'static str, &'static str)],
}

pub(crate) const RULES: Rules = Rules {
    may_know: &[
        ("limits", &[]),
        ("time", &[]),
        ("phase", &[]),
        ("numbers", &["limits"]),
        ("wire", &["limits", "numbers"]),
        ("error", &["limits", "time", "wire", "phase"]),
        ("session", &["limits", "error", "numbers", "time", "wire", "phase"]),
        ("buffer", &["limits", "error"]),
        ("cancel", &[]),
        ("ring", &["limits", "error", "time", "buffer", "cancel"]),
        ("channel", &["limits", "error", "time", "buffer", "net", "ring", "wire"]),
        ("vfio", &["limits", "error", "time", "wire"]),
        ("descriptor", &["limits", "error"]),
        ("source", &["limits", "error", "vfio", "descriptor", "phase"]),
        ("sink", &["limits", "error", "vfio", "descriptor", "source", "phase"]),
        ("report", &["limits", "error", "time", "vfio", "phase"]),
        ("probe", &["limits", "error", "time", "cancel", "report", "vfio"]),
        ("compare", &["report"]),
        ("net", &["limits", "error", "phase", "time", "wire", "cancel", "ring"]),
        (
            "worker",
            &[
                "buffer", "cancel", "channel", "error", "limits", "net", "numbers", "phase", "report",
                "ring", "session", "sink", "source", "time", "vfio", "wire",
            ],
        ),
        (
            "transfer",
            &[
                "buffer", "cancel", "channel", "error", "limits", "net", "numbers", "phase", "report",
                "ring", "session", "sink", "source", "time", "wire", "worker",
            ],
        ),
        (
            "qemu",
            &[
                "buffer",
                "cancel",
                "channel",
                "error",
                "limits",
                "net",
                "phase",
                "report",
                "ring",
                "session",
                "sink",
                "source",
                "time",
                "wire",
                "worker",
                "transfer",
                "numbers",
                "vfio",
                "descriptor",
            ],
        ),
        (
            "internals",
            &["buffer", "cancel", "error", "limits", "numbers", "report", "ring", "session", "time"],
        ),
    ],
    exceptions: &[("error", "vfio", "a refused change of state names the states, which are the device's")],
};

/// What the root of the library re-exports: `Finished` is `transfer::Finished`.
fn aliases(sources: &[Source]) -> BTreeMap<String, String> {
    let Some(root) = sources.iter().find(|source| source.name == "lib.rs") else { return BTreeMap::new() };
    let named = names::written(root).into_iter().filter(|named| named.path.len() > 1);
    let alias = |path: Vec<String>| Some((path.last()?.clone(), path.first()?.clone()));
    named.filter_map(|named| alias(named.path)).collect()
}

/// Which module imports which, each with one place where it does.
fn arrows(sources: &[Source]) -> BTreeMap<(String, String), String> {
    let aliases = aliases(sources);
    let mut arrows = BTreeMap::new();
    for source in sources.iter().filter(|source| source.tree() == Tree::Library && source.name != "lib.rs") {
        let room = source.room();
        for named in names::absolute(source) {
            let first = named.path.first().map_or("the root of the crate", String::as_str);
            let other = aliases.get(first).map_or(first, String::as_str);
            if other != room {
                let arrow = (room.to_owned(), other.to_owned());
                arrows.entry(arrow).or_insert_with(|| source.at(named.line));
            }
        }
    }
    arrows
}

/// Arrows that are not in the table, modules that are not in it, and exceptions that are not needed.
pub(crate) fn strangers(sources: &[Source], rules: &Rules) -> Vec<String> {
    let arrows = arrows(sources);
    let mut found = Vec::new();
    let library = sources.iter().filter(|source| source.tree() == Tree::Library && source.name != "lib.rs");
    let rooms: BTreeSet<&str> = library.map(Source::room).collect();
    for room in &rooms {
        if !rules.may_know.iter().any(|(known, _)| known == room) {
            found.push(format!("{room} is in no line of the table: say what it may import"));
        }
    }
    for ((room, other), place) in &arrows {
        let allowed =
            rules.may_know.iter().any(|(known, allowed)| known == room && allowed.contains(&other.as_str()));
        if !allowed && !is_excepted(rules, room, other) {
            found.push(format!("{place}: {room} imports {other}"));
        }
    }
    for (room, other, why) in rules.exceptions {
        if rooms.contains(room) && !arrows.contains_key(&((*room).to_owned(), (*other).to_owned())) {
            found.push(format!("{room} does not import {other} any more: delete the exception ({why})"));
        }
    }
    found
}

fn is_excepted(rules: &Rules, room: &str, other: &str) -> bool {
    rules.exceptions.iter().any(|(from, to, _)| *from == room && *to == other)
}

/// Modules that import each other, directly or indirectly, exceptions apart.
pub(crate) fn circles(sources: &[Source], rules: &Rules) -> Vec<String> {
    let mut open: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for ((room, other), place) in arrows(sources) {
        if !is_excepted(rules, &room, &other) {
            open.entry(other.clone()).or_default();
            open.entry(room).or_default().insert(other, place);
        }
    }
    // a module that imports nothing or is imported by nothing is not part of a circle: remove it, and repeat
    loop {
        let imported: BTreeSet<String> = open.values().flat_map(BTreeMap::keys).cloned().collect();
        let before = open.len();
        open.retain(|room, to| !to.is_empty() && imported.contains(room));
        if open.len() == before {
            break;
        }
        let left: BTreeSet<String> = open.keys().cloned().collect();
        open.values_mut().for_each(|to| to.retain(|other, _| left.contains(other)));
    }
    let told = |(room, to): (String, BTreeMap<String, String>)| {
        let to: Vec<String> = to.into_iter().map(|(other, place)| format!("{other} ({place})")).collect();
        format!("{room} is in a circle by {}", to.join(", "))
    };
    open.into_iter().map(told).collect()
}

/// Where QEMU may be named, beside the command and the root of the library: in its own module, its wire format, its
/// errors and its bounds.
const QEMU_AT_HOME: [&str; 6] = ["qemu/", "qemu.rs", "wire/qemu", "error", "limits.rs", "lib.rs"];

/// Names of QEMU elsewhere, and why. An exception that is no longer needed must be deleted.
pub(crate) const QEMU_EXCEPTIONS: &[(&str, &str, &str)] = &[("wire/mod.rs", "qemu", "declares the module")];

/// QEMU named in code outside its own modules. Comments do not count.
pub(crate) fn qemu_abroad(sources: &[Source], exceptions: &[(&str, &str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources.iter().filter(|source| source.tree() == Tree::Library) {
        if QEMU_AT_HOME.iter().any(|home| source.name.starts_with(home)) {
            continue;
        }
        for (name, line) in super::shape::identifiers(source) {
            if !name.to_lowercase().contains("qemu") {
                continue;
            }
            let exception =
                exceptions.iter().position(|(file, what, _)| *file == source.name && *what == name);
            match exception {
                Some(number) => drop(used.insert(number)),
                None => found.push(format!("{}: {name}", source.at(line))),
            }
        }
    }
    let unused = (0..exceptions.len()).filter(|number| !used.contains(number));
    found.extend(
        unused.map(|number| format!("{:?} is not there any more: delete the exception", exceptions[number])),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Rules = Rules { may_know: &[("wire", &["limits"]), ("limits", &[])], exceptions: &[] };

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        files.iter().map(|(name, text)| Source::new(name, text)).collect()
    }

    #[test]
    fn an_import_that_the_table_allows_is_no_stranger() {
        let files =
            [("wire/text.rs", "use crate::limits::X; use super::hello; use std::fs;"), ("limits.rs", "")];
        assert!(strangers(&sources(&files), &TWO).is_empty());
    }

    #[test]
    fn a_stranger_is_found_however_it_is_written() {
        for text in [
            "use crate::ring;",
            "use crate::{ring};",
            "use super::super::ring::token;",
            "use crate::{limits, ring::{self, token}};",
            "fn f() { crate::ring::x() }",
            "fn f(ring: &crate::ring::Uring) {}",
            "#[derive(crate::ring::Thing)] struct A;",
            "fn f() { assert_eq!(crate::ring::x(), 1) }",
            "mod inner { use super::super::super::ring; }",
        ] {
            let found = strangers(&sources(&[("wire/text.rs", text)]), &TWO);
            assert_eq!(found, ["src/wire/text.rs:1: wire imports ring"], "{text}");
        }
        assert_eq!(
            strangers(&sources(&[("wire/text.rs", "use crate::*;")]), &TWO),
            ["src/wire/text.rs:1: wire imports the root of the crate"]
        );
    }

    #[test]
    fn a_short_name_of_the_root_is_what_it_stands_for() {
        let files = [("lib.rs", "pub use ring::Uring;"), ("wire/text.rs", "\nuse crate::Uring;")];
        assert_eq!(strangers(&sources(&files), &TWO), ["src/wire/text.rs:2: wire imports ring"]);
    }

    #[test]
    fn a_module_without_a_line_in_the_table_is_found() {
        let found = strangers(&sources(&[("novel.rs", "")]), &TWO);
        assert_eq!(found, ["novel is in no line of the table: say what it may import"]);
    }

    #[test]
    fn an_exception_counts_while_it_is_needed() {
        let rules = Rules { exceptions: &[("wire", "ring", "because")], ..TWO };
        assert!(strangers(&sources(&[("wire/text.rs", "use crate::ring;")]), &rules).is_empty());
        let found = strangers(&sources(&[("wire/text.rs", "")]), &rules);
        assert_eq!(found, ["wire does not import ring any more: delete the exception (because)"]);
    }

    #[test]
    fn what_tests_import_does_not_count() {
        let text = "#[cfg(test)]\nmod tests {\n    use crate::ring;\n}";
        assert!(strangers(&sources(&[("wire/text.rs", text)]), &TWO).is_empty());
    }

    #[test]
    fn circles_are_found_over_detours_and_trees_are_none() {
        let tree = [("a.rs", "use crate::{b, c};"), ("b.rs", "use crate::c;"), ("c.rs", "")];
        assert!(circles(&sources(&tree), &TWO).is_empty());
        let circle = [
            ("a.rs", "use crate::b;"),
            ("b.rs", "use crate::c;"),
            ("c.rs", "use crate::{b, d};"),
            ("d.rs", ""),
        ];
        let found = circles(&sources(&circle), &TWO);
        assert_eq!(found, ["b is in a circle by c (src/b.rs:1)", "c is in a circle by b (src/c.rs:1)"]);
        let rules = Rules { exceptions: &[("c", "b", "because")], ..TWO };
        assert!(circles(&sources(&circle), &rules).is_empty());
    }

    #[test]
    fn qemu_is_found_in_names_and_paths_and_not_in_comments() {
        let free = [
            ("ring/a.rs", "//! As QEMU does.\nfn f() {}"),
            ("qemu/a.rs", "fn qemu() {}"),
            ("wire/qemu/a.rs", "fn qemu() {}"),
        ];
        assert!(qemu_abroad(&sources(&free), &[]).is_empty());
        for text in [
            "use crate::wire::qemu::Reply;",
            "fn from_qemu() {}",
            "const A: u8 = QEMU_MAX;",
            "fn f() { m!(qemu) }",
        ] {
            assert_eq!(qemu_abroad(&sources(&[("ring/a.rs", text)]), &[]).len(), 1, "{text}");
        }
        let excepted = [("ring/a.rs", "QEMU_MAX", "because")];
        assert!(qemu_abroad(&sources(&[("ring/a.rs", "const A: u8 = QEMU_MAX;")]), &excepted).is_empty());
        assert_eq!(qemu_abroad(&sources(&[("ring/a.rs", "")]), &excepted).len(), 1, "not needed any more");
    }
}
