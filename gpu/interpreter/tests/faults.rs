//! Small texts that do what a kernel must not, and what is said of each.

mod device;

use adaloss_interpreter::{Fault, FaultKind, Launch, Module, Schedule};
use device::{Device, block, kernel, run};

const SHARED: &str = ".shared .align 16 .b8 shared[256];";

/// Runs a kernel that must not succeed, with 64 threads.
fn fault(instructions: &str) -> Fault {
    run(SHARED, instructions, 64).expect_err("a fault")
}

/// Asserts where a kernel fails and what is said.
fn fails(instructions: &str, kind: FaultKind, line: usize, thread: Option<u32>, what: &str) {
    let found = fault(instructions);
    assert_eq!((found.kind, found.line, found.thread), (kind, line, thread), "{found}");
    assert_eq!(found.what, what);
}

/// Asserts that a kernel does nothing wrong, in any order.
fn passes(instructions: &str) {
    run(SHARED, instructions, 64).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn two_halves_of_a_warp_wait_for_each_other() {
    let text = "
setp.lt.u32 %p1, %r15, 16;
@%p1 bra $L_other;
shfl.sync.bfly.b32 %r1, %r15, 1, 0x1f, 0xffffffff;
bra.uni $L_end;
$L_other:
shfl.sync.bfly.b32 %r1, %r15, 1, 0x1f, 0xffffffff;
$L_end:";
    let found = fault(text);
    assert_eq!(found.kind, FaultKind::Deadlock);
    for part in [
        "a deadlock: ",
        "0xffff0000 of warp 0 wait for 0xffffffff in line 14",
        "0x0000ffff of warp 0 wait for 0xffffffff in line 17",
    ] {
        assert!(found.what.contains(part), "{found}");
    }
    // Each half may exchange values for itself.
    passes(
        &text
            .replacen("0xffffffff", "0xffff0000", 1)
            .replace("0xffffffff;\n$L_end", "0x0000ffff;\n$L_end")
            .replace("%r15, 16", "%r2, 16")
            .replace("\nsetp", "\nand.b32 %r2, %r15, 31;\nsetp"),
    );
}

#[test]
fn a_barrier_that_a_part_of_a_warp_comes_to() {
    fails(
        "
setp.lt.u32 %p1, %r15, 16;
@%p1 bra $L_end;
bar.sync 0;
$L_end:",
        FaultKind::Barrier,
        14,
        None,
        "a barrier that others will not come to: 0xffff0000 of warp 0 wait at the barrier in line 14, \
         0x0000ffff of warp 0 have exited, 0xffffffff of warp 1 wait at the barrier in line 14",
    );
    let guarded = fault("setp.lt.u32 %p1, %r15, 40; @%p1 bar.sync 0;");
    assert_eq!((guarded.kind, guarded.line), (FaultKind::Barrier, 12));
}

#[test]
fn two_barriers_at_once() {
    let found = fault(
        "
setp.lt.u32 %p1, %r15, 32;
@%p1 bra $L_other;
bar.sync 0;
bra.uni $L_end;
$L_other:
bar.sync 0;
$L_end:",
    );
    assert_eq!(found.kind, FaultKind::Barrier);
    assert_eq!(
        found.what,
        "threads wait at different barriers: 0xffffffff of warp 0 wait at the barrier in line 17, \
         0xffffffff of warp 1 wait at the barrier in line 14"
    );
}

#[test]
fn what_the_whole_warp_does_after_some_have_exited() {
    fails(
        "
mov.u32 %r1, shared;
st.shared.v4.b32 [%r1], {%r1, %r1, %r1, %r1};
setp.lt.u32 %p1, %r15, 1;
@%p1 ret;
ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1];"
            .replace("st.shared", "@%p2 st.shared")
            .replace("mov.u32 %r1", "setp.eq.u32 %p2, %r15, 1;\nmov.u32 %r1")
            .as_str(),
        FaultKind::Barrier,
        17,
        Some(1),
        "the whole warp has to execute it, and threads have exited or never were",
    );
    // A shuffle is done by those that are there.
    passes("setp.lt.u32 %p1, %r15, 2;\n@%p1 ret;\nshfl.sync.bfly.b32 %r1, %r15, 1, 0x1f, -1;");
    fails(
        "setp.lt.u32 %p1, %r15, 1;\n@%p1 ret;\nshfl.sync.bfly.b32 %r1, %r15, 1, 0x1f, -1;",
        FaultKind::Barrier,
        14,
        Some(1),
        "it reads from lane 0, which takes no part",
    );
    fails(
        "shfl.sync.idx.b32 %r1, %r15, 0, 0x1f, 0xfffffffe;",
        FaultKind::Barrier,
        12,
        Some(0),
        "its lane is not among the members 0xfffffffe",
    );
}

