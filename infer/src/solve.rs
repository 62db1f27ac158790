//! Drives groups with an engine until every path has ended.
//!
//! Groups never wait for each other; only the paths of one group do. What a group wants is known
//! to the group alone: this loop carries requests and completions.

use std::ops::ControlFlow;

use protocol::{Group, Step, Vocab};

use crate::engine::{Engine, EngineError};

/// How far a call of [`solve`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tokens sampled so far, those of failed requests included.
    pub sampled: u64,
    /// Groups that have ended.
    pub groups: usize,
}

/// Whether all groups came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solved {
    /// They did.
    Done,
    /// It was asked to stop; unfinished groups are as they were after their last completion.
    Stopped,
}

/// Drives every group to its end.
///
/// Group `i` of the slice must have been made with index `i`. `watch` hears of every completion
/// and can break off there; the engine is free of these groups' paths afterwards, so that it can
/// be used again.
///
/// # Errors
/// If the engine is unusable, or stops while a group still waits for it.
pub fn solve(
    groups: &mut [Group],
    engine: &mut dyn Engine,
    vocab: &dyn Vocab,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Solved, EngineError> {
    drive(groups, engine, vocab, &mut |_, progress| watch(progress))
}

/// Drives one group, made with index 0, to its end, and shows it to `watch` after every completion.
///
/// `watch` returns whether to stop. The result is whether the group came to its end.
///
/// # Errors
/// As [`solve`].
pub fn solve_one(
    group: &mut Group,
    engine: &mut dyn Engine,
    vocab: &dyn Vocab,
    watch: &mut dyn FnMut(&Group) -> bool,
) -> Result<bool, EngineError> {
    let groups = std::slice::from_mut(group);
    let solved = drive(
        groups,
        engine,
        vocab,
        &mut |groups, _| match watch(&groups[0]) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        },
    )?;
    Ok(solved == Solved::Done)
}

fn drive(
    groups: &mut [Group],
    engine: &mut dyn Engine,
    vocab: &dyn Vocab,
    watch: &mut dyn FnMut(&[Group], Progress) -> ControlFlow<()>,
) -> Result<Solved, EngineError> {
    let mut progress = Progress::default();
    let mut asked = std::collections::BTreeSet::new();
    for group in groups.iter_mut() {
        let step = group.start(vocab);
        progress.groups += usize::from(group.is_done());
        asked.extend(step.requests.iter().map(|request| request.key));
        carry(step, engine);
    }
    while let Some(completion) = engine.wait()? {
        let group = &mut groups[completion.key.group as usize];
        progress.sampled += completion.ids.len() as u64;
        let step = group.accept(completion, vocab);
        progress.groups += usize::from(group.is_done());
        asked.extend(step.requests.iter().map(|request| request.key));
        for key in &step.ended {
            asked.remove(key);
        }
        carry(step, engine);
        if watch(groups, progress).is_break() && progress.groups < groups.len() {
            for key in asked {
                engine.close(key);
            }
            while engine.wait()?.is_some() {}
            return Ok(Solved::Stopped);
        }
    }
    match groups.len() - progress.groups {
        0 => Ok(Solved::Done),
        open => Err(EngineError::Stalled { open }),
    }
}

fn carry(step: Step, engine: &mut dyn Engine) {
    for key in step.ended {
        engine.close(key);
    }
    for request in step.requests {
        engine.submit(request);
    }
}
