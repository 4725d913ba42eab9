//! Gradients on the host, narrowed and widened again.

use adaloss_core::{
    format::{Encoding, Format, Narrowing, Subnormals},
    policy::{Config, Policy},
    scale::Scale,
    scaler::State,
};
use adaloss_plug::{holds, narrow};

fn format(encoding: Encoding) -> Format {
    Format::new(encoding, Subnormals::Gradual)
}

/// Returns every finite number of an encoding; of binary32, those with eight digits in front and one behind.
fn numbers(encoding: Encoding) -> impl Iterator<Item = f32> {
    let bits: Box<dyn Iterator<Item = u32>> = match encoding.bits() {
        32 => Box::new((0..=0xffff).map(|high| (high << 16) | 1)),
        bits => Box::new(0..1 << bits),
    };
    bits.map(move |bits| format(encoding).widen(bits)).filter(|x| x.is_finite())
}

#[test]
fn a_tensor_holds_gradients_if_it_has_all_of_their_numbers() {
    for tensor in Encoding::ALL {
        let of_tensor =
            |x| format(tensor).widen(Narrowing::to(format(tensor)).narrow(x, 0, 0).bits).to_bits();
        for gradient in Encoding::ALL {
            let all = numbers(gradient).all(|x| of_tensor(x) == x.to_bits());
            assert_eq!(holds(tensor, gradient), all, "{gradient:?} in {tensor:?}");
        }
    }
}

#[test]
fn what_is_narrowed_is_widened_again() {
    let scale = Scale::new(3).unwrap();
    let values = [0.0, 1.0e-3, -1.7, 1.0e-9];
    for encoding in Encoding::ALL {
        let config = Config::for_format(format(encoding)).with_policy(Policy::Fixed(scale));
        let mut state = State::new(config.unwrap());
        let mut cells = [];
        let mut step = state.begin(&mut cells);
        let mut visit = step.loss();
        let mut pass = visit.next_pass().expect("a pass that stores");
        let narrowed = narrow(&values, &mut pass).unwrap();
        assert!(visit.next_pass().is_none());
        let (narrowed, left_with) = visit.finish(narrowed).unwrap().into_parts();
        assert_eq!(left_with, scale);
        let narrowing = config.unwrap().narrowing();
        let expected =
            values.map(|x| narrowing.format.widen(narrowing.narrow(x, scale.log2(), 0).bits));
        assert_eq!(narrowed, expected, "{encoding:?}");
    }
}
