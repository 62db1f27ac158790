//! Who runs, and what is fed to the decoder next.
//!
//! It must not know numbers: no weight, no logit is looked at. Decisions depend on the order of
//! submission and on lengths alone, so the same requests give the same steps.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use model::kv_cache::KvCache;
use model::step::Row;
use protocol::{PathKey, Request};

use super::stop::StopScanner;
use super::texts::{Shared, Texts};

/// A request that is being served.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) request: Request,
    pub(super) stop: StopScanner,
    /// What was sampled for it.
    pub(super) ids: Vec<u32>,
    /// How probable these were, if that was asked for.
    pub(super) logprobs: Vec<f32>,
    /// The shared prompt it waits for.
    prompt: Option<u64>,
}

/// Ids to feed in one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feed {
    whose: Whose,
    from: usize,
    to: usize,
    /// Whether nothing is left to feed behind them, so that their logits are wanted.
    is_last: bool,
}

/// Whose text is fed.
#[derive(Clone, Copy, Debug)]
enum Whose {
    /// That of the request at this place in `running`.
    Running(usize),
    /// A prompt.
    Shared(u64),
}

/// Who draws from the logits behind a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Drawer {
    /// The request at this place in `running`.
    Path(usize),
    /// The paths that wait for this prompt.
    Prompt(u64),
}

/// Limits of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Requests served at a time.
    pub(super) rows: usize,
    /// Prompt and appended tokens fed in one step.
    pub(super) prefill: usize,
    /// Tokens of cache memory.
    pub(super) memory: usize,
}

/// The requests in flight. See the module text.
#[derive(Debug)]
pub(super) struct Batch {
    limits: Limits,
    pub(super) texts: Texts,
    /// Requests on paths that are there; served before new paths, whose groups started later.
    going_on: VecDeque<Request>,
    fresh: VecDeque<Request>,
    /// Paths with a request that is queued or running.
    busy: BTreeSet<PathKey>,
    /// Requests that are being served, in order of admission.
    pub(super) running: Vec<Running>,
}

impl Batch {
    pub(super) fn new(cache: KvCache, limits: Limits) -> Self {
        Self {
            limits,
            texts: Texts::new(cache, limits.memory),
            going_on: VecDeque::new(),
            fresh: VecDeque::new(),
            busy: BTreeSet::new(),
            running: Vec::new(),
        }
    }

    /// The ids of a path; none if there is no such path.
    pub(super) fn ids(&self, key: PathKey) -> &[u32] {
        self.texts.paths.get(&key).map_or(&[], |path| &path.ids)
    }

