//! What the remote engine carries: requests per second to servers that answer at once, and memory.

mod stub;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use infer::engine::Engine;
use infer::remote::{RemoteEngine, RemoteSettings};
use model::memory;
use protocol::{Finish, PathKey, Prompt, Request, Sampling, Stop, Stream, TemplateError, Vocab};
use serde_json::{Value, json};

use self::stub::Stub;
use super::spread;
use crate::cli::BenchRemote;
use crate::fault::Fault;

/// A vocabulary as large as that of a real model, so that ids have as many digits. A token is a
/// letter.
struct Wide;

const VOCABULARY: u32 = 150_000;

/// Seconds before anything is measured.
const WARM_UP: f64 = 2.0;

impl Vocab for Wide {
    fn encode(&self, text: &str) -> Vec<u32> {
        let letter = |letter: u8| VOCABULARY - 26 + u32::from(letter) % 26;
        text.bytes().map(letter).collect()
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        vec![b'a' + (id % 26) as u8]
    }

    fn prompt(&self, user: &str) -> Result<Prompt, TemplateError> {
        Ok(Prompt {
            ids: self.encode(user),
            think_open: true,
        })
    }

    fn eos(&self) -> &[u32] {
        &[VOCABULARY]
    }

    fn hash(&self) -> &str {
        "letters"
    }
}

pub(super) fn run(args: &BenchRemote) -> Result<Value> {
    let counts = [args.paths, args.prompt, args.new, args.servers, args.repeat];
    if counts.contains(&0) || args.seconds.is_nan() || args.seconds <= 0.0 {
        return Err(Fault::new(
            "there is nothing to measure",
            "paths, prompt, new, servers, seconds and repeat must be above 0",
        )
        .into());
    }
    let stubs: Vec<Stub> = (0..args.servers)
        .map(|_| Stub::start(&Wide, args.new))
        .collect::<std::io::Result<_>>()
        .context("cannot serve on this machine's loopback")?;
    let settings = RemoteSettings {
        in_flight: args.paths.div_ceil(args.servers),
        ..RemoteSettings::of(stubs.iter().map(Stub::url).collect())
    };
    let mut engine = RemoteEngine::open(settings, &Wide)?;
    let stream = Stream::of_run(1).named("bench remote");
    let prompt: Vec<u32> = (0..args.prompt)
        .map(|at| stream.below(at as u64, VOCABULARY as usize) as u32)
        .collect();
    let request = |path: u32| Request {
        key: PathKey { group: 0, path },
        keep: 0,
        append: prompt.clone(),
        sampling: Sampling {
            // The stub says the same at every temperature.
            temperature: 0.0,
            top_k: 0,
            top_p: 0.95,
            min_p: 0.0,
        },
        stop: Stop {
            strings: vec!["</think>".to_owned()],
            eos: vec![VOCABULARY],
        },
        max_tokens: args.new,
        logprobs: false,
        stream: stream.indexed(path.into()),
    };
    for path in 0..args.paths as u32 {
        engine.submit(request(path));
    }
    // The first part is not told: all connections and threads are made in it.
    let mut rates = Vec::new();
    let mut resident = Vec::new();
    for part in 0..=args.repeat {
        let seconds = if part == 0 { WARM_UP } else { args.seconds };
        let (started, mut answered) = (Instant::now(), 0_u64);
        while started.elapsed() < Duration::from_secs_f64(seconds) {
            let completion = engine.wait()?.context("every path has a request")?;
            if let Finish::Failed(reason) = completion.finish {
                anyhow::bail!("a request failed: {reason}");
            }
            answered += 1;
            engine.submit(request(completion.key.path));
        }
        resident.push(memory::resident_bytes());
        if part > 0 {
            rates.push(answered as f64 / started.elapsed().as_secs_f64());
        }
    }
    let [least, median, most] = spread(&mut rates);
    Ok(json!({
        "bench": "remote",
        "commit": env!("LEAP_VERSION"),
        "threads": memory::threads(),
        "paths": args.paths,
        "prompt": args.prompt,
        "new": args.new,
        "servers": args.servers,
        "requests_per_second": { "min": least, "median": median, "max": most },
        "failures": engine.tally().words(),
        "resident_bytes_by_part": resident,
        "peak_bytes": memory::peak_bytes(),
    }))
}
