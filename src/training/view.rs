//! What is trained on, to look at: the first sample span by span, and shares by kind.

use train::count_kinds;

use super::inputs::Inputs;
use crate::output::{Output, Paint};
use crate::train_recipe::TrainRecipe;

/// Most characters of a span that are shown; the middle is left out.
const SHOWN: usize = 160;

/// Shows it.
pub(super) fn show(inputs: &Inputs, recipe: &TrainRecipe, output: &mut Output) {
    let train_on = &recipe.train.train_on;
    if let Some(sample) = inputs.samples.first() {
        let tokens = sample.len();
        output.step(
            "Sample",
            &format!(
                "`{}`, {tokens} tokens, the first of {}",
                sample.id,
                inputs.samples.len()
            ),
        );
        for span in &sample.spans {
            let weight = train_on.weight(span.kind);
            let text = shortened(&inputs.tokenizer.decode(&span.ids));
            let paint = match weight > 0.0 {
                true => Paint::Bright,
                false => Paint::Dim,
            };
            let loss = match weight {
                0.0 => "no loss".to_string(),
                1.0 => "loss".to_string(),
                weight => format!("loss * {weight}"),
            };
            let head = format!(
                "{:>12} {loss}, {} tokens: ",
                span.kind.name(),
                span.ids.len()
            );
            output.painted(&[(Paint::Plain, &head), (paint, &text)]);
        }
    }
    let kinds = count_kinds(&inputs.samples, train_on);
    let all: u64 = kinds.iter().map(|kind| kind.tokens).sum();
    let trained: u64 = kinds.iter().map(|kind| kind.trained).sum();
    let share = |part: u64| 100.0 * part as f64 / all.max(1) as f64;
    let parts: Vec<String> = kinds
        .iter()
        .map(|kind| {
            let mark = if kind.trained > 0 { "*" } else { "" };
            format!("{}{mark} {:.1}%", kind.kind.name(), share(kind.tokens))
        })
        .collect();
    output.step(
        "Tokens",
        &format!(
            "{all}, {:.1}% with loss (*): {}",
            share(trained),
            parts.join(", ")
        ),
    );
}

/// A text on one line, without its middle if it is long.
fn shortened(text: &str) -> String {
    // Control characters would steer a terminal.
    let escaped = |character: char| match character.is_control() {
        true => character.escape_default().collect(),
        false => character.to_string(),
    };
    let text: String = text.chars().map(escaped).collect();
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= SHOWN {
        return text;
    }
    let half = SHOWN / 2;
    let left_out = characters.len() - 2 * half;
    let (head, tail) = (&characters[..half], &characters[characters.len() - half..]);
    let [head, tail] = [head, tail].map(|part| part.iter().collect::<String>());
    format!("{head} [... {left_out} characters ...] {tail}")
}
