//! Texts with something that is not known, and texts that are cut off or changed anywhere.

mod device;

use adaloss_interpreter::Module;
use device::kernel;

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
        ("add.s32 %r1, %r1, 0d0000000000000000;", "line 12: add.s32: not an operand of 32 bits"),
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
        ("bar.sync 16;", "line 12: bar.sync: the operands do not fit"),
        (".pragma \"unroll\";", "line 12: an unknown pragma: unroll"),
        (".reg .b128 %q;", "line 12: registers of an unknown type: .b128"),
        (".branchtargets a;", "line 12: an unknown directive: .branchtargets"),
        ("{ .reg .b32 %a; }\nmov.u32 %a, 0;", "line 13: mov.u32: there is no register %a"),
        ("ret; }\n}", "line 13: an unknown directive: }"),
        ("mov.u32 %r1, ?;", "line 12: a letter that stands nowhere: '?'"),
        ("mov.u32 %r1, 99999999999999999999;", "line 12: not a number: 99999999999999999999"),
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
    ] {
        assert_eq!(error(text), what);
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
