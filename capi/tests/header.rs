//! The header says what the code says: constants, structures, function types and functions, in names, types and
//! order.  Both are read, neither is run.

use std::{collections::BTreeMap, fs, path::Path};

use quote::ToTokens;
use syn::{BareFnArg, Expr, Fields, FnArg, Item, Pat, ReturnType, Type};

/// What a file declares, as C writes it, by name.
type Declarations = BTreeMap<String, String>;

fn manifest(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the header without comments, on one line, single spaces only.
fn header() -> String {
    let text = fs::read_to_string(manifest("include/adaloss.h")).unwrap();
    let mut code = String::new();
    for (i, part) in text.split("/*").enumerate() {
        code += if i == 0 { part } else { part.split_once("*/").expect("a comment ends").1 };
    }
    let lines = code.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// Returns the constants of the header: those of enumerations and those of simple macros.
fn constants_of_the_header() -> BTreeMap<String, i64> {
    let text = fs::read_to_string(manifest("include/adaloss.h")).unwrap();
    let mut constants = BTreeMap::new();
    let assignments = header();
    for part in assignments.split(['{', ',', '}']) {
        if let Some((name, number)) = part.split_once('=')
            && let Ok(number) = number.trim().parse()
        {
            constants.insert(name.trim().to_owned(), number);
        }
    }
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("#define ")
            && let Some((name, number)) = rest.split_once(' ')
            && let Ok(number) = number.trim().trim_matches(['(', ')']).trim_end_matches('u').parse()
        {
            constants.insert(name.to_owned(), number);
        }
    }
    constants
}

/// Returns the structures, unions, function types and functions of the header.
fn declarations_of_the_header() -> Declarations {
    let mut found = Declarations::new();
    let text = header();
    let body = text.split_once("extern \"C\" {").map_or(&text[..], |(_, body)| body);
    let mut rest = body.trim();
    while let Some((declaration, after)) = next_declaration(rest) {
        rest = after;
        let Some(name) = name_of(&declaration) else { continue };
        found.insert(name, declaration);
    }
    found
}

/// Splits the first declaration off, up to the semicolon that is in no braces.
fn next_declaration(text: &str) -> Option<(String, &str)> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return Some((text[..i].trim().to_owned(), &text[i + 1..])),
            _ => {}
        }
    }
    None
}

fn name_of(declaration: &str) -> Option<String> {
    if declaration.starts_with("enum") || declaration == "}" {
        return None;
    }
    if declaration.starts_with("typedef") && !declaration.contains('(') {
        return Some(declaration.rsplit(' ').next()?.to_owned());
    }
    // A function or a function type: the name before the arguments.
    let name = match declaration.split_once("(*") {
        Some((_, rest)) => rest.split(')').next()?,
        None => declaration.split('(').next()?.rsplit([' ', '*']).next()?,
    };
    Some(name.to_owned())
}

/// Returns every item of the crate's source.
fn items() -> Vec<Item> {
    fn visit(folder: &Path, items: &mut Vec<Item>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, items);
            } else {
                items.extend(syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap().items);
            }
        }
    }
    let mut items = Vec::new();
    visit(&manifest("src"), &mut items);
    items
}

/// Writes a declaration of a value as C does.
fn in_c(of: &Type, name: &str) -> String {
    let spaced = |before: &str| match name.starts_with('*') {
        _ if name.is_empty() => before.to_owned(),
        _ => format!("{before} {name}"),
    };
    match of {
        Type::Path(path) => {
            let last = path.path.segments.last().unwrap();
            spaced(match last.ident.to_string().as_str() {
                "u8" => "uint8_t",
                "i8" => "int8_t",
                "u16" => "uint16_t",
                "i16" => "int16_t",
                "u32" => "uint32_t",
                "i32" => "int32_t",
                "u64" => "uint64_t",
                "f32" => "float",
                "f64" => "double",
                "usize" => "size_t",
                "c_void" => "void",
                "c_char" => "char",
                other => return spaced(other),
            })
        }
        Type::Ptr(pointer) => {
            let constant = if pointer.const_token.is_some() { "const " } else { "" };
            format!("{constant}{}", in_c(&pointer.elem, &format!("*{name}")))
        }
        Type::Array(array) => {
            let length = array.len.to_token_stream().to_string();
            in_c(&array.elem, &format!("{name}[{length}]"))
        }
        other => panic!("no C for {}", other.to_token_stream()),
    }
}

fn returned(of: &ReturnType, rest: &str) -> String {
    match of {
        ReturnType::Default => format!("void {rest}"),
        ReturnType::Type(_, of) => in_c(of, rest),
    }
}

fn list(arguments: Vec<String>) -> String {
    if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") }
}

fn is_repr_c(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| a.to_token_stream().to_string().replace(' ', "") == "#[repr(C)]")
}

fn fields(kind: &str, name: &str, fields: &Fields) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|field| in_c(&field.ty, &field.ident.as_ref().unwrap().to_string()) + ";")
        .collect();
    format!("typedef {kind} {name} {{ {} }} {name}", fields.join(" "))
}

