//! Texts with something that is not known, and texts that are cut off or changed anywhere.

mod device;

use adaloss_interpreter::{Fault, Launch, Module, Schedule};
use device::{Device, Random, block, kernel, run};

const SHIPPED: &str = include_str!("../../ptx/sm_90a.ptx");

fn error(text: &str) -> String {
    Module::parse(text).and_then(|module| module.decode()).expect_err("an error").to_string()
}

#[test]
fn instructions_that_do_not_fit() {
    for (instruction, what) in [
        ("add.rz.f32 %r1, %r2, %r3;", "line 12: an unknown instruction: add.rz.f32"),
        ("call.uni f;", "line 12: an unknown instruction: call.uni"),
        ("add.s32 %r1, %rd1, 2;", "line 12: add.s32: %rd1 has 64 bits and not 32"),
        ("add.s32 %r16, %r1, 2;", "line 12: add.s32: there is no register %r16"),
        ("add.s32 %r1, %r1;", "line 12: add.s32: the operands do not fit"),
        ("add.s32 %r1, %r1, 1, 2;", "line 12: add.s32: the operands do not fit"),
        ("add.s32 1, %r1, 2;", "line 12: add.s32: a result that is no register"),
        ("add.s32 %r1, %r1, [%rd1];", "line 12: add.s32: not an operand of 32 bits"),
        ("add.b32 %r1, %r1, 1;", "line 12: an unknown instruction: add.b32"),
        ("and.b32 %r1, %r1, 0d0000000000000000;", "line 12: and.b32: not an operand of 32 bits"),
        ("mov.u32 %r1, %clock;", "line 12: mov.u32: there is no %clock"),
        ("mov.u64 %rd1, %tid.x;", "line 12: mov.u64: %tid.x has 32 bits and not 64"),
        ("bra $L_nowhere;", "line 12: there is no label $L_nowhere"),
        ("$L_a:\n$L_a:", "line 13: there is another label $L_a"),
        ("ld.param.b64 %rd1, [other];", "line 12: ld.param.b64: there is no parameter other"),
        ("ld.param.b64 %rd1, [to+8];", "line 12: ld.param.b64: beyond the 8 bytes of to"),
        ("ld.param.b32 %r1, [to+2];", "line 12: ld.param.b32: to is not aligned to 4 bytes there"),
        (
            "ld.global.b32 %r1, [%r2];",
            "line 12: ld.global.b32: %r2 has too few bits for an address",
        ),
        ("ld.b32 %rs1, [%rd2];", "line 12: ld.b32: %rs1 has 16 bits and not 32"),
        ("selp.b32 %r1, 1, 2, %r3;", "line 12: selp.b32: %r3 has 32 bits and not 1"),
        ("cvt.rn.f32.s32 %r1, %rs1;", "line 12: cvt.rn.f32.s32: its source has 16 bits and not 32"),
        ("bar.sync 16;", "line 12: bar.sync: the operands do not fit"),
        (".pragma \"unroll\";", "line 12: an unknown pragma: \"unroll\""),
        (".reg .b128 %q;", "line 12: registers of an unknown type: .b128"),
        (".branchtargets a;", "line 12: an unknown directive: .branchtargets"),
        ("{ .reg .b32 %a; }\nmov.u32 %a, 0;", "line 13: mov.u32: there is no register %a"),
        ("ret; }\n}", "line 13: an unknown directive: }"),
        ("mov.u32 %r1, ?;", "line 12: a letter that stands nowhere: '?'"),
        ("mov.u32 %r1, 99999999999999999999;", "line 12: not a number: 99999999999999999999"),
        // What PTX would convert, or refuse, and what would be passed over otherwise.
        ("add.f32 %r1, %r1, 1;", "line 12: add.f32: a number of another kind"),
        ("setp.lt.f32 %p1, %r1, 1;", "line 12: setp.lt.f32: a number of another kind"),
        (
            "st.global.v2.f32 [%rd1], {%r1, 1};",
            "line 12: st.global.v2.f32: a number of another kind",
        ),
        ("add.s32 %r1, %r1, 0f3f800000;", "line 12: add.s32: a number of another kind"),
        ("cvt.f64.f32 %rd1, 1;", "line 12: cvt.f64.f32: a number of another kind"),
        ("$L_a:\n@%p1 bra.uni $L_a;", "line 13: bra.uni under a guard"),
        ("cp.async.wait_group -1;", "line 12: cp.async.wait_group: the operands do not fit"),
        (
            "cp.async.cg.shared.global [%r1], [%rd1], 8;",
            "line 12: cp.async.cg.shared.global: the operands do not fit",
        ),
        (".reg .b32 %a;\n.reg .b64 %a;", "line 13: there is another %a"),
        (".reg .b32 %r<4>;", "line 12: there is another %r"),
        (".local .b8 a[8];\n.local .b8 a[8];", "line 13: there is another a"),
        ("\"ret\";", "line 12: not a name: \"ret\""),
        ("mov.u32 %r1, \"5\";", "line 12: not an operand: \"5\""),
        ("ld.global.b32 %r1, [%rd1+4.5];", "line 12: not `]`: .5"),
    ] {
        assert_eq!(error(&kernel("", instruction)), what);
    }
}

