//! A small decoder with random weights over a byte vocabulary, and requests to an engine on it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use infer::engine::Engine;
use infer::local::{LocalEngine, LocalSettings};
use model::config::{Architecture, ModelConfig};
use model::decoder::Decoder;
use model::device::DeviceSpec;
use model::kv_cache::KvCache;
use protocol::{ByteVocab, Completion, Finish, PathKey, Request, Sampling, Stop, Stream};

pub(crate) const POSITIONS: usize = 600;
pub(crate) const GREEDY: Sampling = Sampling {
    temperature: 0.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
};
pub(crate) const WARM: Sampling = Sampling {
    temperature: 1.2,
    top_k: 40,
    top_p: 0.95,
    min_p: 0.01,
};
pub(crate) const SETTINGS: LocalSettings = LocalSettings {
    wave: 1,
    max_rows: 64,
    prefill_tokens: 512,
    kv_mib: 64,
};

pub(crate) fn config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 257,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: POSITIONS,
        tie_word_embeddings: false,
        attention_bias: true,
        qk_norm: false,
        bos_token_id: None,
        eos_token_id: vec![ByteVocab::EOS],
        // Wide, so that the next token depends on the text and not only on the last token.
        initializer_range: 0.4,
    }
}

pub(crate) fn decoder() -> Decoder {
    Decoder::init(&config(), 5, &DeviceSpec::Cpu.open().unwrap())
}

pub(crate) fn engine(settings: LocalSettings) -> LocalEngine<'static> {
    LocalEngine::new(decoder(), &ByteVocab, settings).unwrap()
}

/// An engine whose keys and values lie in tensors, as on a card. In f32, so that no rounding decides which
/// token is drawn.
pub(crate) fn engine_on_device(decoder: Decoder, settings: LocalSettings) -> LocalEngine<'static> {
    let cache = KvCache::on_device(&decoder);
    LocalEngine::with_cache(decoder, cache, &ByteVocab, settings).unwrap()
}

pub(crate) fn key(group: u32, path: u32) -> PathKey {
    PathKey { group, path }
}

/// A request without stops whose noise is its path's own.
pub(crate) fn request(key: PathKey, keep: usize, append: &[u32], max_tokens: usize) -> Request {
    Request {
        key,
        keep,
        append: append.to_vec(),
        sampling: WARM,
        stop: Stop::default(),
        max_tokens,
        logprobs: false,
        stream: Stream::of_run(3)
            .indexed(key.group.into())
            .indexed(key.path.into()),
    }
}

pub(crate) fn run(engine: &mut LocalEngine<'_>, request: Request) -> Completion {
    engine.submit(request);
    engine.wait().unwrap().expect("one request is in flight")
}

pub(crate) fn sampled(engine: &mut LocalEngine<'_>, request: Request) -> Vec<u32> {
    let completion = run(engine, request);
    assert_eq!(completion.finish, Finish::Length);
    completion.ids
}