/// The function type inside `Option<...>`.
fn function_type(of: &Type) -> Option<&syn::TypeBareFn> {
    let Type::Path(path) = of else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Option")?;
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        syn::GenericArgument::Type(Type::BareFn(function)) => Some(function),
        _ => None,
    }
}

/// Returns the same of the code, as C would write it.
fn declarations_of_the_code() -> Declarations {
    let mut found = Declarations::new();
    for item in items() {
        let (name, declaration) = match item {
            Item::Struct(item) if is_repr_c(&item.attrs) && item.ident != "Scaler" => {
                let name = item.ident.to_string();
                // What a pass is, C does not know.
                let declaration = match name.as_str() {
                    "adaloss_pass" => "typedef struct adaloss_pass adaloss_pass".to_owned(),
                    _ => fields("struct", &name, &item.fields),
                };
                (name, declaration)
            }
            Item::Union(item) => {
                let name = item.ident.to_string();
                let declaration = fields("union", &name, &Fields::Named(item.fields));
                (name, declaration)
            }
            Item::Type(item) if item.ident.to_string().starts_with("adaloss_") => {
                let name = item.ident.to_string();
                let declaration = match function_type(&item.ty) {
                    None => format!("typedef {}", in_c(&item.ty, &name)),
                    Some(function) => {
                        let argument = |argument: &BareFnArg| {
                            let (name, _) = argument.name.as_ref().expect("arguments have names");
                            in_c(&argument.ty, &name.to_string())
                        };
                        let arguments = list(function.inputs.iter().map(argument).collect());
                        let rest = format!("(*{name})({arguments})");
                        format!("typedef {}", returned(&function.output, &rest))
                    }
                };
                (name, declaration)
            }
            Item::Fn(item) if item.sig.abi.is_some() => {
                let name = item.sig.ident.to_string();
                let is_exported = item
                    .attrs
                    .iter()
                    .any(|attribute| attribute.to_token_stream().to_string().contains("no_mangle"));
                assert!(is_exported, "{name} is exported under its own name");
                let argument = |argument: &FnArg| match argument {
                    FnArg::Typed(argument) => match &*argument.pat {
                        Pat::Ident(pattern) => in_c(&argument.ty, &pattern.ident.to_string()),
                        _ => panic!("an argument of {name} has no name"),
                    },
                    FnArg::Receiver(_) => panic!("{name} is a method"),
                };
                let arguments = list(item.sig.inputs.iter().map(argument).collect());
                let declaration = returned(&item.sig.output, &format!("{name}({arguments})"));
                (name, declaration)
            }
            _ => continue,
        };
        found.insert(name, declaration);
    }
    found
}

#[test]
fn the_header_declares_what_the_code_defines() {
    let (header, code) = (declarations_of_the_header(), declarations_of_the_code());
    for (name, declaration) in &code {
        assert_eq!(header.get(name), Some(declaration), "the header on {name}, and the code");
    }
    for name in header.keys() {
        assert!(code.contains_key(name), "{name} is in the header alone");
    }
    assert!(code.len() > 80, "{} declarations were found", code.len());
}

#[test]
fn every_declaration_is_explained() {
    let text = fs::read_to_string(manifest("include/adaloss.h")).unwrap();
    for name in declarations_of_the_code().into_keys().filter(|name| name.contains('_')) {
        let opens = |line: &str| {
            let is_comment = line.starts_with(" *");
            !is_comment
                && (line.contains(&format!(" {name}("))
                    || line.contains(&format!("*{name}("))
                    || line == format!("typedef struct {name} {{"))
        };
        let Some(at) = text.lines().position(opens) else { continue };
        let before = text.lines().nth(at - 1).unwrap();
        let names_fields = !text.lines().nth(at).unwrap().contains('(');
        assert!(before.ends_with("*/") || names_fields, "{name} is explained");
    }
}

/// Constants of the code that are for C: codes and sizes.
fn constants_of_the_code() -> BTreeMap<String, i64> {
    let mut constants = BTreeMap::new();
    for item in items() {
        match item {
            Item::Const(item) if item.ident.to_string().starts_with("ADALOSS_") => {
                let Expr::Lit(number) = &*item.expr else { panic!("{} is a number", item.ident) };
                let number = number.lit.to_token_stream().to_string().parse().unwrap();
                constants.insert(item.ident.to_string(), number);
            }
            Item::Macro(item) if item.mac.path.is_ident("codes") => {
                for line in item.mac.tokens.to_string().split(';') {
                    if let Some((name, rest)) = line.split_once('=') {
                        let number = rest.split(',').next().unwrap().replace(' ', "");
                        constants.insert(name.trim().to_owned(), number.parse().unwrap());
                    }
                }
            }
            _ => {}
        }
    }
    constants
}