/// Each thread writes its word of shared memory, does something, and reads its neighbour's.
fn neighbours(between: &str) -> String {
    format!(
        "
mov.u32 %r1, shared;
mad.lo.s32 %r2, %r15, 4, %r1;
xor.b32 %r3, %r15, 1;
mad.lo.s32 %r4, %r3, 4, %r1;
st.shared.b32 [%r2], %r15;
{between}
ld.shared.b32 %r5, [%r4];
mul.wide.u32 %rd1, %r15, 4;
add.s64 %rd2, %rd15, %rd1;
st.global.b32 [%rd2], %r5;"
    )
}

#[test]
fn a_race_for_shared_memory() {
    // In the plain order, all threads of a warp have written when the first reads.
    let module = Module::parse(&kernel(SHARED, &neighbours(""))).expect("PTX");
    let entry = module.entry("kernel").expect("the entry");
    let mut device = Device::default();
    let to = device.words(&[0; 64]).to_le_bytes();
    let found = entry.launch(&mut device, &block(64, &to)).expect_err("a race");
    assert_eq!((found.kind, found.line, found.thread), (FaultKind::Race, 18, Some(0)), "{found}");
    assert_eq!(
        found.what,
        "4 bytes at 0x404: a race: read, and written by thread 1 since the last barrier"
    );
    for orders in ["bar.sync 0;", "bar.warp.sync 0xffffffff;"] {
        let (words, _) = run(SHARED, &neighbours(orders), 64).expect("no race");
        assert_eq!(words[..4], [1, 0, 3, 2]);
    }
    // An exchange within the warp orders nothing.
    let shuffle = "shfl.sync.bfly.b32 %r6, %r15, 1, 0x1f, -1;";
    assert_eq!(fault(&neighbours(shuffle)).kind, FaultKind::Race);
    // A warp's barrier does not order what another warp does.
    let far = neighbours("bar.warp.sync -1;").replace("%r15, 1;", "%r15, 32;");
    assert!(matches!(fault(&far).kind, FaultKind::Race | FaultKind::Unwritten));
    passes(&far.replace("bar.warp.sync -1", "bar.sync 0"));
}

#[test]
fn writes_and_atomic_operations() {
    let all = "
mov.u32 %r1, shared;
setp.eq.u32 %p1, %r15, 0;
@%p1 st.shared.b32 [%r1], 0;
bar.sync 0;
red.shared.add.u32 [%r1], 1;
bar.sync 0;
ld.shared.b32 %r2, [%r1];
@%p1 st.global.b32 [%rd15], %r2;";
    let (words, _) = run(SHARED, all, 64).expect("no race");
    assert_eq!(words[0], 64);
    let found = fault(&all.replacen("bar.sync 0;\nld", "ld", 1));
    assert_eq!(found.kind, FaultKind::Race, "{found}");
    assert!(found.what.contains("and changed by threads of warp"), "{found}");
    let written = fault("mov.u32 %r1, shared;\nst.shared.b32 [%r1], 7;");
    assert_eq!(
        written.what,
        "4 bytes at 0x400: a race: written, and written by thread 0 since the last barrier"
    );
    // Read by many, then written.
    let read = format!("{}\nst.shared.b32 [%r2], 0;", neighbours("bar.sync 0;"));
    assert!(fault(&read).what.contains("a race: written, and read by thread 1 since"));
    passes(&format!("{}\nbar.sync 0;\nst.shared.b32 [%r2], 0;", neighbours("bar.sync 0;")));
}

