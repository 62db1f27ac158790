//! What continues the ids of paths: the one surface between the protocol and any model.
//!
//! An engine knows paths, ids and random streams. It must not know what LeaP is, and it never sees
//! a problem or an answer.

use protocol::{Completion, PathKey, Request};

/// Why an engine cannot go on. One request that cannot be served is no reason: it comes back as a
/// completion with [`protocol::Finish::Failed`].
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A setting of the engine is out of range.
    #[error("engine setting `{name}` is {value}, but must be {range}")]
    Setting {
        /// The key.
        name: &'static str,
        /// What was given.
        value: usize,
        /// What is allowed, in words.
        range: &'static str,
    },
    /// The numbers of a step could not be read back from the device.
    #[error("cannot read the logits of step {step} from the device: {reason}")]
    Device {
        /// Number of the forward pass, from 1.
        step: u64,
        /// What the device said.
        reason: String,
    },
    /// The tokenizer or the chat template could not be used.
    #[error(transparent)]
    Vocab(#[from] crate::vocab::VocabError),
    /// The servers cannot be used, or were lost for too long.
    #[error(transparent)]
    Remote(#[from] crate::remote::RemoteError),
    /// The engine has nothing in flight, but groups wait for it: a bug of the engine.
    #[error("the engine has nothing in flight, but {open} groups are not finished")]
    Stalled {
        /// Groups that are not finished.
        open: usize,
    },
}

/// Continues paths.
///
/// A path is a list of ids that the engine holds for a key. A request rolls it back, appends to it
/// and samples behind it; several paths run at a time, one request per path.
pub trait Engine {
    /// Takes a request; its completion comes from a later [`Engine::wait`].
    fn submit(&mut self, request: Request);

    /// Takes over a path that an earlier process had begun: the engine holds `ids` for it from now
    /// on, as if it had been asked for them. The first `prompt` of them are what the path began with.
    fn adopt(&mut self, key: PathKey, prompt: usize, ids: Vec<u32>);

    /// Frees what is held for a path.
    ///
    /// If a request of the path is in flight, it is cancelled: its completion still comes.
    fn close(&mut self, key: PathKey);

    /// Runs until at least one request is complete; `None` if nothing is in flight.
    ///
    /// # Errors
    /// If the engine as a whole is unusable.
    fn wait(&mut self) -> Result<Option<Completion>, EngineError>;

    /// The longest path, in tokens, prompt and sampled ones together.
    fn positions(&self) -> usize;
}