#[test]
fn constants_have_the_same_numbers() {
    let (header, code) = (constants_of_the_header(), constants_of_the_code());
    for (name, number) in &code {
        assert_eq!(header.get(name), Some(number), "{name}");
    }
    let codes = header.keys().filter(|name| name.starts_with("ADALOSS_ERROR_"));
    assert!(codes.clone().count() > 30);
    for name in codes {
        assert!(code.contains_key(name), "{name} is in the header alone");
    }
}

/// Writes a name of Rust's as one of C's constants: `NON_FINITE` for `NonFinite`.
fn in_capitals(name: &str) -> String {
    let mut capitals = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_uppercase() {
            capitals.push('_');
        }
        capitals.push(letter.to_ascii_uppercase());
    }
    capitals
}

/// The version, the range of scales and every enumeration are those of core.
#[test]
fn enumerations_are_those_of_core() {
    use adaloss_core::{
        format::{Encoding, Overflow, Rounding, Subnormals},
        policy::{Config, Policy, Recovery, Rule, Trigger},
        scale::Scale,
        unscale::{Cause, Place, Verdict},
    };
    let header = constants_of_the_header();
    let same = |name: &str, number: i64| assert_eq!(header.get(name), Some(&number), "{name}");
    let cause = |cause: Cause| {
        let verdict = Verdict::Skip { layer: Place::Loss, cause };
        i64::from(adaloss::adaloss_verdict::from(verdict).cause)
    };
    same("ADALOSS_SCALE_MIN_LOG2", Scale::MIN.log2().into());
    same("ADALOSS_SCALE_MAX_LOG2", Scale::MAX.log2().into());
    same("ADALOSS_NEVER", Config::NEVER.into());
    let enumerated = [
        ("ADALOSS_GRADUAL", Subnormals::Gradual as i64),
        ("ADALOSS_FLUSH", Subnormals::Flush as i64),
        ("ADALOSS_NEAREST_EVEN", Rounding::NearestEven as i64),
        ("ADALOSS_TOWARD_ZERO", Rounding::TowardZero as i64),
        ("ADALOSS_STOCHASTIC", Rounding::Stochastic as i64),
        ("ADALOSS_INFINITY", Overflow::Infinity as i64),
        ("ADALOSS_SATURATE", Overflow::Saturate as i64),
        ("ADALOSS_SKIP", Recovery::Skip as i64),
        ("ADALOSS_REPLAY", Recovery::Replay as i64),
        ("ADALOSS_TRIGGER_NONE", Trigger::None as i64),
        ("ADALOSS_TRIGGER_FIRST", Trigger::First as i64),
        ("ADALOSS_TRIGGER_PERIOD", Trigger::Period as i64),
        ("ADALOSS_TRIGGER_OVERFLOW", Trigger::Overflow as i64),
        ("ADALOSS_CAUSE_NONE", adaloss::adaloss_verdict::from(Verdict::Apply).cause.into()),
        ("ADALOSS_CAUSE_NON_FINITE", cause(Cause::NonFinite)),
        ("ADALOSS_CAUSE_OVERFLOW", cause(Cause::Overflow)),
        ("ADALOSS_CAUSE_FAILED", cause(Cause::Failed)),
        ("ADALOSS_CAUSE_UNCOUNTED", cause(Cause::Uncounted)),
        ("ADALOSS_CAUSE_LENGTH", cause(Cause::Length)),
        ("ADALOSS_CAUSE_NOTHING", cause(Cause::Nothing)),
    ];
    for (name, number) in enumerated {
        same(name, number);
    }
    for encoding in Encoding::ALL {
        same(&format!("ADALOSS_{}", encoding.name().to_uppercase()), encoding as i64);
    }
    for (number, name) in Policy::NAMES.into_iter().enumerate() {
        same(&format!("ADALOSS_{}", name.to_uppercase()), number as i64);
    }
    for (number, rule) in Rule::ALL.into_iter().enumerate() {
        assert_eq!(rule as usize, number, "{rule:?}");
        same(&format!("ADALOSS_RULE_{}", in_capitals(&format!("{rule:?}"))), number as i64);
    }
    let in_header = |prefix: &str| header.keys().filter(|name| name.starts_with(prefix)).count();
    let listed =
        |prefix: &str| enumerated.iter().filter(|(name, _)| name.starts_with(prefix)).count();
    assert_eq!(in_header("ADALOSS_RULE_"), Rule::ALL.len(), "rules that core does not have");
    for prefix in ["ADALOSS_TRIGGER_", "ADALOSS_CAUSE_"] {
        assert_eq!(in_header(prefix), listed(prefix), "{prefix}... that core does not have");
    }
    let version =
        ["MAJOR", "MINOR", "PATCH"].map(|part| header[&format!("ADALOSS_VERSION_{part}")]);
    let [major, minor, patch] = version;
    assert_eq!(format!("{major}.{minor}.{patch}"), env!("CARGO_PKG_VERSION"));
    assert_eq!(i64::from(adaloss::adaloss_version()), major << 16 | minor << 8 | patch);
}