#[test]
fn bytes_of_a_word_are_each_for_itself() {
    let bytes = "
mov.u32 %r1, shared;
add.s32 %r2, %r15, %r1;
cvt.u16.u32 %rs1, %r15;
st.shared.b8 [%r2], %rs1;";
    passes(bytes);
    let word =
        format!("{bytes}\nbar.sync 0;\nld.shared.b32 %r3, [%r1];\nld.shared.b32 %r3, [%r1+60];");
    passes(&word);
    fails(
        &word.replace("+60", "+64"),
        FaultKind::Unwritten,
        18,
        Some(0),
        "4 bytes at 0x440: read, and nobody has written it",
    );
}

#[test]
fn what_nobody_wrote() {
    fails(
        "mov.u32 %r1, shared;\nld.shared.b32 %r2, [%r1+16];",
        FaultKind::Unwritten,
        13,
        Some(0),
        "4 bytes at 0x410: read, and nobody has written it",
    );
    let undefined =
        |register| format!("it needs %{register}, which was not written, or made of what was not");
    for (instructions, line, thread, register) in [
        ("add.s32 %r2, %r3, 1;\nmov.u32 %r9, shared;\nst.shared.b32 [%r9], %r2;", 14, 0, "r2"),
        (
            "setp.lt.u32 %p1, %r15, 3;\n@%p1 mov.u32 %r3, 0;\nmov.b32 %r2, %r3;\nred.global.add.u32 [%rd15], %r2;",
            15,
            3,
            "r2",
        ),
        ("@%p3 mov.u32 %r3, 0;", 12, 0, "p3"),
        ("setp.lt.u32 %p1, %r3, 3;\nnot.pred %p2, %p1;\n@%p2 bra $L_end;\n$L_end:", 14, 0, "p2"),
        ("add.s64 %rd2, %rd3, %rd15;\nld.b32 %r2, [%rd2];", 13, 0, "rd2"),
        ("mov.b64 {%r1, %r2}, %rd3;\nshfl.sync.bfly.b32 %r3, %r2, 1, 0x1f, -1;", 13, 0, "r2"),
        (
            "setp.ge.u32 %p1, %r15, 5;\nselp.b32 %r2, %r3, 1, %p1;\nred.global.add.u32 [%rd15], %r2;",
            14,
            5,
            "r2",
        ),
    ] {
        fails(instructions, FaultKind::Unwritten, line, Some(thread), &undefined(register));
    }
}

/// An optimiser asks for more than it has to where the answer makes no difference.
#[test]
fn what_makes_no_difference_need_not_be_written() {
    passes(
        "
setp.lt.u64 %p1, %rd3, 512;
setp.eq.u32 %p2, %r15, -1;
and.pred %p3, %p1, %p2;
@%p3 trap;
setp.ge.u32 %p2, %r15, 0;
or.pred %p3, %p2, %p1;
@!%p3 trap;
selp.b32 %r2, %r15, %r3, %p2;
mul.wide.u32 %rd1, %r15, 4;
add.s64 %rd2, %rd15, %rd1;
st.global.b32 [%rd2], %r2;
.local .align 8 .b8 depot[16];
mov.b64 %rd1, depot;
st.local.b64 [%rd1], %rd4;",
    );
}

/// What is stored without having been written is another number for each seed.
#[test]
fn what_nobody_wrote_is_noise() {
    let text = "add.s64 %rd1, %rd2, 1;\nsub.s64 %rd3, %rd1, %rd2;\nst.global.v2.b64 [%rd15], {%rd1, %rd3};";
    let module = Module::parse(&kernel("", text)).expect("PTX");
    let stored = |seed| {
        let mut device = Device::default();
        let to = device.words(&[0; 4]);
        let parameters = to.to_le_bytes();
        let schedule = Schedule { seed, ..Schedule::default() };
        let launch = Launch { schedule, ..block(1, &parameters) };
        module.entry("kernel").expect("it").launch(&mut device, &launch).expect("no fault");
        device.read_words(to)
    };
    assert_ne!(stored(1)[..2], stored(2)[..2]);
    // It stays what it is.
    assert_eq!((stored(1)[2..].to_vec(), stored(1)), (vec![1, 0], stored(1)));
}

