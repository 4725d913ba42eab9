//! No public function of core is left out where `core/no-panic` proves that none can panic.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Traits whose implementations are not proven, and why.
const UNPROVEN: [(&str, &str); 4] = [
    ("Debug", "formatting numbers is the standard library's, which slices its buffers"),
    ("Display", "formatting numbers is the standard library's, which slices its buffers"),
    ("Error", "returns a reference to a field"),
    ("Recipe", "is private; the entries of `policy` call every function of it, for each policy"),
];

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every Rust file below a folder, as the first part of its path without the extension, and its
/// tokens.
fn files(below: &Path) -> Vec<(String, TokenStream)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_stem().expect("a name").to_str().expect("ASCII").to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(_, tokens)| (name.clone(), tokens)));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a text file");
            found.push((name, text.parse().expect("Rust")));
        }
    }
    found
}

/// Collects the functions of a file, of an implementation or of a trait that anyone can call, each
/// as `owner::function`; `open` where they need no `pub` for that.
///
/// What macros define is left out, and what is compiled for tests only.
fn public(tokens: TokenStream, owner: &str, open: bool, found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    // Where the item at hand begins: behind the end of the one before.
    let mut start = 0;
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(body) = token
            && is_group(token, Delimiter::Brace)
        {
            item(&tokens[start..at], Some(body), owner, open, found);
            start = at + 1;
        } else if is_punct(token, ';') {
            item(&tokens[start..at], None, owner, open, found);
            start = at + 1;
        }
    }
}

/// Collects what an item with its attributes holds, or that it is a function.
fn item(
    head: &[TokenTree],
    body: Option<&Group>,
    owner: &str,
    open: bool,
    found: &mut BTreeSet<String>,
) {
    let is_test = head.windows(2).any(|pair| {
        is_punct(&pair[0], '#') && pair[1].to_string().replace(' ', "") == "[cfg(test)]"
    });
    // Arguments may hold anything, such as `impl Fn`, and `pub(crate)` is not public.
    let words: Vec<String> = head
        .iter()
        .take_while(|token| !is_group(token, Delimiter::Parenthesis))
        .filter(|token| matches!(token, TokenTree::Ident(_)))
        .map(ToString::to_string)
        .collect();
    let after = |word: &str| words.iter().skip_while(|&other| other != word).nth(1);
    if is_test || words.iter().any(|word| word == "macro_rules") {
    } else if let Some(name) = after("fn") {
        if open || words[0] == "pub" {
            found.insert(format!("{owner}::{name}"));
        }
    } else if let (Some(name), Some(body)) = (after("trait"), body) {
        public(body.stream(), &format!("{owner}::{name}"), true, found);
    } else if let (Some("impl"), Some(body)) = (words.first().map(String::as_str), body) {
        let (of_trait, name) = implemented(head);
        let is_proven =
            !UNPROVEN.iter().any(|&(unproven, _)| of_trait.as_deref() == Some(unproven));
        if is_proven {
            public(body.stream(), &format!("{owner}::{name}"), of_trait.is_some(), found);
        }
    }
}

/// Returns the trait, if any, and the type of `impl<..> Trait<..> for Type<..> where ..`, without
/// their paths and parameters.
fn implemented(head: &[TokenTree]) -> (Option<String>, String) {
    let (mut depth, mut of_trait, mut last) = (0, None, String::new());
    for (at, token) in head.iter().enumerate() {
        let is_arrow = at > 0 && is_punct(&head[at - 1], '-');
        match token {
            TokenTree::Punct(_) if is_punct(token, '<') => depth += 1,
            TokenTree::Punct(_) if is_punct(token, '>') && !is_arrow => depth -= 1,
            TokenTree::Ident(word) if word == "where" => break,
            TokenTree::Ident(word) if word == "for" && depth == 0 => of_trait = Some(last.clone()),
            TokenTree::Ident(word) if depth == 0 => last = word.to_string(),
            _ => {}
        }
    }
    (of_trait, last)
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_group(token: &TokenTree, delimiter: Delimiter) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == delimiter)
}

/// Collects the names of entries, `"name<parameter>" => ..`, without the parameter.
fn entries(tokens: TokenStream, found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => entries(group.stream(), found),
            TokenTree::Literal(name) if tokens.get(at + 1).is_some_and(|t| is_punct(t, '=')) => {
                let name = name.to_string();
                let name = name.trim_matches('"');
                found.insert(name.split_once('<').map_or(name, |(path, _)| path).to_owned());
            }
            _ => {}
        }
    }
}

#[test]
fn every_public_function_has_an_entry() {
    let (mut functions, mut proven) = (BTreeSet::new(), BTreeSet::new());
    for (room, tokens) in files(&folder("src")) {
        public(tokens, &room, false, &mut functions);
    }
    for (_, tokens) in files(&folder("no-panic/src")) {
        entries(tokens, &mut proven);
    }
    assert!(functions.len() > 150, "only {} public functions were found", functions.len());
    let missing: Vec<_> = functions.difference(&proven).collect();
    assert!(missing.is_empty(), "not in core/no-panic/src: {missing:#?}");
}

/// The collector has to see a function wherever one may stand.
#[test]
fn planted_functions_are_found() {
    let text = r#"
        pub(crate) use inner::Hidden; mod inner;
        #[derive(Clone)] pub struct S<T>(T);
        /// Documented.
        #[must_use = "reason"] #[inline(always)] pub const fn free(f: impl Fn(u8) -> u8) -> u8 { fn no() {} 0 }
        pub(crate) fn hidden() {}
        fn private(pub_: u8) {}
        impl<T: Fn() -> u8> S<T> where T: Copy { pub fn method(&self) {} fn helper() {} const N: u8 = 0; }
        impl<T> core::ops::Div<u8> for inner::S<T> { type Output = (); fn div(self, by: u8) {} }
        impl<T> fmt::Debug for S<T> { fn fmt(&self) {} }
        pub trait T { const C: u8; fn required(self); fn provided(&self) -> u8 { 0 } }
        macro_rules! m { ($name:ident) => { pub fn in_macro() {} } }
        #[cfg(test)] mod tests { pub fn in_tests() {} }
        #[cfg(test)] pub fn for_tests() {}
    "#;
    let mut found = BTreeSet::new();
    public(text.parse().expect("Rust"), "room", false, &mut found);
    let expected =
        ["room::S::div", "room::S::method", "room::T::provided", "room::T::required", "room::free"];
    assert!(found.iter().eq(expected.iter()), "{found:?}");
}