    /// Whether a request of this path is queued or running.
    pub(super) fn is_busy(&self, key: PathKey) -> bool {
        self.busy.contains(&key)
    }

    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.busy.is_empty()
    }

    /// Queues a request that can be served.
    pub(super) fn submit(&mut self, request: Request) {
        self.busy.insert(request.key);
        match request.keep {
            0 => self.fresh.push_back(request),
            _ => self.going_on.push_back(request),
        }
    }

    /// Frees a path; the ids sampled for its request, if one was queued or running.
    pub(super) fn close(&mut self, key: PathKey) -> Option<Vec<u32>> {
        let mut cancelled = None;
        if self.busy.remove(&key) {
            let place = self
                .running
                .iter()
                .position(|running| running.request.key == key);
            cancelled = Some(place.map_or(Vec::new(), |place| self.running.remove(place).ids));
            // Nothing was drawn behind what was fed, so nobody saw whether its numbers are finite.
            if place.is_some() && cancelled.as_ref().is_some_and(Vec::is_empty) {
                self.texts.wipe(key);
            }
            self.going_on.retain(|request| request.key != key);
            self.fresh.retain(|request| request.key != key);
        }
        self.texts.close(key);
        self.drop_unused_prompts();
        cancelled
    }

    /// Starts queued requests while there are rows and memory for them.
    ///
    /// Requests start in order: one that has to wait for memory lets none behind it pass, or it
    /// could wait for ever. If nothing runs, what idle paths hold is taken from them.
    pub(super) fn admit(&mut self) {
        while self.running.len() < self.limits.rows {
            let Some(request) = self.going_on.front().or(self.fresh.front()) else {
                return;
            };
            if !self.texts.has_room_for(request) {
                let key = request.key;
                if self.running.is_empty() && self.texts.take_memory_of_an_idle_text(key) {
                    continue;
                }
                return;
            }
            let Some(request) = self.going_on.pop_front().or_else(|| self.fresh.pop_front()) else {
                return;
            };
            let prompt = match request.keep {
                0 => Some(self.texts.begin(&request)),
                _ => {
                    self.texts.go_on(&request);
                    None
                }
            };
            let stop = StopScanner::new(&request.stop.strings);
            self.running.push(Running {
                request,
                stop,
                ids: Vec::new(),
                logprobs: Vec::new(),
                prompt,
            });
        }
    }

    /// What to feed in the next step: one token of every path that has no more to feed, and
    /// prompts and appended ids in order of admission, as far as the limit goes.
    pub(super) fn plan(&self) -> Vec<Feed> {
        let mut feeds = Vec::with_capacity(self.running.len());
        let mut left = self.limits.prefill;
        let mut seen = BTreeSet::new();
        for (place, running) in self.running.iter().enumerate() {
            let (whose, text) = match running.prompt {
                None => (
                    Whose::Running(place),
                    &self.texts.paths[&running.request.key],
                ),
                Some(id) if seen.insert(id) => (Whose::Shared(id), &self.texts.shared[&id].text),
                Some(_) => continue,
            };
            let from = text.slot.map_or(0, |slot| self.texts.cache.len(slot));
            let missing = text.ids.len() - from;
            let count = if missing == 1 { 1 } else { missing.min(left) };
            if count == 0 {
                continue;
            }
            if missing > 1 {
                left -= count;
            }
            feeds.push(Feed {
                whose,
                from,
                to: from + count,
                is_last: count == missing,
            });
        }
        feeds
    }

    /// Hands the rows of `feeds` to `step`, which must append them to the cache.
    pub(super) fn feed<T>(
        &mut self,
        feeds: &[Feed],
        step: impl FnOnce(&[Row<'_>], &mut KvCache) -> T,
    ) -> T {
        let Texts {
            cache,
            paths,
            shared,
            ..
        } = &mut self.texts;
        let running = &self.running;
        let rows: Vec<Row<'_>> = feeds
            .iter()
            .map(|feed| {
                let text = match feed.whose {
                    Whose::Running(place) => &paths[&running[place].request.key],
                    Whose::Shared(id) => &shared[&id].text,
                };
                let slot = text.slot.expect("what is planned has a slot");
                Row {
                    slot,
                    ids: &text.ids[feed.from..feed.to],
                }
            })
            .collect();
        let result = step(&rows, cache);
        for feed in feeds {
            let text = match feed.whose {
                Whose::Running(place) => paths.get_mut(&running[place].request.key),
                Whose::Shared(id) => shared.get_mut(&id).map(|shared| &mut shared.text),
            };
            if let Some(text) = text {
                text.fed = text.fed.max(feed.to);
            }
        }
        result
    }

    /// Who draws from the logits of a feed; nobody if more is fed behind it.
    pub(super) fn drawer(&self, feed: &Feed) -> Option<Drawer> {
        feed.is_last.then_some(match feed.whose {
            Whose::Running(place) => Drawer::Path(place),
            Whose::Shared(id) => Drawer::Prompt(id),
        })
    }

    /// Keeps the logits behind a prompt for its paths.
    pub(super) fn keep_logits(&mut self, prompt: u64, logits: &[f32]) {
        let shared = self.texts.shared.get_mut(&prompt);
        let shared = shared.expect("what was fed is there");
        shared.logits = Some(logits.into());
    }

    /// Gives the paths that wait for a prompt that has been fed their copy of it; their places in
    /// `running`, with the logits they sample from.
    pub(super) fn fork_prompts(&mut self) -> Vec<(usize, Arc<[f32]>)> {
        let mut forked = Vec::new();
        for (place, running) in self.running.iter_mut().enumerate() {
            let Some(prompt) = running.prompt else {
                continue;
            };
            if let Some(logits) = self.texts.fork(prompt, running.request.key) {
                running.prompt = None;
                forked.push((place, logits));
            }
        }
        self.drop_unused_prompts();
        forked
    }

    /// Drops prompts that no path waits for or will wait for.
    fn drop_unused_prompts(&mut self) {
        let Self {
            texts,
            running,
            fresh,
            ..
        } = self;
        texts.retain_prompts(|id, shared: &Shared| {
            running.iter().any(|running| running.prompt == Some(id))
                || fresh.iter().any(|request| shared.is_for(request))
        });
    }

    /// Adds a sampled id to the path of the request at `place`.
    pub(super) fn push(&mut self, place: usize, id: u32) {
        let running = &mut self.running[place];
        running.ids.push(id);
        if let Some(path) = self.texts.paths.get_mut(&running.request.key) {
            path.ids.push(id);
        }
    }

    /// Ends the requests at `places`, which ascend; their paths become idle.
    pub(super) fn finish(&mut self, places: &[usize]) {
        if places.is_empty() {
            return;
        }
        let mut place = 0;
        let mut ended = places.iter().peekable();
        let Self {
            running,
            texts,
            busy,
            ..
        } = self;
        running.retain(|running| {
            let ends = ended.next_if_eq(&&place).is_some();
            place += 1;
            if ends {
                busy.remove(&running.request.key);
                texts.rest(running.request.key);
            }
            !ends
        });
    }
}
