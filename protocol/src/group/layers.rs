//! Mixture of agents: when a layer has answered, the next one reads its answers.

use super::{Group, Step};
use crate::path::State;
use crate::trace::{PathEnd, answer_text};
use crate::vocab::Vocab;

impl Group {
    /// Starts the next layer once every agent before it has ended.
    pub(super) fn next_layers(&mut self, vocab: &dyn Vocab, step: &mut Step) {
        // A layer that cannot be asked at all has ended at once, so there may be one behind it.
        while self.is_between_layers() {
            let Some(&first) = self.in_state(State::Idle).first() else {
                return;
            };
            let layer = self.paths[first].layer;
            let answers = self.answers_of(layer - 1);
            let setup = &self.setup;
            let user = setup
                .prompts
                .agent(&setup.question, &answers, &setup.settings);
            let prompt = vocab.prompt(&user).map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                format!("{error}: {}", cause.unwrap_or_default())
            });
            let prompt = prompt.and_then(|prompt| {
                let fits = self.check_length(prompt.ids.len(), vocab);
                fits.map(|()| prompt).map_err(|error| error.to_string())
            });
            for index in self.in_state(State::Idle) {
                if self.paths[index].layer != layer {
                    continue;
                }
                match &prompt {
                    Ok(prompt) => {
                        self.paths[index].begin(prompt, vocab);
                        self.think(index, vocab, step);
                    }
                    Err(reason) => {
                        let reason = format!("layer {}: {reason}", layer + 1);
                        self.end(index, PathEnd::Failed(reason), step);
                    }
                }
            }
        }
    }

    fn is_between_layers(&self) -> bool {
        let settled = |state| matches!(state, State::Idle | State::Ended);
        self.paths.iter().all(|path| settled(path.state))
    }

    /// What the agents of a layer answered, in path order; those that gave no answer are left out.
    fn answers_of(&self, layer: u32) -> Vec<String> {
        let paths = self.paths.iter().filter(|path| path.layer == layer);
        let answers = paths.filter_map(|path| {
            let end = path.end.as_ref()?;
            answer_text(&path.spans, end, self.prompt.think_open)
        });
        answers
            .map(|answer| answer.trim().to_string())
            .filter(|answer| !answer.is_empty())
            .collect()
    }
}
