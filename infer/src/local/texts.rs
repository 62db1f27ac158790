//! Which ids lie in the cache, for whom, and how much memory is set aside for them.
//!
//! Memory is set aside for the longest a text can become, so that a step never runs out of it. How much
//! texts take together the cache says, because it depends on where they lie. Nothing here decides who runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::kv_cache::{KvCache, Slot};
use protocol::{PathKey, Request};

/// Tokens that the request's path can come to have.
fn whole(request: &Request) -> usize {
    request.keep + request.append.len() + request.max_tokens
}

/// Ids, of which a leading part is in the cache.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) ids: Vec<u32>,
    pub(super) slot: Option<Slot>,
    /// Leading ids that have been fed at some time, and stay known if the slot is taken away.
    pub(super) fed: usize,
    /// Tokens that memory is set aside for; 0 if none is.
    held: usize,
    /// When it was first admitted.
    since: u64,
}

/// A prompt that paths of one group begin with: fed once, then forked.
#[derive(Debug)]
pub(super) struct Shared {
    group: u32,
    pub(super) text: Text,
    /// Logits behind its last token, once it has been fed.
    pub(super) logits: Option<Arc<[f32]>>,
}

/// All texts. See the module text.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) cache: KvCache,
    pub(super) paths: BTreeMap<PathKey, Text>,
    pub(super) shared: BTreeMap<u64, Shared>,
    /// Tokens of memory there are.
    memory: usize,
    admitted: u64,
    /// Prompt and appended tokens that were to be fed for the first time.
    pub(super) prefilled: u64,
    /// Tokens that were to be fed again.
    pub(super) refilled: u64,
}

impl Texts {
    /// No texts, and memory for this many tokens.
    pub(super) fn new(mut cache: KvCache, memory: usize) -> Self {
        cache.limit(memory);
        Self {
            cache,
            paths: BTreeMap::new(),
            shared: BTreeMap::new(),
            memory,
            admitted: 0,
            prefilled: 0,
            refilled: 0,
        }
    }

    /// Tokens of cache memory that a request needs when nothing else is there.
    pub(super) fn needed(&self, request: &Request) -> usize {
        let prompt = (request.keep == 0).then_some(request.append.len());
        self.cache
            .tokens_for(std::iter::once(whole(request)).chain(prompt))
    }

    /// Whether the request can start without taking memory from a text.
    pub(super) fn has_room_for(&self, request: &Request) -> bool {
        let shares = || self.shared_prompt(request).map(|id| &self.shared[&id]);
        let is_fed = || shares().is_some_and(|shared| shared.text.slot.is_some());
        let prompt = (request.keep == 0 && !is_fed()).then_some(request.append.len());
        // What the path holds now is its own to use, or is given up for the beginning of another.
        let others = self.held_but_by(request.key);
        let all = others.chain([whole(request)]).chain(prompt);
        self.cache.tokens_for(all) <= self.memory
    }

    /// Tokens that memory is set aside for, of each text that has any, but not of a path.
    fn held_but_by(&self, but: PathKey) -> impl Iterator<Item = usize> {
        let paths = self.paths.iter().filter(move |(key, _)| **key != but);
        let prompts = self.shared.values().map(|shared| &shared.text);
        let texts = paths.map(|(_, path)| path).chain(prompts);
        texts.map(|text| text.held).filter(|held| *held > 0)
    }

    /// Takes the cache memory of the path that came last, but not of path `but`; failing that, of
    /// the prompt that came last. Its ids stay and are fed again when they are needed. Only while
    /// nothing runs, so that every text is idle. Whether there was one.
    pub(super) fn take_memory_of_an_idle_text(&mut self, but: PathKey) -> bool {
        let paths = self
            .paths
            .iter_mut()
            .filter(|(key, path)| **key != but && path.held > 0);
        match paths.map(|(_, path)| path).max_by_key(|path| path.since) {
            Some(path) => path.vacate(&mut self.cache),
            None => match self
                .shared
                .values_mut()
                .rfind(|shared| shared.text.held > 0)
            {
                Some(shared) => shared.vacate(&mut self.cache),
                None => return false,
            },
        }
        true
    }

    /// Rolls a path back and appends to it.
    pub(super) fn go_on(&mut self, request: &Request) {
        let path = self
            .paths
            .get_mut(&request.key)
            .expect("a checked request has its path");
        path.ids.truncate(request.keep);
        path.fed = path.fed.min(request.keep);
        path.ids.extend_from_slice(&request.append);
        let slot = *path.slot.get_or_insert_with(|| self.cache.open());
        // At least one token is left to feed, because its logits are wanted.
        let in_cache = self
            .cache
            .len(slot)
            .min(request.keep)
            .min(path.ids.len() - 1);
        self.cache.truncate(slot, in_cache);
        self.refilled += path.fed.saturating_sub(in_cache) as u64;
        self.prefilled += request.append.len() as u64;
        path.held = whole(request);
    }

