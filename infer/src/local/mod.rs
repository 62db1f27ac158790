//! The local engine: continuous batching over the paths of many groups on one decoder.
//!
//! A path's keys and values stay in the cache between its requests, so a request feeds only what
//! is new: nothing that is kept is fed twice. A group's prompt is fed once and forked to its
//! paths. Every step feeds one token of each path that samples, and beside them a bounded number
//! of prompt and appended ids. The ids of a path do not depend on what else is in the batch: the
//! decoder's rows are independent to the bit, and each path has its own random stream.

mod batch;
pub mod sampler;
mod settings;
mod stop;
mod texts;

use std::collections::VecDeque;

use model::decoder::Decoder;
use model::kv_cache::KvCache;
use model::shortlist::{Logits, Shortlist};
use protocol::{Completion, Finish, PathKey, Request, Vocab};
use rayon::prelude::*;

use self::batch::{Batch, Drawer, Feed, Limits, Running};
use self::sampler::{NotFinite, Sampler};
pub use self::settings::{LocalSettings, LocalStats};
pub(crate) use self::stop::StopScanner;
use crate::engine::{Engine, EngineError};

/// The engine. See the module text.
pub struct LocalEngine<'v> {
    decoder: Decoder,
    vocab: &'v dyn Vocab,
    batch: Batch,
    done: VecDeque<Completion>,
    memory: usize,
    bytes_per_token: usize,
    stats: LocalStats,
    /// Whether tokens are drawn from shortlists; None: where the device makes them.
    lists: Option<bool>,
    listed: u64,
}

