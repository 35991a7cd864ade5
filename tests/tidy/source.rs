//! The source as syntax: every file of `src/`, parsed, without code that is compiled only for tests.
//!
//! Knows no rule. Lines keep their numbers: test code is blanked, not cut out.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Field, ImplItem, Item, ItemMod, Meta, Stmt, TraitItem, Variant};

/// A file without its tests.
pub(crate) struct Source {
    /// Its path below `src/`.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) file: syn::File,
}

/// One of the crate's two trees of modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tree {
    Library,
    Command,
}

const COMMAND: &str = "bin/ringlift/";

impl Source {
    /// Parses a file; what is under `#[cfg(test)]` becomes blank.
    pub(crate) fn new(name: &str, text: &str) -> Source {
        Source::without_tests(name, text, parse(name, text))
    }

    fn without_tests(name: &str, text: &str, whole: syn::File) -> Source {
        let mut tests = Tests::default();
        tests.visit_file(&whole);
        if tests.lines.is_empty() {
            return Source { name: name.to_owned(), text: text.to_owned(), file: whole };
        }
        let is_test = |number: usize| tests.lines.iter().any(|lines| lines.contains(&number));
        let lines = text.lines().enumerate();
        let kept: Vec<&str> = lines.map(|(at, line)| if is_test(at + 1) { "" } else { line }).collect();
        let text = kept.join("\n");
        let file = parse(name, &text);
        Source { name: name.to_owned(), text, file }
    }

    pub(crate) fn tree(&self) -> Tree {
        if self.name.starts_with(COMMAND) { Tree::Command } else { Tree::Library }
    }

    /// The path of its module in its tree: `wire/text.rs` is `wire`, `text`.
    pub(crate) fn module(&self) -> Vec<String> {
        let name = self.name.strip_prefix(COMMAND).unwrap_or(&self.name);
        let name = name.trim_end_matches(".rs");
        let name = name.strip_suffix("/mod").unwrap_or(name);
        let parts = name.split('/').map(str::to_owned);
        if matches!(name, "lib" | "main") { Vec::new() } else { parts.collect() }
    }

    /// The module at the top of the library that it belongs to; the command is one.
    pub(crate) fn room(&self) -> &str {
        self.name.split(['/', '.']).next().expect("split gives one part at least")
    }

    /// `src/file:line`, for messages.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("src/{}:{line}", self.name)
    }

    /// Lines with their numbers, without those that are only a comment.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_comment = |line: &str| line.trim_start().starts_with("//");
        let numbered = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        numbered.filter(move |(_, line)| !is_comment(line))
    }
}

fn parse(name: &str, text: &str) -> syn::File {
    syn::parse_file(text).unwrap_or_else(|error| unreachable!("{name} is compiled, but not parsed: {error}"))
}

/// Lines of test code.
#[derive(Default)]
struct Tests {
    lines: Vec<RangeInclusive<usize>>,
}

impl Tests {
    /// Records an item that is compiled only for tests. True when it is not one, and its content has to be visited.
    fn passes(&mut self, attributes: &[Attribute], item: &impl Spanned) -> bool {
        let (Some(first), true) = (attributes.first(), attributes.iter().any(is_for_tests)) else {
            return true;
        };
        self.lines.push(first.span().start().line..=item.span().end().line);
        false
    }
}

pub(crate) fn is_for_tests(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    }
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn statement_attributes(statement: &Stmt) -> &[Attribute] {
    match statement {
        Stmt::Local(local) => &local.attrs,
        Stmt::Macro(call) => &call.attrs,
        Stmt::Expr(Expr::Call(call), _) => &call.attrs,
        Stmt::Expr(Expr::MethodCall(call), _) => &call.attrs,
        Stmt::Expr(Expr::Block(block), _) => &block.attrs,
        Stmt::Expr(Expr::If(branch), _) => &branch.attrs,
        _ => &[],
    }
}

