//! What the files of a crate import from each other, and whether that is against an order.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// Every Rust file below a folder, as its path from there and its text.
pub(crate) fn files(folder: &Path, below: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            found.extend(files(folder, &path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a text file");
            found.push((path.strip_prefix(folder).expect("below it").to_owned(), text));
        }
    }
    found
}

/// Returns the module that a file holds, from the crate's root: `a/b.rs` and `a/b/mod.rs` are
/// `[a, b]`.
fn module(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let mut module: Vec<String> =
        path.iter().map(|part| part.to_str().expect("ASCII").to_owned()).collect();
    module.pop_if(|last| last == "mod" || last == "lib");
    module
}

/// Returns what a file imports against the order of the rooms, each as `importer imports room`.
///
/// Imports are all paths from `crate`, `self` and `super`, in declarations, expressions and macros;
/// what is compiled for tests only is left out, and so are comments and strings.
pub(crate) fn violations(rooms: &[&str], path: &str, text: &str) -> Vec<String> {
    let module = module(Path::new(path));
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut imports = BTreeSet::new();
    walk(tokens, &module, &mut imports);
    let Some(here) = module.first() else {
        return Vec::new(); // lib.rs holds them all
    };
    let rank = |room: &str| rooms.iter().position(|&name| name == room);
    let Some(rank_here) = rank(here) else {
        return vec![format!("{path} is in no room")];
    };
    let allowed = |room: &str| room == here || rank(room).is_some_and(|rank| rank < rank_here);
    imports
        .iter()
        .filter(|room| !allowed(room))
        .map(|room| format!("{path} imports {room}"))
        .collect()
}

/// Collects the first segment below the crate's root of every path in `tokens`.
fn walk(tokens: TokenStream, module: &[String], imports: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = end_of_item(&tokens, at);
        } else if let [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body), ..] =
            &tokens[at..]
            && word == "mod"
            && body.delimiter() == Delimiter::Brace
        {
            let inner: Vec<_> = module.iter().cloned().chain([name.to_string()]).collect();
            walk(body.stream(), &inner, imports);
            at += 3;
        } else if starts_path(&tokens, at) {
            at = follow(&tokens, at, module.to_vec(), imports);
        } else {
            if let TokenTree::Group(group) = &tokens[at] {
                walk(group.stream(), module, imports);
            }
            at += 1;
        }
    }
}

/// Tells whether a path from `crate`, `self` or `super` starts here: one of these words that stands
/// before `::` and not behind it.
fn starts_path(tokens: &[TokenTree], at: usize) -> bool {
    let is_root = matches!(&tokens[at], TokenTree::Ident(word) if root(word));
    is_root && is_colons(tokens, at + 1) && !(at >= 2 && is_colons(tokens, at - 2))
}

fn root(word: &Ident) -> bool {
    ["crate", "self", "super"].iter().any(|root| word == root)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |token: Option<&TokenTree>| match token {
        Some(TokenTree::Punct(punct)) => punct.as_char() == ':',
        _ => false,
    };
    is_colon(tokens.get(at)) && is_colon(tokens.get(at + 1))
}

/// Follows one path that stands in module `base`, or each path of a group; returns where it ends.
fn follow(
    tokens: &[TokenTree],
    mut at: usize,
    mut base: Vec<String>,
    imports: &mut BTreeSet<String>,
) -> usize {
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) if word == "crate" => base.clear(),
            Some(TokenTree::Ident(word)) if word == "super" => drop(base.pop()),
            Some(TokenTree::Ident(word)) if word == "self" => {}
            Some(TokenTree::Ident(word)) => base.push(word.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let paths: Vec<TokenTree> = group.stream().into_iter().collect();
                for path in paths.split(is_comma).filter(|path| !path.is_empty()) {
                    follow(path, 0, base.clone(), imports);
                }
                return at + 1;
            }
            // A star, or a turbofish, whose arguments start paths of their own.
            _ => {
                imports.insert(first_below_root(&base));
                return at;
            }
        }
        at += 1;
        if !is_colons(tokens, at) {
            imports.insert(first_below_root(&base));
            return at;
        }
        at += 2;
    }
}

/// Returns what a path imports: a path that ends at the root takes everything from there.
fn first_below_root(path: &[String]) -> String {
    path.first().cloned().unwrap_or_else(|| "the whole crate".into())
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')
}

/// Tells whether `#[cfg(test)]` stands here.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(hash), TokenTree::Group(body), ..]
        if hash.as_char() == '#' && body.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// Returns the place behind the item that starts here: behind its first braces or semicolon.
fn end_of_item(tokens: &[TokenTree], mut at: usize) -> usize {
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return at + 1,
            TokenTree::Punct(end) if end.as_char() == ';' => return at + 1,
            _ => at += 1,
        }
    }
    at
}