impl<'v> LocalEngine<'v> {
    /// An engine on `decoder`, whose ids stand for the bytes that `vocab` says.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn new(
        decoder: Decoder,
        vocab: &'v dyn Vocab,
        settings: LocalSettings,
    ) -> Result<Self, EngineError> {
        let cache = KvCache::of(&decoder);
        Self::with_cache(decoder, cache, vocab, settings)
    }

    /// As [`LocalEngine::new`], with another empty cache for the decoder than [`KvCache::of`] gives.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn with_cache(
        decoder: Decoder,
        cache: KvCache,
        vocab: &'v dyn Vocab,
        settings: LocalSettings,
    ) -> Result<Self, EngineError> {
        settings.check()?;
        let decoder = decoder.for_writing();
        let bytes_per_token = cache.bytes_per_token();
        let memory = settings.kv_mib.saturating_mul(1 << 20) / bytes_per_token;
        let limits = Limits {
            rows: settings.max_rows,
            prefill: settings.prefill_tokens,
            memory,
        };
        let batch = Batch::new(cache, limits);
        let stats = LocalStats::default();
        Ok(Self {
            decoder,
            vocab,
            batch,
            done: VecDeque::new(),
            memory,
            bytes_per_token,
            stats,
            lists: None,
            listed: 0,
        })
    }

    /// What the engine did since it was made.
    pub fn stats(&self) -> LocalStats {
        let texts = &self.batch.texts;
        LocalStats {
            prefilled: texts.prefilled,
            refilled: texts.refilled,
            ..self.stats
        }
    }

    /// Whether tokens are drawn from shortlists ([`model::shortlist`]) and not from whole rows of logits: if
    /// nothing is said, where the device makes them. Either way the same tokens are drawn from the same
    /// logits, but where a number lies within rounding of the border between two.
    pub fn draw_from_lists(&mut self, lists: bool) {
        self.lists = Some(lists);
    }

    /// Of the tokens that were sampled, those whose row of logits was not read whole: on CUDA cards, which
    /// list the tokens that matter.
    pub fn sampled_from_lists(&self) -> u64 {
        self.listed
    }

    /// Steps that were sent to the device as one, and why none is, if that is so: see
    /// [`KvCache::recorded_steps`].
    pub fn recorded_steps(&self) -> (u64, Option<&str>) {
        self.batch.texts.cache.recorded_steps()
    }

    /// Bytes of weights that a step reads; 0 before the first step.
    pub fn weight_bytes(&self) -> usize {
        self.batch.texts.cache.weight_bytes()
    }

    /// Tokens of the model's vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.decoder.config().vocab_size
    }

    /// Bytes of the keys and values of one token.
    pub fn bytes_per_token(&self) -> usize {
        self.bytes_per_token
    }

    /// Bytes of keys and values in memory now.
    pub fn kv_bytes(&self) -> usize {
        self.batch.texts.cache.bytes()
    }

    /// Why this request cannot be served; `None` if it can.
    fn refusal(&self, request: &Request) -> Option<String> {
        let Request {
            key,
            keep,
            append,
            sampling,
            stop,
            max_tokens,
            ..
        } = request;
        if self.batch.is_busy(*key) {
            return Some("a request of this path is already in flight".into());
        }
        let has = self.batch.ids(*key).len();
        if *keep > has {
            return Some(format!("{keep} tokens cannot be kept of a path of {has}"));
        }
        let start = keep + append.len();
        if start == 0 || *max_tokens == 0 {
            return Some("at least one token must be there and one be asked for".into());
        }
        let vocabulary = self.decoder.config().vocab_size;
        if let Some(id) = append.iter().find(|id| **id as usize >= vocabulary) {
            return Some(format!("id {id} is outside the vocabulary of {vocabulary}"));
        }
        let positions = self.positions();
        if start + max_tokens > positions {
            return Some(format!(
                "{start} tokens and {max_tokens} to sample are more than the model's {positions} \
                 positions"
            ));
        }
        let needed = self.batch.texts.needed(request);
        if needed > self.memory {
            return Some(format!(
                "{start} tokens and {max_tokens} to sample need {} MiB of keys and values, but \
                 `kv_mib` is {}",
                (needed * self.bytes_per_token).div_ceil(1 << 20),
                (self.memory * self.bytes_per_token).div_ceil(1 << 20)
            ));
        }
        let t = sampling.temperature;
        let in_range = t.is_finite()
            && t >= 0.0
            && sampling.top_p > 0.0
            && (0.0..=1.0).contains(&sampling.min_p);
        if !in_range {
            return Some(format!("no token can be drawn with {sampling:?}"));
        }
        let empty = stop.strings.iter().any(String::is_empty);
        empty.then(|| "a stop string is empty".into())
    }

    /// Feeds what is to be fed, and samples one token of every path that is ready for one.
    fn step(&mut self) -> Result<(), EngineError> {
        self.batch.admit();
        let feeds = self.batch.plan();
        let mut drawn = Vec::with_capacity(feeds.len());
        if !feeds.is_empty() {
            let logits = Logits::from(self.batch.feed(&feeds, |rows, cache| {
                self.decoder.step_recorded(rows, cache)
            }));
            self.stats.forward_passes += 1;
            self.stats.most_rows = self.stats.most_rows.max(feeds.len() as u64);
            drawn = match self.lists.unwrap_or_else(|| logits.are_listed()) {
                true => self.draw_of_lists(&feeds, &logits)?,
                false => self.draw_of_rows(&feeds, logits)?,
            };
        }
        let forked = self.batch.fork_prompts();
        let forked: Vec<(usize, &[f32])> = forked
            .iter()
            .map(|(place, logits)| (*place, &**logits))
            .collect();
        drawn.extend(draw(&self.batch, &forked));
        drawn.sort_unstable_by_key(|(place, _)| *place);
        self.take(&drawn);
        Ok(())
    }

    /// Reads all logits of a step, and draws from them.
    fn draw_of_rows(
        &mut self,
        feeds: &[Feed],
        logits: Logits,
    ) -> Result<Vec<DrawnAt>, EngineError> {
        let rows = logits.all().map_err(|reason| self.device_failed(reason))?;
        let vocabulary = self.vocabulary();
        let mut ready = Vec::with_capacity(feeds.len());
        for (feed, row) in feeds.iter().zip(rows.chunks_exact(vocabulary)) {
            match self.batch.drawer(feed) {
                Some(Drawer::Path(place)) => ready.push((place, row)),
                Some(Drawer::Prompt(id)) => self.batch.keep_logits(id, row),
                None => {}
            }
        }
        Ok(draw(&self.batch, &ready))
    }

    /// Reads what the device found worth reading of each row, and draws from that; rows are read whole of
    /// prompts, which keep them for their paths, and where a draw needs more.
    fn draw_of_lists(
        &mut self,
        feeds: &[Feed],
        logits: &Logits,
    ) -> Result<Vec<DrawnAt>, EngineError> {
        let mut temperatures = vec![1.0; feeds.len()];
        let mut paths = Vec::with_capacity(feeds.len());
        let mut whole = Vec::new();
        for (row, feed) in feeds.iter().enumerate() {
            match self.batch.drawer(feed) {
                Some(Drawer::Path(place)) => {
                    temperatures[row] = self.batch.running[place].request.sampling.temperature;
                    paths.push((row, place));
                }
                Some(Drawer::Prompt(_)) => whole.push(row),
                None => {}
            }
        }
        let mut drawn = Vec::with_capacity(feeds.len());
        if !paths.is_empty() {
            let lists = logits
                .lists(&temperatures)
                .map_err(|reason| self.device_failed(reason))?;
            for ((row, place), found) in paths.iter().zip(draw_listed(&self.batch, &paths, &lists))
            {
                match found {
                    Some(token) => drawn.push((*place, Ok(token))),
                    None => whole.push(*row),
                }
            }
            self.listed += drawn.len() as u64;
        }
        if whole.is_empty() {
            return Ok(drawn);
        }
        let read = logits
            .rows(&whole)
            .map_err(|reason| self.device_failed(reason))?;
        let mut ready = Vec::with_capacity(whole.len());
        for (row, logits) in whole.iter().zip(read.chunks_exact(self.vocabulary())) {
            match self.batch.drawer(&feeds[*row]) {
                Some(Drawer::Path(place)) => ready.push((place, logits)),
                Some(Drawer::Prompt(id)) => self.batch.keep_logits(id, logits),
                None => {}
            }
        }
        drawn.extend(draw(&self.batch, &ready));
        Ok(drawn)
    }

    fn device_failed(&self, reason: String) -> EngineError {
        EngineError::Device {
            step: self.stats.forward_passes,
            reason,
        }
    }

    /// Adds one drawn token to each path, and ends the requests that are complete with it.
    fn take(&mut self, drawn: &[DrawnAt]) {
        let mut ended = Vec::new();
        for (place, result) in drawn {
            let finish = match result {
                Err(error) => {
                    let key = self.batch.running[*place].request.key;
                    self.batch.texts.wipe(key);
                    Some(Finish::Failed(error.to_string()))
                }
                Ok(Drawn { id, logprob }) => {
                    self.stats.sampled += 1;
                    self.batch.push(*place, *id);
                    let running = &mut self.batch.running[*place];
                    running.logprobs.extend(*logprob);
                    finish(running, *id, self.vocab)
                }
            };
            if let Some(finish) = finish {
                let running = &mut self.batch.running[*place];
                let ids = std::mem::take(&mut running.ids);
                let logprobs = std::mem::take(&mut running.logprobs);
                self.done.push_back(Completion {
                    logprobs: running.request.logprobs.then_some(logprobs),
                    ..Completion::new(running.request.key, ids, finish)
                });
                ended.push(*place);
            }
        }
        self.batch.finish(&ended);
    }
}

