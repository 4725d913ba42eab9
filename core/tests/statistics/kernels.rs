//! What kernels build counters of their own from: classes, words and terms.

use adaloss_core::{
    format::{Format, Shifts},
    scale::Scale,
    statistics::{Classes, ExactSum, Histogram, Moments, Statistics},
};
use adaloss_oracle::{counted_narrowings, inputs::adversarial};

/// The layout that the type's documentation gives, and C's header.
#[test]
fn words_are_those_of_the_layout() {
    assert_eq!((Histogram::WORDS, Histogram::ELEMENTS_WORD), (512, 1));
    let bin = |label: i32, first: i32| (label - first).clamp(0, 253) as usize;
    for narrowing in counted_narrowings() {
        for log2 in [-126, -9, 0, 126] {
            let incoming = Scale::new(log2).expect("legal");
            let others = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
            for x in adversarial(narrowing.format, 100, 1).into_iter().chain(others) {
                let expected = match narrowing.shifts(x) {
                    Some(Shifts { least, greatest }) => {
                        let floor = 4 + bin(least + log2, -126);
                        (floor, Some(258 + bin(greatest + log2, -127)))
                    }
                    None => (if x == 0.0 { 3 } else { 2 }, None),
                };
                let found = Histogram::words_of(narrowing, x, incoming);
                assert_eq!(found, expected, "{x:e}, {narrowing:?} at {incoming:?}");
            }
        }
    }
    assert_eq!(size_of::<Statistics>(), 8 * 20);
    let words = (Statistics::COUNT_WORD, Statistics::SUM_WORD, Statistics::SQUARES_WORD);
    assert_eq!(words, (2, 3, 9));
}

/// A class is what one of its values says: checked with values of every binade on both sides of every
/// point where something changes.
#[test]
fn values_of_a_class_count_alike() {
    for narrowing in counted_narrowings() {
        let classes = Classes::new(narrowing);
        let values = adversarial(narrowing.format, 200, 2).into_iter();
        let values = values.chain([0.0, f32::INFINITY, f32::NAN]).flat_map(|x| [x, -x]);
        for x in values {
            let Some(class) = classes.of(x) else {
                assert!(x.is_subnormal(), "{x:e} has a class");
                continue;
            };
            assert!(class < Classes::COUNT && !x.is_subnormal());
            assert!(classes.example(class).is_sign_positive());
            let count = |x| Histogram::words_of(narrowing, x, Scale::ONE);
            assert_eq!(count(classes.example(class)), count(x), "{x:e} of {narrowing:?}");
            assert_eq!(classes.of(classes.example(class)), Some(class));
        }
    }
}

#[test]
fn terms_add_up_to_moments() {
    let (mut moments, mut sum) = (Moments::EMPTY, ExactSum::<6>::ZERO);
    let values = adversarial(Format::BINARY16, 500, 3).into_iter().filter(|x| x.is_finite());
    for x in values {
        moments.add(x);
        let ((term, position), mut one) = (Moments::term(x), ExactSum::<6>::ZERO);
        one.add(term.into(), position, x.is_sign_negative());
        assert_eq!(one.to_f64(-149), f64::from(x));
        sum.merge(&one);
    }
    assert_eq!(moments.mean(), Some(sum.to_f64(-149) / moments.count() as f64));
}
