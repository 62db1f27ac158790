//! The card of a data set: what is in it, and what it was chosen by.

use std::fmt::Write;

use crate::inspect::Counts;
use crate::training_set::Account;

/// What a card tells.
pub struct Card<'a> {
    /// Title of the recipe that chose the samples.
    pub title: &'a str,
    /// Hash of the tokenizer that made the ids.
    pub tokenizer: &'a str,
    /// What `leap` says its version is.
    pub toolkit: &'a str,
    /// Files by split: `train`, `test`.
    pub files: &'a [(&'a str, &'a str)],
    /// Whether the files hold ids with labels; otherwise messages.
    pub ids: bool,
    /// Tokens of the samples to train on.
    pub counts: &'a Counts,
    /// Samples that are held out.
    pub held_out: u64,
    /// Samples without exchange among them.
    pub mixed_in: u64,
    /// What became of the paths, if it is known.
    pub account: Option<&'a Account>,
}

impl Card<'_> {
    /// The card as a `README.md` of the hub.
    pub fn text(&self) -> String {
        let mut text = String::from("---\nconfigs:\n- config_name: default\n  data_files:\n");
        for (split, file) in self.files {
            let _ = write!(text, "  - split: {split}\n    path: {file}\n");
        }
        text += "tags:\n- leap\n- reasoning\n---\n\n";
        let _ = writeln!(text, "# {}\n", self.title);
        let all = self.counts.all();
        let _ = writeln!(
            text,
            "{} samples to train on and {} held out, {} tokens, {} of them with loss. One sample is one path of a \
             group that reasoned about a problem in parallel and exchanged summaries (LeaP, arXiv 2505.07787): its \
             own words carry loss, what peers said is context.\n",
            self.counts.samples, self.held_out, all.tokens, all.trained
        );
        if self.mixed_in > 0 {
            let _ = writeln!(
                text,
                "{} of the samples to train on (ids that begin with `control:`) are of paths that \
                 exchanged nothing.\n",
                self.mixed_in
            );
        }
        text += match self.ids {
            true => {
                "Columns: `id` (problem, group and path), `problem`, `input_ids`, `labels` (-100 = no loss; not \
                 shifted). The ids are those that were sampled: do not render them through a chat template again. \
                 `train_trl.py` trains on them.\n\n"
            }
            false => {
                "Columns: `id`, `problem`, `messages`, `segments` (the answer in pieces with their kind). Many chat \
                 templates drop everything up to `</think>` from an answer, and a trainer that takes all of it \
                 trains on the words of peers: `segments` says which they are.\n\n"
            }
        };
        text += "| kind | tokens | with loss |\n| --- | ---: | ---: |\n";
        for (kind, count) in self.counts.present() {
            let _ = writeln!(
                text,
                "| {} | {} | {} |",
                kind.name(),
                count.tokens,
                count.trained
            );
        }
        if let Some(account) = self.account {
            let _ = writeln!(
                text,
                "\n## How they were chosen\n\n{} of {} paths in {} groups pass every required filter.\n\n| filter | \
                 required | paths it rejects | it alone |\n| --- | --- | ---: | ---: |",
                account.passed, account.paths, account.groups
            );
            for (filter, rejections) in &account.filters {
                let required = if rejections.required { "yes" } else { "" };
                let (fails, alone) = (rejections.fails, rejections.alone);
                let _ = writeln!(
                    text,
                    "| {} | {required} | {fails} | {alone} |",
                    filter.name()
                );
            }
        }
        let _ = writeln!(
            text,
            "\n## Where they are from\n\nMade with leap-t {}. Tokenizer: `{}` (hash of what decides the ids; a model \
             with another one must not be trained on them).\n\nSay here whose problems these are and under which \
             terms: the samples contain their statements.",
            self.toolkit, self.tokenizer
        );
        text
    }
}
