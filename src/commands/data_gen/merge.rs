//! `leap data-gen merge`: shards of `leap data-gen traces` put together.

use anyhow::Result;

use crate::cli::MergeArgs;
use crate::commands::ExitStatus;
use crate::generation;
use crate::output::Output;

pub(super) fn run(args: &MergeArgs, output: &mut Output) -> Result<ExitStatus> {
    generation::merge(&args.shards, &args.out, output)?;
    Ok(ExitStatus::Done)
}
