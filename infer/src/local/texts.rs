//! Which ids lie in the cache, for whom, and how much memory is set aside for them.
//!
//! Memory is counted in tokens and set aside for the longest a text can become, so that a step
//! never runs out of it. Nothing here decides who runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::kv_cache::{KvCache, Slot};
use protocol::{PathKey, Request};

/// Memory is counted in this many tokens: no fewer than the cache hands out at a time.
const GRAIN: usize = 32;

/// Tokens of cache memory that a text of `length` tokens takes.
fn room_for(length: usize) -> usize {
    length.next_multiple_of(GRAIN)
}

/// Tokens of cache memory that a request needs when nothing else is there.
pub(super) fn needed(request: &Request) -> usize {
    let prompt = if request.keep == 0 {
        room_for(request.append.len())
    } else {
        0
    };
    whole(request) + prompt
}

/// Tokens of cache memory that the request's path can come to take.
fn whole(request: &Request) -> usize {
    room_for(request.keep + request.append.len() + request.max_tokens)
}

/// Ids, of which a leading part is in the cache.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) ids: Vec<u32>,
    pub(super) slot: Option<Slot>,
    /// Leading ids that have been fed at some time, and stay known if the slot is taken away.
    pub(super) fed: usize,
    /// Tokens of memory set aside.
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
    /// Tokens of memory set aside for all texts.
    held: usize,
    admitted: u64,
    /// Prompt and appended tokens that were to be fed for the first time.
    pub(super) prefilled: u64,
    /// Tokens that were to be fed again.
    pub(super) refilled: u64,
}

impl Texts {
    /// No texts, and memory for this many tokens.
    pub(super) fn new(cache: KvCache, memory: usize) -> Self {
        Self {
            cache,
            paths: BTreeMap::new(),
            shared: BTreeMap::new(),
            memory,
            held: 0,
            admitted: 0,
            prefilled: 0,
            refilled: 0,
        }
    }

    /// Whether the request can start without taking memory from a text.
    pub(super) fn has_room_for(&self, request: &Request) -> bool {
        let has = self.paths.get(&request.key).map_or(0, |path| path.held);
        let shares = || self.shared_prompt(request).map(|id| &self.shared[&id]);
        let prompt = match request.keep {
            0 if shares().is_none_or(|shared| shared.text.slot.is_none()) => {
                room_for(request.append.len())
            }
            _ => 0,
        };
        self.held + whole(request).saturating_sub(has) + prompt <= self.memory
    }

    /// Takes the cache memory of the path that came last, but not of path `but`; failing that, of
    /// the prompt that came last. Its ids stay and are fed again when they are needed. Only while
    /// nothing runs, so that every text is idle. Whether there was one.
    pub(super) fn take_memory_of_an_idle_text(&mut self, but: PathKey) -> bool {
        let paths = self
            .paths
            .iter_mut()
            .filter(|(key, path)| **key != but && path.held > 0);
        let text = match paths.map(|(_, path)| path).max_by_key(|path| path.since) {
            Some(path) => path,
            None => match self
                .shared
                .values_mut()
                .rfind(|shared| shared.text.held > 0)
            {
                Some(shared) => {
                    shared.logits = None;
                    &mut shared.text
                }
                None => return false,
            },
        };
        self.held -= std::mem::take(&mut text.held);
        if let Some(slot) = text.slot.take() {
            self.cache.close(slot);
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
        let held = path.held.max(whole(request));
        self.held += held - path.held;
        path.held = held;
    }

    /// Begins a path with a prompt that it shares with its group; the id of that prompt.
    pub(super) fn begin(&mut self, request: &Request) -> u64 {
        if let Some(mut old) = self.paths.remove(&request.key) {
            self.vacate(&mut old);
        }
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
            shared.text.held = room_for(ids.len());
            self.held += shared.text.held;
            self.refilled += shared.text.fed as u64;
        }
        let held = whole(request);
        self.held += held;
        let path = Text {
            ids: ids.clone(),
            slot: None,
            fed: ids.len(),
            held,
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
                self.vacate(&mut shared.text);
            }
        }
    }

    /// Gives back the memory that a path set aside and did not use.
    pub(super) fn rest(&mut self, key: PathKey) {
        if let Some(path) = self.paths.get_mut(&key) {
            let keeps = room_for(path.slot.map_or(0, |slot| self.cache.len(slot)));
            self.held -= path.held - keeps;
            path.held = keeps;
        }
    }

    /// Frees a path.
    pub(super) fn close(&mut self, key: PathKey) {
        if let Some(mut path) = self.paths.remove(&key) {
            self.vacate(&mut path);
        }
    }

    /// Frees the memory of a text that is going away.
    fn vacate(&mut self, text: &mut Text) {
        self.held -= std::mem::take(&mut text.held);
        if let Some(slot) = text.slot.take() {
            self.cache.close(slot);
        }
    }
}

impl Shared {
    /// Whether a new path begins with this prompt.
    pub(super) fn is_for(&self, request: &Request) -> bool {
        request.key.group == self.group && request.append == self.text.ids
    }
}
