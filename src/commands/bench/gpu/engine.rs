//! Tokens per second of the engine that `leap eval` and `leap data-gen` use: steps, and all that lies between
//! them, with tokens drawn.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, anyhow};
use infer::engine::Engine as _;
use infer::local::{LocalEngine, LocalSettings};
use model::kv_cache::KvCache;
use protocol::{
    Completion, PathKey, Prompt, Request, Sampling, Stop, Stream, TemplateError, Vocab,
};
use serde_json::{Value, json};

use super::shapes::{ids, noise};
use super::{Bench, Found};

/// Paths that write side by side.
const BATCHES: [usize; 3] = [1, 16, 64];

/// What tokens are drawn from.
struct Drawing {
    name: &'static str,
    /// Logits of noise are flat: at 0.1 a draw looks at as many tokens as one of a trained model does, at 5 at
    /// most of the vocabulary, so that rows are read whole behind all, and the host orders 150,000 tokens.
    temperature: f32,
    /// 0, or the 40 of the protocol's presets: as they keep few tokens, what lists do not reach is shown not to
    /// matter rather than added up.
    top_k: usize,
    from_lists: bool,
}

const DRAWINGS: [Drawing; 5] = [
    Drawing {
        name: "from lists",
        temperature: 0.1,
        top_k: 0,
        from_lists: true,
    },
    Drawing {
        name: "from lists, with the presets' top-k",
        temperature: 0.1,
        top_k: 40,
        from_lists: true,
    },
    Drawing {
        name: "from whole rows",
        temperature: 0.1,
        top_k: 0,
        from_lists: false,
    },
    Drawing {
        name: "from lists that do not do",
        temperature: 5.0,
        top_k: 0,
        from_lists: true,
    },
    Drawing {
        name: "from whole rows, of all tokens",
        temperature: 5.0,
        top_k: 0,
        from_lists: false,
    },
];

/// Tokens that stand for nothing: the engine asks for their bytes only where a request has stop strings.
struct Nothing;

impl Vocab for Nothing {
    fn encode(&self, _: &str) -> Vec<u32> {
        Vec::new()
    }

    fn bytes(&self, _: u32) -> Vec<u8> {
        Vec::new()
    }

    fn prompt(&self, _: &str) -> Result<Prompt, TemplateError> {
        Ok(Prompt {
            ids: Vec::new(),
            think_open: false,
        })
    }

    fn eos(&self) -> &[u32] {
        &[]
    }

    fn hash(&self) -> &str {
        "noise"
    }
}

pub(super) fn run(bench: &mut Bench<'_>) -> Result<Found> {
    let dtype = bench.dtype();
    let mut rows = Vec::new();
    for shape in bench.models() {
        bench.output.step("Drawing", shape.name);
        let decoder = noise(&shape.config, dtype, &bench.device);
        let (context, new) = if bench.small { (40, 4) } else { (2048, 128) };
        let most = BATCHES.into_iter().max().unwrap_or(1);
        // The paths, and the prompt that they share.
        let texts = std::iter::repeat_n(context + WARM_UP + new, most + 1);
        let cache = KvCache::of(&decoder);
        let bytes = cache.tokens_for(texts) * cache.bytes_per_token();
        let settings = LocalSettings {
            kv_mib: bytes.div_ceil(1 << 20),
            prefill_tokens: 512,
            ..LocalSettings::for_one_group(most)
        };
        let prompt = ids(context, 1, &shape.config);
        let mut engine = LocalEngine::new(decoder, &Nothing, settings)?;
        for (group, batch) in BATCHES.into_iter().enumerate() {
            for drawing in &DRAWINGS {
                let paths = Paths {
                    group: group as u32,
                    count: batch as u32,
                    sampling: Sampling {
                        temperature: drawing.temperature,
                        top_k: drawing.top_k,
                        top_p: 0.95,
                        ..Sampling::GREEDY
                    },
                };
                engine.draw_from_lists(drawing.from_lists);
                let figures = one(&mut engine, &paths, &prompt, new)?;
                bench.output.step(
                    "Drawn",
                    &format!(
                        "{batch} paths, {}: {:.1} tokens/s",
                        drawing.name,
                        figures["tokens_per_s"].as_f64().unwrap_or(f64::NAN)
                    ),
                );
                rows.push(json!({
                    "shape": shape.name,
                    "dtype": dtype,
                    "paths": batch,
                    "context": context,
                    "drawn": drawing.name,
                    "figures": figures,
                }));
            }
        }
    }
    Ok(Found {
        figures: json!(rows),
        right: true,
    })
}

/// Tokens of each path before time is taken: kernels are compiled, and steps are recorded.
const WARM_UP: usize = 16;

/// Paths that go on from one prompt.
struct Paths {
    group: u32,
    count: u32,
    sampling: Sampling,
}

impl Paths {
    fn keys(&self) -> impl Iterator<Item = PathKey> {
        let group = self.group;
        (0..self.count).map(move |path| PathKey { group, path })
    }

    /// Lets each path write `tokens` behind the first `keep` it has and `append`; what they wrote, by path.
    fn write(
        &self,
        engine: &mut LocalEngine<'_>,
        keep: usize,
        append: impl Fn(PathKey) -> Vec<u32>,
        tokens: usize,
    ) -> Result<BTreeMap<PathKey, Vec<u32>>> {
        for key in self.keys() {
            engine.submit(Request {
                key,
                keep,
                append: append(key),
                sampling: self.sampling,
                stop: Stop::default(),
                max_tokens: tokens,
                logprobs: false,
                stream: Stream::of_run(1).named(&key.path.to_string()),
            });
        }
        let mut written = BTreeMap::new();
        for _ in self.keys() {
            let Completion {
                key, ids, finish, ..
            } = engine
                .wait()?
                .ok_or_else(|| anyhow!("the engine ended before its requests"))?;
            if ids.len() != tokens {
                return Err(anyhow!("a path ended early: {finish:?}"));
            }
            written.insert(key, ids);
        }
        Ok(written)
    }
}

fn one(engine: &mut LocalEngine<'_>, paths: &Paths, prompt: &[u32], new: usize) -> Result<Value> {
    let before = paths.write(engine, 0, |_| prompt.to_vec(), WARM_UP)?;
    // The last token again, so that the first step is like the others.
    let keep = prompt.len() + WARM_UP - 1;
    let last = |key| before[&key][WARM_UP - 1..].to_vec();
    let listed = engine.sampled_from_lists();
    let started = Instant::now();
    paths.write(engine, keep, last, new)?;
    let seconds = started.elapsed().as_secs_f64();
    let listed = engine.sampled_from_lists() - listed;
    for key in paths.keys() {
        engine.close(key);
    }
    let tokens = paths.count as usize * new;
    let (recorded, reason) = engine.recorded_steps();
    Ok(json!({
        "temperature": paths.sampling.temperature,
        "top_k": paths.sampling.top_k,
        "top_p": paths.sampling.top_p,
        "tokens_per_s": tokens as f64 / seconds,
        "share_drawn_from_lists": listed as f64 / tokens as f64,
        "recorded_steps": recorded,
        "not_recorded_because": reason,
    }))
}
