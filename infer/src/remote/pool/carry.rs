//! What the threads do that carry requests: take one, take it to a server, and decide what becomes of
//! it.

use std::cmp::Reverse;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{FIRST_LOOK, Health, Job, LONGEST_LOOK, Outcome, PutOff, Server, Shared, State};
use crate::remote::able::Able;
use crate::remote::failure::{Class, Failure};
use crate::remote::http::Caller;
use crate::remote::wire;

/// A server that fails so often without an answer between is taken for gone.
const IN_A_ROW: u32 = 3;

impl Shared {
    /// What a thread does: takes requests to servers, one after the other.
    pub(super) fn carry(&self, caller: &mut Caller) {
        let mut body = Vec::new();
        while let Some((job, server, url, able)) = self.take() {
            wire::write(&mut body, &job.ask, &self.model, &able);
            let answer = caller.post(&url, &body);
            let reply = answer.and_then(|answer| wire::read(answer.good()?, able.dialect));
            let reply = reply.map_err(|failure| failure.told(self.settings.key.as_ref()));
            let weight = job.weight();
            let mut state = self.lock();
            let carried = &mut state.servers[server];
            carried.requests -= 1;
            carried.tokens -= weight;
            match reply {
                Ok(reply) => {
                    carried.in_a_row = 0;
                    carried.answered += 1;
                    let lets_in_again = std::mem::take(&mut carried.denials) > 0;
                    state.last_answer = Instant::now();
                    if state.servers[server].serves() {
                        state.alone_since = None;
                    }
                    // There may be a place for a request that found none.
                    let more = !state.ready.is_empty() && state.idle > 0;
                    drop(state);
                    self.tally.note_answer();
                    match (lets_in_again, more) {
                        (true, _) => self.work.notify_all(),
                        (false, true) => self.work.notify_one(),
                        (false, false) => {}
                    }
                    self.answer(job, Outcome::Reply(reply, server));
                }
                Err(failure) => self.settle(&mut state, job, server, failure),
            }
        }
    }

    /// The next request and where to; none once the pool is closed.
    fn take(&self) -> Option<(Job, usize, String, Able)> {
        let mut state = self.lock();
        loop {
            if state.closing {
                state.threads -= 1;
                return None;
            }
            let now = Instant::now();
            let most = self.settings.in_flight;
            let first = state.ready.front();
            if let Some(place) = first.and_then(|job| state.server_for(job, most, now))
                && let Some(job) = state.ready.pop_front()
            {
                let server = &mut state.servers[place];
                server.requests += 1;
                server.tokens += job.weight();
                let able = server.able.unwrap_or(self.able);
                let url = format!("{}{}", server.base, able.dialect.path());
                return Some((job, place, url, able));
            }
            state.idle += 1;
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn answer(&self, job: Job, outcome: Outcome) {
        // Nobody listens once the engine is gone.
        let _ = self.answers.send((job, outcome));
    }

    /// Decides what becomes of a request that failed at a server, and of the server.
    pub(super) fn settle(&self, state: &mut State, mut job: Job, place: usize, failure: Failure) {
        self.tally.note(failure.class);
        let now = Instant::now();
        let server = &mut state.servers[place];
        server.in_a_row += 1;
        let gone = match failure.class {
            Class::Unreachable | Class::Denied => true,
            Class::BrokenOff | Class::TimedOut | Class::ServerError | Class::Unreadable => {
                server.in_a_row >= IN_A_ROW
            }
            _ => false,
        };
        if gone && server.health == Health::Up {
            let mut wait = FIRST_LOOK;
            if failure.class == Class::Denied {
                // It can look as if it were there all the time.
                wait = FIRST_LOOK.saturating_mul(1 << server.denials.min(16));
                server.denials += 1;
            }
            let wait = wait.min(LONGEST_LOOK);
            let next = now + wait;
            server.health = Health::Down { next, wait };
            match state.servers.iter().any(Server::serves) {
                true => state.alone_since = None,
                false => _ = state.alone_since.get_or_insert(now),
            }
            self.gone.notify_one();
        }
        let server = &mut state.servers[place];
        let (class, asked) = (failure.class, failure.retry_after);
        if class == Class::Busy {
            let rest = asked.unwrap_or_else(|| self.wait(&job, server.in_a_row));
            server.rests_until = Some(now + rest);
        }
        server.last_failure = Some(failure.clone());
        job.avoid = Some(place);
        // A server that answers others between denies this request, and not everybody.
        let only_this = class == Class::Denied
            && job
                .denied
                .insert(place, server.answered)
                .is_some_and(|before| before < server.answered);
        if only_this || !class.is_the_servers_state() {
            job.failed += 1;
        }
        if class == Class::Refused || job.failed >= self.settings.tries {
            self.tally.note_given_up();
            self.answer(job, Outcome::GivenUp(failure));
        } else if class.is_the_servers_state() {
            // It is the server that waits; the request goes to another one if it can.
            state.ready.push_back(job);
            self.work.notify_one();
        } else {
            let due = now + asked.unwrap_or_else(|| self.wait(&job, job.failed));
            state.put_off.push(Reverse(PutOff { due, job }));
        }
        self.clock.notify_one();
    }

    /// The wait before the next try, by lot between a half and the whole of what has doubled with
    /// each failure.
    fn wait(&self, job: &Job, failures: u32) -> Duration {
        let doubled = 1_u32 << failures.saturating_sub(1).min(20);
        let whole = self.settings.first_wait.saturating_mul(doubled);
        let whole = whole.min(self.settings.longest_wait);
        whole.mul_f64(0.5 + 0.5 * job.lots.uniform(failures.into()))
    }
}
