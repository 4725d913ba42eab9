//! Certificates against a search over every scale and element, when they are due, and how they read.

use adaloss_core::{
    format::{Format, Narrowing, Rounding},
    policy::{
        Amax, Cell, Config, Fraction, Measured, Policy, Preset, Rule, Trigger, Window,
        breaks_promise, certify, due, finish,
    },
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_oracle::{
    counted_narrowings, in_parallel,
    inputs::{SplitMix64, cases},
    narrowings,
    search::{Evidence, Tensor},
};
use proptest::prelude::*;

use crate::{
    tensor::Observe,
    visit::{step, visit, with},
};

fn config(narrowing: Narrowing, tolerance: Fraction) -> Config {
    let config = Config::for_format(narrowing.format)
        .with_rounding(narrowing.rounding, 0)
        .with_overflow(narrowing.overflow);
    let measured = Measured { tolerance, ..Measured::for_format(narrowing.format) };
    with(config, Policy::Measured(measured))
}

/// Certifies a tensor at a scale and compares with the search.
fn check(config: &Config, tensor: &Tensor, scale: Scale) {
    let Policy::Measured(Measured { tolerance, .. }) = *config.policy() else {
        unreachable!("measured")
    };
    let narrowing = config.narrowing();
    let expected = Evidence::find(tolerance, narrowing, tensor, scale.log2());
    let mut cell = Cell::at(Scale::saturating(-7));
    let histogram = tensor.histogram(narrowing);
    let certificate = certify(config, &histogram, scale, &mut cell);
    assert_eq!(Evidence::of(&certificate), expected, "{config:?} {tensor:?} at {scale}");
    assert_eq!((certificate.rule, certificate.scale), (Rule::Measured, scale));
    assert_eq!(certificate.lost_mass.bits(), histogram.lost_mass(scale));
    assert_eq!((certificate.before.log2(), cell.scale().log2()), (-7, -7), "it moves nothing");
    assert_eq!((cell.age(), cell.trigger()), (0, Trigger::None));
    assert_eq!(cell.is_promised(), certificate.promised);
}

#[test]
fn certificates_say_what_a_search_finds() {
    let shares = [0, 4_294_967, 42_949_673, 1 << 30].map(Fraction::from_bits);
    let checked = in_parallel(&counted_narrowings(), |&narrowing| {
        let mut generator = SplitMix64(91);
        for _ in 0..150 {
            let config = config(narrowing, shares[generator.below(4)]);
            let tensor = Tensor::draw(&mut generator);
            for _ in 0..3 {
                let scale = Scale::saturating(generator.below(100) as i32 - 50);
                check(&config, &tensor, scale);
            }
        }
        450
    });
    println!("certificates: {checked} compared");
}

/// Stochastic rounding promises what can happen, and tensors at the ends of f32 what is left of them.
#[test]
fn stochastic_rounding_and_extreme_tensors() {
    let mut generator = SplitMix64(93);
    for narrowing in narrowings() {
        let config = config(narrowing, Fraction::PER_MILLE);
        for incoming in [Scale::MIN, Scale::ONE, Scale::MAX] {
            for (least, greatest) in [(-149, -140), (-149, 127), (120, 127), (-3, 3)] {
                let draw = |_| generator.between_binades(least, greatest);
                let values = (0..60).map(draw).filter(|x| *x != 0.0).collect();
                let tensor = Tensor { values, incoming };
                for scale in [Scale::MIN, Scale::ONE, Scale::MAX] {
                    check(&config, &tensor, scale);
                }
            }
        }
    }
}

/// Named cases, by hand.
#[test]
fn windows_by_hand() {
    let config = Config::for_format(Format::BINARY16);
    let at = |values: &[f32], scale: i32| {
        let tensor = Tensor { values: values.to_vec(), incoming: Scale::ONE };
        let histogram = tensor.histogram(config.narrowing());
        certify(&config, &histogram, Scale::saturating(scale), &mut config.cell())
    };
    // 2^0 alone: it lives from 2^-24 (the tie 2^-25 is lost) to 2^15.
    let certificate = at(&[1.0], 14);
    assert_eq!((certificate.window.least, certificate.window.greatest), (-24, 15));
    assert_eq!((certificate.window.width(), certificate.promised), (40, true));
    // 2^-50 needs 2^26, and 1 forbids more than 2^15: no window, and nothing is promised.
    let certificate = at(&[1.0, 2.0_f32.powi(-50)], 14);
    assert_eq!((certificate.window.width(), certificate.promised), (0, false));
    assert_eq!(certificate.expected[1].underflow, 1);
    assert!(certificate.lost_mass < Fraction::PER_MILLE, "it weighs nothing");
    assert_eq!(Window::NONE.width(), 0);
    // Where every legal scale overflows there is no window either.
    let tensor = Tensor { values: vec![f32::MAX; 3], incoming: Scale::MIN };
    let histogram = tensor.histogram(config.narrowing());
    let certificate = certify(&config, &histogram, Scale::MIN, &mut config.cell());
    assert_eq!((certificate.window.greatest, certificate.window.width()), (-127, 0));
    assert_eq!(certificate.expected[1].overflow, 3);
}

/// What a histogram for another format, with non-finite elements or without nonzero ones says, and what policies of
/// another kind make of it.
#[test]
fn what_promises_nothing() {
    let config = Config::for_format(Format::BINARY16);
    let amax = with(config, Policy::Amax(Amax { window: 4, margin: 0 }));
    let observed = |narrowing: Narrowing, values: &[f32]| {
        let mut histogram = Histogram::new(narrowing);
        histogram.observe(values, Scale::ONE);
        histogram
    };
    for other in [
        Narrowing::to(Format::BFLOAT16),
        Narrowing::to(Format::BINARY16.flushing()),
        Narrowing::to(Format::BINARY16).with_rounding(Rounding::TowardZero),
    ] {
        let mut cell = config.cell();
        let histogram = observed(other, &[1.0e-6]);
        assert_eq!(certify(&config, &histogram, Scale::ONE, &mut cell).rule, Rule::OtherFormat);
        assert_eq!(cell, config.cell());
    }
    // What becomes of overflow changes no count.
    let saturating = observed(Narrowing::to(Format::BINARY16).saturating(), &[1.0e-6]);
    let certificate = certify(&config, &saturating, Scale::ONE, &mut config.cell());
    assert_eq!(certificate.rule, Rule::Measured);

    for (values, rule) in [
        (&[][..], Rule::Empty),
        (&[0.0, -0.0], Rule::Empty),
        (&[1.0, f32::NAN], Rule::NonFinite),
        (&[1.0, f32::NEG_INFINITY], Rule::NonFinite),
    ] {
        for config in [config, amax] {
            let mut cell = config.cell();
            let histogram = observed(config.narrowing(), values);
            let certificate = certify(&config, &histogram, Scale::ONE, &mut cell);
            assert_eq!((certificate.rule, certificate.promised), (rule, false));
            assert_eq!((certificate.allowed, certificate.window), (0, Window::NONE));
            assert!(!cell.is_promised());
            assert_eq!(due(&config, &cell), None, "nobody looks again before the period is over");
        }
    }
    let paper = Config::preset(Preset::Paper, Format::BINARY16);
    for config in [with(config, Policy::Fixed(Scale::saturating(9))), paper] {
        let mut cell = config.cell();
        let histogram = observed(config.narrowing(), &[1.0e-9, 3.0e4]);
        assert_eq!(certify(&config, &histogram, Scale::ONE, &mut cell).rule, Rule::Unused);
        assert_eq!(cell, config.cell());
    }
    // `amax` has no tolerance to promise by, and counts all the same.
    let certificate =
        certify(&amax, &observed(amax.narrowing(), &[1.0, 1.0e-9]), Scale::ONE, &mut amax.cell());
    assert_eq!((certificate.rule, certificate.promised), (Rule::Amax, false));
    assert_eq!((certificate.nonzero, certificate.expected[1].underflow), (2, 1));
}

/// A certificate is due at the first visit and every so many steps, counted in steps in which the tensor was
/// visited, however often; never, where nobody wants any.
#[test]
fn certificates_are_due_every_period() {
    for format in [Format::BINARY16, Format::E4M3.flushing(), Format::BFLOAT16] {
        for (period, visits) in [(1, 1), (2, 3), (3, 1), (7, 2), (100, 1)] {
            let config = Config::for_format(format).with_period(period).expect("legal");
            let mut cell = config.cell();
            for at in 0..5 * period + 3 {
                for nth in 0..visits {
                    let is_due = at % period == 0 && nth == 0;
                    let trigger = if at == 0 { Trigger::First } else { Trigger::Period };
                    assert_eq!(due(&config, &cell), is_due.then_some(trigger), "{period} {at}");
                    if is_due {
                        let mut histogram = Histogram::new(config.narrowing());
                        histogram.observe(&[0.01], Scale::ONE);
                        let certificate = certify(&config, &histogram, Scale::ONE, &mut cell);
                        assert_eq!(certificate.trigger, trigger);
                    }
                    visit(&config, &mut cell, &[0.01, 0.0], Scale::ONE);
                }
                finish(&config, &mut cell);
                // A step in which the tensor was not visited does not count.
                finish(&config, &mut cell);
                assert_eq!(cell.age(), at % period + 1);
            }
            let never = config.with_period(Config::NEVER).expect("legal");
            assert_eq!(due(&never, &never.cell()), None);
        }
    }
}

/// A promise is broken by more than twice the tolerated share, and only where there is one.
#[test]
fn promises_are_broken_beyond_twice_the_tolerance() {
    for tolerance in [4_294_967_u32, 42_949_672, 1 << 28, 1 << 30] {
        let narrowing = Narrowing::to(Format::BINARY16);
        let config = config(narrowing, Fraction::from_bits(tolerance));
        let mut promised = config.cell();
        let mut histogram = Histogram::new(narrowing);
        histogram.observe(&[1.0], Scale::ONE);
        assert!(certify(&config, &histogram, Scale::ONE, &mut promised).promised);
        for nonzero in [1_u64, 3, 10, 500, 999, 1500, 2000, 100_000, 1 << 40] {
            let twice = 2 * u128::from(tolerance) * u128::from(nonzero);
            let most = (twice >> 32) as u64;
            for underflow in [0, 1, most.saturating_sub(1), most, most + 1, most + 2] {
                if underflow > nonzero {
                    continue;
                }
                let seen = Outcome { elements: nonzero, underflow, ..Outcome::EMPTY };
                let is_beyond = u128::from(underflow) << 32 > twice;
                let context = format!("{underflow} of {nonzero}, T = {tolerance} / 2^32");
                assert_eq!(breaks_promise(&config, &seen, &promised), is_beyond, "{context}");
                assert!(!breaks_promise(&config, &seen, &config.cell()), "nothing was promised");
                let bad = Outcome { elements: nonzero + 1, nonfinite: 1, ..seen };
                assert!(!breaks_promise(&config, &bad, &promised));
            }
        }
    }
}

#[test]
fn certificates_read_as_lines_of_a_log() {
    let config = Config::for_format(Format::E5M2);
    let mut cell = config.cell();
    let mut print = |values: &[f32]| {
        let mut histogram = Histogram::new(config.narrowing());
        histogram.observe(values, Scale::ONE);
        let visited = step(&config, &mut cell, values, Scale::ONE);
        certify(&config, &histogram, Scale::saturating(visited.scale), &mut cell).to_string()
    };
    assert_eq!(print(&[0.0]), "2^0 -> 2^0 by Empty on First");
    // The first scale leaves one binade; the next one none.
    assert_eq!(
        print(&[2.0_f32.powi(40), 1.0]),
        "2^-25 -> 2^-26 by Measured on None, expecting 1 of 2 to underflow and 0 to overflow"
    );
}

fn any_narrowing() -> impl Strategy<Value = Narrowing> {
    prop::sample::select(counted_narrowings())
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn the_order_of_the_elements_does_not_matter(narrowing in any_narrowing(), seed: u64) {
        let mut generator = SplitMix64(seed);
        let config = config(narrowing, Fraction::PER_MILLE);
        let mut tensor = Tensor::draw(&mut generator);
        let certified = |tensor: &Tensor| {
            let mut cell = config.cell();
            let histogram = tensor.histogram(narrowing);
            (certify(&config, &histogram, Scale::ONE, &mut cell), cell.to_bytes())
        };
        let first = certified(&tensor);
        generator.shuffle(&mut tensor.values);
        prop_assert_eq!(certified(&tensor), first);
    }

    /// Whoever tolerates more never gets a higher lower end.
    #[test]
    fn a_larger_tolerance_never_raises_the_lower_end(
        narrowing in any_narrowing(),
        shares in prop::array::uniform2(any::<u32>()),
        seed: u64,
    ) {
        let histogram = Tensor::draw(&mut SplitMix64(seed)).histogram(narrowing);
        let [less, more] = { let mut shares = shares; shares.sort_unstable(); shares };
        let least = |tolerance: u32| {
            let config = config(narrowing, Fraction::from_bits(tolerance));
            certify(&config, &histogram, Scale::ONE, &mut config.cell()).window.least
        };
        prop_assert!(least(more) <= least(less));
        prop_assert!(histogram.least_scale_by_mass(more).map_or(127, Scale::log2)
            <= histogram.least_scale_by_mass(less).map_or(127, Scale::log2));
    }

    /// Scaling every element by `2^j` moves the window by `-j`.
    #[test]
    fn scaling_the_tensor_moves_its_window(narrowing in any_narrowing(), j in -12..=12, seed: u64) {
        let mut generator = SplitMix64(seed);
        let config = config(narrowing, Fraction::PER_MILLE);
        let values: Vec<f32> = (0..100).map(|_| generator.between_binades(-30, 5)).collect();
        let factor = Scale::saturating(j).factor();
        let scaled = values.iter().map(|x| x * factor).collect();
        let window = |values: Vec<f32>| {
            let histogram = Tensor { values, incoming: Scale::ONE }.histogram(narrowing);
            certify(&config, &histogram, Scale::ONE, &mut config.cell()).window
        };
        let (first, second) = (window(values), window(scaled));
        // Beyond the legal scales an end stands still.
        let inside = |end: i16| end.abs() <= 126 - 12;
        for (a, b) in [(first.least, second.least), (first.greatest, second.greatest)] {
            prop_assert!(!inside(a) || i32::from(a) - j == i32::from(b));
        }
    }
}
