//! What a server can do: found by asking it, not by believing its name.

/// Whose protocol a server speaks, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// llama.cpp's server, at its own `/completion`.
    LlamaCpp,
    /// Any other server with `/v1/completions`.
    OpenAi,
}

impl Dialect {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::LlamaCpp => "llama.cpp",
            Self::OpenAi => "openai",
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::LlamaCpp => "/completion",
            _ => "/v1/completions",
        }
    }
}

/// How a path is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompts {
    /// As ids.
    Ids,
    /// As text, because ids are refused.
    Text {
        /// Whether the server puts a begin-of-text token of its own before it, so that ours is left
        /// out.
        adds_begin: bool,
    },
}

/// How it is known which stop string ended a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// The text or the ids that come back hold it.
    Kept,
    /// It is cut off, and named beside the text.
    Named,
    /// It is cut off and not named. No stop string is sent: texts are cut here, and what the server
    /// samples behind is wasted.
    Ours,
}

/// Which fields beyond the common ones a server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extras {
    /// All of them.
    All,
    /// `top_k` and `min_p`.
    Ranks,
    /// None.
    None,
}

/// What a server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Able {
    /// Whose protocol it speaks.
    pub dialect: Dialect,
    /// How paths are sent to it.
    pub prompts: Prompts,
    /// Whether sampled ids come back; otherwise texts do, which are encoded here.
    pub tells_ids: bool,
    /// How stop strings come back.
    pub stops: Stops,
    /// Which fields it accepts.
    pub extras: Extras,
    /// Whether the temperature is heeded, as far as is known.
    pub temperature: bool,
    /// Whether `top_k` is heeded.
    pub top_k: bool,
    /// Whether `min_p` is heeded.
    pub min_p: bool,
    /// Whether the same seed gave the same text twice.
    pub seed: bool,
}

impl Able {
    /// What traces say of how their ids went to and fro: `ids`, or which way was text.
    pub fn exchange(&self) -> &'static str {
        match (self.prompts, self.tells_ids) {
            (Prompts::Ids, true) => "ids",
            (Prompts::Ids, false) => "ids in, text out",
            (Prompts::Text { .. }, true) => "text in, ids out",
            (Prompts::Text { .. }, false) => "text",
        }
    }

    /// In words, for people.
    pub fn words(&self) -> String {
        let stops = match self.stops {
            Stops::Kept => "stop strings kept",
            Stops::Named => "stop strings named",
            Stops::Ours => "stop strings cut here",
        };
        let mut words = vec![self.dialect.name(), self.exchange(), stops];
        for (heeded, word) in [
            (self.temperature, "temperature not heeded"),
            (self.top_k, "no top_k"),
            (self.min_p, "no min_p"),
            (self.seed, "seeds not heeded"),
        ] {
            if !heeded {
                words.push(word);
            }
        }
        words.join(", ")
    }

    /// Whether traces through `other` are of the same kind as through this one.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.exchange() == other.exchange()
            && self.dialect == other.dialect
            && (self.temperature, self.top_k, self.min_p)
                == (other.temperature, other.top_k, other.min_p)
    }
}
