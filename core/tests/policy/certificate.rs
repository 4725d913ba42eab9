//! A certificate prints what decided, why, and what to expect.

use adaloss_core::{
    format::Format,
    policy::{Config, Measured, Policy, decide},
    scale::Scale,
    statistics::Histogram,
};

#[test]
fn certificates_read_as_lines_of_a_log() {
    let measured = Measured { max_growth: 3, ..Measured::for_format(Format::E5M2) };
    let config = Config::for_format(Format::E5M2).with_policy(Policy::Measured(measured));
    let config = config.expect("legal");
    let mut cell = config.cell();
    let mut print = |values: &[f32]| {
        let mut histogram = Histogram::new(config.narrowing());
        histogram.observe(values, Scale::ONE);
        decide(&config, &histogram, &mut cell).to_string()
    };
    assert_eq!(print(&[0.0]), "2^0 -> 2^0 by Empty on First");
    // 2^k lives at K in -16 - k ..= 15 - k; two binades of headroom; the middle.
    let high = 2.0_f32.powi(40);
    assert_eq!(
        print(&[high, -high]),
        "2^0 -> 2^-42 by Window on Empty, expecting 0 of 2 to underflow and 0 to overflow"
    );
    assert_eq!(
        print(&[1.0, 2.0_f32.powi(60), 0.0]),
        "2^-42 -> 2^-62 by LostMass on None, expecting 1 of 2 to underflow and 0 to overflow"
    );
    assert_eq!(
        print(&[1.0]),
        "2^-62 -> 2^-59 by Window on None, expecting 1 of 1 to underflow and 0 to overflow, \
         growth limited"
    );
}