#[test]
fn addresses_of_nothing() {
    fails(
        "mul.wide.u32 %rd1, %r15, 4;\nadd.s64 %rd2, %rd15, %rd1;\nst.global.b32 [%rd2+3848], %r15;",
        FaultKind::Address,
        14,
        Some(62),
        "4 bytes at 0x7f0000001000: in no allocation",
    );
    fails(
        "mov.b64 %rd1, 8;\nld.b64 %rd2, [%rd1];",
        FaultKind::Address,
        13,
        Some(0),
        "8 bytes at 0x8: in no allocation",
    );
    // A warp's words that go over the end of all memory, one behind the other.
    for access in ["ld.global.b32 %r1, [%rd2];", "st.global.b32 [%rd2], %r15;"] {
        let found = fault(&format!("mad.wide.u32 %rd2, %r15, 4, -64;\n{access}"));
        assert_eq!(
            (found.kind, found.thread, found.what.as_str()),
            (FaultKind::Address, Some(0), "4 bytes at 0xffffffffffffffc0: in no allocation")
        );
    }
    fails(
        "mov.u32 %r1, shared;\nst.shared.b32 [%r1+256], 0;",
        FaultKind::Address,
        13,
        Some(0),
        "4 bytes at 0x500: beyond the 256 bytes of shared memory from 0x400 on",
    );
    fails(
        "mov.u32 %r1, 0;\nst.shared.b32 [%r1], 0;",
        FaultKind::Address,
        13,
        Some(0),
        "4 bytes at 0x0: beyond the 0 bytes of shared memory from 0x400 on",
    );
    fails(
        ".local .align 8 .b8 depot[16];\nmov.b64 %rd1, depot;\nst.local.b32 [%rd1+12], 0;\nst.local.b32 [%rd1+16], 0;",
        FaultKind::Address,
        15,
        Some(0),
        "4 bytes at 0x110: beyond the 16 bytes of local memory",
    );
}

#[test]
fn tables_are_constant_and_end() {
    let tables = ".global .align 4 .b8 table[8] = {1, 2, 3, 4, 5};\n.global .align 8 .b8 next[8];";
    let load = "ld.global.b32 %r1, [table+4];\nld.global.nc.b64 %rd1, [next];\nst.global.b32 [%rd15], %r1;";
    assert_eq!(run(tables, load, 1).expect("no fault").0[0], 5);
    let beyond = run(tables, "ld.global.b32 %r1, [table+8];", 1).expect_err("beyond");
    assert_eq!(beyond.kind, FaultKind::Address);
    assert!(beyond.what.ends_with(": in no table of the module"), "{beyond}");
    let constant = run(tables, "ld.global.nc.b32 %r1, [%rd15];", 1).expect_err("no table");
    assert_eq!(constant.kind, FaultKind::Address);
    assert!(constant.what.ends_with(": no table, as `.nc` has to read"), "{constant}");
    let text = "mov.b64 %rd1, table;\ncvta.global.u64 %rd2, %rd1;\nst.b32 [%rd2], 0;";
    let written = run(tables, text, 1).expect_err("written");
    assert_eq!((written.kind, written.line), (FaultKind::Table, 15));
    assert!(written.what.ends_with(": a constant table"), "{written}");
}

#[test]
fn addresses_that_are_not_aligned() {
    fails(
        "ld.global.b32 %r1, [%rd15+2];",
        FaultKind::Alignment,
        12,
        Some(0),
        "4 bytes at 0x7f0000000002: not aligned",
    );
    fails(
        "ld.global.v2.b32 {%r1, %r2}, [%rd15+4];",
        FaultKind::Alignment,
        12,
        Some(0),
        "8 bytes at 0x7f0000000004: not aligned",
    );
    fails(
        "mov.u32 %r1, shared;\nld.shared.v4.b32 {%r1, %r2, %r3, %r4}, [%r1+8];",
        FaultKind::Alignment,
        13,
        Some(0),
        "16 bytes at 0x408: not aligned",
    );
}

