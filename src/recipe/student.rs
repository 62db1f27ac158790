//! Students besides LeaP-T and its control.

use anyhow::Context;
use data_gen::samples::Selection;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Table;
use train::TrainSettings;

use super::{Protocol, RunRecipe, Trained};
use crate::fault::Fault;
use crate::{presets, recipes};

/// One more student, as an ablation of LeaP-T: whatever it does not name is as there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Student {
    /// Folder name under checkpoints/.
    pub(crate) name: String,
    /// Keys of [protocol] that differ in the traces it learns from; without any, it learns from
    /// those of LeaP-T.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub(crate) protocol: Table,
    /// Keys of [samples.select] that differ.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub(crate) select: Table,
    /// Keys of [train.leap_t] that differ.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub(crate) train: Table,
}

impl Student {
    /// What decides its traces, if it has traces of its own.
    pub(crate) fn protocol(&self, recipe: &RunRecipe) -> anyhow::Result<Option<Protocol>> {
        match self.protocol.is_empty() {
            true => Ok(None),
            false => self
                .over("protocol", &recipe.protocol, &self.protocol)
                .map(Some),
        }
    }

    /// Which paths it learns from.
    pub(crate) fn select(&self, recipe: &RunRecipe) -> anyhow::Result<Selection> {
        self.over("select", &recipe.samples.select, &self.select)
    }

    /// How it learns.
    pub(crate) fn train(&self, recipe: &RunRecipe) -> anyhow::Result<TrainSettings> {
        self.over("train", &recipe.train.leap_t, &self.train)
    }

    fn over<T: Serialize + DeserializeOwned>(
        &self,
        what: &str,
        base: &T,
        given: &Table,
    ) -> anyhow::Result<T> {
        let mut table = Table::try_from(base)?;
        presets::overlay(&mut table, given.clone());
        recipes::read(&table, &format!("`{what}` of student `{}`", self.name))
    }

    /// Whether it can be made from the recipe it is part of.
    pub(super) fn check(&self, recipe: &RunRecipe) -> anyhow::Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let known = [Trained::Base, Trained::Control, Trained::LeapT].map(Trained::name);
        if self.name.is_empty() || !self.name.chars().all(plain) || known.contains(&&*self.name) {
            return Err(Fault::new(
                format!("`{}` cannot name a student", self.name),
                "its name is a folder name: letters, digits, - and _; base, control and leap-t are \
                 taken",
            )
            .into());
        }
        if let Some(protocol) = self.protocol(recipe)? {
            protocol.settings(recipe.traces.leap.method).check()?;
        }
        self.select(recipe)?;
        let what = format!("`train` of student `{}`", self.name);
        self.train(recipe)?.check().context(what)
    }
}
