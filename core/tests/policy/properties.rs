//! What holds of every decision.

use adaloss_core::{
    format::{Encoding, Format, Narrowing, Rounding},
    policy::{
        Amax, Cell, Certificate, Config, Fraction, Measured, Policy, Rule, Trigger, decide, due,
    },
    scale::Scale,
    statistics::Histogram,
};
use adaloss_oracle::{
    counted_narrowings,
    inputs::{SplitMix64, cases},
    search::Tensor,
};
use proptest::prelude::*;

use crate::tensor::Observe;

/// Configurations whose policy decides from histograms.
fn configs(narrowing: Narrowing) -> [Config; 2] {
    let config = Config::for_format(narrowing.format).with_rounding(narrowing.rounding, 0);
    let amax = Policy::Amax(Amax { window: 5, margin: 1 });
    [config, config.with_policy(amax).expect("legal")]
}

/// A cell with a past.
fn calibrated(config: &Config, generator: &mut SplitMix64) -> Cell {
    let mut cell = Cell::at(Scale::saturating(generator.below(41) as i32 - 20));
    let tensor = Tensor::draw(generator);
    decide(config, &tensor.histogram(config.narrowing()), &mut cell);
    cell
}

/// Returns the certificate and the bytes of the cell that a decision leaves.
fn decide_on_a_copy(
    config: &Config,
    cell: &Cell,
    histogram: &Histogram,
) -> (Certificate, [u8; Cell::BYTES]) {
    let mut cell = *cell;
    let certificate = decide(config, histogram, &mut cell);
    (certificate, cell.to_bytes())
}

fn any_narrowing() -> impl Strategy<Value = Narrowing> {
    prop::sample::select(counted_narrowings())
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_decision_is_a_function_of_its_inputs(narrowing in any_narrowing(), seed: u64) {
        let mut generator = SplitMix64(seed);
        for config in configs(narrowing) {
            let tensor = Tensor::draw(&mut generator);
            let histogram = tensor.histogram(narrowing);
            let cell = calibrated(&config, &mut generator);
            let first = decide_on_a_copy(&config, &cell, &histogram);
            // Another decision in between, and the elements in another order.
            calibrated(&config, &mut generator);
            let mut shuffled = tensor.clone();
            generator.shuffle(&mut shuffled.values);
            prop_assert_eq!(first, decide_on_a_copy(&config, &cell, &histogram));
            let shuffled = shuffled.histogram(narrowing);
            prop_assert_eq!(first, decide_on_a_copy(&config, &cell, &shuffled));
        }
    }

    /// A decided scale is legal by its type; it never lets a finite tensor overflow where some
    /// legal scale does not, and the certificate tells the truth about it.
    #[test]
    fn nothing_overflows_at_the_decided_scale(narrowing in any_narrowing(), seed: u64) {
        let mut generator = SplitMix64(seed);
        for config in configs(narrowing) {
            let histogram = Tensor::draw(&mut generator).histogram(narrowing);
            let mut cell = calibrated(&config, &mut generator);
            let certificate = decide(&config, &histogram, &mut cell);
            prop_assert_eq!(cell.scale(), certificate.scale);
            prop_assert_eq!(histogram.overflow(cell.scale()), certificate.expected[1].overflow);
            if histogram.greatest_scale().is_some() {
                prop_assert_eq!(certificate.expected[1].overflow, 0);
            }
        }
    }

    /// Scaling every element by `2^j` moves the scale by `-j`, the cell's own past moved as well.
    #[test]
    fn scaling_the_tensor_moves_the_scale_the_other_way(
        narrowing in any_narrowing(),
        j in -12..=12,
        seed: u64,
    ) {
        let mut generator = SplitMix64(seed);
        let config = configs(narrowing)[0];
        let values = (0..100).map(|_| generator.between_binades(-30, 5)).collect();
        let tensor = Tensor { values, incoming: Scale::ONE };
        let factor = Scale::saturating(j).factor();
        let scaled: Vec<f32> = tensor.values.iter().map(|x| x * factor).collect();
        let scaled = Tensor { values: scaled, ..tensor };
        let first = tensor.histogram(narrowing);
        let second = scaled.histogram(narrowing);

        // A calibrated cell, from a tensor that lies elsewhere.
        let before = generator.below(21) as i32 - 10;
        let past = |by: i32| {
            let values = vec![Scale::saturating(-before + by).factor(); 9];
            let mut cell = config.cell();
            let past = Tensor { values, incoming: Scale::ONE };
            decide(&config, &past.histogram(narrowing), &mut cell);
            cell
        };
        for (mut cell, mut moved) in [(config.cell(), config.cell()), (past(0), past(j))] {
            let a = decide(&config, &first, &mut cell);
            let b = decide(&config, &second, &mut moved);
            let ends = [(a.window.least, b.window.least), (a.window.greatest, b.window.greatest)];
            // Beyond the legal scales an end stands still.
            let inside = |end: i16| end.abs() <= 126 - 12;
            for (a, b) in ends {
                prop_assert!(!inside(a) || i32::from(a) - j == i32::from(b));
            }
            let stays_near_one =
                matches!(narrowing.format.encoding, Encoding::BFloat16 | Encoding::Binary32);
            if !stays_near_one {
                prop_assert!(ends.iter().all(|&(a, _)| inside(a)));
                prop_assert_eq!(a.scale.log2() - j, b.scale.log2());
                prop_assert_eq!((a.rule, a.limited), (b.rule, b.limited));
            }
        }
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
        let least = |tolerance: u32, lost_mass: u32| {
            let measured = Measured {
                tolerance: Fraction::from_bits(tolerance),
                lost_mass: Fraction::from_bits(lost_mass),
                ..Measured::for_format(narrowing.format)
            };
            let config = configs(narrowing)[0].with_policy(Policy::Measured(measured));
            let config = config.expect("legal");
            let certificate = decide(&config, &histogram, &mut config.cell());
            (certificate.window.least, certificate.rule)
        };
        prop_assert!(least(more, 0).0 <= least(less, 0).0);
        let (strict, lenient) = (least(0, less), least(0, more));
        if strict.1 == Rule::LostMass && lenient.1 == Rule::LostMass {
            prop_assert!(lenient.0 <= strict.0);
        }
        prop_assert!(histogram.least_scale_by_mass(more).map_or(127, Scale::log2)
            <= histogram.least_scale_by_mass(less).map_or(127, Scale::log2));
    }
}

