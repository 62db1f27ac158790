//! What two threads do beside those that carry requests: one looks at the time and hands out what was
//! put off, the other looks after servers that are gone, and may have to wait for them.

use std::cmp::Reverse;
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Health, LONGEST_LOOK, PutOff, Server, Shared, State};
use crate::remote::able::Able;
use crate::remote::failure::{Class, Failure};
use crate::remote::http::Caller;
use crate::remote::probe;

/// How long a server that is gone may take to say that it is back.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

impl Shared {
    /// Hands out what was put off, and wakes who waits for a server that rests.
    pub(super) fn keep_time(&self) {
        let mut state = self.lock();
        while !state.closing {
            let now = Instant::now();
            while let Some(Reverse(first)) = state.put_off.peek() {
                if first.due > now {
                    break;
                }
                if let Some(Reverse(PutOff { job, .. })) = state.put_off.pop() {
                    state.ready.push_back(job);
                    self.work.notify_one();
                }
            }
            for server in &mut state.servers {
                if server.rests_until.is_some_and(|until| until <= now) {
                    server.rests_until = None;
                    self.work.notify_all();
                }
            }
            let put_off = state.put_off.peek().map(|Reverse(first)| first.due);
            let rests = state.servers.iter().filter_map(|server| server.rests_until);
            let next = rests.chain(put_off).min();
            state = wait_until(&self.clock, state, next);
        }
    }

    /// Looks after servers that are gone, until each is there again.
    pub(super) fn look_after(&self) {
        let Ok(mut caller) = Caller::with_time(&self.settings, LONGEST_ANSWER) else {
            return;
        };
        let mut state = self.lock();
        while !state.closing {
            let now = Instant::now();
            let due = |server: &Server| match server.health {
                Health::Down { next, .. } => Some(next),
                _ => None,
            };
            let is_due = |server: &Server| due(server).is_some_and(|next| next <= now);
            if let Some(place) = state.servers.iter().position(is_due) {
                let base = state.servers[place].base.clone();
                let able = state.servers[place].able;
                drop(state);
                let found = self.look(&base, able, &mut caller);
                state = self.lock();
                self.note(&mut state, place, found);
                continue;
            }
            let next = state.servers.iter().filter_map(due).min();
            state = wait_until(&self.gone, state, next);
        }
    }

    /// Whether a server is there; what it can do is found out when it is there for the first time.
    fn look(&self, base: &str, able: Option<Able>, caller: &mut Caller) -> Result<Able, Failure> {
        match able {
            Some(able) if probe::is_back(base, &self.model, caller) => Ok(able),
            Some(_) => Err(Failure::new(Class::Unreachable, "it is not back")),
            None => {
                let known = probe::probe(base, &self.kit, &self.settings)?;
                let other = |text: String| Err(Failure::new(Class::Refused, text));
                match known.positions {
                    _ if known.model != self.model => other(format!(
                        "it serves `{}`, and not `{}`",
                        known.model, self.model
                    )),
                    Some(held) if held < self.positions => {
                        let asked = self.positions;
                        other(format!("it holds texts of {held} tokens, and not {asked}"))
                    }
                    _ => Ok(known.able),
                }
            }
        }
    }

    fn note(&self, state: &mut State, place: usize, found: Result<Able, Failure>) {
        let now = Instant::now();
        let server = &mut state.servers[place];
        match found {
            Ok(able) if able.is_like(&self.able) => {
                server.health = Health::Up;
                server.able = Some(able);
                server.in_a_row = 0;
                if server.serves() {
                    state.alone_since = None;
                }
                self.work.notify_all();
            }
            Ok(able) => {
                server.health = Health::Excluded;
                let text = format!(
                    "it can do other things than the rest ({}; they: {})",
                    able.words(),
                    self.able.words()
                );
                server.last_failure = Some(Failure::new(Class::Refused, text));
            }
            Err(failure) => {
                if let Health::Down { wait, .. } = server.health {
                    let wait = (wait * 2).min(LONGEST_LOOK);
                    let next = now + wait;
                    server.health = Health::Down { next, wait };
                }
                // Why it went says more than that it is not back.
                if server.able.is_none() || server.last_failure.is_none() {
                    server.last_failure = Some(failure);
                }
            }
        }
    }
}

/// Waits for a call, at most until `next`.
fn wait_until<'a>(
    called: &Condvar,
    state: MutexGuard<'a, State>,
    next: Option<Instant>,
) -> MutexGuard<'a, State> {
    let wait = next.map_or(Duration::from_secs(60), |next| {
        next.saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1))
    });
    let waited = called.wait_timeout(state, wait);
    waited.unwrap_or_else(PoisonError::into_inner).0
}
