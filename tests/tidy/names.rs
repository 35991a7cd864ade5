//! The paths that a file names, in imports, expressions, types, attributes and macros, resolved to the root of the crate.
//!
//! Knows no rule. `super`, `self` and nested imports are resolved; the shorter names that an import introduces are not
//! followed further, because the import itself is found.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Ident, ItemMod, ItemUse, Macro, Meta, UseTree};

use super::source::Source;

/// A path, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// Every path that begins at the root of the crate, written out: `super::x` in `wire::text` is `wire`, `x`. The root
/// itself is an empty path.
pub(crate) fn absolute(source: &Source) -> Vec<Named> {
    let mut names = Names { module: source.module(), found: Vec::new(), absolute: true };
    names.visit_file(&source.file);
    names.found
}

/// Every path as it is written, imports with their prefixes.
pub(crate) fn written(source: &Source) -> Vec<Named> {
    let mut names = Names { module: source.module(), found: Vec::new(), absolute: false };
    names.visit_file(&source.file);
    names.found
}

struct Names {
    /// The module that is being visited.
    module: Vec<String>,
    found: Vec<Named>,
    absolute: bool,
}

impl Names {
    fn note(&mut self, path: &[String], line: usize) {
        let path = if self.absolute { self.resolve(path) } else { Some(path.to_vec()) };
        self.found.extend(path.map(|path| Named { path, line }));
    }

    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let mut steps = path.iter().peekable();
        let mut at = match steps.peek()?.as_str() {
            "crate" => {
                steps.next();
                Vec::new()
            }
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        while let Some(step) = steps.next_if(|step| *step == "super" || *step == "self") {
            if step == "super" {
                at.pop();
            }
        }
        at.extend(steps.cloned());
        Some(at)
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |ident: &Ident| [prefix, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(&path.ident)),
            UseTree::Name(name) if name.ident == "self" => self.note(prefix, name.ident.span().start().line),
            UseTree::Name(name) => self.note(&with(&name.ident), name.ident.span().start().line),
            UseTree::Rename(name) if name.ident == "self" => {
                self.note(prefix, name.ident.span().start().line);
            }
            UseTree::Rename(name) => self.note(&with(&name.ident), name.ident.span().start().line),
            UseTree::Glob(glob) => self.note(prefix, glob.star_token.spans[0].start().line),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, prefix)),
        }
    }

    /// Paths among tokens that are not parsed, as `a::b::c` or `a::{b, c::d}`; each continues `prefix`.
    fn scan(&mut self, tokens: TokenStream, prefix: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
        // whether the next word continues the path
        let (mut path, mut goes_on, mut line) = (prefix.to_vec(), true, 0);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Punct(_) if is_colon(Some(token)) && is_colon(tokens.get(at)) => {
                    (goes_on, at) = (true, at + 1);
                }
                TokenTree::Group(group)
                    if goes_on && group.delimiter() == Delimiter::Brace && !path.is_empty() =>
                {
                    self.scan(group.stream(), &path);
                    (path, goes_on) = (Vec::new(), false);
                }
                // `pub(crate)`: it states visibility and imports nothing
                TokenTree::Ident(ident)
                    if ident == "pub"
                        && matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis) =>
                {
                    self.end(&mut path, prefix, line);
                    (goes_on, at) = (false, at + 1);
                }
                TokenTree::Ident(ident) => {
                    if !goes_on {
                        self.end(&mut path, prefix, line);
                    }
                    path.push(ident.to_string());
                    (goes_on, line) = (false, ident.span().start().line);
                }
                other => {
                    self.end(&mut path, prefix, line);
                    goes_on = matches!(other, TokenTree::Punct(punct) if punct.as_char() == ',');
                    if goes_on {
                        path = prefix.to_vec();
                    }
                    match other {
                        TokenTree::Group(group) => self.scan(group.stream(), &[]),
                        TokenTree::Literal(literal) => {
                            self.quoted(&literal.to_string(), literal.span().start().line)
                        }
                        TokenTree::Punct(_) | TokenTree::Ident(_) => {}
                    }
                }
            }
        }
        self.end(&mut path, prefix, line);
    }

    fn end(&mut self, path: &mut Vec<String>, prefix: &[String], line: usize) {
        if path.len() > prefix.len() {
            self.note(path, line);
        }
        path.clear();
    }

    /// Attributes may have a path in quotes: `#[serde(with = "crate::wire::text")]`.
    fn quoted(&mut self, literal: &str, line: usize) {
        let text = literal.trim_matches('"');
        if ["crate::", "super::", "self::"].iter().any(|head| text.starts_with(head))
            && let Ok(path) = syn::parse_str::<syn::Path>(text)
        {
            self.note(&segments(&path), line);
        }
    }
}

