//! The recipe of `leap data-gen traces`: everything that can change a trace, and nothing else.

use std::path::PathBuf;

use anyhow::Result;
use infer::local::LocalSettings;
use infer::simulated::Simulation;
use model::config::ModelConfig;
use model::device::Dtype;
use protocol::{Method, PromptSet, Settings};
use serde::{Deserialize, Serialize};

use crate::evaluation::recipe::EvalProblems;
use crate::fault::Fault;
use crate::recipe::Protocol;
use crate::recipes::Gap;
use crate::road;
use crate::servers::Served;

/// A recipe for `leap data-gen traces`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TracesRecipe {
    /// What the recipe is for.
    pub(crate) job: TracesJob,
    /// One line for people.
    pub(crate) title: String,
    /// Seed of everything random.
    pub(crate) seed: u64,
    /// Who writes.
    pub(crate) teacher: Writer,
    /// What is asked.
    pub(crate) problems: EvalProblems,
    /// The sentences of the protocol.
    pub(crate) prompts: PromptSet,
    /// How the paths of a group think and exchange.
    pub(crate) protocol: Protocol,
    /// How a teacher in this process batches.
    pub(crate) engine: LocalSettings,
    /// The traces.
    pub(crate) traces: Traces,
}

/// What a recipe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TracesJob {
    /// Traces of a teacher.
    #[serde(rename = "data-gen traces")]
    Traces,
}

/// Who writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Writer {
    pub(crate) engine: WriterEngine,
    /// Folder with the tokenizer and the chat template; of a teacher in this process also the
    /// weights. The simulated reasoner writes in bytes without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<PathBuf>,
    /// Weights in memory of a teacher in this process.
    pub(crate) dtype: Dtype,
    /// What servers serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remote: Option<Served>,
    /// Settings of the simulated reasoner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) simulated: Option<Simulation>,
}

/// An engine that can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WriterEngine {
    /// A checkpoint in this process.
    Local,
    /// A model behind servers.
    Remote,
    /// The simulated reasoner, on synthetic problems.
    Simulated,
}

/// The traces.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Traces {
    /// How paths work together; `cot` gives the control without exchange.
    pub(crate) method: Method,
    /// Independent groups on each problem.
    pub(crate) groups: u32,
    /// The longest path that the progress line counts as accepted; changes no trace.
    pub(crate) max_tokens: usize,
}

impl TracesRecipe {
    /// The settings of a group.
    pub(crate) fn settings(&self) -> Settings {
        self.protocol.settings(self.traces.method)
    }

    /// The longest path of its teacher in tokens; none if it names no teacher.
    ///
    /// # Errors
    /// If the configuration of a teacher in this process cannot be read.
    pub(crate) fn positions(&self) -> Result<Option<usize>> {
        let teacher = &self.teacher;
        Ok(match (teacher.engine, &teacher.folder) {
            (WriterEngine::Remote, _) => teacher.remote.as_ref().map(|served| served.positions),
            (WriterEngine::Simulated, _) => teacher.simulated.map(|it| it.positions),
            (WriterEngine::Local, Some(folder)) => {
                let config = ModelConfig::read(&road::weights_folder(folder)?)?;
                Some(config.max_position_embeddings)
            }
            (WriterEngine::Local, None) => None,
        })
    }

    /// Checks that it can be run: nothing in it is wrong, and nothing is left to the call.
    ///
    /// # Errors
    /// The first thing that cannot work, with what to do.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_parts()?;
        Gap::refuse(self.gaps())
    }

    /// What the recipe leaves to the call.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let simulated = self.teacher.engine == WriterEngine::Simulated;
        let folder = (!simulated && self.teacher.folder.is_none()).then(|| Gap {
            message: "the recipe names no folder of the teacher".to_owned(),
            hint: "give a Hugging Face folder: teacher.folder=DIR; for a model behind servers, its \
                   tokenizer and chat template are enough",
            argument: "teacher.folder=DIR",
        });
        self.problems.gap().into_iter().chain(folder).collect()
    }

    /// Checks what types cannot: combinations and ranges of what it names.
    ///
    /// # Errors
    /// The first thing that cannot work, with what to do.
    pub(crate) fn check_parts(&self) -> Result<()> {
        let fault = |message: &str, hint: &str| Err(Fault::new(message, hint).into());
        self.settings().check()?;
        self.prompts.check()?;
        self.engine.check()?;
        self.problems.check()?;
        let teacher = &self.teacher;
        match teacher.engine {
            WriterEngine::Remote if teacher.remote.is_none() => {
                return fault(
                    "the recipe does not say what servers serve",
                    "name it as they list it: teacher.remote.model=NAME, with the longest path in \
                     tokens: teacher.remote.positions=N",
                );
            }
            WriterEngine::Simulated if teacher.simulated.is_none() => {
                return fault(
                    "the recipe has no table [teacher.simulated]",
                    "copy the table from `leap recipe cat teacher-simulated`",
                );
            }
            _ => {}
        }
        if self.traces.groups == 0 {
            return fault(
                "`traces.groups` is 0",
                "ask for at least one group on each problem",
            );
        }
        Ok(())
    }
}