/// A thread copies to shared memory, does something, and reads what arrived.
fn copy(bytes: u32, between: &str) -> String {
    format!(
        "
setp.ne.u32 %p1, %r15, 0;
@%p1 bra $L_end;
mov.u32 %r1, shared;
st.global.b32 [%rd15], 11;
st.global.b32 [%rd15+4], 12;
mov.u32 %r2, {bytes};
{{ .reg .u64 %global; cvta.to.global.u64 %global, %rd15; cp.async.cg.shared.global [%r1], [%global], 16, %r2; }}
{between}
ld.shared.b32 %r3, [%r1];
ld.shared.b32 %r4, [%r1+4];
st.global.b32 [%rd15+64], %r3;
st.global.b32 [%rd15+68], %r4;
$L_end:"
    )
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    let waits = "cp.async.commit_group;\ncp.async.wait_group 0;";
    for (bytes, expected) in [(16, [11, 12]), (4, [11, 0]), (0, [0, 0])] {
        let (words, _) = run(SHARED, &copy(bytes, waits), 64).expect("no fault");
        assert_eq!(words[16..18], expected);
    }
    passes(&copy(16, "cp.async.wait_all;"));
    let under_way = "4 bytes at 0x400: read, and a copy of thread 0 is under way to it";
    for between in [
        "",
        "cp.async.commit_group;",
        "cp.async.wait_group 0;",
        "cp.async.commit_group;\ncp.async.wait_group 1;",
        "cp.async.wait_group 0;\ncp.async.commit_group;",
    ] {
        let found = fault(&copy(16, between));
        assert_eq!(
            (found.kind, found.what.as_str()),
            (FaultKind::UnderWay, under_way),
            "{between}"
        );
    }
    let written = fault(&copy(16, "st.shared.b32 [%r1+12], 0;"));
    assert_eq!(
        written.what,
        "4 bytes at 0x40c: written, and a copy of thread 0 is under way to it"
    );
    let changed = fault(&copy(16, &format!("st.global.b32 [%rd15], 7;\n{waits}")));
    assert_eq!(
        (changed.kind, changed.what.as_str()),
        (
            FaultKind::UnderWay,
            "16 bytes at 0x7f0000000000 changed while they were copied to shared memory"
        )
    );
    passes(&copy(0, &format!("st.global.b32 [%rd15], 7;\n{waits}")));
    assert_eq!(fault(&copy(17, waits)).what, "a copy of 17 bytes to 16");
}

/// An atomic operation races with a plain write that its own thread did before, as it does with any other's.
#[test]
fn a_plain_write_in_front_of_an_atomic_operation() {
    let text = "
mov.u32 %r1, shared;
setp.eq.u32 %p1, %r15, 0;
@%p1 st.shared.b32 [%r1], 0;
bar.warp.sync -1;
@%p1 red.shared.add.u32 [%r1], 1;
red.shared.add.u32 [%r1], 1;";
    // Within the warp, its barrier orders them.
    run(SHARED, text, 32).expect("no race");
    let found = run(SHARED, &text.replace("bar.warp.sync -1;\n", ""), 32).expect_err("a race");
    assert_eq!((found.kind, found.line, found.thread), (FaultKind::Race, 16, Some(1)), "{found}");
    assert_eq!(
        found.what,
        "4 bytes at 0x400: a race: changed, and written by thread 0 since the last barrier"
    );
}

/// Reads that a warp's barrier has ordered are not held against a later write.
#[test]
fn a_warp_s_barrier_orders_reads() {
    passes(
        "
mov.u32 %r1, shared;
mad.lo.s32 %r2, %r15, 4, %r1;
xor.b32 %r3, %r15, 1;
mad.lo.s32 %r4, %r3, 4, %r1;
st.shared.b32 [%r2], %r15;
bar.warp.sync -1;
ld.shared.b32 %r5, [%r4];
bar.warp.sync -1;
ld.shared.b32 %r6, [%r2];
st.shared.b32 [%r2], %r5;",
    );
}

