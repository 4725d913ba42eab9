//! Planted mistakes in PTX are found, what is none is not, and the committed kernels have none.

use adaloss_audit::{
    divergence::{self, Partial},
    ptx::Module,
};

/// Returns what is found in a kernel of these instructions, the first of which is in line 3.
fn found(instructions: &str) -> Vec<Partial> {
    let text = format!(".visible .entry kernel()\n{{\n{}\n}}\n", instructions.trim());
    let module = Module::parse(&text).expect("PTX");
    divergence::partial(&module.entries[0])
}

fn lines(instructions: &str) -> Vec<usize> {
    found(instructions).iter().map(|partial| partial.line).collect()
}

#[test]
fn committed_kernels_have_none() {
    for text in [include_str!("../../ptx/sm_80.ptx"), include_str!("../../ptx/sm_90a.ptx")] {
        let module = Module::parse(text).expect("PTX");
        assert_eq!(module.entries.len(), 145);
        let barriers = module.entries.iter().flat_map(|entry| &entry.blocks);
        let barriers =
            barriers.flat_map(|block| &block.instructions).filter(|of| of.head() == "bar").count();
        assert!(barriers > 100);
        for entry in &module.entries {
            assert_eq!(divergence::partial(entry), [], "{}", entry.name);
        }
    }
}

/// The first lane of a warp asks whether there is a histogram, and is led around the question that all ask next.
#[test]
fn an_early_return_in_front_of_a_barrier() {
    let module = Module::parse(include_str!("early_return.ptx")).expect("PTX");
    let found = divergence::partial(&module.entries[0]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].operation.as_str(), found[0].branches.len()), ("bar.sync", 2));
}

#[test]
fn a_guard_that_differs_between_threads() {
    let text = "
mov.u32 %r1, %tid.x;
setp.lt.u32 %p1, %r1, 16;
@%p1 bar.sync 0;
ret;";
    assert_eq!(lines(text), [5]);
    assert_eq!(found(text)[0].branches, [5]);
    assert_eq!(lines(&text.replace("%tid.x", "%ctaid.x")), []);
}

#[test]
fn a_shuffle_behind_an_exit_of_some() {
    let text = "
mov.u32 %r1, %laneid;
setp.ge.u32 %p1, %r1, 16;
@%p1 bra $L_end;
shfl.sync.bfly.b32 %r2, %r1, 1, 0x1f, -1;
$L_end:
ret;";
    assert_eq!(lines(text), [6]);
    let returns = text.replace("@%p1 bra $L_end", "@%p1 ret");
    assert_eq!(lines(&returns), [6]);
}

#[test]
fn a_barrier_in_a_loop_that_threads_leave_one_by_one() {
    let text = "
mov.u32 %r1, %tid.x;
$L_again:
bar.sync 0;
sub.u32 %r1, %r1, 1;
setp.ne.u32 %p1, %r1, 0;
@%p1 bra $L_again;
ret;";
    assert_eq!(lines(text), [5]);
    assert_eq!(lines(&text.replace("%tid.x", "%ntid.x")), []);
}

/// How often a loop was run is another number for each thread, though no operand is.
#[test]
fn a_count_of_rounds_tells_threads_apart() {
    let text = "
mov.u32 %r1, %tid.x;
mov.u32 %r2, 0;
$L_again:
add.u32 %r2, %r2, 1;
sub.u32 %r1, %r1, 1;
setp.ne.u32 %p1, %r1, 0;
@%p1 bra $L_again;
setp.ne.u32 %p2, %r2, 7;
@%p2 bra $L_end;
bar.sync 0;
$L_end:
ret;";
    assert_eq!(lines(text), [12]);
}

/// A barrier that an optimiser has copied into both ways of a branch.
#[test]
fn a_barrier_on_both_ways() {
    let text = "
mov.u32 %r1, %tid.x;
setp.eq.u32 %p1, %r1, 0;
@%p1 bra $L_other;
bar.sync 0;
bra.uni $L_end;
$L_other:
bar.sync 0;
$L_end:
ret;";
    assert_eq!(lines(text), [6, 9]);
}