impl Engine for LocalEngine<'_> {
    fn submit(&mut self, request: Request) {
        match self.refusal(&request) {
            None => self.batch.submit(request),
            Some(reason) => {
                self.done.push_back(Completion::failed(request.key, reason));
            }
        }
    }

    fn adopt(&mut self, key: PathKey, _: usize, ids: Vec<u32>) {
        self.batch.texts.adopt(key, ids);
    }

    fn close(&mut self, key: PathKey) {
        if let Some(ids) = self.batch.close(key) {
            self.done
                .push_back(Completion::new(key, ids, Finish::Cancelled));
        }
    }

    fn wait(&mut self) -> Result<Option<Completion>, EngineError> {
        loop {
            if let Some(completion) = self.done.pop_front() {
                return Ok(Some(completion));
            }
            if self.batch.is_idle() {
                return Ok(None);
            }
            self.step()?;
        }
    }

    fn positions(&self) -> usize {
        self.decoder.config().max_position_embeddings
    }
}

/// What was drawn for the request at a place.
type DrawnAt = (usize, Result<Drawn, NotFinite>);

/// A token that was drawn, and how probable it was, if that was asked for.
struct Drawn {
    id: u32,
    logprob: Option<f32>,
}

/// Draws a token for each place from its logits, on all threads; the order does not matter to the
/// result.
fn draw(batch: &Batch, ready: &[(usize, &[f32])]) -> Vec<DrawnAt> {
    // Rows that are too few or too short are not worth waking a thread.
    const LOGITS_PER_TASK: usize = 1 << 13;
    let width = ready.first().map_or(1, |(_, logits)| logits.len());
    ready
        .par_iter()
        .with_min_len(LOGITS_PER_TASK.div_ceil(width))
        .map_init(Sampler::default, |sampler, (place, logits)| {
            let request = &batch.running[*place].request;
            let position = batch.ids(request.key).len() as u64;
            let uniform = || request.stream.uniform(position);
            let drawn = sampler.draw(logits, &request.sampling, uniform);
            let with_logprob = |id| Drawn {
                id,
                logprob: request.logprobs.then(|| sampler::logprob(logits, id)),
            };
            (*place, drawn.map(with_logprob))
        })
        .collect()
}

/// Draws a token for each place from the list of its row; None where that does not reach far enough.
fn draw_listed(
    batch: &Batch,
    paths: &[(usize, usize)],
    lists: &[Option<Shortlist>],
) -> Vec<Option<Drawn>> {
    // A list is drawn from in some microseconds.
    const ROWS_PER_TASK: usize = 8;
    paths
        .par_iter()
        .with_min_len(ROWS_PER_TASK)
        .map_init(Sampler::default, |sampler, (row, place)| {
            let list = lists[*row].as_ref()?;
            let request = &batch.running[*place].request;
            let position = batch.ids(request.key).len() as u64;
            let uniform = || request.stream.uniform(position);
            let id = sampler.draw_listed(list, &request.sampling, uniform)?;
            let logprob = match request.logprobs {
                true => Some(sampler::logprob_listed(list, id)?),
                false => None,
            };
            Some(Drawn { id, logprob })
        })
        .collect()
}

/// Whether the request is complete with `id`, which was just added to it.
fn finish(running: &mut Running, id: u32, vocab: &dyn Vocab) -> Option<Finish> {
    let request = &running.request;
    if request.stop.eos.contains(&id) {
        return Some(Finish::Eos);
    }
    if running.stop.is_needed()
        && let Some(index) = running.stop.push(&vocab.bytes(id))
    {
        return Some(Finish::Stop(index));
    }
    (running.ids.len() >= request.max_tokens).then_some(Finish::Length)
}
