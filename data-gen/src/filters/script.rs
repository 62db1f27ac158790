//! The filter `language`: letters of scripts that the question does not have.

use std::collections::BTreeSet;

use super::{Column, Seen, own_text};

/// Scripts that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Script {
    Latin,
    Cyrillic,
    Arabic,
    Hebrew,
    /// Devanagari and the other scripts of India.
    Indic,
    Thai,
    Hangul,
    /// Chinese characters and kana, which Japanese mixes.
    EastAsian,
    Other,
}

/// The share of letters in the path's own words whose script the question does not have.
pub(super) fn foreign(seen: &Seen<'_>) -> Column {
    let question = &seen.trace.setup.question;
    let asked = question.choices.iter().chain([&question.text]);
    let known: BTreeSet<Script> = asked
        .flat_map(|text| text.chars())
        .filter_map(script)
        .collect();
    let own = own_text(seen.path);
    let (mut letters, mut foreign) = (0usize, 0usize);
    for script in own.chars().filter_map(script) {
        letters += 1;
        // Formulas are Latin in every language.
        foreign += usize::from(script != Script::Latin && !known.contains(&script));
    }
    let share = foreign as f64 / letters.max(1) as f64;
    Column::at_most(Some(share), seen.settings.language)
}

/// The script of a letter; `None` for what is no letter, for Greek and for mathematical letters.
fn script(character: char) -> Option<Script> {
    if character.is_ascii() {
        return character.is_ascii_alphabetic().then_some(Script::Latin);
    }
    if !character.is_alphabetic() {
        return None;
    }
    Some(match character as u32 {
        0x00aa..=0x024f | 0x1e00..=0x1eff | 0xff21..=0xff5a => Script::Latin,
        0x0370..=0x03ff | 0x1f00..=0x1fff | 0x2100..=0x214f | 0x1d400..=0x1d7ff => return None,
        0x0400..=0x052f => Script::Cyrillic,
        0x0590..=0x05ff => Script::Hebrew,
        0x0600..=0x077f | 0x08a0..=0x08ff => Script::Arabic,
        0x0900..=0x0dff => Script::Indic,
        0x0e00..=0x0e7f => Script::Thai,
        0x1100..=0x11ff | 0x3130..=0x318f | 0xac00..=0xd7af => Script::Hangul,
        0x2e80..=0x312f | 0x31a0..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff => {
            Script::EastAsian
        }
        _ => Script::Other,
    })
}