/// What one thread has waited for is not there for the others before a barrier.
#[test]
fn a_copy_is_its_thread_s_write() {
    let text = "
mov.u32 %r1, shared;
setp.ne.u32 %p1, %r15, 0;
@%p1 bra $L_on;
cp.async.ca.shared.global [%r1], [%rd15], 4;
cp.async.wait_all;
$L_on:
bar.sync 0;
ld.shared.b32 %r3, [%r1];";
    passes(text);
    let late = text.replace(
        "cp.async.wait_all;\n$L_on:\nbar.sync 0;",
        "$L_on:\nbar.sync 0;\ncp.async.wait_all;",
    );
    let found = fault(&late);
    assert!(matches!(found.kind, FaultKind::Race | FaultKind::UnderWay), "{found}");
    // Waited for, and read by another thread of the warp at once, or behind what orders too few.
    let alone = text.replace("bar.sync 0;", "");
    for (between, threads) in [("", 32), ("bar.warp.sync -1;", 64)] {
        let found = run(SHARED, &alone.replace("$L_on:", &format!("$L_on:\n{between}")), threads)
            .expect_err("a race");
        assert_eq!(found.kind, FaultKind::Race, "{found}");
        assert!(found.what.ends_with("written by thread 0 since the last barrier"), "{found}");
    }
    let within = alone.replace("$L_on:", "$L_on:\nbar.warp.sync -1;");
    run(SHARED, &within, 32).expect("no race within a warp");
}

/// Copies that nobody ever waits for are a fault before they are too many to remember.
#[test]
fn groups_without_an_end() {
    let found = fault("$L_again:\ncp.async.commit_group;\nbra.uni $L_again;");
    assert_eq!((found.kind, found.line), (FaultKind::Limit, 13));
    assert_eq!(found.what, "more than 4096 groups of copies are under way");
}

#[test]
fn a_loop_without_an_end() {
    let found = fault("$L_again:\nbra.uni $L_again;");
    assert_eq!((found.kind, found.line), (FaultKind::Limit, 13));
    assert_eq!(found.what, "more instructions than the launch allows");
    assert_eq!(fault("trap;").to_string(), "kernel, line 12, block 0, thread 0: a trap");
}

/// A thread waits for another of its warp, and has what it waits for.
#[test]
fn threads_that_wait_in_a_loop_do_not_hold_up_the_others() {
    let text = "
setp.eq.u32 %p1, %r15, 1;
$L_again:
@%p1 bra $L_writes;
atom.global.add.u32 %r1, [%rd15], 0;
setp.eq.u32 %p2, %r1, 0;
@%p2 bra $L_again;
bra.uni $L_end;
$L_writes:
atom.global.add.u32 %r1, [%rd15], 1;
$L_end:";
    let module = Module::parse(&kernel("", text)).expect("PTX");
    for schedule in [Schedule::default(), Schedule::adverse(3)] {
        let mut device = Device::default();
        let to = device.words(&[0]).to_le_bytes();
        let launch = Launch { schedule, ..block(32, &to) };
        module.entry("kernel").expect("it").launch(&mut device, &launch).expect("an end");
    }
}

#[test]
fn launches_that_do_not_fit() {
    let module = Module::parse(&kernel(SHARED, "mov.u32 %r1, shared;")).expect("PTX");
    let entry = module.entry("kernel").expect("the entry");
    let parameters = [0; 8];
    let fits = block(32, &parameters);
    for (launch, what) in [
        (Launch { threads: 1025, ..fits }, "1 blocks of 1025 threads, where 1024 are the most"),
        (Launch { blocks: 0, ..fits }, "0 blocks of 32 threads, where 1024 are the most"),
        (Launch { blocks: u32::MAX, ..fits }, "4294967295 blocks, where 16777216 are the most"),
        (Launch { parameters: &parameters[1..], ..fits }, "7 bytes of parameters and not 8"),
        (Launch { dynamic_shared_bytes: 1 << 20, ..fits }, "1048832 bytes of shared memory"),
    ] {
        let fault = entry.launch(&mut Device::default(), &launch).expect_err("it does not fit");
        assert_eq!((fault.kind, fault.what.as_str()), (FaultKind::Launch, what));
    }
}
