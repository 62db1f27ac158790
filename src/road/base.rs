//! Stage 2: the base model, read from a folder or trained from scratch on plain reasoning.
//!
//! A base from scratch has never seen a summary or a peer: its corpus holds independent paths of
//! the simulated reasoner, right and wrong ones, with budgets that run out at any point.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use infer::local::{LocalEngine, LocalSettings};
use infer::simulated::{SimulatedEngine, Simulation};
use infer::solve::solve;
use infer::vocab::TokenizerVocab;
use model::config::ModelConfig;
use model::device::{Device, Dtype};
use model::tokenizer::{AddedToken, Tokenizer, TokenizerTraining};
use protocol::{
    ByteVocab, Group, Method, Problem, SUMMARY_CLOSE, SUMMARY_OPEN, Sample, Settings, Setup,
    Stream, THINK_CLOSE, THINK_OPEN, Trace, Vocab,
};

use super::traces::Groups;
use super::{Flow, Road, checkpoint_path, model_folder, problems, read_records, write_records};
use crate::recipe::{RunRecipe, Scratch};

/// The tokenizer of a model from scratch.
const TOKENIZER: &str = "tokenizer";
/// The corpus as groups.
const TRACES: &str = "traces-base.jsonl";
/// The corpus as samples.
const SAMPLES: &str = "samples-base.jsonl";

pub(super) fn stages(road: &mut Road<'_>, worked: &mut bool) -> Result<Flow> {
    let recipe = road.recipe;
    if let Some(folder) = &recipe.model.checkpoint {
        let folder = model_folder(folder)?;
        let hash = model::checkpoint::hash(&folder)?;
        road.made.insert(BASE.to_string(), hash);
        return Ok(Flow::Done);
    }
    let Some(scratch) = &recipe.model.scratch else {
        return Ok(Flow::Done);
    };
    let settings = (recipe.seed, scratch.vocab_size, &recipe.prompts);
    let reads = [problems::FILE];
    if road.stage(
        "tokenizer",
        &settings,
        &reads,
        &[TOKENIZER],
        worked,
        train_tokenizer,
    )? == Flow::Stopped
    {
        return Ok(Flow::Stopped);
    }
    let settings = (
        recipe.seed,
        &recipe.protocol,
        &recipe.prompts,
        &recipe.teacher.simulated,
    );
    let corpus = (scratch.groups, scratch.thought_tokens, recipe.engine.wave);
    let reads = [problems::FILE, TOKENIZER];
    let flow = road.stage(
        "base corpus",
        &(settings, corpus),
        &reads,
        &[TRACES],
        worked,
        |road, key| write_corpus(road, scratch, key),
    )?;
    if flow == Flow::Stopped {
        return Ok(flow);
    }
    let reads = [problems::FILE, TRACES];
    road.stage(
        "base samples",
        &(&scratch.samples, Sample::MAKING),
        &reads,
        &[SAMPLES],
        worked,
        |road, _| select(road, scratch),
    )?;
    let reads = [SAMPLES, TOKENIZER];
    let (made, losses) = (
        checkpoint_path("base"),
        super::training::losses_file("base"),
    );
    let makes = [made.as_str(), losses.as_str()];
    let flow = road.stage(
        "train base",
        &(recipe.seed, scratch),
        &reads,
        &makes,
        worked,
        |road, key| {
            let size = Tokenizer::load(&road.tokenizer_folder())?.vocab_size();
            let config = scratch.config(size, road.vocab()?.eos());
            super::training::from_scratch(road, config, &scratch.train, SAMPLES, key)
        },
    )?;
    if let Some(hash) = road.made.get(&made).cloned() {
        road.made.insert(BASE.to_string(), hash);
    }
    Ok(flow)
}

/// Name under which the base model's hash is kept.
const BASE: &str = "base model";

