//! Numbers as a reader wants them.

use protocol::stats::Interval;

/// What stands where a number cannot be computed.
pub(super) const UNKNOWN: &str = "n/a";

/// A fraction in percent with one decimal, without the sign: `12.5`.
pub(super) fn percent(fraction: f64) -> String {
    let text = format!("{:.1}", fraction * 100.0);
    if text == "-0.0" { "0.0".into() } else { text }
}

/// A difference of fractions in points, always with a sign: `+3.1`.
pub(super) fn points(fraction: f64) -> String {
    let text = percent(fraction);
    match text.strip_prefix('-') {
        Some(digits) => format!("\u{2212}{digits}"),
        None if text == "0.0" => text,
        None => format!("+{text}"),
    }
}

/// The ends of a 95% interval in percent: `[4.0, 21.3]`.
pub(super) fn ends(interval: &Interval) -> String {
    format!("[{}, {}]", percent(interval.low), percent(interval.high))
}

/// The ends of the 95% interval of a difference, in points: `[+0.2, +6.4]`.
pub(super) fn difference_ends(interval: &Interval) -> String {
    format!("[{}, {}]", points(interval.low), points(interval.high))
}

/// A score with its 95% interval: `12.5 [4.0, 21.3]`.
pub(super) fn score(interval: &Interval) -> String {
    format!("{} {}", percent(interval.estimate), ends(interval))
}

/// As [`score`], with the numbers of a column below each other.
pub(super) fn aligned_score(interval: &Interval) -> String {
    let [value, low, high] = [interval.estimate, interval.low, interval.high].map(percent);
    format!("{value:>4} [{low:>4}, {high:>4}]")
}

/// A whole number in groups of three digits: `12,345`.
pub(super) fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A mean number of tokens: whole from 100 on, with one decimal below.
pub(super) fn mean(value: f64) -> String {
    match value {
        small if small < 99.95 && small > 0.0 => format!("{small:.1}"),
        large => whole(large.round() as u64),
    }
}

/// `count` with the right form of its noun: `1 group`, `2 groups`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", whole(count), if count == 1 { one } else { many })
}

/// The first `most` characters of `text`, with an ellipsis if there are more.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_string(),
        Some(_) => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['\u{2026}'])
            .collect(),
    }
}
