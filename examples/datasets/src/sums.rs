//! Sentences about numbers, made by a grammar: every one of them is true.
//!
//! They lengthen the text that ships with this program, and give a network something to predict that
//! follows rules.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::view::generator;

/// Sentences of a paragraph.
const SENTENCES: usize = 11;

/// Returns paragraph `index`: always the same.
pub fn paragraph(index: u64) -> String {
    let mut generator = generator(b"sums----", [index, 0, 0]);
    let sentences: Vec<_> = (0..SENTENCES).map(|_| sentence(&mut generator)).collect();
    sentences.join(" ")
}

const RULES: [fn(&mut ChaCha8Rng) -> String; 10] =
    [sum, difference, product, quotient, halves, binary, interval, rounding, scaling, ordering];

fn sentence(generator: &mut ChaCha8Rng) -> String {
    let rule = RULES[generator.random_range(0..RULES.len())];
    let sentence = rule(generator);
    let (first, rest) = sentence.split_at(1);
    format!("{}{rest}", first.to_uppercase())
}

fn sum(generator: &mut ChaCha8Rng) -> String {
    let [a, b] = [(); 2].map(|()| generator.random_range(1..500));
    let (a, b, sum) = (words(a), words(b), words(a + b));
    match generator.random_range(0..3) {
        0 => format!("{a} plus {b} is {sum}."),
        1 => format!("if you add {b} to {a}, you have {sum}."),
        _ => format!("the sum of {a} and {b} is {sum}."),
    }
}

fn difference(generator: &mut ChaCha8Rng) -> String {
    let [b, rest] = [(); 2].map(|()| generator.random_range(1..300));
    let (a, b, rest) = (words(b + rest), words(b), words(rest));
    match generator.random_range(0..3) {
        0 => format!("{a} minus {b} is {rest}."),
        1 => format!("take {b} from {a}, and {rest} remains."),
        _ => format!("between {b} and {a} there is a distance of {rest}."),
    }
}

fn product(generator: &mut ChaCha8Rng) -> String {
    let [a, b] = [(); 2].map(|()| generator.random_range(2..32));
    let (a, b, product) = (words(a), words(b), words(a * b));
    match generator.random_range(0..2) {
        0 => format!("{a} times {b} is {product}."),
        _ => format!("a matrix of {a} rows and {b} columns has {product} entries."),
    }
}

fn quotient(generator: &mut ChaCha8Rng) -> String {
    let (a, b) = (generator.random_range(20..400), generator.random_range(2..20));
    let (quotient, rest) = (words(a / b), a % b);
    let (a, b) = (words(a), words(b));
    match rest {
        0 => format!("{a} divided by {b} is {quotient}, and nothing is left."),
        _ => format!("{a} divided by {b} is {quotient}, and {} is left.", words(rest)),
    }
}

fn halves(generator: &mut ChaCha8Rng) -> String {
    let (times, odd) = (generator.random_range(1..6), generator.random_range(1..30) * 2 + 1);
    let (from, odd, often) = (words(odd << times), words(odd), often(times));
    match generator.random_range(0..2) {
        0 => format!("{from} can be halved {often}, down to {odd}, which is odd."),
        _ => format!("doubled {often}, {odd} becomes {from}."),
    }
}

fn binary(generator: &mut ChaCha8Rng) -> String {
    let number: u32 = generator.random_range(2..64);
    let digits: Vec<_> =
        format!("{number:b}").chars().map(|c| if c == '1' { "one" } else { "zero" }).collect();
    format!("in binary, {} is written {}.", words(number), digits.join(" "))
}

fn interval(generator: &mut ChaCha8Rng) -> String {
    let number: u32 = generator.random_range(3..1000);
    let exponent = number.ilog2();
    let (low, high) = (1 << exponent, 2 << exponent);
    let (name, low_name, high_name) = (words(number), words(low), words(high));
    let exponent = words(exponent);
    if number == low {
        format!("{name} is two to the power of {exponent}.")
    } else {
        format!("{name} lies between {low_name} and {high_name}, so its exponent is {exponent}.")
    }
}