/// A constant that is chosen by a branch is as divergent as the branch.
#[test]
fn a_choice_tells_threads_apart() {
    let text = "
mov.u32 %r1, %tid.x;
setp.eq.u32 %p1, %r1, 0;
mov.u32 %r2, 0;
@%p1 bra $L_on;
mov.u32 %r2, 1;
$L_on:
setp.eq.u32 %p2, %r2, 0;
@%p2 bra $L_end;
bar.sync 0;
$L_end:
ret;";
    assert_eq!(lines(text), [11]);
    let selected = text.replace("@%p1 bra $L_on;\nmov.u32 %r2, 1;", "selp.u32 %r2, 0, 1, %p1;\n");
    assert_eq!(lines(&selected), [11]);
    let moved = text.replace("@%p1 bra $L_on;\nmov.u32 %r2, 1;", "@%p1 mov.u32 %r2, 1;\n");
    assert_eq!(lines(&moved), [11]);
}

#[test]
fn what_memory_tells_threads_apart() {
    let text = "
ld.param.u64 %rd1, [address];
LOAD
setp.eq.u32 %p1, %r1, 0;
@%p1 bra $L_end;
bar.sync 0;
$L_end:
ret;";
    for (load, differs) in [
        ("ld.global.u32 %r1, [%rd1];", false),
        ("ld.shared.u32 %r1, [%rd1];", false),
        ("ld.local.u32 %r1, [%rd1];", true),
        ("ld.relaxed.gpu.u32 %r1, [%rd1];", true),
        ("atom.global.add.u32 %r1, [%rd1], 1;", true),
        ("mov.u32 %r2, %tid.x; ld.global.u32 %r1, [%r2];", true),
        ("mov.u64 %SPL, depot; ld.u32 %r1, [%SPL+8];", true),
        ("mov.u32 %r1, %clock;", true),
        ("mov.u32 %r1, %nctaid.x;", false),
        ("cvta.local.u64 %rd2, %rd1; ld.u32 %r1, [%rd2];", true),
        ("cvta.global.u64 %rd2, %rd1; ld.u32 %r1, [%rd2];", false),
        ("add.cc.u32 %r2, %r3, 1; addc.u32 %r1, 0, 0;", true),
    ] {
        assert_eq!(!lines(&text.replace("LOAD", load)).is_empty(), differs, "{load}");
    }
}

/// One register, first for what all threads have in common, later for what they do not.
#[test]
fn a_register_is_used_again() {
    let text = "
ld.param.u32 %r1, [count];
setp.eq.u32 %p1, %r1, 0;
@%p1 bra $L_end;
bar.sync 0;
mov.u32 %r2, %tid.x;
setp.eq.u32 %p1, %r2, 0;
@%p1 bra $L_end;
add.u32 %r2, %r2, 1;
$L_end:
ret;";
    assert_eq!(lines(text), []);
}

/// Which lanes have a lane to read from, and which barrier is meant, may differ as well.
#[test]
fn lanes_and_numbers_of_barriers() {
    let text = "
ld.param.u32 %r1, [count];
shfl.sync.down.b32 %r2|%p1, %r1, 1, 0x1f, -1;
@%p1 bra $L_end;
bar.sync 0;
$L_end:
ret;";
    assert_eq!(lines(text), [6]);
    let common = text
        .replace("%r2|%p1, %r1, 1, 0x1f, -1;", "%r2, %r1, 1, 0x1f, -1; setp.eq.u32 %p1, %r2, 0;");
    assert_eq!(lines(&common), []);
    assert_eq!(lines("mov.u32 %r1, %tid.x;\nbar.sync %r1;\nret;"), [4]);
    assert_eq!(lines("mov.u32 %r1, %ctaid.x;\nbar.sync %r1;\nret;"), []);
}

/// A register whose name does not begin as others do, in a scope of its own.
#[test]
fn a_register_of_another_name() {
    let text = "
mov.u64 %rd1, %clock64;
{ .reg .b32 tmp; mov.b64 {tmp, %r1}, %rd1; add.u32 %r2, tmp, 0; }
setp.eq.u32 %p1, %r2, 0;
@%p1 bra $L_end;
bar.sync 0;
$L_end:
ret;";
    assert_eq!(lines(text), [7]);
    assert_eq!(lines(&text.replace("%clock64", "%ntid.x")), []);
}

/// Who is in an endless loop never comes.
#[test]
fn a_barrier_beside_an_endless_loop() {
    let text = "
mov.u32 %r1, %tid.x;
setp.eq.u32 %p1, %r1, 0;
@%p1 bra $L_wait;
bar.sync 0;
ret;
$L_wait:
bra.uni $L_wait;";
    assert_eq!(lines(text), [6]);
}
