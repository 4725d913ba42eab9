//! The shipped texts are read and decoded in full.

use std::collections::BTreeSet;

use adaloss_interpreter::{
    Module,
    operation::Operation,
    text::{Text, What},
};

const TEXTS: [&str; 2] =
    [include_str!("../../ptx/sm_80.ptx"), include_str!("../../ptx/sm_90a.ptx")];

#[test]
fn every_entry_is_decoded() {
    for (text, target) in TEXTS.into_iter().zip(["sm_80", "sm_90a"]) {
        let module = Module::parse(text).expect("PTX");
        assert_eq!((module.target(), module.entries().len()), (target, 145));
        module.decode().expect("operands that fit");
    }
}

#[test]
fn every_operation_is_known() {
    let mut names = BTreeSet::new();
    for text in TEXTS {
        let text = Text::parse(text).expect("PTX");
        for statement in text.entries.iter().flat_map(|entry| &entry.statements) {
            if let What::Instruction(instruction) = &statement.what {
                names.insert(instruction.operation);
            }
        }
    }
    let unknown: Vec<_> = names.iter().filter(|name| Operation::named(name).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    println!("{} operations:", names.len());
    names.iter().for_each(|name| println!("{name}"));
    assert!(names.len() >= 200, "{}", names.len());
}
