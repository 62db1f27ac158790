//! What the thread does that looks at the time: hands out what was put off, and looks after servers
//! that are gone.

use std::cmp::Reverse;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Health, LONGEST_LOOK, PutOff, Server, Shared, State};
use crate::remote::able::Able;
use crate::remote::failure::{Class, Failure};
use crate::remote::http::Caller;
use crate::remote::probe;

impl Shared {
    /// What the thread that looks at the time does: hands out what was put off, and looks after
    /// servers that are gone.
    pub(super) fn look_after(&self) {
        let Ok(mut caller) = Caller::with_time(&self.settings, Duration::from_secs(5)) else {
            return;
        };
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
            let due =
                |server: &Server| matches!(server.health, Health::Down { next, .. } if next <= now);
            if let Some(place) = state.servers.iter().position(due) {
                let base = state.servers[place].base.clone();
                let able = state.servers[place].able;
                drop(state);
                let found = self.look(&base, able, &mut caller);
                state = self.lock();
                self.note(&mut state, place, found);
                continue;
            }
            let put_off = state.put_off.peek().map(|Reverse(first)| first.due);
            let servers = state
                .servers
                .iter()
                .filter_map(|server| match server.health {
                    Health::Down { next, .. } => Some(next),
                    _ => server.rests_until,
                });
            let next = servers.chain(put_off).min();
            let wait = next.map_or(Duration::from_secs(60), |next| {
                next.saturating_duration_since(now)
                    .max(Duration::from_millis(1))
            });
            state = self
                .clock
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
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
                state.alone_since = None;
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
                server.last_failure.get_or_insert(failure);
            }
        }
    }
}
