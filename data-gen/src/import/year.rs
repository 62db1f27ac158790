//! The year a problem is from, where its row tells.

use serde_json::Value;

use super::table::Record;

/// Columns that hold a year and nothing else.
const YEARS: &[&str] = &["year", "Year"];
/// Columns that may name a contest with its year.
const NAMES: &[&str] = &[
    "source", "Source", "url", "URL", "link", "contest", "exam", "split",
];
/// Columns of ids, of which some begin with a year: `2024-I-3`, `1983-12`.
const IDS: &[&str] = &["id", "ID", "Id", "problem_id", "unique_id"];
/// Contests whose name stands beside their year.
const CONTESTS: &[&str] = &["aime", "amc", "hmmt", "imo", "aimo", "olympiad"];

/// The year of a row, if it tells: a number that merely looks like one tells nothing.
pub(super) fn of_record(record: &Record) -> Option<u32> {
    let text = |name: &&str| match record.get(*name) {
        Some(Value::String(text)) => Some(text.trim().to_owned()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let years = YEARS.iter().filter_map(text).find_map(|text| year(&text));
    years
        .or_else(|| {
            NAMES
                .iter()
                .filter_map(text)
                .find_map(|text| named(&text).first().copied())
        })
        .or_else(|| {
            IDS.iter()
                .filter_map(text)
                .find_map(|text| numbered(&text).or_else(|| named(&text).first().copied()))
        })
}

fn year(text: &str) -> Option<u32> {
    // Tables with gaps hold `2024.0`.
    let text = text.strip_suffix(".0").unwrap_or(text);
    let four = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|year| four && (1900..2100).contains(year))
}

/// The year that the name of a file gives to all of its rows: `aime2025-I`, `aime24`. A name with
/// several years tells none.
pub(super) fn of_file(stem: &str) -> Option<u32> {
    let mut years = named(stem);
    years.dedup();
    match years.as_slice() {
        [year] => Some(*year),
        _ => None,
    }
}

/// `AIME 2024 I problem 1`, `.../2024_AIME_I_Problems`: years in a text that names a contest.
fn named(text: &str) -> Vec<u32> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    let contest = words.clone().any(|word| {
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        CONTESTS.contains(&letters)
    });
    // `aime24-1-01`, `aime2025`: digits behind the name.
    let behind = |word: &str| {
        let digits = CONTESTS.iter().find_map(|name| word.strip_prefix(name))?;
        year(digits).or_else(|| match digits.len() {
            2 if digits < "50" => year(&format!("20{digits}")),
            2 => year(&format!("19{digits}")),
            _ => None,
        })
    };
    let years = words.filter_map(|word| year(word).filter(|_| contest).or_else(|| behind(word)));
    years.collect()
}

/// `2024-I-3`, `1983-12`: a year, perhaps a part, and a number.
fn numbered(id: &str) -> Option<u32> {
    let parts: Vec<&str> = id.split('-').collect();
    let number = |part: &&str| part.len() <= 2 && part.parse::<u8>().is_ok();
    match parts.as_slice() {
        [first, last] if number(last) => year(first),
        [first, "I" | "II", last] if number(last) => year(first),
        _ => None,
    }
}
