//! `leap schema`: the JSON Schema of a file format.

use anyhow::Result;
use schemars::schema_for;

use super::ExitStatus;
use crate::cli::{SchemaArgs, SchemaOf};
use crate::output::Output;

pub(super) fn run(args: &SchemaArgs, output: &mut Output) -> Result<ExitStatus> {
    let schema = match args.of {
        SchemaOf::Problem => schema_for!(protocol::Problem),
        SchemaOf::Trace => schema_for!(protocol::Trace),
        SchemaOf::Sample => schema_for!(protocol::Sample),
        SchemaOf::Verdicts => schema_for!(data_gen::filters::PathVerdicts),
        SchemaOf::LeftOut => schema_for!(data_gen::left_out::LeftOut),
        SchemaOf::Summary => schema_for!(infer::score::Summary),
        SchemaOf::Prompts => schema_for!(protocol::PromptSet),
    };
    output.data(&serde_json::to_string_pretty(&schema)?);
    Ok(ExitStatus::Done)
}