fn segments(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

impl<'a> Visit<'a> for Names {
    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.import(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let line = path.segments.first().map_or(0, |first| first.ident.span().start().line);
        self.note(&segments(path), line);
        visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {
        // `pub(super)`, `pub(in crate::x)`: they state visibility and import nothing
    }

    fn visit_macro(&mut self, call: &'a Macro) {
        visit::visit_macro(self, call);
        self.scan(call.tokens.clone(), &[]);
    }

    fn visit_attribute(&mut self, attribute: &'a Attribute) {
        match &attribute.meta {
            Meta::List(list) => self.scan(list.tokens.clone(), &[]),
            Meta::NameValue(pair) if !pair.path.is_ident("doc") => self.visit_expr(&pair.value),
            Meta::NameValue(_) | Meta::Path(_) => {}
        }
    }

    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        absolute(&Source::new("wire/text.rs", text)).into_iter().map(|named| named.path.join("::")).collect()
    }

    #[test]
    fn imports_are_written_out_however_they_are_nested() {
        assert_eq!(found("use crate::{ring, net::{self, listener::*}};"), ["ring", "net", "net::listener"]);
        assert_eq!(found("use super::super::ring::Ring as Other;"), ["ring::Ring"]);
        assert_eq!(
            found("use self::own::Thing; use super::hello;"),
            ["wire::text::own::Thing", "wire::hello"]
        );
        assert_eq!(found("use crate as all; use std::fs; use crate::*;"), ["", ""]);
    }

    #[test]
    fn modules_within_a_file_count_when_super_is_resolved() {
        assert_eq!(
            found("mod inner { use super::super::x; fn f() { super::g() } }"),
            ["wire::x", "wire::text::g"]
        );
    }

    #[test]
    fn paths_are_found_in_expressions_types_bounds_and_patterns() {
        assert_eq!(found("fn f() { crate::ring::probe::x() }"), ["ring::probe::x"]);
        assert_eq!(found("fn f(a: &dyn crate::ring::Ring) {}"), ["ring::Ring"]);
        assert_eq!(found("fn f<T: crate::ring::Ring>() {}"), ["ring::Ring"]);
        assert_eq!(found("fn f() { if let crate::ring::A = b {} }"), ["ring::A"]);
        assert_eq!(found("impl super::super::ring::Ring for X {}"), ["ring::Ring"]);
    }

    #[test]
    fn paths_are_found_in_macros_and_attributes() {
        assert_eq!(found("fn f() { println!(\"{}\", crate::ring::x()) }"), ["ring::x"]);
        assert_eq!(found("macro_rules! m { () => { use $crate::{ring, net::x}; } }"), ["ring", "net::x"]);
        assert_eq!(
            found("macro_rules! m { () => { pub(crate) fn f(a: crate::ring::Tag) {} } }"),
            ["ring::Tag"]
        );
        assert_eq!(found("#[derive(Debug, crate::ring::Thing)] struct A;"), ["ring::Thing"]);
        assert_eq!(found("#[serde(with = \"crate::ring::x\")] struct A;"), ["ring::x"]);
    }

    #[test]
    fn comments_and_visibility_name_nothing() {
        assert!(
            found("//! As `crate::ring` does.\n/// crate::ring::x\npub(in crate::wire) fn f() {}").is_empty()
        );
    }
}
