//! What a template of strangers may do: it is compiled and rendered on a thread of its own, which has
//! room for what it nests and is not waited for without end.
//!
//! Fuel bounds the steps of a template and the bytes it makes, and not what one step does: a list can
//! hold itself by other names, or the same list a thousand times, and be compared or written out.

use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

use crate::foreign::caught;

/// Longest source in bytes; the longest known template has some 20,000.
const LONGEST: usize = 128 << 10;
/// Enough for all that fuel can nest and for a source of one operator after the other.
const STACK: usize = 128 << 20;
/// How long a template may take, in slices: a process that is stopped and goes on has lost one slice.
/// Known templates take a millisecond.
const SLICE: Duration = Duration::from_millis(50);
const SLICES: u32 = 18;

fn refused(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

/// Runs the work of a template. Work that does not end is left behind on its thread.
///
/// # Errors
/// Those of `work`, a panic of the foreign crate, and the time.
pub(in crate::chat) fn guarded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = sync_channel(1);
    let run = move || {
        let result = caught(|| Ok::<_, String>(work()));
        // Nobody listens any more if it took too long.
        let _ = sender.send(result);
    };
    let builder = thread::Builder::new()
        .name("chat template".into())
        .stack_size(STACK);
    builder
        .spawn(run)
        .map_err(|error| refused(format!("no thread can be started for it: {error}")))?;
    for _ in 0..SLICES {
        match receiver.recv_timeout(SLICE) {
            Ok(Ok(result)) => return result,
            Ok(Err(panic)) => return Err(refused(format!("its interpreter failed: {panic}"))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(refused("its interpreter ended without a word"));
            }
        }
    }
    Err(refused("it does not end"))
}

/// Refuses sources that are too long, and namespaces that could come to hold themselves: written out,
/// such a one would end the process. A namespace is the one thing that changes after it was made. It
/// has to be made by a statement `set NAME = namespace(...)`, and only its attributes may be spoken of.
pub(super) fn check(source: &str, syntax: &SyntaxConfig) -> Result<(), Error> {
    if source.len() > LONGEST {
        let bytes = source.len();
        return Err(refused(format!(
            "it has {bytes} bytes, and more than {LONGEST} are not run"
        )));
    }
    // A source that cannot be read is refused by the compiler, with its line.
    let Ok(tokens) = tokenize(source, false, syntax.clone()).collect::<Result<Vec<_>, _>>() else {
        return Ok(());
    };
    let word = |at: Option<usize>| match at.and_then(|at| tokens.get(at)) {
        Some((Token::Ident(name), _)) => Some(*name),
        _ => None,
    };
    let is = |at: Option<usize>, wanted: &Token<'_>| {
        let found = at.and_then(|at| tokens.get(at));
        found.is_some_and(|(token, _)| {
            std::mem::discriminant(token) == std::mem::discriminant(wanted)
        })
    };
    let line = |at: usize| tokens[at].1.start_line;
    // `NAME = namespace (` behind `set`; what stands in the brackets is looked at like all else.
    let makes = |at: usize| {
        word(at.checked_sub(3)) == Some("set")
            && word(at.checked_sub(2)).is_some()
            && is(at.checked_sub(1), &Token::Assign)
            && is(Some(at + 1), &Token::ParenOpen)
    };
    let is_attribute = |at: usize| is(at.checked_sub(1), &Token::Dot);
    let mut holders = BTreeSet::new();
    for at in (0..tokens.len()).filter(|at| word(Some(*at)) == Some("namespace")) {
        if makes(at) {
            holders.extend(word(at.checked_sub(2)));
        } else if !is_attribute(at) {
            return Err(refused(format!(
                "line {}: a namespace is made by `set NAME = namespace(...)` alone",
                line(at)
            )));
        }
    }
    for at in 0..tokens.len() {
        let Some(name) = word(Some(at)).filter(|name| holders.contains(name)) else {
            continue;
        };
        let speaks_of_it = is(Some(at + 1), &Token::Dot) || is(Some(at + 1), &Token::BracketOpen);
        let is_made = makes(at + 2) && word(Some(at + 2)) == Some("namespace");
        if !is_attribute(at) && !speaks_of_it && !is_made {
            return Err(refused(format!(
                "line {}: only attributes of the namespace `{name}` may be used, not the namespace",
                line(at)
            )));
        }
    }
    Ok(())
}
