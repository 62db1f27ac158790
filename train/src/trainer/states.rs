//! What of a training goes to the disk, and comes back from there.

use std::time::Instant;

use model::decoder::Decoder;

use super::{Begun, Trainer};
use crate::contents::Contents;
use crate::event::{Event, Watch};
use crate::job::TrainError;
use crate::state::{Standing, StateError, Stored, Table, Within};

impl Begun {
    fn within(&self) -> Within {
        Within {
            micro_batches: self.micro_batches,
            loss: self.sums.loss,
            reached: self
                .sums
                .gradients
                .iter()
                .map(|sum| !sum.are_none())
                .collect(),
        }
    }
}

impl Trainer<'_> {
    /// Goes on from the newest whole state, if there is one.
    pub(crate) fn restore(
        &mut self,
        decoder: Decoder,
        watch: &mut dyn Watch,
    ) -> Result<Decoder, TrainError> {
        let found = self.store.newest(&|standing| self.table(standing))?;
        for (folder, error) in found.passed_over {
            watch.event(&Event::PassedOver {
                folder,
                reason: error.to_string(),
            });
        }
        Ok(match found.state {
            Some((standing, stored)) => self.take(standing, stored, decoder)?,
            None => decoder,
        })
    }

    /// The tensors of a state with this standing.
    fn table(&self, standing: &Standing) -> Table {
        Contents::of(&self.layout, &self.optimizer, standing.within.as_ref()).table
    }

    /// Goes to the state of `step`, which was saved and is needed.
    pub(crate) fn go_to(&mut self, step: usize, decoder: Decoder) -> Result<Decoder, TrainError> {
        let (standing, stored) = self.store.at(step, &|standing| self.table(standing))?;
        Ok(self.take(standing, stored, decoder)?)
    }

    /// Takes each tensor to where it belongs before the next is read, so that no more is held than a
    /// training holds.
    fn take(
        &mut self,
        standing: Standing,
        mut stored: Stored,
        decoder: Decoder,
    ) -> Result<Decoder, StateError> {
        self.standing = standing;
        let within = self.standing.within.take();
        let contents = Contents::of(&self.layout, &self.optimizer, within.as_ref());
        let decoder = contents.restore(&mut stored, &mut self.optimizer, decoder, &self.layout)?;
        self.begun = None;
        if let Some(within) = within {
            let (mut sums, mut failed) = (self.no_sums(), None);
            let read = contents.sums(&mut stored);
            let read = read.map_while(|sum| sum.map_err(|error| failed = Some(error)).ok());
            sums.go_on_from(within.loss, read, self.job.device);
            if let Some(error) = failed {
                return Err(error);
            }
            self.begun = Some(Begun {
                micro_batches: within.micro_batches,
                sums,
            });
        }
        Ok(decoder)
    }

    /// Saves the state after the last step, with what was begun of the next one; false, and nothing
    /// is saved, if what was told until here is not kept.
    pub(crate) fn save(
        &self,
        decoder: &Decoder,
        begun: Option<&Begun>,
        watch: &mut dyn Watch,
    ) -> Result<bool, TrainError> {
        if !watch.is_kept() {
            return Ok(false);
        }
        let began = Instant::now();
        let parameters = decoder.trained_parameters();
        let standing = Standing {
            within: begun.map(Begun::within),
            ..self.standing.clone()
        };
        let sums = begun.map_or(&[][..], |begun| &begun.sums.gradients);
        let contents = Contents::of(&self.layout, &self.optimizer, standing.within.as_ref());
        let values = |index| contents.values(index, &self.optimizer, &parameters, sums);
        let tensors = (&contents.table, &values as &dyn Fn(usize) -> _);
        let keep = self.job.settings.keep;
        let folder = self.store.save(&standing, tensors, keep, &mut || Ok(()))?;
        let (step, seconds) = (self.standing.step, began.elapsed().as_secs_f64());
        watch.event(&Event::Saved {
            step,
            folder,
            seconds,
        });
        Ok(true)
    }
}