/// A scale that is well inside its window stays, bit for bit, over any number of decisions; at the
/// first step out of the slack it moves to the middle.
#[test]
fn hysteresis_holds_a_scale_until_it_is_near_an_end() {
    let config = Config::for_format(Format::BINARY16);
    // A window of [-24, 14] for 2^0, moved by the tensor's exponent; the middle is -5.
    let histogram = |log2: i32| {
        let tensor = Tensor { values: vec![2.0_f32.powi(log2)], incoming: Scale::ONE };
        tensor.histogram(config.narrowing())
    };
    for direction in [1, -1] {
        let mut cell = config.cell();
        assert_eq!(decide(&config, &histogram(0), &mut cell).scale.log2(), -5);
        // 19 binades either way to the ends, 2 of them slack.
        for drift in 1..=17 {
            let certificate = decide(&config, &histogram(direction * drift), &mut cell);
            assert_eq!((certificate.rule, certificate.scale.log2()), (Rule::Kept, -5), "{drift}");
        }
        let certificate = decide(&config, &histogram(direction * 18), &mut cell);
        let moved = -5 - direction * 18;
        // Upwards the bound of 16 binades holds it back.
        let expected = if direction == -1 { 11 } else { moved };
        assert_eq!((certificate.rule, certificate.scale.log2()), (Rule::Window, expected));
        assert_eq!(certificate.limited, direction == -1);
    }
}

/// Growth is bounded after the first calibration only, and a downward move never is.
#[test]
fn growth_is_bounded_and_downward_moves_are_exempt() {
    let config = Config::for_format(Format::E5M2);
    let bounded = Measured { max_growth: 3, ..Measured::for_format(Format::E5M2) };
    let config = config.with_policy(Policy::Measured(bounded)).expect("legal");
    let histogram = |log2: i32| {
        let tensor = Tensor { values: vec![2.0_f32.powi(log2)], incoming: Scale::ONE };
        tensor.histogram(config.narrowing())
    };
    // 2^log2 lives at K in -16 - log2 ..= 15 - log2; two binades of headroom; the middle is -2.
    let mut cell = config.cell();
    let first = decide(&config, &histogram(-70), &mut cell);
    assert_eq!((first.scale.log2(), first.limited), (68, false), "the first calibration is free");
    let down = decide(&config, &histogram(40), &mut cell);
    assert_eq!((down.scale.log2(), down.limited), (-42, false), "108 binades down at once");
    for step in 1..=4 {
        let up = decide(&config, &histogram(0), &mut cell);
        assert_eq!((up.scale.log2(), up.limited), (-42 + 3 * step, true));
        assert!(!up.promised && up.expected[1].overflow == 0, "{up}");
    }
}

/// Tensors without a nonzero element, and tensors with a non-finite one, are no calibration.
#[test]
fn empty_and_non_finite_tensors_are_no_calibration() {
    for narrowing in counted_narrowings() {
        for config in configs(narrowing) {
            let observe = |values: &[f32]| {
                let tensor = Tensor { values: values.to_vec(), incoming: Scale::ONE };
                tensor.histogram(narrowing)
            };
            let mut cell = config.cell();
            for values in [&[][..], &[0.0, -0.0, 0.0]] {
                let certificate = decide(&config, &observe(values), &mut cell);
                assert_eq!((certificate.rule, certificate.scale), (Rule::Empty, Scale::ONE));
                assert_eq!((cell.scale(), cell.is_calibrated()), (Scale::ONE, false));
                assert_eq!(due(&config, &cell), Some(Trigger::Empty), "and stays due");
            }
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let before = cell;
                let certificate = decide(&config, &observe(&[1.0, bad, 0.0]), &mut cell);
                assert_eq!((certificate.rule, certificate.scale), (Rule::NonFinite, Scale::ONE));
                assert_eq!(cell, before, "nothing is learnt from a tensor with {bad}");
                assert!(due(&config, &cell).is_some());
            }
            let certificate = decide(&config, &observe(&[1.0e-3]), &mut cell);
            assert_eq!(certificate.trigger, Trigger::Empty);
            assert!(cell.is_calibrated() && due(&config, &cell).is_none());
        }
    }
}

/// Policies that do not decide from histograms keep their scale, whatever they are shown.
#[test]
fn other_policies_keep_their_scale() {
    let config = Config::for_format(Format::BINARY16);
    let fixed = config.with_policy(Policy::Fixed(Scale::saturating(9))).expect("legal");
    let paper = Config::preset(adaloss_core::policy::Preset::Paper, Format::BINARY16);
    for config in [fixed, paper] {
        let mut cell = config.cell();
        let histogram = Tensor { values: vec![1.0e-9, 3.0e4], incoming: Scale::ONE };
        let histogram =
            histogram.histogram(config.narrowing().with_rounding(Rounding::NearestEven));
        let certificate = decide(&config, &histogram, &mut cell);
        assert_eq!((certificate.rule, certificate.scale), (Rule::Kept, config.cell().scale()));
        assert_eq!(cell, config.cell());
    }
    assert_eq!(due(&fixed, &fixed.cell()), None);
}
