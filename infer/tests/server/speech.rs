//! What the server says: words that prompt and seed decide, in the ids of `ByteVocab`.

use protocol::Stream;
use serde_json::Value;

pub(super) const POSITIONS: usize = 20_000;
pub(super) const EOS: u32 = 256;

const WORDS: [&str; 12] = [
    "so ",
    "two ",
    "and ",
    "seven ",
    "is ",
    "then ",
    "we try ",
    ".\n\n",
    "\u{e9}t\u{e9} ",
    "</think>",
    "</summarize>",
    "\\boxed{7} ",
];

pub(super) struct Said {
    pub(super) ids: Vec<u32>,
    pub(super) stop: Option<String>,
    pub(super) eos: bool,
}

impl Said {
    /// Its text, with a stop string and without an end id.
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self
            .ids
            .iter()
            .filter_map(|&id| u8::try_from(id).ok())
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its text without the stop string.
    pub(super) fn cut_text(&self) -> String {
        let text = self.text();
        let stop = self.stop.as_deref().unwrap_or_default();
        text.strip_suffix(stop).unwrap_or(&text).to_owned()
    }
}

/// Says up to `max_tokens` ids, or up to a stop string or the end.
pub(super) fn say(prompt: &[u32], body: &Value) -> Said {
    let number = |name: &str| body[name].as_f64();
    let greedy = number("temperature") == Some(0.0)
        || number("top_k") == Some(1.0)
        || number("min_p").is_some_and(|p| p > 0.9);
    let seed = if greedy {
        0
    } else {
        body["seed"].as_u64().expect("a seed")
    };
    let most = body["max_tokens"].as_u64().or(body["n_predict"].as_u64());
    let most = most.expect("a budget") as usize;
    let stops: Vec<&str> = body["stop"]
        .as_array()
        .map(|stops| stops.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let stream = prompt
        .iter()
        .fold(Stream::of_run(seed), |stream, id| match id % 8 {
            // Not every id: a hash each would take its time.
            0 => stream.indexed(u64::from(*id)),
            _ => stream,
        });
    let stream = stream.indexed(prompt.len() as u64);
    let mut text = String::new();
    let mut said = Said {
        ids: Vec::new(),
        stop: None,
        eos: false,
    };
    for word in 0.. {
        if word > 3 && stream.indexed(word).below(1, 60) == 0 {
            said.ids.push(EOS);
            said.eos = said.ids.len() <= most;
            break;
        }
        let lot = stream.indexed(word).below(0, 30);
        // Tags and boxes are rarer than words.
        let piece = WORDS[if lot < 27 { lot % 9 } else { lot - 18 }];
        text.push_str(piece);
        for byte in piece.bytes() {
            said.ids.push(u32::from(byte));
            let so_far = &text.as_bytes()[..said.ids.len()];
            said.stop = stops
                .iter()
                .find(|stop| so_far.ends_with(stop.as_bytes()))
                .map(|stop| (*stop).to_owned());
            if said.stop.is_some() || said.ids.len() >= most {
                break;
            }
        }
        if said.stop.is_some() || said.ids.len() >= most {
            break;
        }
    }
    said.ids.truncate(most);
    said
}
