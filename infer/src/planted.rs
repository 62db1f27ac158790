//! Two engines behind one: planted paths go to one of them, all others to the other.

use protocol::{Completion, PathKey, Request};

use crate::engine::{Engine, EngineError};

/// The first `planted` paths of each group are continued by one engine, the rest by another.
///
/// What an engine answers depends on its requests alone, so neither notices the other.
pub struct PlantedEngine<'a> {
    /// Continues paths `0 .. planted`.
    planter: &'a mut dyn Engine,
    /// Continues the others.
    own: &'a mut dyn Engine,
    planted: u32,
}

impl<'a> PlantedEngine<'a> {
    /// `planter` for the first `planted` paths of each group, `own` for the others.
    pub fn new(planted: u32, planter: &'a mut dyn Engine, own: &'a mut dyn Engine) -> Self {
        Self {
            planter,
            own,
            planted,
        }
    }

    fn of(&mut self, key: PathKey) -> &mut dyn Engine {
        match key.path < self.planted {
            true => self.planter,
            false => self.own,
        }
    }
}

impl Engine for PlantedEngine<'_> {
    fn submit(&mut self, request: Request) {
        self.of(request.key).submit(request);
    }

    fn close(&mut self, key: PathKey) {
        self.of(key).close(key);
    }

    fn adopt(&mut self, key: PathKey, prompt: usize, ids: Vec<u32>) {
        self.of(key).adopt(key, prompt, ids);
    }

    fn wait(&mut self) -> Result<Option<Completion>, EngineError> {
        match self.planter.wait()? {
            Some(completion) => Ok(Some(completion)),
            None => self.own.wait(),
        }
    }

    fn positions(&self) -> usize {
        self.own.positions().min(self.planter.positions())
    }
}