impl Road<'_> {
    /// Identity of the base model.
    pub(crate) fn base_hash(&self) -> String {
        self.hash(BASE).to_string()
    }

    /// Folder of the base model.
    pub(crate) fn base_folder(&self) -> PathBuf {
        match &self.recipe.model.checkpoint {
            Some(folder) => folder.clone(),
            None => self.out.join(checkpoint_path("base")),
        }
    }

    /// Folder with the tokenizer and template that everything in this run uses.
    pub(crate) fn tokenizer_folder(&self) -> PathBuf {
        match &self.recipe.model.checkpoint {
            Some(folder) => folder.clone(),
            None => self.out.join(TOKENIZER),
        }
    }

    /// The vocabulary that everything in this run uses.
    pub(crate) fn vocab(&self) -> Result<TokenizerVocab> {
        Ok(TokenizerVocab::load(&self.tokenizer_folder())?)
    }

    /// The local engine on a checkpoint.
    pub(crate) fn local_engine<'v>(
        &self,
        folder: &std::path::Path,
        vocab: &'v TokenizerVocab,
    ) -> Result<LocalEngine<'v>> {
        let recipe = self.recipe;
        let (engine, _) = open_local(
            folder,
            vocab,
            &recipe.engine,
            recipe.model.dtype,
            &self.device,
        )?;
        Ok(engine)
    }
}

/// Reads a checkpoint and puts the local engine on it.
pub(crate) fn open_local<'v>(
    folder: &std::path::Path,
    vocab: &'v TokenizerVocab,
    settings: &LocalSettings,
    dtype: Dtype,
    device: &Device,
) -> Result<(LocalEngine<'v>, ModelConfig)> {
    let (config, decoder) = model::checkpoint::load(folder, device, dtype)
        .with_context(|| format!("cannot use the checkpoint `{}`", folder.display()))?;
    // A tokenizer with more ids than the model has embeddings would fail inside a forward pass.
    Tokenizer::load(folder)?.check_fits(&config)?;
    let engine = LocalEngine::new(decoder, vocab, settings.clone())?;
    Ok((engine, config))
}

