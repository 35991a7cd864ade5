//! How long files and functions may be, and that every file, module and warning is used.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Block, Expr, File, Ident, ImplItemFn, Item, ItemFn, TraitItemFn, Visibility};

use super::names;
use super::source::{self, Source};

/// Lines of a file, without its tests.
const LINES_MAX: usize = 420;
/// Lines of a function: about a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that are longer, and why. An exception that is no longer needed must be deleted.
pub(crate) const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// Files that do not say what they are, or that are too long.
pub(crate) fn misshapen_files(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        if !source.text.lines().take(6).any(|line| line.starts_with("//! ")) {
            found.push(format!("src/{} does not say what it is", source.name));
        }
        let lines = source.text.trim_end().lines().count();
        if lines > LINES_MAX {
            found.push(format!("src/{} has {lines} lines before its tests", source.name));
        }
    }
    found
}

/// Functions that do not fit a screen.
pub(crate) fn long_functions(sources: &[Source], exceptions: &[(&str, &str, &str)]) -> Vec<String> {
    struct Functions(Vec<(String, usize, usize)>);
    impl Functions {
        fn note(&mut self, name: &Ident, body: &Block) {
            let (begin, end) = (name.span().start().line, body.brace_token.span.close().end().line);
            self.0.push((name.to_string(), begin, end + 1 - begin));
        }
    }
    impl<'a> Visit<'a> for Functions {
        fn visit_item_fn(&mut self, item: &'a ItemFn) {
            self.note(&item.sig.ident, &item.block);
            visit::visit_item_fn(self, item);
        }
        fn visit_impl_item_fn(&mut self, item: &'a ImplItemFn) {
            self.note(&item.sig.ident, &item.block);
            visit::visit_impl_item_fn(self, item);
        }
        fn visit_trait_item_fn(&mut self, item: &'a TraitItemFn) {
            item.default.iter().for_each(|body| self.note(&item.sig.ident, body));
            visit::visit_trait_item_fn(self, item);
        }
    }
    let (mut found, mut used) = (Vec::new(), BTreeSet::new());
    for source in sources {
        let mut functions = Functions(Vec::new());
        functions.visit_file(&source.file);
        for (name, line, lines) in functions.0.into_iter().filter(|(.., lines)| *lines > FUNCTION_LINES_MAX) {
            match exceptions.iter().position(|(file, long, _)| *file == source.name && *long == name) {
                Some(number) => drop(used.insert(number)),
                None => found.push(format!("{}: `{name}` has {lines} lines", source.at(line))),
            }
        }
    }
    let unused = (0..exceptions.len()).filter(|number| !used.contains(number));
    found.extend(
        unused.map(|number| format!("{:?} is not long any more: delete the exception", exceptions[number])),
    );
    found
}

/// Files that no other declares: they look like a part of the program but are never compiled. Takes files as they are
/// on disk, tests included.
pub(crate) fn orphans(files: &[(String, String)]) -> Vec<String> {
    const ROOTS: [&str; 2] = ["lib.rs", "bin/ringlift/main.rs"];
    let declared = source::all_declared(files, false);
    let is_orphan = |name: &str| !ROOTS.contains(&name) && !declared.contains(source::stem(name));
    let orphans = files.iter().filter(|(name, _)| is_orphan(name));
    orphans.map(|(name, _)| format!("src/{name} is declared by no other file")).collect()
}

/// Modules that offer something and that no other file names. Those that the root makes public are for users of the
/// crate.
pub(crate) fn unused_modules(sources: &[Source]) -> Vec<String> {
    let offers = |item: &Item| match item {
        Item::Const(item) => is_offered(&item.vis),
        Item::Enum(item) => is_offered(&item.vis),
        Item::Fn(item) => is_offered(&item.vis),
        Item::Struct(item) => is_offered(&item.vis),
        Item::Trait(item) => is_offered(&item.vis),
        Item::Type(item) => is_offered(&item.vis),
        _ => false,
    };
    let named: Vec<(&str, BTreeSet<String>)> = sources
        .iter()
        .map(|source| {
            let written = names::written(source).into_iter();
            // the last step of a path is what is named, those before it are modules
            let modules = written.flat_map(|named| named.path[..named.path.len() - 1].to_vec());
            let imported = imports(&source.file);
            (&*source.name, modules.chain(imported).collect())
        })
        .collect();
    let is_public =
        |source: &Source| source.module().len() == 1 && public_modules(sources).contains(source.room());
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.file.items.iter().any(offers) && !is_public(source)) {
        let Some(module) = source.module().pop() else { continue };
        let is_used = named.iter().any(|(name, modules)| *name != source.name && modules.contains(&module));
        if !is_used {
            found.push(format!("src/{} offers something that no other file names", source.name));
        }
    }
    found
}

