//! What a launch is said to have done, counted by hand.

mod device;

use adaloss_interpreter::{Class, Executed};
use device::run;

const SHARED: &str = ".shared .align 16 .b8 shared[4096];";

/// Returns what is counted when threads store a word each, so many bytes from one another.
fn strided(space: &str, bytes: u32) -> (u64, u64) {
    let text = format!(
        "
mov.u32 %r1, shared;
mad.lo.s32 %r1, %r15, {bytes}, %r1;
mad.wide.u32 %rd1, %r15, {bytes}, %rd15;
st.{space}.b32 [{}], %r15;",
        if space == "shared" { "%r1" } else { "%rd1" }
    );
    let (_, counts) = run(SHARED, &text, 32).expect("no fault");
    (counts.sectors_written, counts.bank_conflicts)
}

#[test]
fn sectors_and_banks() {
    // 32 words are 4 sectors, and each has its own bank; at a distance of 128 bytes, all are in one.
    assert_eq!([4, 8, 32, 64].map(|bytes| strided("global", bytes).0), [4, 8, 32, 32]);
    assert_eq!(
        [4, 8, 16, 32, 128, 12, 20].map(|bytes| strided("shared", bytes).1),
        [0, 1, 3, 7, 31, 0, 0]
    );
    let one = "mov.u32 %r1, shared;\nsetp.ne.u32 %p1, %r15, 0;\n@!%p1 st.shared.b32 [%r1], 1;\n\
               bar.sync 0;\nld.shared.b32 %r2, [%r1];\nld.global.b32 %r3, [%rd15];";
    let (_, counts) = run(SHARED, one, 64).expect("no fault");
    assert_eq!((counts.bank_conflicts, counts.sectors_read, counts.barriers), (0, 2, 1));
}

#[test]
fn classes_of_instructions() {
    let text = "
add.s32 %r1, %r15, 1;
cvt.rn.f32.u32 %r2, %r1;
mul.rn.f32 %r3, %r2, %r2;
setp.lt.f32 %p1, %r3, 0f40800001;
cvt.f64.f32 %rd1, %r3;
@%p1 add.rn.f64 %rd1, %rd1, %rd1;
@%p1 bra $L_end;
shfl.sync.bfly.b32 %r4, %r1, 1, 0x1f, 0xfffffffc;
$L_end:";
    let (_, counts) = run("", text, 32).expect("no fault");
    let of = |class| {
        let Executed { by_warps, by_threads } = counts.of(class);
        (by_warps, by_threads)
    };
    assert_eq!(of(Class::Integer), (1, 32));
    assert_eq!(of(Class::Float32), (2, 64));
    // Two threads have less than four.
    assert_eq!(of(Class::Float64), (1, 2));
    assert_eq!(of(Class::Conversion), (2, 64));
    // %tid.x is moved, too.
    assert_eq!(of(Class::Movement), (2, 62));
    assert_eq!(of(Class::Parameter), (1, 32));
    // The branch, and the return of all.
    assert_eq!(of(Class::Control), (2, 34));
    assert_eq!(counts.divergences, 1);
    let names: Vec<_> = Class::ALL.iter().map(|class| class.name()).collect();
    assert_eq!(names.len(), 12);
    let total = counts.total();
    assert_eq!((total.by_warps, total.by_threads), (11, 290));
}