#[test]
fn directives_that_are_not_known() {
    for (text, what) in [
        (".func f()\n{\n}", "line 1: an unknown directive: .func"),
        (".const .b32 a;", "line 1: an unknown directive: .const"),
        (".address_size 32", "line 1: addresses of other than 64 bits"),
        (".extern .global .b32 a;", "line 1: a variable of another module"),
        (".global .b32 a[];", "line 1: the size of a"),
        (".global .b8 a[2] = {1, 2, 3};", "line 1: the values of a"),
        (".global .b8 a[99999999999];", "line 1: 99999999999 is too many"),
        (".global .align 3 .b8 a;", "line 1: an alignment of 3"),
        (".visible .entry a()\n.noreturn\n{\n}", "line 2: the entry a has no body"),
        (".visible .entry a()\n{\nret;", "line 3: the entry a does not end"),
        (".visible .entry a(.param .b128 b)\n{\n}", "line 1: an unknown type: .b128"),
        (".version 8", "line 1: the text ends here"),
        (".version 8 .target sm_90", "line 1: not a version: .target"),
        (".global .b8 a[4.5];", "line 1: not `]`: .5"),
        (".global .f32 a = 1;", "line 1: not a value of that type"),
        (".global .f64 a = 0f3f800000;", "line 1: not a value of that type"),
        (".global .b16 a = 0f3f800000;", "line 1: not a value of that type"),
        (".global .f32 a = -0f3f800000;", "line 1: not a number: 0f3f800000"),
        (".global .b32 a;\n.shared .b32 a;", "line 2: there is another a"),
        (".visible .entry a()\n{\n}\n.visible .entry a()\n{\n}", "line 4: there is another a"),
        (".visible .entry a(.param .b8 b, .param .b8 b)\n{\n}", "line 1: there is another b"),
    ] {
        assert_eq!(error(text), what);
    }
}

/// What is declared is never taken from memory before it is known to be there.
#[test]
fn sizes_that_are_enormous() {
    let many = |line: &str, count: usize| -> String {
        (0..count).map(|nth| line.replace('#', &nth.to_string())).collect()
    };
    for (variables, instructions, what) in [
        (".shared .b8 a[99999999999];", "", "line 1: 99999999999 is too many"),
        ("", ".reg .b32 %a<4000000000>;", "line 12: 4000000000 is too many"),
        ("", ".reg .b32 %a<65536>;", "line 12: too many registers"),
        ("", &many(".reg .b64 %a#<9000>;", 8), "line 12: too many registers"),
        ("", ".local .b64 a[65537];", "line 12: 524296 bytes of local memory"),
        ("", &many(".local .b64 a#[16777216];", 9), "line 12: 134217728 bytes of local memory"),
        (&many(".global .b64 a#[16777216];", 2), "", "line 1: 268435456 bytes of variables"),
    ] {
        assert_eq!(error(&kernel(variables, instructions)), what);
    }
    let parameters =
        format!(".visible .entry a({} .param .b8 b)\n{{\n}}", many(".param .b64 a#[4095],", 2));
    assert_eq!(error(&parameters), "line 1: 65521 bytes of parameters");
    // A name is kept once, however many registers have it.
    let name = "a".repeat(1 << 20);
    let text = kernel("", &format!(".reg .b32 %{name}<60000>;\nmov.u32 %{name}59999, 1;"));
    Module::parse(&text).and_then(|module| module.decode()).expect("a text");
}

