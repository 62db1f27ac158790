//! The remote engine: a model behind servers that continue ids over HTTP.
//!
//! Paths live here as ids; a server is sent the whole path each time and finds what it has of it in
//! its own cache. It is asked with a seed for each request, drawn from the path's stream at the
//! position where sampling begins, so that a request that is repeated asks the same thing.
//!
//! Where several servers serve the model, a request goes to the one with the fewest tokens in
//! flight. A failure is tried again after a growing wait; a server that is gone is looked after, and
//! taken back when it is there again.

mod able;
mod error;
mod failure;
mod http;
mod judge;
mod pool;
mod probe;
mod settings;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use protocol::{Completion, Finish, PathKey, Request, Sampling, Vocab};

pub use self::able::{Able, Dialect, Extras, Prompts, Stops};
pub use self::error::RemoteError;
use self::failure::Failure;
pub use self::failure::{Class, Tally};
use self::pool::{Job, Outcome, Pool, Start};
use self::probe::{Kit, Known};
pub use self::settings::{Key, RemoteSettings};
use self::wire::Ask;
use crate::engine::{Engine, EngineError};

/// A model behind servers. See the module text.
pub struct RemoteEngine<'v> {
    vocab: &'v dyn Vocab,
    pool: Pool,
    answers: Receiver<(Job, Outcome)>,
    paths: BTreeMap<PathKey, Path>,
    done: VecDeque<Completion>,
    /// Requests that will be answered.
    outstanding: usize,
    requests: u64,
    model: String,
    able: Able,
    positions: usize,
    tally: Arc<Tally>,
    stop: fn() -> bool,
    error: Option<RemoteError>,
}

/// A path, or the number of the request that has it.
#[derive(Debug)]
enum Path {
    Idle(Vec<u32>),
    Busy(u64),
}

/// How often a stop and lost servers are looked for while nothing comes.
const LOOK: Duration = Duration::from_millis(100);

impl<'v> RemoteEngine<'v> {
    /// Asks all servers what they can do, and takes those that answer.
    ///
    /// # Errors
    /// If none can be used, or they are too different to work side by side.
    pub fn open(settings: RemoteSettings, vocab: &'v dyn Vocab) -> Result<Self, RemoteError> {
        let bases = settings.check()?;
        // Before threads do: a file of authorities that cannot be read.
        http::Caller::new(&settings)?;
        let kit = Kit::new(vocab)?;
        let found = ask_all(&bases, &kit, &settings);
        let known: Vec<(&String, &Known)> = found
            .iter()
            .filter_map(|(base, found)| Some((base, found.as_ref().ok()?)))
            .collect();
        let Some(&(first, one)) = known.first() else {
            let line = |(base, found): &(String, Result<Known, Failure>)| match found {
                Ok(_) => base.clone(),
                Err(failure) => format!("{base}: {failure}"),
            };
            let lines: Vec<String> = found.iter().map(line).collect();
            return Err(RemoteError::Unusable {
                servers: lines.join("\n"),
            });
        };
        for (url, other) in &known {
            if !probe::speaks(other, vocab) {
                return Err(RemoteError::Tokenizer {
                    url: (*url).clone(),
                });
            }
            let unlike = |problem: String| RemoteError::Unlike {
                url: (*url).clone(),
                other: first.clone(),
                problem,
            };
            if other.model != one.model {
                let (this, that) = (&other.model, &one.model);
                return Err(unlike(format!(
                    "it serves `{this}`, and the other `{that}`"
                )));
            }
            if !other.able.is_like(&one.able) {
                let (this, that) = (other.able.words(), one.able.words());
                return Err(unlike(format!("{this}; the other: {that}")));
            }
        }
        let positions = positions(settings.positions, &known)?;
        let (model, able) = (one.model.clone(), one.able);
        let tally = Arc::new(Tally::default());
        let (sender, answers) = mpsc::channel();
        let stop = settings.stop;
        let start = Start {
            kit,
            model: model.clone(),
            positions,
            able,
            servers: found,
            tally: Arc::clone(&tally),
            answers: sender,
        };
        Ok(Self {
            vocab,
            pool: Pool::open(settings, start)?,
            answers,
            paths: BTreeMap::new(),
            done: VecDeque::new(),
            outstanding: 0,
            requests: 0,
            model,
            able,
            positions,
            tally,
            stop,
            error: None,
        })
    }

