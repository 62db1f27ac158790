//! Threads that carry requests to servers: the least loaded first, again after a failure, and around
//! servers that are gone.
//!
//! A request is in one place at a time: queued, put off, at a server, or answered. It leaves with one
//! answer, whatever happened before. Nothing here knows paths or tokens' meanings.

mod carry;
mod look;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use protocol::{PathKey, Stream};

use super::able::Able;
use super::failure::{Failure, Tally};
use super::http::Caller;
use super::probe::{Kit, Known};
use super::wire::{Ask, Reply};
use super::{RemoteError, RemoteSettings};

/// A thread that waits for an answer needs little, but TLS some.
const STACK: usize = 512 << 10;
/// How often servers that are gone are looked after, at first.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LONGEST_LOOK: Duration = Duration::from_secs(15);

/// One request on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: PathKey,
    /// Tells requests of one path apart.
    pub(super) number: u64,
    pub(super) ask: Ask,
    /// Where the lots of its waits come from.
    pub(super) lots: Stream,
    /// Tries that failed.
    pub(super) failed: u32,
    /// The server that failed last, which is avoided if there is another.
    avoid: Option<usize>,
    /// Servers that denied it, with how many requests each had answered by then.
    denied: BTreeMap<usize, u64>,
}

impl Job {
    pub(super) fn new(key: PathKey, number: u64, ask: Ask, lots: Stream) -> Self {
        Self {
            key,
            number,
            ask,
            lots,
            failed: 0,
            avoid: None,
            denied: BTreeMap::new(),
        }
    }

    /// Tokens that it can come to hold at a server.
    fn weight(&self) -> u64 {
        (self.ask.ids.len() + self.ask.max_tokens) as u64
    }
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A server answered.
    Reply(Reply, usize),
    /// It was refused, or failed too often.
    GivenUp(Failure),
    /// It was never sent, because a stop was asked for.
    Unsent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Up,
    /// Gone; looked after again at `next`.
    Down {
        next: Instant,
        wait: Duration,
    },
    /// Another model, or one that can do less than the others.
    Excluded,
}

#[derive(Debug)]
struct Server {
    base: String,
    health: Health,
    /// What it can do, once it is known.
    able: Option<Able>,
    /// Requests and tokens it has in flight.
    requests: usize,
    tokens: u64,
    /// It asked to be left alone until then.
    rests_until: Option<Instant>,
    /// Failures without an answer between them.
    in_a_row: u32,
    /// How often it was taken for gone because it denies what it is asked, without an answer between.
    /// While it is more than 0 the server is tried with one request at a time.
    denials: u32,
    answered: u64,
    last_failure: Option<Failure>,
}

struct PutOff {
    due: Instant,
    job: Job,
}

struct State {
    ready: VecDeque<Job>,
    put_off: BinaryHeap<Reverse<PutOff>>,
    servers: Vec<Server>,
    threads: usize,
    idle: usize,
    /// No request is sent any more.
    closing: bool,
    /// Since when no server has been there that answers; none while there is one.
    alone_since: Option<Instant>,
    last_answer: Instant,
}

pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes threads that wait for a request.
    work: Condvar,
    /// Wakes the thread that looks at the time.
    clock: Condvar,
    /// Wakes the thread that looks after servers that are gone.
    gone: Condvar,
    settings: RemoteSettings,
    kit: Kit,
    model: String,
    positions: usize,
    able: Able,
    tally: Arc<Tally>,
    answers: Sender<(Job, Outcome)>,
}

impl PartialEq for PutOff {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for PutOff {}

impl PartialOrd for PutOff {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PutOff {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

/// What a pool is made of besides its settings.
pub(super) struct Start {
    pub(super) kit: Kit,
    pub(super) model: String,
    /// The longest path.
    pub(super) positions: usize,
    /// What all servers can do.
    pub(super) able: Able,
    /// Base URLs; with what is known of those that answered.
    pub(super) servers: Vec<(String, Result<Known, Failure>)>,
    pub(super) tally: Arc<Tally>,
    pub(super) answers: Sender<(Job, Outcome)>,
}

impl Pool {
    /// # Errors
    /// If no thread can be started.
    pub(super) fn open(settings: RemoteSettings, start: Start) -> Result<Self, RemoteError> {
        let now = Instant::now();
        let servers = start.servers.into_iter().map(|(base, found)| Server {
            base,
            health: match &found {
                Ok(_) => Health::Up,
                Err(_) => Health::Down {
                    next: now + FIRST_LOOK,
                    wait: FIRST_LOOK,
                },
            },
            able: found.as_ref().ok().map(|known| known.able),
            requests: 0,
            tokens: 0,
            rests_until: None,
            in_a_row: 0,
            denials: 0,
            answered: 0,
            last_failure: found.err(),
        });
        let state = State {
            ready: VecDeque::new(),
            put_off: BinaryHeap::new(),
            servers: servers.collect(),
            threads: 0,
            idle: 0,
            closing: false,
            alone_since: None,
            last_answer: now,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            clock: Condvar::new(),
            gone: Condvar::new(),
            settings,
            kit: start.kit,
            model: start.model,
            positions: start.positions,
            able: start.able,
            tally: start.tally,
            answers: start.answers,
        });
        type Work = fn(&Shared);
        let works: [(&str, Work); 2] = [
            ("clock", Shared::keep_time),
            ("servers", Shared::look_after),
        ];
        for (name, work) in works {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(name.into())
                .stack_size(STACK)
                .spawn(move || work(&shared))
                .map_err(RemoteError::Thread)?;
        }
        Ok(Self { shared })
    }