/// Names of an inner scope go before those outside, a single one and one of many alike.
#[test]
fn the_innermost_name_is_meant() {
    let text = "
mov.u32 %r1, 1;
{ .reg .b32 %r1; mov.u32 %r1, 2; }
.reg .b32 %one2;
mov.u32 %one2, 3;
{ .reg .b32 %one<4>; mov.u32 %one2, 4; st.global.b32 [%rd15+8], %one2; }
st.global.v2.b32 [%rd15], {%r1, %one2};";
    assert_eq!(run("", text, 1).expect("no fault").0[..3], [1, 3, 4]);
}

/// A pragma is no statement: what stood before it is not counted twice.
#[test]
fn a_pragma_behind_a_brace() {
    for text in [
        "{ .pragma \"nounroll\"; }",
        "{ }\n.pragma \"nounroll\";",
        "{ {\n.pragma \"nounroll\"; } }",
    ] {
        Module::parse(&kernel("", text)).and_then(|module| module.decode()).expect("a text");
    }
}

/// Whatever is cut off, there is an error or a module, and no panic.
#[test]
fn a_text_is_cut_anywhere() {
    // Every place in the beginning, the end of an entry and inline assembly among them; then some.
    let begin = &SHIPPED[..SHIPPED.find("adaloss_apply_e4m3(").expect("an entry")];
    let ends = (0..begin.len()).step_by(997).chain(begin.len() - 300..begin.len());
    for end in ends {
        // All letters are of one byte.
        _ = Module::parse(&SHIPPED[..end]).and_then(|module| module.decode());
    }
}

/// Whatever is changed, there is an error or a module, and no panic.
#[test]
fn a_text_is_changed_anywhere() {
    let at = SHIPPED.find(".visible .entry adaloss_matmul_nn_f16_f32(").expect("the entry");
    let end = at + SHIPPED[at..].find("\n}\n").expect("its end") + 3;
    let matmul =
        format!("{}\n{}", SHIPPED[..900].rsplit_once('\n').expect("lines").0, &SHIPPED[at..end]);
    Module::parse(&matmul).and_then(|module| module.decode()).expect("a text");
    let lines: Vec<_> = matmul.lines().collect();
    let mut state = 1_u64;
    let mut below = |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for _ in 0..300 {
        let mut lines = lines.clone();
        for _ in 0..3 {
            let line = below(lines.len());
            match below(3) {
                0 => _ = lines.remove(line),
                1 => {
                    lines.insert(line, ["{", "}", ";", ",", "[", "mov.b32", "ret;", "@"][below(8)]);
                }
                _ => {
                    let cut = below(lines[line].len() + 1);
                    lines[line] = &lines[line][..cut];
                }
            }
        }
        _ = Module::parse(&lines.join("\n")).and_then(|module| module.decode());
    }
}