    /// The model's name, as servers list it.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What the servers can do.
    pub fn able(&self) -> &Able {
        &self.able
    }

    /// What traces say of where they were computed: the servers' kind, and whether ids or texts
    /// went to and fro.
    pub fn device(&self) -> String {
        format!(
            "remote {}, {}",
            self.able.dialect.name(),
            self.able.exchange()
        )
    }

    /// Counts of answers and failures, to be read at any time.
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// For each server: its URL, whether it is there, and requests it has answered.
    pub fn servers(&self) -> Vec<(String, bool, u64)> {
        self.pool.servers()
    }

    /// Checks that servers heed what a run asks of the sampler.
    ///
    /// # Errors
    /// The first setting that they pass over.
    pub fn check(&self, sampling: &Sampling) -> Result<(), RemoteError> {
        let warm = sampling.temperature > 0.0;
        let asked = [
            (
                "top_k",
                sampling.top_k > 0,
                self.able.top_k,
                sampling.top_k.to_string(),
            ),
            (
                "min_p",
                sampling.min_p > 0.0,
                self.able.min_p,
                sampling.min_p.to_string(),
            ),
        ];
        match asked
            .into_iter()
            .find(|(_, asked, heeded, _)| warm && *asked && !heeded)
        {
            Some((name, _, _, value)) => Err(RemoteError::Sampling { name, value }),
            None => Ok(()),
        }
    }

    /// Why this request cannot be served; `None` if it can.
    fn refusal(&self, request: &Request) -> Option<String> {
        let has = match self.paths.get(&request.key) {
            Some(Path::Busy(_)) => {
                return Some("a request of this path is already in flight".into());
            }
            Some(Path::Idle(ids)) => ids.len(),
            None => 0,
        };
        if request.keep > has {
            let keep = request.keep;
            return Some(format!("{keep} tokens cannot be kept of a path of {has}"));
        }
        let (start, more) = (request.keep + request.append.len(), request.max_tokens);
        if start == 0 || more == 0 {
            return Some("at least one token must be there and one be asked for".into());
        }
        if start + more > self.positions {
            return Some(format!(
                "{start} tokens and {more} to sample are more than {} positions",
                self.positions
            ));
        }
        if request.logprobs {
            return Some("log-probabilities are not asked of servers".into());
        }
        self.check(&request.sampling)
            .err()
            .map(|error| error.to_string())
    }

    fn send(&mut self, request: Request) {
        let Request {
            key, keep, append, ..
        } = request;
        let mut ids = match self.paths.remove(&key) {
            Some(Path::Idle(ids)) => ids,
            _ => Vec::new(),
        };
        ids.truncate(keep);
        ids.extend_from_slice(&append);
        let text = match self.able.prompts {
            Prompts::Ids => None,
            Prompts::Text { adds_begin } => Some(
                self.vocab
                    .text(ids.get(usize::from(adds_begin)..).unwrap_or_default()),
            ),
        };
        // 31 bits: one server reads more, another takes all ones for "by lot".
        let seed = (request.stream.bits(ids.len() as u64) >> 33) as u32;
        let lots = request.stream.named("waits").indexed(ids.len() as u64);
        let ask = Ask {
            ids,
            text,
            sampling: request.sampling,
            stop: request.stop,
            max_tokens: request.max_tokens,
            seed,
        };
        self.requests += 1;
        self.outstanding += 1;
        self.paths.insert(key, Path::Busy(self.requests));
        if let Err(error) = self.pool.submit(Job::new(key, self.requests, ask, lots)) {
            self.error.get_or_insert(error);
        }
    }

