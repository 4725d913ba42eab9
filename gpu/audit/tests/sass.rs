//! Planted mistakes in machine code are found, and what is none is not.

use adaloss_audit::sass::{self, Parted, SassError};

fn found(code: &str) -> Result<Vec<Parted>, SassError> {
    let code: String = code.trim().lines().map(|line| format!("{line}\n")).collect();
    sass::parted(&format!(".text.kernel:\n{code}\t.section\t.nv.info\n"))
}

/// The instructions of a warp whose first lane adds a count, and that goes on to a barrier.
const EARLY: &str = "
        /*0000*/                   BSSY B0, `(.L_met) ;
        /*0010*/               @P0 BRA `(.L_others) ;
        /*0020*/              @!P1 BRA `(.L_others) ;
        /*0030*/                   ATOMG.E.ADD.64 R2, desc[UR4][R2.64], R4 ;
        /*0040*/                   BRA `(.L_barrier) ;
.L_others:
        /*0050*/                   BSYNC B0 ;
.L_met:
        /*0060*/              @!P1 EXIT ;
.L_barrier:
        /*0070*/                   WARPSYNC.ALL ;
        /*0080*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0090*/                   EXIT ;
";

#[test]
fn a_lane_that_is_led_to_the_barrier() {
    let found = found(EARLY).expect("it can be followed");
    let texts: Vec<_> = found.iter().map(|of| of.instruction.as_str()).collect();
    assert_eq!(texts, ["WARPSYNC.ALL", "BAR.SYNC.DEFER_BLOCKING 0x0"]);
    assert_eq!(
        (found[0].entry.as_str(), found[0].line, &found[0].open[..]),
        ("kernel", 12, &[0][..])
    );
}

#[test]
fn a_lane_that_leaves_the_region_before() {
    let broken = EARLY.replace(
        "        /*0040*/                   BRA",
        "        /*0038*/                   BREAK B0 ;\n        /*0040*/                   BRA",
    );
    assert_eq!(found(&broken), Ok(vec![]));
    let met = EARLY.replace("BRA `(.L_barrier)", "BRA `(.L_others)");
    assert_eq!(found(&met), Ok(vec![]));
}

/// The assembler opens a region early, and nothing parts threads before the barrier.
#[test]
fn a_region_around_a_barrier_that_all_reach() {
    let text = "
        /*0000*/                   BSSY B3, `(.L_met) ;
        /*0010*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0020*/               @P0 BRA `(.L_on) ;
        /*0030*/                   IADD3 R1, R1, 0x1, RZ ;
.L_on:
        /*0040*/                   BSYNC B3 ;
.L_met:
        /*0050*/                   EXIT ;
";
    assert_eq!(found(text), Ok(vec![]));
    let branched = text
        .replace("/*0010*/                   BAR", "/*0008*/ @P1 BRA `(.L_on) ;\n /*0010*/ BAR");
    assert_eq!(found(&branched).map(|found| found[0].open.clone()), Ok(vec![3]));
    let together = branched.replace("@P1 BRA", "@UP1 BRA");
    assert_eq!(found(&together), Ok(vec![]));
    let operand = branched.replace("@P1 BRA `", "BRA !P1, `");
    assert_eq!(found(&operand).map(|found| found.len()), Ok(1));
}