impl<'a> Visit<'a> for Tests {
    fn visit_item(&mut self, item: &'a Item) {
        if self.passes(item_attributes(item), item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'a ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs[..],
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if self.passes(attributes, item) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'a TraitItem) {
        let attributes = match item {
            TraitItem::Const(item) => &item.attrs[..],
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if self.passes(attributes, item) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_stmt(&mut self, statement: &'a Stmt) {
        if self.passes(statement_attributes(statement), statement) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_field(&mut self, field: &'a Field) {
        self.passes(&field.attrs, field);
    }

    fn visit_variant(&mut self, variant: &'a Variant) {
        self.passes(&variant.attrs, variant);
    }
}

/// Every Rust file below `src/`, as it is on disk.
pub(crate) fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
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

/// The files that a file declares, as stems of their paths: `mod text;` in `wire/mod.rs` is `wire/text`. Only those for
/// tests, or all.
pub(crate) fn declared(name: &str, file: &syn::File, for_tests: bool) -> Vec<String> {
    struct Modules {
        folder: String,
        found: Vec<String>,
        for_tests: bool,
    }
    impl<'a> Visit<'a> for Modules {
        fn visit_item_mod(&mut self, item: &'a ItemMod) {
            let stem = format!("{}{}", self.folder, item.ident);
            if item.content.is_none() && (!self.for_tests || item.attrs.iter().any(is_for_tests)) {
                self.found.push(stem.clone());
            }
            let outer = std::mem::replace(&mut self.folder, format!("{stem}/"));
            visit::visit_item_mod(self, item);
            self.folder = outer;
        }
    }
    let folder = match name.rsplit_once('/') {
        Some((folder, "mod.rs" | "main.rs")) => format!("{folder}/"),
        None if name == "lib.rs" => String::new(),
        _ => format!("{}/", name.trim_end_matches(".rs")),
    };
    let mut modules = Modules { folder, found: Vec::new(), for_tests };
    modules.visit_file(file);
    modules.found
}

/// A file's path without what makes it a file: `wire/mod.rs` is `wire`.
pub(crate) fn stem(name: &str) -> &str {
    let name = name.trim_end_matches(".rs");
    name.strip_suffix("/mod").unwrap_or(name)
}

/// The files that other files declare, as stems of their paths. Only those for tests, or all.
pub(crate) fn all_declared(files: &[(String, String)], for_tests: bool) -> BTreeSet<String> {
    files.iter().flat_map(|(name, text)| declared(name, &parse(name, text), for_tests)).collect()
}

/// Every file of the program itself, without tests.
pub(crate) fn program() -> Vec<Source> {
    let files: Vec<(String, String, syn::File)> =
        files().into_iter().map(|(name, text)| (name.clone(), text.clone(), parse(&name, &text))).collect();
    let tests: BTreeSet<String> =
        files.iter().flat_map(|(name, _, file)| declared(name, file, true)).collect();
    let is_test = |name: &str| {
        let stem = stem(name);
        tests.iter().any(|test| {
            stem.strip_prefix(&**test).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let own = files.into_iter().filter(|(name, ..)| !is_test(name));
    own.map(|(name, text, file)| Source::without_tests(&name, &text, file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_tests_alone_is_blank_and_the_rest_keeps_its_lines() {
        let text = "fn one() {\n    #[cfg(test)]\n    log();\n}\nstruct Two {\n    #[cfg(test)]\n    three: u8,\n}\n/// Tests.\n#[cfg(test)]\nmod tests {\n    fn four() {}\n}\nfn five() {}\n";
        let source = Source::new("a.rs", text);
        let kept: Vec<(usize, &str)> = source.code_lines().filter(|(_, line)| !line.is_empty()).collect();
        assert_eq!(kept, [(1, "fn one() {"), (4, "}"), (5, "struct Two {"), (8, "}"), (14, "fn five() {}")]);
    }

    #[test]
    fn a_file_knows_its_module_and_what_it_declares() {
        let module = |name: &str| Source::new(name, "").module().join("::");
        let names = ["lib.rs", "wire/mod.rs", "wire/text.rs", "time.rs", "bin/ringlift/args/mod.rs"];
        assert_eq!(names.map(module), ["", "wire", "wire::text", "time", "args"]);
        let text = "mod a;\n#[cfg(test)]\nmod b;\nmod c { mod d; }";
        let text = parse("", text);
        assert_eq!(declared("wire/mod.rs", &text, false), ["wire/a", "wire/b", "wire/c/d"]);
        assert_eq!(declared("time.rs", &text, true), ["time/b"]);
    }
}