    /// What an answer completes; none if the request goes on, or nobody waits for it.
    fn take(&mut self, mut job: Job, outcome: Outcome) -> Option<Completion> {
        let key = job.key;
        match self.paths.get(&key) {
            Some(Path::Busy(number)) if *number == job.number => {}
            _ => return None,
        }
        let (ids, finish) = match outcome {
            Outcome::Unsent => (Vec::new(), Finish::Cancelled),
            Outcome::GivenUp(failure) => {
                let tries = job.failed;
                let reason = match failure.class {
                    Class::Refused => format!("the server refuses it: {failure}"),
                    _ => format!("{tries} tries failed, the last one: {failure}"),
                };
                (Vec::new(), Finish::Failed(reason))
            }
            Outcome::Reply(reply, server) => {
                let (told, asked) = (reply.ended_at(), job.ask.max_tokens);
                match (judge::judge(&job.ask, reply, self.vocab), told) {
                    // Taken as it is, it would be another turn than the recipe's.
                    (Ok((_, Finish::Length)), Some(told)) if told < asked => {
                        let url = self.pool.servers().swap_remove(server).0;
                        self.error
                            .get_or_insert(RemoteError::Capped { url, told, asked });
                        return None;
                    }
                    (Ok(judged), _) => judged,
                    (Err(failure), _) => {
                        self.pool.refuse(job, server, failure);
                        return None;
                    }
                }
            }
        };
        let mut path = std::mem::take(&mut job.ask.ids);
        path.extend_from_slice(&ids);
        self.paths.insert(key, Path::Idle(path));
        self.outstanding -= 1;
        Some(Completion::new(key, ids, finish))
    }
}

impl Engine for RemoteEngine<'_> {
    fn submit(&mut self, request: Request) {
        match self.refusal(&request) {
            None => self.send(request),
            Some(reason) => self.done.push_back(Completion::failed(request.key, reason)),
        }
    }

    fn adopt(&mut self, key: PathKey, _: usize, ids: Vec<u32>) {
        self.paths.insert(key, Path::Idle(ids));
    }

    fn close(&mut self, key: PathKey) {
        if let Some(Path::Busy(_)) = self.paths.remove(&key) {
            // What is at a server is not waited for; its answer will find nobody.
            self.pool.withdraw(key);
            self.outstanding -= 1;
            self.done
                .push_back(Completion::new(key, Vec::new(), Finish::Cancelled));
        }
    }

    fn wait(&mut self) -> Result<Option<Completion>, EngineError> {
        loop {
            if let Some(completion) = self.done.pop_front() {
                return Ok(Some(completion));
            }
            if let Some(error) = self.error.take() {
                return Err(error.into());
            }
            if self.outstanding == 0 {
                return Ok(None);
            }
            if (self.stop)() {
                for job in self.pool.drain() {
                    let unsent = self.take(job, Outcome::Unsent);
                    self.done.extend(unsent);
                }
                if !self.done.is_empty() {
                    continue;
                }
            }
            match self.answers.recv_timeout(LOOK) {
                Ok((job, outcome)) => {
                    if let Some(completion) = self.take(job, outcome) {
                        return Ok(Some(completion));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(error) = self.pool.despair() {
                        return Err(error.into());
                    }
                }
                // The pool, which is ours, holds a sender.
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    fn positions(&self) -> usize {
        self.positions
    }
}

/// Asks all servers at the same time.
fn ask_all(
    bases: &[String],
    kit: &Kit,
    settings: &RemoteSettings,
) -> Vec<(String, Result<Known, Failure>)> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = bases
            .iter()
            .map(|base| (base, scope.spawn(|| probe::probe(base, kit, settings))))
            .collect();
        let joined = asked.into_iter().map(|(base, asked)| {
            let found = asked
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (base.clone(), found)
        });
        joined.collect()
    })
}

/// The longest path: as asked for, if every server holds it, or what the smallest holds.
fn positions(asked: Option<usize>, known: &[(&String, &Known)]) -> Result<usize, RemoteError> {
    let told = known
        .iter()
        .filter_map(|(url, known)| Some((known.positions?, *url)));
    match (asked, told.min()) {
        (Some(asked), Some((held, url))) if held < asked => Err(RemoteError::Positions {
            problem: format!("`{url}` holds texts of {held} tokens, but {asked} are asked for"),
        }),
        (Some(asked), _) => Ok(asked),
        (None, Some((held, _))) => Ok(held),
        (None, None) => Err(RemoteError::Positions {
            problem: "no server tells how long a text can be".to_owned(),
        }),
    }
}
