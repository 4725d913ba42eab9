//! How numbers are written for people.

/// Writes a share from 0 to 1 in per cent, with one decimal and without the sign.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// Writes three significant digits; powers of ten from a thousandth downwards.
pub(super) fn significant(value: f64) -> String {
    digits(value, 3)
}

/// Writes some significant digits; powers of ten from a thousandth downwards.
pub(super) fn digits(value: f64, count: usize) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 || !magnitude.is_finite() {
        return format!("{value}");
    }
    if !(1e-3..1e5).contains(&magnitude) {
        return format!("{value:.*e}", count - 1);
    }
    let decimals = (count as i32 - 1 - magnitude.log10().floor() as i32).max(0);
    format!("{value:.*}", decimals as usize)
}

/// Writes the value of a tick, which rounding may have moved a little off a short number.
pub(super) fn tick(value: f64) -> String {
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    if rounded != 0.0 && rounded.abs() < 1e-3 {
        format!("{rounded:e}")
    } else {
        format!("{rounded}")
    }
}

/// Writes the power of ten closest to a value.
pub(super) fn power(value: f64) -> String {
    tick(10_f64.powi(value.log10().round() as i32))
}

/// Writes a share of elements or of mass: in per cent where that is readable.
pub(super) fn share(share: f64) -> String {
    if share == 0.0 {
        "none".into()
    } else if share < 1e-5 {
        significant(share)
    } else {
        format!("{} %", significant(100.0 * share))
    }
}

/// Writes a whole number in groups of three digits.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Writes a duration.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Joins words to "a, b and c".
pub(super) fn list<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.split_last() {
        None => "none".into(),
        Some((last, [])) => (*last).into(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// Writes a number with its noun, "1 layer" or "3 layers".
pub(super) fn counted(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (value, written) in [
            (0.0, "0"),
            (1.0, "1.00"),
            (0.123_456, "0.123"),
            (0.001, "0.00100"),
            (0.000_999, "9.99e-4"),
            (12.345, "12.3"),
            (98_765.4, "98765"),
            (1e5, "1.00e5"),
            (-0.5, "-0.500"),
        ] {
            assert_eq!(significant(value), written);
        }
        assert_eq!(
            [0.0184, 99.6, 1.2e-4].map(|value| digits(value, 2)),
            ["0.018", "100", "1.2e-4"]
        );
        assert_eq!([share(0.0), share(0.001), share(2e-7)], ["none", "0.100 %", "2.00e-7"]);
        assert_eq!([count(1234), count(1_234_567)], ["1234", "1\u{202f}234\u{202f}567"]);
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(list::<&str>(&[]), "none");
    }
}