    /// Queues a request.
    ///
    /// # Errors
    /// If there is no thread to carry it, and none can be started.
    pub(super) fn submit(&self, job: Job) -> Result<(), RemoteError> {
        let mut state = self.shared.lock();
        if state.ready.is_empty() && state.put_off.is_empty() && state.threads == state.idle {
            // Nothing was outstanding, so nothing can have been answered.
            state.last_answer = Instant::now();
        }
        state.ready.push_back(job);
        let most = self.shared.settings.in_flight * state.servers.len();
        if state.idle >= state.ready.len() || state.threads >= most {
            drop(state);
            self.shared.work.notify_one();
            return Ok(());
        }
        state.threads += 1;
        let first = state.threads == 1;
        drop(state);
        let mut caller = match Caller::new(&self.shared.settings) {
            Ok(caller) => caller,
            Err(error) => {
                self.shared.lock().threads -= 1;
                return Err(error);
            }
        };
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new()
            .name("request".into())
            .stack_size(STACK)
            .spawn(move || shared.carry(&mut caller));
        match started {
            Ok(_) => Ok(()),
            Err(error) => {
                self.shared.lock().threads -= 1;
                // With fewer threads than were asked for it is slower, and nothing is lost.
                match first {
                    true => Err(RemoteError::Thread(error)),
                    false => Ok(()),
                }
            }
        }
    }

    /// Takes back an answer that turned out to be wrong.
    pub(super) fn refuse(&self, job: Job, server: usize, failure: Failure) {
        let shared = &self.shared;
        let mut state = shared.lock();
        shared.settle(&mut state, job, server, failure);
    }

    /// Forgets a request that is not at a server. Whether it did.
    pub(super) fn withdraw(&self, key: PathKey) -> bool {
        let mut state = self.shared.lock();
        let before = state.ready.len() + state.put_off.len();
        state.ready.retain(|job| job.key != key);
        state
            .put_off
            .retain(|Reverse(put_off)| put_off.job.key != key);
        state.ready.len() + state.put_off.len() < before
    }

    /// Hands back all that is not at a server, once a stop was asked for.
    pub(super) fn drain(&self) -> Vec<Job> {
        let mut state = self.shared.lock();
        let put_off = std::mem::take(&mut state.put_off);
        let mut unsent: Vec<Job> = std::mem::take(&mut state.ready).into();
        unsent.extend(put_off.into_iter().map(|Reverse(put_off)| put_off.job));
        unsent
    }

    /// Why there is no hope that a request will be answered; none while there is.
    pub(super) fn despair(&self) -> Option<RemoteError> {
        let state = self.shared.lock();
        let settings = &self.shared.settings;
        let gone = state
            .alone_since
            .is_some_and(|since| since.elapsed() > settings.patience);
        let silent = state.last_answer.elapsed() > settings.patience + settings.answer;
        (gone || silent).then(|| RemoteError::Lost {
            seconds: state
                .alone_since
                .map_or(state.last_answer.elapsed(), |since| since.elapsed())
                .as_secs(),
            servers: state.told(),
        })
    }

    /// For each server: its URL, whether it is there, and requests it has answered.
    pub(super) fn servers(&self) -> Vec<(String, bool, u64)> {
        let state = self.shared.lock();
        let one = |server: &Server| {
            let up = server.health == Health::Up;
            (server.base.clone(), up, server.answered)
        };
        state.servers.iter().map(one).collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Threads end with what they carry; nobody waits for them.
        self.shared.lock().closing = true;
        self.shared.work.notify_all();
        self.shared.clock.notify_all();
        self.shared.gone.notify_all();
    }
}

impl Server {
    /// Whether it is there and lets requests in.
    fn serves(&self) -> bool {
        self.health == Health::Up && self.denials == 0
    }
}

impl State {
    /// The least loaded server that can take this request now.
    fn server_for(&self, job: &Job, most: usize, now: Instant) -> Option<usize> {
        let takes = |server: &&(usize, &Server)| {
            let server = server.1;
            let most = if server.denials > 0 { 1 } else { most };
            server.health == Health::Up
                && server.able.is_some()
                && server.requests < most
                && server.rests_until.is_none_or(|until| until <= now)
        };
        let servers: Vec<(usize, &Server)> = self.servers.iter().enumerate().collect();
        let open = servers.iter().filter(takes);
        let load = |(place, server): &&(usize, &Server)| {
            (
                job.avoid == Some(*place),
                server.tokens,
                server.answered,
                *place,
            )
        };
        open.min_by_key(load).map(|(place, _)| *place)
    }

    /// The servers and what is wrong with them, a line each.
    fn told(&self) -> String {
        let one = |server: &Server| {
            let failure = server.last_failure.as_ref();
            let failure = failure.map_or("no failure".to_owned(), ToString::to_string);
            format!("{}: {failure}", server.base)
        };
        let lines: Vec<String> = self.servers.iter().map(one).collect();
        lines.join("\n")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked held is still counted rightly: it is changed in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