/// Who breaks out under a predicate is who branches under it next.
#[test]
fn a_break_and_a_branch_under_one_predicate() {
    let text = "
        /*0000*/                   BSSY B0, `(.L_met) ;
        /*0010*/               @P2 BRA `(.L_on) ;
        /*0020*/               @P0 BREAK B0 ;
        /*0030*/               @P0 BRA `(.L_barrier) ;
.L_on:
        /*0040*/                   BSYNC B0 ;
.L_met:
        /*0050*/                   IADD3 R1, R1, 0x1, RZ ;
.L_barrier:
        /*0060*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0070*/                   EXIT ;
";
    assert_eq!(found(text), Ok(vec![]));
    let other = text.replace("@P0 BRA", "@P3 BRA");
    assert_eq!(found(&other).map(|found| found.len()), Ok(1));
    let rewritten = text.replace(
        "        /*0030*/",
        "        /*0028*/                   ISETP.NE.AND P0, PT, R1, RZ, PT ;\n        /*0030*/",
    );
    assert_eq!(found(&rewritten).map(|found| found.len()), Ok(1));
}

/// A shuffle of parted threads is a function that the assembler puts behind the kernel, or a branch to where they are
/// brought together: either waits for the whole warp.
#[test]
fn a_function_that_waits() {
    let arrives = EARLY.replace("BAR.SYNC", "BAR.ARV");
    let function = "$shuffle:
        /*00a0*/                   WARPSYNC R26 ;
        /*00b0*/                   RET.REL.NODEC R20 `(kernel) ;
";
    let called = arrives.replace("WARPSYNC.ALL", "CALL.REL.NOINC `($shuffle)") + function;
    assert_eq!(found(&called).map(|found| found.len()), Ok(1));
    let before = called.replace("BRA `(.L_barrier)", "BRA `(.L_others)");
    assert_eq!(found(&before), Ok(vec![]));
    let collective = arrives.replace("WARPSYNC.ALL", "WARPSYNC.COLLECTIVE R9, `(.L_met)");
    assert_eq!(found(&collective).map(|found| found.len()), Ok(1));
    // A call within the kernel is a branch.
    let jump = EARLY.replace("BRA `(.L_barrier)", "CALL.REL.NOINC `(.L_barrier)");
    assert_eq!(found(&jump).map(|found| found.len()), Ok(2));
    let nowhere = called.replace("RET.REL", "NOP.REL");
    assert_eq!(found(&nowhere), Err(SassError::Label { line: 12 }));
}

#[test]
fn what_cannot_be_followed_is_an_error() {
    assert_eq!(sass::parted("nothing"), Err(SassError::Empty));
    let error = found(&EARLY.replace(".L_others)", ".L_nowhere)"));
    assert_eq!(error, Err(SassError::Label { line: 3 }));
    let behind = EARLY.replace(
        "        /*0090*/                   EXIT ;",
        "/*0090*/ EXIT ;\n/*00a0*/ BAR.SYNC 0x0 ;",
    );
    assert_eq!(found(&behind), Err(SassError::Unreached { line: 15 }));
}

/// Who breaks out of the inner region is who breaks out of the outer one.
#[test]
fn two_breaks_under_one_predicate() {
    let text = "
        /*0000*/                   BSSY B0, `(.L_met) ;
        /*0010*/                   BSSY B1, `(.L_on) ;
        /*0020*/               @P2 BRA `(.L_inner) ;
        /*0030*/               @P0 BREAK B1 ;
        /*0040*/               @P0 BREAK B0 ;
        /*0050*/               @P0 BRA `(.L_barrier) ;
.L_inner:
        /*0060*/                   BSYNC B1 ;
.L_on:
        /*0070*/                   BSYNC B0 ;
.L_met:
        /*0080*/                   IADD3 R1, R1, 0x1, RZ ;
.L_barrier:
        /*0090*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00a0*/                   EXIT ;
";
    assert_eq!(found(text), Ok(vec![]));
    let other = text.replace("@P0 BREAK B0", "@P3 BREAK B0");
    assert!(found(&other).is_ok_and(|found| !found.is_empty()));
    // Under two predicates, both of which have to hold.
    let two = text.replace("@P0 BREAK B1", "@P0 BREAK P1, B1");
    let two = two.replace("@P0 BREAK B0", "@P0 BREAK P1, B0");
    assert_eq!(found(&two.replace("@P0 BRA `", "@P0 BRA P1, `")), Ok(vec![]));
    assert!(found(&two).is_ok_and(|found| !found.is_empty()));
}

