//! Mistakes planted in the shipped text, one after the other: each is found, and by what.
//!
//! Every entry that a mistake is in is called by the host's own code, and executed by the interpreter, in a process of
//! its own.  What finds the mistake is a fault of the interpreter, or a difference to the portable device.

#![cfg(target_os = "linux")]

use std::{env, fs, num::NonZero, process::Command};

use adaloss_driver::{Simulated, TEXT};
use adaloss_gpu::Cuda;
use adaloss_on_device::entries::{self, Sizes};

/// The variable that tells a process which entry it is to call.
const ENTRY: &str = "ADALOSS_PLANTED_ENTRY";

/// What is done to one instruction.
#[derive(Clone, Copy)]
enum Edit {
    /// It is left out.
    Drop,
    /// It stands in front of the same instruction.
    Before(&'static str),
    /// A part of its text becomes another one.
    Replace(&'static str, &'static str),
    /// The second of its operands becomes the third, and the third the second, counted from zero.
    Swap,
}

use Edit::{Before, Drop, Replace, Swap};

/// A mistake: what it is, the entry, the operation and which one of them from the top, what is done to it, and what is
/// said of it.
type Mistake = (&'static str, &'static str, &'static str, usize, Edit, &'static str);

const PRODUCT: &str = "adaloss_matmul_nn_f16";
const TRANSPOSED: &str = "adaloss_matmul_nt_f16";
const SLIM: &str = "adaloss_matmul_slim_nn_f16";
const OUTPUT: &str = "adaloss_implicit_output_f16";
const INPUT: &str = "adaloss_implicit_input_f16";
const WEIGHT: &str = "adaloss_implicit_weight_f16";
const APPLY: &str = "adaloss_apply_f16";
const WIDEN: &str = "adaloss_widen_f16";
const DIFFERS: &str = "difference";

#[rustfmt::skip] // A line each.
const MISTAKES: &[Mistake] = &[
    ("a wait for one copy too few", PRODUCT, "cp.async.wait_group", 1, Replace("1", "2"), "under way"),
    ("no wait for copies", PRODUCT, "cp.async.wait_group", 1, Drop, "under way"),
    ("copies in no group", PRODUCT, "cp.async.commit_group", 0, Drop, "under way"),
    ("no barrier before what was copied is loaded", PRODUCT, "bar.sync", 6, Drop, "race"),
    ("no barrier before a histogram's zeros", PRODUCT, "bar.sync", 1, Drop, "race"),
    ("no barrier before sums take the place of others", PRODUCT, "bar.sync", 3, Drop, "race"),
    ("no barrier before sums are taken", PRODUCT, "bar.sync", 4, Drop, "race"),
    ("no barrier behind a histogram's zeros", APPLY, "bar.sync", 0, Drop, "nobody has written"),
    ("no barrier before a histogram is read", APPLY, "bar.sync", 1, Drop, "race"),
    ("a barrier that one warp leaves out", APPLY, "bar.sync", 1, Before("setp.lt.u32 %p1, %tid.x, 32;\n@%p1 ret;"), "a barrier that others"),
    ("a barrier that half a warp leaves out", APPLY, "bar.sync", 0, Before("setp.lt.u32 %p1, %tid.x, 16;\n@%p1 ret;"), "a barrier that others"),
    ("an exchange that one lane is no member of", APPLY, "shfl.sync", 0, Replace("0xffffffff", "0x7fffffff"), "not among the members"),
    ("an exchange that one lane leaves out", APPLY, "shfl.sync", 0, Before("setp.eq.u32 %p1, %tid.x, 5;\n@%p1 ret;"), "takes no part"),
    ("an exchange with another lane", APPLY, "shfl.sync", 0, Replace("bfly", "up"), DIFFERS),
    ("an exchange within half a warp", APPLY, "shfl.sync", 0, Replace("0x1f", "0x100f"), DIFFERS),
    ("a matrix of other rows", PRODUCT, "ldmatrix", 0, Replace("+0]", "+16]"), DIFFERS),
    ("a row of a matrix that does not begin at one", PRODUCT, "ldmatrix", 0, Replace("+0]", "+8]"), "not aligned"),
    ("a matrix that is transposed", PRODUCT, "ldmatrix", 0, Replace(".x4.", ".x4.trans."), DIFFERS),
    ("a matrix that is not transposed", PRODUCT, "ldmatrix", 4, Replace(".trans", ""), DIFFERS),
    ("a swizzle that copies do not have", PRODUCT, "xor.b32", 0, Replace("xor", "or"), "race"),
    ("a swizzle that loads do not have", TRANSPOSED, "xor.b32", 3, Replace("xor", "or"), DIFFERS),
    ("fragments in another order", PRODUCT, "mma.sync", 0, Swap, DIFFERS),
    ("a product of another format", PRODUCT, "mma.sync", 0, Replace("f16.f16", "bf16.bf16"), DIFFERS),
    ("a wait for one copy too few of a slim tile", SLIM, "cp.async.wait_group", 1, Replace("2", "3"), "under way"),
    ("terms of a slim tile as far apart as those of a wide one", SLIM, "ldmatrix", 10, Replace("+2048]", "+4096]"), "nobody has written"),
    ("a chunk that is copied where another belongs", OUTPUT, "{ .reg .u64", 1, Replace("+2048]", "+4096]"), "under way"),
    ("rows of a window in the place of its columns: padding that is read", OUTPUT, "xor.b32", 5, Replace(", 16", ", 0"), "in no allocation"),
    ("a bias of the column beside", OUTPUT, "ld.b32", 2, Replace("+4]", "+8]"), DIFFERS),
    ("a sum of padding and infinity that is taken as it is", OUTPUT, "setp.nan.f32", 3, Replace(".nan", ".num"), DIFFERS),
    ("padding that is read, backwards", INPUT, "xor.b32", 8, Replace(", 16", ", 0"), "in no allocation"),
    ("filters of the next pixel that are taken for more of this one", INPUT, "setp.ge.u32", 6, Replace(".ge", ".gt"), DIFFERS),
    ("a pixel behind the image", WEIGHT, "setp.lt.u32", 17, Replace(".lt", ".le"), "in no allocation"),
    ("padding on the other side", WEIGHT, "sub.s32", 8, Replace("sub", "add"), DIFFERS),
    ("a load that is not aligned", APPLY, "ld.global.v4.b32", 1, Replace("+512", "+520"), "not aligned"),
    ("a load of what others have", APPLY, "ld.global.v4.b32", 1, Replace("+512", ""), DIFFERS),
    ("a load beyond the end", APPLY, "ld.global.v4.b32", 1, Replace("+512", "+1048576"), "in no allocation"),
    ("a parameter that is another one", APPLY, "ld.param.b64", 0, Replace("param_2", "param_0"), DIFFERS),
    ("a count at another place", APPLY, "atom.add.u64", 4, Replace("]", "+8]"), DIFFERS),
    ("a greatest value that is the least", APPLY, "atom.max.u32", 0, Replace("max", "min"), DIFFERS),
    ("a store left out", APPLY, "st.global.b64", 0, Drop, DIFFERS),
    ("a store of five values", WIDEN, "st.global.v4.b32", 0, Replace("{", "{%r1, "), "operands do not fit"),
    ("zeros of a histogram left out", APPLY, "st.shared.u32", 8, Drop, "nobody has written"),
    ("a branch the other way", APPLY, "@%p", 0, Replace("@%", "@!%"), "in no allocation"),
    ("a loop without an end", WIDEN, "ret", 0, Before("$L_own:\nbra.uni $L_own;"), "more instructions"),
    ("a shift by one less", WIDEN, "shl.b32", 5, Replace(", 13", ", 12"), DIFFERS),
    ("an operation that is not known", APPLY, "mul.rn.f32", 0, Replace(".rn", ".ry"), "an unknown instruction"),
];

/// Plants a mistake in a text.
fn planted(text: &str, &(what, entry, operation, nth, edit, _): &Mistake) -> String {
    let begin = text.find(&format!(".entry {entry}(")).expect("the entry is there");
    let mut found = 0;
    let mut is_within = true;
    let mut done = false;
    let edited = text[begin..].lines().map(|line| {
        is_within &= line != "}";
        if !is_within || !line.trim_start().starts_with(operation) {
            return format!("{line}\n");
        }
        found += 1;
        if found != nth + 1 {
            return format!("{line}\n");
        }
        done = true;
        match edit {
            Drop => String::new(),
            Before(other) => format!("{other}\n{line}\n"),
            Replace(from, to) => format!("{}\n", line.replacen(from, to, 1)),
            Swap => {
                let operands: Vec<_> = line.split("}, {").collect();
                let [first, a, b, rest @ ..] = &operands[..] else { panic!("{what}: {line}") };
                let swapped: Vec<_> = a.split(", ").collect();
                let [one, two, three, four] = swapped[..] else { panic!("{what}: {line}") };
                let rest = rest.join("}, {");
                format!("{first}}}, {{{one}, {three}, {two}, {four}}}, {{{b}}}, {{{rest}\n")
            }
        }
    });
    let edited: String = edited.collect();
    assert!(done, "{what}: there is no such instruction");
    format!("{}{edited}", &text[..begin])
}

/// Rows, terms and columns of products: odd ones; rows that begin at multiples of 16 bytes, which are copied while
/// others are multiplied; terms that end where sums are handed round then; several tiles.
const PRODUCTS: [[usize; 3]; 4] = [[45, 70, 97], [45, 104, 112], [45, 24, 112], [200, 40, 136]];

/// What a process does that is to find a mistake; nothing, when nobody asks for an entry.
#[test]
fn one_entry() {
    let Ok(entry) = env::var(ENTRY) else { return };
    let _driver = Simulated::open().expect("Cargo built the simulated driver");
    let mut device = Cuda::new(3).expect("a device that executes text");
    device.limit_blocks(NonZero::new(1));
    let mut was_called = false;
    for product in PRODUCTS {
        let sizes = Sizes { product, ..Sizes::ONE_BLOCK };
        let found = entries::run(&mut device, sizes, &mut |name, work| {
            if name == entry {
                was_called = true;
                let found = work()?;
                anyhow::ensure!(found.is_null(), "{found}");
            }
            Ok(())
        });
        found.expect("nothing is found");
    }
    assert!(was_called, "there is no entry {entry}");
}

/// Returns what is said of an entry of a text.
fn said(text: &str, entry: &str) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("the text is written");
    let run = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "one_entry", "--nocapture"])
        .env(ENTRY, entry)
        .env(TEXT, file.path())
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("it runs");
    if run.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    let fault = text.lines().find(|line| {
        line.starts_with("adaloss_") || line.starts_with("PTX") || line.contains("difference")
    });
    Err(fault.map_or(text.clone(), str::to_owned))
}

#[test]
fn each_mistake_is_found() {
    let text = include_str!("../../ptx/sm_90a.ptx");
    for entry in [PRODUCT, TRANSPOSED, SLIM, OUTPUT, INPUT, WEIGHT, APPLY, WIDEN] {
        assert_eq!(said(text, entry), Ok(()), "as it is shipped");
    }
    let mut missed = Vec::new();
    for mistake in MISTAKES {
        let &(what, entry, .., expected) = mistake;
        match said(&planted(text, mistake), entry) {
            Err(found) if found.contains(expected) => println!("{what}: {found}"),
            Err(found) => missed.push(format!("{what}: found otherwise: {found}")),
            Ok(()) => missed.push(format!("{what}: not found")),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