/// A little of all that there is.
const MIXTURE: &str = "
.version 7.8
.target sm_80
.address_size 64
.global .align 8 .b16 table[4] = {1, -2, 0x3, 4};
.extern .shared .align 16 .b8 launched[];
.shared .align 16 .b8 shared[256];
.visible .entry kernel(.param .u64 .ptr .global .align 4 to, .param .align 4 .b8 other[12])
.maxntid 64, 1, 1
{
.reg .pred %p<4>;
.reg .b16 %rs<4>;
.reg .b32 %r<16>;
.reg .b64 %rd<4>;
.local .align 8 .b8 depot[16];
ld.param.b64 %rd1, [to];
ld.param.v2.b32 {%r1, _}, [other];
mov.u32 %r2, %tid.x;
mov.u32 %r3, shared;
mov.b64 %rd2, depot;
mad.wide.s32 %rd3, %r2, 4, %rd1;
$L_again:
.pragma \"nounroll\";
ld.global.nc.u16 %rs1, [table+2];
mad.lo.s32 %r4, %r2, 4, %r3;
cp.async.ca.shared.global [%r4], [%rd3], 4, %r1;
cp.async.commit_group;
cp.async.wait_group 0;
bar.sync 0;
ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r5}, [%r3];
mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r6, %r7, %r8, %r9}, {%r1, %r2, %r3, %r4}, {%r2, %r2}, {%r1, %r1, %r1, %r1};
bar.warp.sync -1;
shfl.sync.up.b32 %r10|%p1, %r2, 3, 0, 0xffffffff;
st.local.v2.b32 [%rd2+8], {%r10, 7};
{ .reg .b64 %r1; mov.b64 %r1, {%r2, %r3}; cvta.shared.u64 %r1, %r1; }
prmt.b32 %r11, %r10, %r2, 0x5140;
bfe.s32 %r11, %r11, %r2, 300;
shf.l.clamp.b32 %r12, %r10, %r11, %r2;
cvt.rni.s8.f32 %rs2, %r6;
cvt.rn.f32.u64 %r13, %rd3;
fma.rn.ftz.f32 %r13, %r13, 0f3f800000, %r6;
div.s32 %r14, %r12, %r2;
setp.ge.and.s32 %p2|%p3, %r2, 0, !%p1;
@%p2 atom.global.add.u32 %r15, [%rd3], 1;
bar.sync 1;
@!%p3 red.shared.max.u32 [%r3+60], 1;
selp.b32 %r1, 1, %r2, %p2;
@%p3 bra $L_again;
@%p3 trap;
st.global.v2.b32 [%rd1], {%r1, %r15};
}
";

/// Launches the entry of a text with two blocks.
fn launched(module: &Module, schedule: Schedule) -> Result<(), Fault> {
    let mut device = Device::default();
    let to = device.words(&[0; 64]);
    let mut parameters = to.to_le_bytes().to_vec();
    parameters.extend([4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0]);
    let launch = Launch {
        blocks: 2,
        dynamic_shared_bytes: 32,
        schedule,
        most_instructions: Some(2000),
        ..block(64, &parameters)
    };
    module.entry("kernel").map_or(Ok(()), |entry| entry.launch(&mut device, &launch).map(drop))
}

/// Whatever takes the place of a word, a number or a sign, the text is refused, or a launch succeeds or is at fault.
#[test]
fn a_changed_text_is_launched() {
    let module = Module::parse(MIXTURE).expect("a text");
    launched(&module, Schedule::adverse(1)).unwrap_or_else(|fault| panic!("{fault}"));
    let mut pieces = Vec::new();
    let is_word = |of: char| of.is_alphanumeric() || "._%$".contains(of);
    let mut rest = MIXTURE;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|of| !is_word(of)).filter(|_| is_word(first)).unwrap_or(1);
        let (piece, behind) = rest.split_at(end);
        pieces.push(piece);
        rest = behind;
    }
    let strange = [
        "",
        "0",
        "-1",
        "4294967295",
        "0xffffffffffffffff",
        "-0x8000000000000000",
        "0f7fffffff",
        "0d7ff0000000000001",
        "999999999999999999999",
        "\u{fc}",
        "\u{1f980}",
        "\"",
        "\"{\"",
        "/*",
        "//",
        "\0",
        "{",
        "}",
        "@!",
        "%r99",
        "%",
        ".",
        "_",
        ".loc",
        "[",
        "<65535>",
        "+-",
    ];
    let mut random = Random(3);
    let mut succeeded = 0;
    for _ in 0..20_000 {
        let mut pieces = pieces.clone();
        for _ in 0..=random.bits() % 2 {
            let mut below = |bound: usize| random.bits() as usize % bound;
            let at = below(pieces.len());
            pieces[at] = match below(2) {
                0 => strange[below(strange.len())],
                _ => pieces[below(pieces.len())],
            };
        }
        let Ok(module) = Module::parse(&pieces.concat()) else { continue };
        let schedule = Schedule::adverse(random.bits());
        succeeded += usize::from(launched(&module, schedule).is_ok());
    }
    assert!(succeeded > 100, "only {succeeded} succeeded");
}
