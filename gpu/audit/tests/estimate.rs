//! The committed estimate is that of the committed tables.
//!
//! ```sh
//! ADALOSS_BLESS=1 cargo test -p adaloss-audit --test estimate    # writes it anew
//! ```

use std::{collections::HashMap, env, fmt::Write, fs, path::Path};

use adaloss_audit::{
    estimate::{Executed, Gpu},
    ptx::Module,
};

const HEAD: &str = "\
# An estimate

What the data sheets of three GPUs leave room for, from what each kernel executes (`*.executed.csv`) and what its machine
code has (`machine.csv`). **Nothing here was measured.** A share of copy bandwidth is that of memory's time for the bytes that
have to be moved in the longer of memory's time and the time to issue the instructions; a product's operations
are those that its instructions leave room for. What is fixed, latencies and caches are left out.
`gpu/audit/src/estimate.rs` has the formulas, and `cargo test` checks that this file follows from the tables.

| entry | instructions of PTX | A100 | L4 | H200 |
|---|--:|---|---|---|
";

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ptx").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the instructions of each entry of a text.
fn in_text(text: &str) -> HashMap<String, f64> {
    let module = Module::parse(text).expect("PTX");
    let count = |blocks: &[adaloss_audit::ptx::Block]| {
        blocks.iter().map(|block| block.instructions.len()).sum::<usize>() as f64
    };
    module.entries.iter().map(|entry| (entry.name.clone(), count(&entry.blocks))).collect()
}

/// Returns the instructions of each entry on each GPU.
fn in_machine_code(table: &str) -> HashMap<(String, String), f64> {
    let row = |line: &str| {
        let columns: Vec<_> = line.split(',').collect();
        let [entry, gpu, .., instructions, _, _] = columns[..] else { panic!("{line}") };
        ((entry.into(), gpu.into()), instructions.parse().expect("a number"))
    };
    table.lines().skip(1).map(row).collect()
}

#[test]
fn the_estimate_follows_from_the_tables() {
    let machine = in_machine_code(&read("machine.csv"));
    let texts = ["sm_80", "sm_90a"].map(|architecture| {
        let executed = read(&format!("{architecture}.executed.csv"));
        let executed = Executed::table(&executed).expect("a table");
        (executed, in_text(&read(&format!("{architecture}.ptx"))))
    });
    let mut text = String::from(HEAD);
    for nth in 0..texts[0].0.len() {
        let mut bounds = Vec::new();
        for gpu in Gpu::ALL {
            let (executed, in_text) = &texts[usize::from(gpu.machine == "sm_90a")];
            let Executed { entry, .. } = &executed[nth];
            let in_machine = machine[&(entry.clone(), gpu.machine.to_owned())];
            bounds.extend(gpu.bound(&executed[nth], in_machine / in_text[entry]));
        }
        let Executed { entry, per, instructions } = &texts[1].0[nth];
        if let [a100, l4, h200] = bounds[..] {
            let _ = writeln!(
                text,
                "| `{entry}` | {instructions:.1} per {per} | {a100} | {l4} | {h200} |"
            );
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ptx/estimate.md");
    if env::var_os("ADALOSS_BLESS").is_some() {
        fs::write(&path, text).expect("the estimate is written");
    } else {
        assert_eq!(fs::read_to_string(&path).expect("it is committed"), text);
    }
}