/// Trains the tokenizer on what the reasoner writes, so that each of its words is one token.
fn train_tokenizer(road: &mut Road<'_>, _key: &str) -> Result<Flow> {
    let recipe = road.recipe;
    let Some(scratch) = &recipe.model.scratch else {
        return Ok(Flow::Done);
    };
    let texts = tokenizer_texts(road)?;
    let tokenizer = Tokenizer::train(
        texts.into_iter(),
        &tokenizer_training(recipe, scratch.vocab_size),
    )?;
    let folder = road.out.join(TOKENIZER);
    let temporary = road.out.join(".tokenizer.tmp");
    let place = || -> Result<()> {
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        fs::create_dir_all(&temporary)?;
        tokenizer.save(&temporary)?;
        for file in fs::read_dir(&temporary)? {
            File::open(file?.path())?.sync_all()?;
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        Ok(fs::rename(&temporary, &folder)?)
    };
    place().with_context(|| format!("cannot write the tokenizer `{}`", folder.display()))?;
    road.output
        .step("Tokenizer", &format!("{} tokens", tokenizer.vocab_size()));
    Ok(Flow::Done)
}

/// What the reasoner writes on a few problems, as text.
///
/// It writes in bytes here, so budgets are several times those in tokens.
fn tokenizer_texts(road: &Road<'_>) -> Result<Vec<String>> {
    const BYTES_A_TOKEN: usize = 4;
    let recipe = road.recipe;
    let simulation = simulation(recipe)?;
    let prompts = &recipe.prompts;
    let train = problems::read(road)?.train;
    let mut settings = recipe.protocol.settings(Method::LeapT);
    for count in [
        &mut settings.turn_tokens,
        &mut settings.max_tokens,
        &mut settings.summary_tokens,
        &mut settings.answer_tokens,
    ] {
        *count *= BYTES_A_TOKEN;
    }
    let stream = Stream::of_run(recipe.seed).named("tokenizer");
    let mut groups = Vec::new();
    let positions = usize::MAX / 2;
    for (index, problem) in train.iter().take(TOKENIZER_GROUPS).enumerate() {
        let setup = Setup {
            question: problem.question.clone(),
            settings: settings.clone(),
            prompts: prompts.clone(),
            stream: stream.named(&problem.id),
            positions,
            beginnings: Vec::new(),
            planted: 0,
        };
        groups.push(Group::new(index as u32, setup, &ByteVocab)?);
    }
    let simulation = Simulation {
        positions,
        ..simulation
    };
    let mut engine = SimulatedEngine::new(simulation, &ByteVocab);
    solve(&mut groups, &mut engine, &ByteVocab, &mut |_| {
        std::ops::ControlFlow::Continue(())
    })?;
    let mut texts = Vec::new();
    for group in &groups {
        for path in 0..settings.paths {
            texts.push(
                group
                    .spans(path)
                    .iter()
                    .map(|span| span.text.as_str())
                    .collect(),
            );
        }
    }
    Ok(texts)
}

/// Problems whose texts the tokenizer is trained on.
const TOKENIZER_GROUPS: usize = 64;

fn simulation(recipe: &RunRecipe) -> Result<Simulation> {
    recipe
        .teacher
        .simulated
        .context("the recipe has no table [teacher.simulated]")
}

fn write_corpus(road: &mut Road<'_>, scratch: &Scratch, key: &str) -> Result<Flow> {
    let recipe = road.recipe;
    let simulation = simulation(recipe)?;
    let stream = Stream::of_run(recipe.seed).named("base corpus");
    let corpus = corpus_problems(&problems::read(road)?.train, scratch, &stream);
    let corpus: Vec<&Problem> = corpus.iter().collect();
    let [least, most] = scratch.thought_tokens;
    let budgets = stream.named("budget");
    let settings = |group: usize| Settings {
        max_tokens: least + budgets.below(group as u64, most.saturating_sub(least) + 1),
        ..recipe.protocol.settings(Method::Cot)
    };
    let vocab = road.vocab()?;
    let mut engine = SimulatedEngine::new(simulation, &vocab);
    let groups = Groups {
        what: "base corpus",
        stream: "base corpus",
        problems: &corpus,
        groups: 1,
        file: &road.out.join(TRACES),
        key,
        settings: &settings,
    };
    groups.run(
        road,
        &mut engine,
        &vocab,
        SimulatedEngine::name(&simulation),
    )
}

/// `groups` versions of each training problem, some of them with a narrower range.
fn corpus_problems(train: &[Problem], scratch: &Scratch, stream: &Stream) -> Vec<Problem> {
    let narrow = stream.named("narrow");
    let mut corpus = Vec::new();
    for number in 0..scratch.groups {
        for (index, problem) in train.iter().enumerate() {
            let lot = narrow.indexed(number.into()).indexed(index as u64);
            let mut version = match lot.uniform(2) < scratch.narrowed {
                true => data_gen::synthetic::narrowed(problem, &lot),
                false => problem.clone(),
            };
            version.id = format!("{}-{number}", version.id);
            corpus.push(version);
        }
    }
    corpus
}

fn select(road: &mut Road<'_>, scratch: &Scratch) -> Result<Flow> {
    let stream = Stream::of_run(road.recipe.seed).named("base corpus");
    let corpus = corpus_problems(&problems::read(road)?.train, scratch, &stream);
    let by_id = corpus
        .iter()
        .map(|problem| (problem.id.as_str(), problem))
        .collect();
    let (mut taken, mut account) = Default::default();
    let mut samples: Vec<Sample> = Vec::new();
    for trace in read_records::<Trace>(&road.out.join(TRACES))? {
        samples.extend(
            scratch
                .samples
                .take(&trace, &by_id, &mut taken, &mut account)?,
        );
    }
    write_records(&road.out.join(SAMPLES), &samples)?;
    let (samples, tokens) = (account.samples, account.tokens);
    road.output
        .step("Corpus", &format!("{samples} samples, {tokens} tokens"));
    Ok(Flow::Done)
}

/// A byte-level BPE in which every word, number and operation of the texts is one token.
fn tokenizer_training(recipe: &RunRecipe, vocab_size: usize) -> TokenizerTraining {
    let plain = |text: &str| AddedToken {
        text: text.to_string(),
        special: false,
    };
    let tags = [
        THINK_OPEN,
        THINK_CLOSE,
        SUMMARY_OPEN,
        SUMMARY_CLOSE,
        "<comment>",
        "</comment>",
        "\\boxed{",
    ];
    let mut added: Vec<AddedToken> = tags.into_iter().map(plain).collect();
    let ops = recipe.problems.search.iter().flat_map(|family| &family.ops);
    added.extend(ops.map(|op| plain(&format!(" {op}"))));
    added.push(AddedToken {
        text: END.to_string(),
        special: true,
    });
    TokenizerTraining {
        vocab_size,
        added,
        bos: None,
        eos: Some(END.to_string()),
        digits: 3,
        chat_template: Some(TEMPLATE.to_string()),
    }
}

/// Ends a text of a model from scratch.
const END: &str = "<|end|>";

/// The user message, and an open thought.
const TEMPLATE: &str = "{{ messages[0]['content'] }}\
                        {% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}";
