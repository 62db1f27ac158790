//! Which tokens carry loss, decided by the kind of their span.

use std::fmt;

use protocol::SpanKind;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::settings::SettingsError;

/// Which tokens carry loss.
///
/// Written as one of three names or as a table of weights:
/// `"own"`, `"own+trigger"`, `"all"`, `{ thought = 1.0, summary = 2.0, answer = 1.0 }`.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainOn {
    /// What the path itself wrote: thoughts, summaries and answers.
    Own,
    /// The same, and the injected triggers: the model learns to open a summary by itself.
    OwnAndTrigger,
    /// Everything but a document's first token, the prompt and peers' words included.
    All,
    /// Weights by kind.
    Weights(KindWeights),
}

/// The weight of a token in the loss, by the kind of its span; a kind that is not named has 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KindWeights {
    /// The question.
    pub prompt: f64,
    /// What the path was made to begin with.
    pub beginning: f64,
    /// Reasoning.
    pub thought: f64,
    /// The sentence that asks for a summary.
    pub trigger: f64,
    /// The summary.
    pub summary: f64,
    /// What peers said.
    pub comment: f64,
    /// Fixed sentences between stretches.
    pub bridge: f64,
    /// The opening of a forced answer.
    pub forced: f64,
    /// The answer.
    pub answer: f64,
}

impl TrainOn {
    /// The weight of a token of this kind, at least 0.
    pub fn weight(&self, kind: SpanKind) -> f64 {
        let one_if = |holds: bool| if holds { 1.0 } else { 0.0 };
        match self {
            Self::Own => one_if(kind.is_sampled()),
            Self::OwnAndTrigger => one_if(kind.is_sampled() || kind == SpanKind::Trigger),
            Self::All => 1.0,
            Self::Weights(weights) => weights.of(kind),
        }
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        for kind in SpanKind::ALL {
            let value = self.weight(kind);
            // Above this range the f32 weights of a step could overflow or vanish.
            if value != 0.0 && !(1e-6..=1e6).contains(&value) {
                let range = "weights of 0, or from 1e-6 to 1e6";
                return Err(SettingsError::Range {
                    key: "train_on",
                    value,
                    range,
                });
            }
        }
        Ok(())
    }
}

impl KindWeights {
    fn of(&self, kind: SpanKind) -> f64 {
        match kind {
            SpanKind::Prompt => self.prompt,
            SpanKind::Beginning => self.beginning,
            SpanKind::Thought => self.thought,
            SpanKind::Trigger => self.trigger,
            SpanKind::Summary => self.summary,
            SpanKind::Comment => self.comment,
            SpanKind::Bridge => self.bridge,
            SpanKind::Forced => self.forced,
            SpanKind::Answer => self.answer,
        }
    }
}

const OWN: &str = "own";
const OWN_AND_TRIGGER: &str = "own+trigger";
const ALL: &str = "all";

impl Serialize for TrainOn {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Own => to.serialize_str(OWN),
            Self::OwnAndTrigger => to.serialize_str(OWN_AND_TRIGGER),
            Self::All => to.serialize_str(ALL),
            Self::Weights(weights) => weights.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for TrainOn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = TrainOn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "\"{OWN}\", \"{OWN_AND_TRIGGER}\", \"{ALL}\" or a table of weights"
                )
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<TrainOn, E> {
                match name {
                    OWN => Ok(TrainOn::Own),
                    OWN_AND_TRIGGER => Ok(TrainOn::OwnAndTrigger),
                    ALL => Ok(TrainOn::All),
                    _ => Err(E::invalid_value(de::Unexpected::Str(name), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<TrainOn, A::Error> {
                KindWeights::deserialize(MapAccessDeserializer::new(table)).map(TrainOn::Weights)
            }
        }
        from.deserialize_any(Read)
    }
}