fn public_modules(sources: &[Source]) -> BTreeSet<String> {
    let root = sources.iter().filter(|source| source.name == "lib.rs").flat_map(|root| &root.file.items);
    let public = root.filter_map(|item| match item {
        Item::Mod(item) if matches!(item.vis, Visibility::Public(_)) => Some(item.ident.to_string()),
        _ => None,
    });
    public.collect()
}

fn is_offered(visibility: &Visibility) -> bool {
    !matches!(visibility, Visibility::Inherited)
}

/// Names that are imported as they are: they may be modules.
fn imports(file: &File) -> Vec<String> {
    struct Imports(Vec<String>);
    impl<'a> Visit<'a> for Imports {
        fn visit_use_name(&mut self, name: &'a syn::UseName) {
            self.0.push(name.ident.to_string());
        }
    }
    let mut imports = Imports(Vec::new());
    imports.visit_file(file);
    imports.0
}

/// Every word of a file's code, macros included, with its line.
pub(crate) fn identifiers(source: &Source) -> Vec<(String, usize)> {
    fn collect(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => found.push((ident.to_string(), ident.span().start().line)),
                TokenTree::Group(group) => collect(group.stream(), found),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
    let tokens: TokenStream = source.text.parse().expect("it was parsed before");
    let mut found = Vec::new();
    collect(tokens, &mut found);
    found
}

/// Variants of the warnings enum that no code constructs: warnings that cannot occur.
pub(crate) fn warnings_that_cannot_come(sources: &[Source], exceptions: &[(&str, &str)]) -> Vec<String> {
    const NAME: &str = "WarningCode";
    struct Made(BTreeSet<String>);
    impl Made {
        fn note(&mut self, path: &syn::Path) {
            let mut segments = path.segments.iter().rev().map(|segment| segment.ident.to_string());
            if let (Some(variant), Some(name)) = (segments.next(), segments.next())
                && name == NAME
            {
                self.0.insert(variant);
            }
        }
    }
    impl<'a> Visit<'a> for Made {
        // an expression, and not a pattern
        fn visit_expr(&mut self, expr: &'a Expr) {
            if let Expr::Path(path) = expr {
                self.note(&path.path);
            }
            visit::visit_expr(self, expr);
        }
    }
    let mut variants = Vec::new();
    let mut made = Made(BTreeSet::new());
    for source in sources {
        made.visit_file(&source.file);
        for item in &source.file.items {
            if let Item::Enum(item) = item
                && item.ident == NAME
            {
                variants.extend(item.variants.iter().map(|variant| variant.ident.to_string()));
            }
        }
    }
    assert!(!variants.is_empty(), "{NAME} is an enum of the source");
    let mut found = Vec::new();
    for variant in &variants {
        let is_excepted = exceptions.iter().any(|(name, _)| name == variant);
        match (made.0.contains(variant), is_excepted) {
            (false, false) => found.push(format!("{NAME}::{variant} is made nowhere")),
            (true, true) => found.push(format!("{NAME}::{variant} is made: delete the exception")),
            (true, false) | (false, true) => {}
        }
    }
    let gone = exceptions.iter().filter(|(name, _)| !variants.iter().any(|variant| variant == name));
    found.extend(gone.map(|(name, _)| format!("{NAME}::{name} is gone: delete the exception")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> Vec<Source> {
        vec![Source::new(name, text)]
    }

    #[test]
    fn a_file_says_what_it_is_and_is_short_before_its_tests() {
        let filled = |lines: usize| format!("//! A file.\n{}", "const A: u8 = 0;\n".repeat(lines));
        assert!(misshapen_files(&one("a.rs", &filled(LINES_MAX - 1))).is_empty());
        assert_eq!(
            misshapen_files(&one("a.rs", &filled(LINES_MAX))),
            ["src/a.rs has 421 lines before its tests"]
        );
        let tested =
            format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", filled(10), "const A: u8 = 0;\n".repeat(900));
        assert!(misshapen_files(&one("a.rs", &tested)).is_empty());
        assert_eq!(misshapen_files(&one("a.rs", "// no")), ["src/a.rs does not say what it is"]);
    }

    #[test]
    fn functions_fit_a_screen_wherever_they_are() {
        let body = |lines: usize| format!("fn long() {{\n{}}}\n", "f();\n".repeat(lines - 2));
        assert!(long_functions(&one("a.rs", &body(70)), &[]).is_empty());
        let long = [body(71), format!("impl A {{\n{}}}", body(71)), format!("trait A {{\n{}}}", body(71))];
        for text in long {
            assert_eq!(long_functions(&one("a.rs", &text), &[]).len(), 1, "{text}");
        }
        let excepted = [("a.rs", "long", "because")];
        assert!(long_functions(&one("a.rs", &body(71)), &excepted).is_empty());
        assert_eq!(long_functions(&one("a.rs", &body(70)), &excepted).len(), 1, "not needed any more");
    }

    #[test]
    fn a_file_that_no_other_declares_is_an_orphan() {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let whole = [
            file("lib.rs", "mod a;\nmod b;"),
            file("a.rs", "#[cfg(test)]\nmod c;"),
            file("a/c.rs", ""),
            file("b/mod.rs", ""),
        ];
        assert!(orphans(&whole).is_empty());
        assert_eq!(
            orphans(&[file("lib.rs", ""), file("a/c.rs", "")]),
            ["src/a/c.rs is declared by no other file"]
        );
    }

    #[test]
    fn a_module_that_offers_something_is_named_by_another_file() {
        let used = |user: &str| {
            [
                Source::new("lib.rs", "mod a;\nmod b;"),
                Source::new("a.rs", "pub(crate) fn f() {}"),
                Source::new("b.rs", user),
            ]
        };
        for user in ["use crate::a::f;", "use crate::a;", "fn g() { crate::a::f() }", "use super::{a};"] {
            assert!(unused_modules(&used(user)).is_empty(), "{user}");
        }
        assert_eq!(unused_modules(&used("")), ["src/a.rs offers something that no other file names"]);
        let public = [Source::new("lib.rs", "pub mod a;"), Source::new("a.rs", "pub fn f() {}")];
        assert!(unused_modules(&public).is_empty(), "it is for others");
        let quiet = [Source::new("lib.rs", "mod a;"), Source::new("a.rs", "impl X for Y {}\nfn f() {}")];
        assert!(unused_modules(&quiet).is_empty(), "it only adds impls to other modules' types");
    }

    #[test]
    fn a_warning_that_is_only_matched_or_only_made_by_tests_cannot_come() {
        let with = |code: &str| one("a.rs", &format!("pub enum WarningCode {{ One }}\n{code}"));
        assert!(warnings_that_cannot_come(&with("fn f() { warn(WarningCode::One) }"), &[]).is_empty());
        assert!(
            warnings_that_cannot_come(&with("fn f() -> W { W { code: crate::r::WarningCode::One } }"), &[])
                .is_empty()
        );
        for code in [
            "",
            "fn f(c: W) { match c { WarningCode::One => {} } }",
            "#[cfg(test)]\nmod tests { fn f() { warn(WarningCode::One) } }",
        ] {
            assert_eq!(
                warnings_that_cannot_come(&with(code), &[]),
                ["WarningCode::One is made nowhere"],
                "{code}"
            );
        }
        assert!(warnings_that_cannot_come(&with(""), &[("One", "because")]).is_empty());
        assert_eq!(
            warnings_that_cannot_come(&with("fn f() { warn(WarningCode::One) }"), &[("One", "")]).len(),
            1
        );
        assert_eq!(
            warnings_that_cannot_come(&with("fn f() { warn(WarningCode::One) }"), &[("Two", "")]).len(),
            1
        );
    }
}