/// A region around the one that is left by a `BREAK` stays open.
#[test]
fn an_outer_region_stays_open() {
    let text = "
        /*0000*/                   BSSY B1, `(.L_outer) ;
        /*0010*/                   BSSY B0, `(.L_met) ;
        /*0020*/               @P0 BREAK B0 ;
        /*0030*/               @P0 BRA `(.L_barrier) ;
        /*0040*/                   BSYNC B0 ;
.L_met:
        /*0050*/                   IADD3 R1, R1, 0x1, RZ ;
.L_barrier:
        /*0060*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0070*/                   BSYNC B1 ;
.L_outer:
        /*0080*/                   EXIT ;
";
    assert_eq!(found(text).map(|found| found[0].open.clone()), Ok(vec![1]));
}

/// A `BREAK` under a predicate among its operands leaves only for those for whom it holds.
#[test]
fn a_break_for_some() {
    let text = "
        /*0000*/                   BSSY B0, `(.L_met) ;
        /*0010*/               @P2 BRA `(.L_on) ;
        /*0020*/                   BREAK P1, B0 ;
        /*0030*/                   BRA `(.L_barrier) ;
.L_on:
        /*0040*/                   BSYNC B0 ;
.L_met:
        /*0050*/                   IADD3 R1, R1, 0x1, RZ ;
.L_barrier:
        /*0060*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0070*/                   EXIT ;
";
    assert_eq!(found(text).map(|found| found.len()), Ok(1));
    let all = text.replace("BREAK P1, B0", "BREAK B0");
    assert_eq!(found(&all), Ok(vec![]));
    let both = text.replace("BREAK P1, B0", "BREAK P1, B0 ;\n @P0 BREAK P1, B0");
    assert_eq!(found(&both).map(|found| found.len()), Ok(1));
}

#[test]
fn a_barrier_under_a_predicate() {
    let text = "
        /*0000*/               @P0 BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0010*/                   EXIT ;
";
    assert_eq!(found(text).map(|found| found.len()), Ok(1));
    assert_eq!(found(&text.replace("@P0", "@UP0")), Ok(vec![]));
}

/// A branch by a table of labels parts threads, and leads to each of them.
#[test]
fn a_branch_by_a_table() {
    let listed = r#"BRX R4 -0x10 (*"BRANCH_TARGETS .L_others,.L_barrier"*)"#;
    let text = EARLY.replace("BRA `(.L_barrier)", listed);
    assert_eq!(found(&text).map(|found| found.len()), Ok(2));
    assert_eq!(found(&text.replace(",.L_barrier", "")), Ok(vec![]));
    let nowhere = text.replace(",.L_barrier", ",.L_nowhere");
    assert_eq!(found(&nowhere), Err(SassError::Label { line: 6 }));
    // Nothing else parts the threads of this one.
    let open = "
        /*0000*/                   BSSY B0, `(.L_met) ;
        /*0010*/                   BRX R4 -0x10 (*\"BRANCH_TARGETS .L_barrier\"*) ;
.L_barrier:
        /*0020*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0030*/                   BSYNC B0 ;
.L_met:
        /*0040*/                   EXIT ;
";
    assert_eq!(found(open).map(|found| found.len()), Ok(1));
    assert_eq!(found(&open.replace("BRX R4", "BRXU UR4")), Ok(vec![]));
    assert_eq!(found(&open.replace("BRX R4", "@P0 BRXU UR4")).map(|found| found.len()), Ok(1));
}

#[test]
fn what_is_not_followed_is_refused() {
    for (from, to) in [
        ("BRA `(.L_barrier)", "BRX R4 -0x10"),
        ("BRA `(.L_barrier)", "BMOV.32.CLEAR B0, R4"),
        ("                   BSYNC B0", "               @P3 BSYNC B0"),
        ("                   BSSY B0", "               @P3 BSSY B0"),
    ] {
        assert!(matches!(found(&EARLY.replace(from, to)), Err(SassError::Unknown { .. })), "{to}");
    }
}
