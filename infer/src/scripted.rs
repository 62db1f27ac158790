//! An engine that plays back texts: for tests and dry runs of what drives engines.
//!
//! It keeps the rules of a real engine (roll-back, stop strings across token borders, budgets), so
//! what runs on it runs on a model; only the words come from a script.

use std::collections::{BTreeMap, VecDeque};

use protocol::{Completion, Finish, PathKey, Request, Vocab};

use crate::engine::{Engine, EngineError};
use crate::local::StopScanner;

/// Plays back texts. See the module text.
pub struct ScriptedEngine<'v> {
    vocab: &'v dyn Vocab,
    positions: usize,
    script: BTreeMap<PathKey, VecDeque<String>>,
    paths: BTreeMap<PathKey, Vec<u32>>,
    queue: VecDeque<Request>,
    cancelled: VecDeque<PathKey>,
    requests: Vec<Request>,
    closed: Vec<PathKey>,
}

impl<'v> ScriptedEngine<'v> {
    /// An engine without a script that holds paths of up to `positions` tokens.
    pub fn new(vocab: &'v dyn Vocab, positions: usize) -> Self {
        Self {
            vocab,
            positions,
            script: BTreeMap::new(),
            paths: BTreeMap::new(),
            queue: VecDeque::new(),
            cancelled: VecDeque::new(),
            requests: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// Adds what a path answers to its next request that has no text yet.
    ///
    /// The text ends early at a stop string or at the request's budget, and what is behind is not
    /// said; a text that is said whole ends the path's text (`Eos`), as does a missing one.
    #[must_use]
    pub fn say(mut self, group: u32, path: u32, text: &str) -> Self {
        self.script
            .entry(PathKey { group, path })
            .or_default()
            .push_back(text.to_string());
        self
    }

    /// Every request it was given, in order.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Every path that was closed, in order.
    pub fn closed(&self) -> &[PathKey] {
        &self.closed
    }

    /// The ids of a path that is not closed.
    pub fn path(&self, key: PathKey) -> Option<&[u32]> {
        self.paths.get(&key).map(Vec::as_slice)
    }

    fn complete(&mut self, request: Request) -> Completion {
        let key = request.key;
        let failed = |reason: String| Completion::failed(key, reason);
        let path = self.paths.entry(key).or_default();
        if request.keep > path.len() {
            let has = path.len();
            return failed(format!(
                "{} tokens cannot be kept of a path of {has}",
                request.keep
            ));
        }
        path.truncate(request.keep);
        path.extend_from_slice(&request.append);
        let (start, more) = (path.len(), request.max_tokens);
        if start + more > self.positions {
            let positions = self.positions;
            return failed(format!(
                "{start} tokens and {more} to sample are more than {positions} positions"
            ));
        }
        let text = self
            .script
            .get_mut(&key)
            .and_then(VecDeque::pop_front)
            .unwrap_or_default();
        let (ids, finish) = say(self.vocab, &text, &request);
        path.extend_from_slice(&ids);
        Completion::new(key, ids, finish)
    }
}

/// The ids of `text` up to where the request ends them.
fn say(vocab: &dyn Vocab, text: &str, request: &Request) -> (Vec<u32>, Finish) {
    let mut stop = StopScanner::new(&request.stop.strings);
    let mut ids = Vec::new();
    let end = request.stop.eos.first();
    for id in vocab.encode(text).into_iter().chain(end.copied()) {
        ids.push(id);
        if request.stop.eos.contains(&id) {
            return (ids, Finish::Eos);
        }
        if let Some(index) = stop.push(&vocab.bytes(id)) {
            return (ids, Finish::Stop(index));
        }
        if ids.len() >= request.max_tokens {
            return (ids, Finish::Length);
        }
    }
    // Without an end id a text can only end by its budget.
    (ids, Finish::Length)
}

impl Engine for ScriptedEngine<'_> {
    fn submit(&mut self, request: Request) {
        self.requests.push(request.clone());
        self.queue.push_back(request);
    }

    fn adopt(&mut self, key: PathKey, _: usize, ids: Vec<u32>) {
        self.paths.insert(key, ids);
    }

    fn close(&mut self, key: PathKey) {
        self.closed.push(key);
        self.paths.remove(&key);
        let open = self.queue.len();
        self.queue.retain(|request| request.key != key);
        if self.queue.len() < open {
            self.cancelled.push_back(key);
        }
    }

    fn wait(&mut self) -> Result<Option<Completion>, EngineError> {
        if let Some(key) = self.cancelled.pop_front() {
            return Ok(Some(Completion::new(key, Vec::new(), Finish::Cancelled)));
        }
        let request = self.queue.pop_front();
        Ok(request.map(|request| self.complete(request)))
    }

    fn positions(&self) -> usize {
        self.positions
    }
}
