//! Phrases that contests share: the same words in many problems, whatever they ask.
//!
//! They stand as [`Wording`](crate::wording::Wording) has them, a single letter as `#`.

const PHRASES: &[&str] = &[
    "can be expressed as",
    "can be expressed in the form",
    "can be written as",
    "can be written in the form",
    "can be expressed uniquely as",
    "in lowest terms",
    "in simplest form",
    "# # where # and # are relatively prime positive integers",
    "# # where # and # are coprime positive integers",
    "# # where # and # are positive integers",
    "# # # where # # and # are positive integers",
    "where # and # are relatively prime positive integers",
    "where # and # are coprime positive integers",
    "where # and # are relatively prime",
    "where # and # are positive integers",
    "where # # and # are positive integers",
    "where # # # and # are positive integers",
    "# and # are relatively prime positive integers",
    "# and # are relatively prime",
    "# and # are coprime",
    "# is not divisible by the square of any prime",
    "find # #",
    "find # # #",
    "find # # # #",
    "find the value of # #",
    "find the value of # # #",
    "compute # #",
    "compute # # #",
    "determine # #",
    "determine # # #",
    "what is # #",
    "what is # # #",
    "what is the value of # #",
    "what is the value of # # #",
    "find the remainder when # is divided by 1000",
    "find the remainder when # is divided by 100",
    "what is the remainder when # is divided by 1000",
    "express your answer as a common fraction",
    "express your answer as an integer between 0 and 999",
];

/// Which words belong to such a phrase; of several that begin at a word the longest.
pub(super) fn shared(words: &[String]) -> Vec<bool> {
    let letter =
        |word: &str| word.chars().nth(1).is_none() && word.chars().all(char::is_alphabetic);
    let length = |at: usize, phrase: &str| {
        let mut rest = words[at..].iter();
        let mut fits = phrase.split(' ').map(|part| {
            rest.next().is_some_and(|word| match part {
                "#" => letter(word),
                part => word == part,
            })
        });
        fits.all(|fits| fits).then(|| phrase.split(' ').count())
    };
    let mut shared = vec![false; words.len()];
    let mut at = 0;
    while at < words.len() {
        let longest = PHRASES.iter().filter_map(|phrase| length(at, phrase)).max();
        let count = longest.unwrap_or(0);
        shared[at..at + count].fill(true);
        at += count.max(1);
    }
    shared
}