fn rounding(generator: &mut ChaCha8Rng) -> String {
    let (unit, number) = (2 << generator.random_range(0..4), generator.random_range(1..300));
    let rounded = round(number, unit);
    let error = number.abs_diff(rounded);
    let (name, to) = (words(number), words(unit));
    match error {
        0 => format!("{name} is a multiple of {to} and stays as it is."),
        _ if error * 2 == unit => {
            let even = words(rounded);
            format!("{name} is in the middle between two multiples of {to}, and goes to {even}.")
        }
        _ => {
            let (nearest, error) = (words(rounded), words(error));
            format!(
                "rounded to a multiple of {to}, {name} becomes {nearest}; the error is {error}."
            )
        }
    }
}

fn scaling(generator: &mut ChaCha8Rng) -> String {
    let (low, up) = (generator.random_range(9..40), generator.random_range(1..25));
    let (from, by) = (power(-low), power(up));
    let end = up - low;
    let fate = match end {
        ..=-25 => "which vanishes in half precision",
        -24..=-15 => "which is subnormal in half precision",
        _ => "which is normal in half precision",
    };
    format!("a gradient of {from} under a scale of {by} becomes {}, {fate}.", power(end))
}

fn ordering(generator: &mut ChaCha8Rng) -> String {
    let mut numbers = [(); 3].map(|()| generator.random_range(1..1000));
    let [a, b, c] = numbers.map(words);
    numbers.sort_unstable();
    let [least, _, greatest] = numbers.map(words);
    match generator.random_range(0..2) {
        0 => format!("of {a}, {b} and {c} the greatest is {greatest}."),
        _ => format!("of {a}, {b} and {c} the least is {least}."),
    }
}

/// Returns the nearest multiple of `unit`, a power of two; of two the even one.
fn round(number: u32, unit: u32) -> u32 {
    let (below, rest) = (number / unit, number % unit);
    let up = rest * 2 > unit || (rest * 2 == unit && below % 2 == 1);
    (below + u32::from(up)) * unit
}

fn power(exponent: i32) -> String {
    let sign = if exponent < 0 { "minus " } else { "" };
    format!("two to the power of {sign}{}", words(exponent.unsigned_abs()))
}

fn often(times: u32) -> String {
    match times {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{} times", words(times)),
    }
}

/// Returns a number below ten thousand in words.
fn words(number: u32) -> String {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] =
        ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let joined = |head: String, rest, with: &str| match rest {
        0 => head,
        _ => format!("{head}{with}{}", words(rest)),
    };
    match number {
        0..20 => SMALL[number as usize].to_owned(),
        20..100 => joined(TENS[number as usize / 10].to_owned(), number % 10, "-"),
        100..1000 => joined(format!("{} hundred", words(number / 100)), number % 100, " and "),
        _ => {
            let rest = number % 1000;
            let with = if rest < 100 { " and " } else { " " };
            joined(format!("{} thousand", words(number / 1000)), rest, with)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelt_as_in_school() {
        for (number, name) in [
            (0, "zero"),
            (13, "thirteen"),
            (20, "twenty"),
            (42, "forty-two"),
            (100, "one hundred"),
            (307, "three hundred and seven"),
            (999, "nine hundred and ninety-nine"),
            (1024, "one thousand and twenty-four"),
            (9600, "nine thousand six hundred"),
        ] {
            assert_eq!(words(number), name);
        }
    }

    #[test]
    fn no_two_numbers_share_a_name() {
        let names: std::collections::HashSet<_> = (0..10_000).map(words).collect();
        assert_eq!(names.len(), 10_000);
    }

    #[test]
    fn ties_go_to_the_even_multiple() {
        let of_four = [8, 9, 10, 11, 12, 13, 14, 15].map(|number| round(number, 4));
        assert_eq!(of_four, [8, 8, 8, 12, 12, 12, 16, 16]);
    }

    #[test]
    fn paragraphs_are_sentences_and_always_the_same() {
        for index in 0..200 {
            let text = paragraph(index);
            assert_eq!(text, paragraph(index));
            assert!(text.chars().next().is_some_and(|c| c.is_ascii_uppercase()), "{text}");
            assert_eq!(text.matches('.').count(), SENTENCES, "{text}");
        }
        assert_ne!(paragraph(0), paragraph(1));
    }

    #[test]
    fn every_rule_is_used() {
        let text: String = (0..10).map(paragraph).collect();
        for word in [
            "sum", "minus", "times", "divided", "halved", "binary", "lies", "rounded", "scale",
            "least",
        ] {
            assert!(text.to_lowercase().contains(word), "{word}");
        }
    }
}
