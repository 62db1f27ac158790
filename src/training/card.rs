//! The card of a checkpoint: what it is, from what, and how it was made, by hashes.

use std::fmt::Write;

use model::lineage::Lineage;
use train::{Finished, count_kinds};

use super::inputs::Inputs;
use crate::train_recipe::TrainRecipe;

/// The text of README.md. It names no path and no time: equal trainings have equal cards.
pub(super) fn text(
    recipe: &TrainRecipe,
    lineage: &Lineage,
    inputs: &Inputs,
    finished: &Finished,
) -> String {
    let (library, what) = match &recipe.train.lora {
        Some(_) => (
            "peft",
            "A LoRA adapter. `leap checkpoint merge BASE ADAPTER OUT --dtype bf16` makes a \
             checkpoint of it and its base; `peft` loads it as it is.",
        ),
        None => (
            "transformers",
            "A checkpoint that transformers, vLLM and `leap infer` load.",
        ),
    };
    let mut text = format!(
        "---\nlibrary_name: {library}\npipeline_tag: text-generation\ntags:\n- leap\n- reasoning\n\
         ---\n\n# {}\n\n{what}\n\n| | |\n| --- | --- |\n",
        recipe.title
    );
    let kinds = count_kinds(&inputs.samples, &recipe.train.train_on);
    let trained: u64 = kinds.iter().map(|kind| kind.trained).sum();
    let by_kind: Vec<String> = kinds
        .iter()
        .map(|kind| format!("{} {} of {}", kind.kind.name(), kind.trained, kind.tokens))
        .collect();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    row("base", format!("checkpoint `{}`", lineage.base));
    row(
        "samples",
        format!("{}, hash `{}`", inputs.samples.len(), lineage.samples),
    );
    row(
        "tokens with loss",
        format!("{trained} in one pass: {}", by_kind.join(", ")),
    );
    row(
        "trained",
        format!(
            "{} steps, {} tokens with loss; these are the weights after step {}",
            finished.steps, finished.trained_tokens, finished.chosen
        ),
    );
    if let Some((step, loss)) = finished.best {
        row(
            "held out",
            format!(
                "{} samples, lowest loss {loss:.4} after step {step}",
                inputs.held_out.len()
            ),
        );
    }
    row("recipe", format!("hash `{}`", lineage.recipe));
    row("toolkit", format!("version {}", lineage.toolkit));
    let essence = toml::to_string(&recipe.essence()).unwrap_or_default();
    let _ = write!(text, "\n## Recipe\n\n```toml\n{essence}```\n");
    text
}
