//! A fake engine that writes scripted text, and short ways to make and read groups.

use std::collections::BTreeMap;

use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Completion, Finish, Group, Method, Origin, PathKey, PromptSet, Question, Request,
    Router, Sampling, Settings, Setup, Similarity, Step, Stream, Trace, Vocab,
};

/// What the n-th request of a path is answered with. `FAIL` is a request that cannot be
/// served, `CANCEL` one that was cancelled.
pub(crate) type Script<'a> = dyn Fn(PathKey, usize) -> String + 'a;

pub(crate) fn settings(method: Method, paths: usize) -> Settings {
    Settings {
        paths,
        turn_tokens: 40,
        max_tokens: 120,
        summary_tokens: 24,
        answer_tokens: 16,
        peers: 2,
        router: Router::Dispersed,
        similarity: Similarity::Levenshtein,
        sampling: Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        },
        ..Preset::Default.settings(method)
    }
}

pub(crate) fn prompts() -> PromptSet {
    let mut set = PromptSet::clean();
    set.math = "Q: {problem}\n".into();
    set.math_example = set.math.clone();
    set.triggers = vec!["Sum up.".into()];
    set.openers = vec![" <summarize> So".into()];
    set
}

pub(crate) fn setup(settings: Settings, positions: usize) -> Setup {
    Setup {
        question: Question {
            text: "1 + 1?".into(),
            kind: AnswerKind::Integer,
            choices: Vec::new(),
        },
        settings,
        prompts: prompts(),
        stream: Stream::of_run(1).named("p"),
        positions,
        beginnings: Vec::new(),
        planted: 0,
    }
}

pub(crate) fn group(settings: Settings, positions: usize) -> Group {
    Group::new(0, setup(settings, positions), &ByteVocab).expect("the prompt fits")
}

pub(crate) fn origin(vocab: &dyn Vocab) -> Origin {
    let text = String::new;
    Origin {
        seed: 1,
        recipe: text(),
        model: text(),
        tokenizer: vocab.hash().into(),
        device: text(),
    }
}

/// What an engine holds and how it answers.
pub(crate) struct Fake<'a> {
    vocab: &'a dyn Vocab,
    held: BTreeMap<PathKey, Vec<u32>>,
    asked: BTreeMap<PathKey, usize>,
    write: &'a Script<'a>,
    /// Everything it has answered.
    pub(crate) said: Vec<Completion>,
}

impl<'a> Fake<'a> {
    pub(crate) fn new(vocab: &'a dyn Vocab, write: &'a Script<'a>) -> Self {
        Self {
            vocab,
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
            write,
            said: Vec::new(),
        }
    }

    /// Answers a request as an engine does: up to a stop string, an end, or the budget.
    pub(crate) fn answer(&mut self, request: &Request) -> Completion {
        let held = self.held.entry(request.key).or_default();
        assert!(
            request.keep <= held.len(),
            "a group cannot keep what the engine never held"
        );
        held.truncate(request.keep);
        held.extend(&request.append);
        let count = self.asked.entry(request.key).or_default();
        let text = (self.write)(request.key, *count);
        *count += 1;
        let (ids, finish) = match text.as_str() {
            "FAIL" => (Vec::new(), Finish::Failed("scripted".into())),
            "CANCEL" => (Vec::new(), Finish::Cancelled),
            text => self.sample(text, request),
        };
        if let Some(held) = self.held.get_mut(&request.key) {
            held.extend(&ids);
        }
        let completion = Completion::new(request.key, ids, finish);
        self.said.push(completion.clone());
        completion
    }

    fn sample(&self, text: &str, request: &Request) -> (Vec<u32>, Finish) {
        let (mut ids, mut bytes) = (Vec::new(), Vec::new());
        let end = self.vocab.eos().first().copied();
        for id in self.vocab.encode(text).into_iter().chain(end) {
            ids.push(id);
            bytes.extend(self.vocab.bytes(id));
            let ends_in = |stop: &String| {
                bytes
                    .windows(stop.len())
                    .any(|window| window == stop.as_bytes())
            };
            if Some(id) == end {
                return (ids, Finish::Eos);
            }
            if let Some(stop) = request.stop.strings.iter().position(ends_in) {
                return (ids, Finish::Stop(stop));
            }
            if ids.len() == request.max_tokens {
                return (ids, Finish::Length);
            }
        }
        unreachable!("every text ends")
    }
}

/// Runs a group to its end; `pick` chooses which open request is answered next. Returns what the
/// group became and what the engine said.
pub(crate) fn drive_all(
    mut group: Group,
    vocab: &dyn Vocab,
    write: &Script<'_>,
    pick: &mut dyn FnMut(usize) -> usize,
) -> (Trace, Vec<Completion>) {
    let mut fake = Fake::new(vocab, write);
    let Step {
        requests: mut open,
        ended: mut closed,
    } = group.start(vocab);
    while !open.is_empty() {
        let request = open.remove(pick(open.len()));
        assert!(
            !closed.contains(&request.key),
            "a request for a path that has ended"
        );
        assert!(request.max_tokens > 0);
        let completion = fake.answer(&request);
        // Saved and restored between any two requests, it goes on identically.
        let saved = serde_json::to_string(&group).expect("a group is plain data");
        let mut restored: Group = serde_json::from_str(&saved).expect("and can be read back");
        let step = restored.accept(completion.clone(), vocab);
        assert_eq!(group.accept(completion, vocab), step);
        group = restored;
        open.extend(step.requests);
        closed.extend(step.ended);
    }
    assert!(group.is_done(), "no path starves");
    (group.into_trace("p".into(), 0, origin(vocab)), fake.said)
}

/// Runs a group of bytes to its end, in the order of its requests.
pub(crate) fn drive(group: Group, write: &Script<'_>) -> Trace {
    drive_all(group, &ByteVocab, write, &mut |_| 0).0
}

/// A path behind its prompt as `kind:text|kind:text`; spans without a token are left out.
pub(crate) fn drawn(trace: &Trace, path: usize) -> String {
    let spans = trace.paths[path].spans.iter().skip(1);
    let drawn: Vec<String> = spans
        .filter(|span| !span.ids.is_empty())
        .map(|span| format!("{:?}:{}", span.kind, span.text))
        .collect();
    drawn.join("|")
}

#[track_caller]
pub(crate) fn check(trace: &Trace, path: usize, expected: &str) {
    assert_eq!(drawn(trace, path), expected, "path {path}");
}