    /// Begins a path with a prompt that it shares with its group; the id of that prompt.
    pub(super) fn begin(&mut self, request: &Request) -> u64 {
        self.close(request.key);
        self.admitted += 1;
        let (since, ids) = (self.admitted, &request.append);
        let id = self.shared_prompt(request).unwrap_or(since);
        let shared = self.shared.entry(id).or_insert_with(|| {
            self.prefilled += ids.len() as u64;
            let text = Text {
                ids: ids.clone(),
                since,
                ..Text::default()
            };
            Shared {
                group: request.key.group,
                text,
                logits: None,
            }
        });
        if shared.text.slot.is_none() {
            shared.text.slot = Some(self.cache.open());
            shared.text.held = ids.len();
            self.refilled += shared.text.fed as u64;
        }
        let path = Text {
            ids: ids.clone(),
            slot: None,
            fed: ids.len(),
            held: whole(request),
            since,
        };
        self.paths.insert(request.key, path);
        id
    }

    /// Takes over a path; its ids are fed, as those of a path whose memory was taken away, when it
    /// goes on.
    pub(super) fn adopt(&mut self, key: PathKey, ids: Vec<u32>) {
        self.close(key);
        self.admitted += 1;
        let path = Text {
            fed: ids.len(),
            ids,
            since: self.admitted,
            ..Text::default()
        };
        self.paths.insert(key, path);
    }

    /// The shared prompt that a new path begins with.
    fn shared_prompt(&self, request: &Request) -> Option<u64> {
        let is_its = |shared: &Shared| shared.is_for(request);
        self.shared
            .iter()
            .find(|(_, shared)| is_its(shared))
            .map(|(id, _)| *id)
    }

    /// Gives a path its copy of a prompt; the logits behind it, or `None` if it is not fed yet.
    pub(super) fn fork(&mut self, prompt: u64, key: PathKey) -> Option<Arc<[f32]>> {
        let shared = &self.shared[&prompt];
        let logits = shared.logits.clone()?;
        let slot = shared.text.slot.expect("a prompt that was fed has a slot");
        self.paths
            .get_mut(&key)
            .expect("what runs has its path")
            .slot = Some(self.cache.fork(slot));
        Some(logits)
    }

    /// Keeps the prompts that `is_used` says.
    pub(super) fn retain_prompts(&mut self, is_used: impl Fn(u64, &Shared) -> bool) {
        let ids = self
            .shared
            .iter()
            .filter(|(id, shared)| !is_used(**id, shared));
        let unused: Vec<u64> = ids.map(|(id, _)| *id).collect();
        for id in unused {
            if let Some(mut shared) = self.shared.remove(&id) {
                shared.vacate(&mut self.cache);
            }
        }
    }

    /// Gives back the memory that a path set aside and did not use.
    pub(super) fn rest(&mut self, key: PathKey) {
        if let Some(path) = self.paths.get_mut(&key) {
            path.held = path.slot.map_or(0, |slot| self.cache.len(slot));
        }
    }

    /// Frees the memory of a path in which numbers may lie that are not finite: they must not come through
    /// to the next text there. Its ids stay.
    pub(super) fn wipe(&mut self, key: PathKey) {
        if let Some(path) = self.paths.get_mut(&key) {
            path.wipe(&mut self.cache);
            path.vacate(&mut self.cache);
        }
    }

    /// Frees a path.
    pub(super) fn close(&mut self, key: PathKey) {
        if let Some(mut path) = self.paths.remove(&key) {
            path.vacate(&mut self.cache);
        }
    }
}

impl Text {
    fn wipe(&self, cache: &mut KvCache) {
        if let Some(slot) = self.slot {
            cache.wipe(slot);
        }
    }

    /// Frees its memory.
    fn vacate(&mut self, cache: &mut KvCache) {
        self.held = 0;
        if let Some(slot) = self.slot.take() {
            cache.close(slot);
        }
    }
}

impl Shared {
    /// Whether a new path begins with this prompt.
    pub(super) fn is_for(&self, request: &Request) -> bool {
        request.key.group == self.group && request.append == self.text.ids
    }

    /// Frees its memory, in which only what was seen to be finite may stay.
    fn vacate(&mut self, cache: &mut KvCache) {
        let seen = self.logits.take();
        if !seen.is_some_and(|logits| logits.iter().all(|logit| logit.is_finite())) {
            self.text.wipe(cache);
        }
        self.text.vacate(cache);
    }
}
