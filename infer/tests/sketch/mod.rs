//! Traces from a line of answers, for tests of what comes after them.

use infer::score::{Row, Summary, score};
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    Block, Method, Origin, PathEnd, PathTrace, Problem, PromptSet, Question, Route, Setup, Span,
    SpanKind, Stream, Trace,
};

/// A problem with an integer answer.
pub(crate) fn problem(id: &str, gold: &str) -> Problem {
    let line = serde_json::json!({ "id": id, "problem": format!("What is {id}?"), "answer": gold });
    serde_json::from_value(line).expect("a line of problems.jsonl")
}

pub(crate) fn span(kind: SpanKind, block: Option<u32>, tokens: usize, text: &str) -> Span {
    Span {
        kind,
        block,
        ids: vec![1; tokens],
        text: text.into(),
        finish: None,
        dropped: Vec::new(),
    }
}

/// A group of independent paths with these answers; `-` is none. Path i samples 10 (i + 1) tokens.
pub(crate) fn group(problem: &str, group: u32, answers: &str) -> Trace {
    let path = |(index, answer): (usize, &str)| {
        let words = match answer {
            "-" => "I cannot tell.".to_string(),
            answer => format!("The answer is \\boxed{{{answer}}}."),
        };
        let spans = vec![
            span(SpanKind::Prompt, None, 5, "What is it?"),
            span(
                SpanKind::Thought,
                None,
                10 * index + 8,
                "Let me think.</think>",
            ),
            span(SpanKind::Answer, None, 2, &words),
        ];
        PathTrace {
            spans,
            end: PathEnd::Answered,
            answer_ended: true,
            cut_summaries: 0,
            layer: 0,
            requests: String::new(),
        }
    };
    let answers: Vec<&str> = answers.split(' ').collect();
    Trace {
        version: Trace::VERSION,
        problem: problem.into(),
        group,
        method: Method::Cot,
        origin: Origin {
            seed: 1,
            recipe: "recipe".into(),
            model: "model".into(),
            tokenizer: "bytes".into(),
            device: "cpu f32".into(),
        },
        setup: Setup {
            question: Question {
                text: "What is it?".into(),
                kind: AnswerKind::Integer,
                choices: Vec::new(),
            },
            settings: Preset::Default.settings(Method::Cot),
            prompts: PromptSet::clean(),
            stream: Stream::of_run(1),
            positions: 1000,
            beginnings: Vec::new(),
            planted: 0,
        },
        think_open: true,
        plain_prompt: None,
        counted: (0..answers.len() as u32).collect(),
        paths: answers.into_iter().enumerate().map(path).collect(),
        blocks: Vec::new(),
    }
}

/// As [`group`], with one exchange in which everybody hears the next path, and the last nobody.
#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn exchanging(problem: &str, index: u32, answers: &str) -> Trace {
    let mut trace = group(problem, index, answers);
    trace.method = Method::LeapT;
    let last = trace.paths.len() - 1;
    let route = |reader: usize| {
        let peers: Vec<u32> = (reader < last)
            .then_some(reader as u32 + 1)
            .into_iter()
            .collect();
        Route {
            reader: reader as u32,
            scores: vec![0.5; peers.len()],
            peers,
        }
    };
    trace.blocks = vec![Block {
        index: 0,
        routes: (0..=last).map(route).collect(),
    }];
    for path in &mut trace.paths {
        let block = [
            span(
                SpanKind::Trigger,
                Some(0),
                3,
                "Where I stand. <summarize> So far",
            ),
            span(SpanKind::Summary, Some(0), 6, " I added. </summarize>"),
            span(
                SpanKind::Comment,
                Some(0),
                4,
                " <comment> Peer 1: \"I added.\" </comment>",
            ),
            span(SpanKind::Bridge, Some(0), 1, "Let me weigh it."),
        ];
        path.spans.splice(2..2, block);
    }
    trace
}

pub(crate) fn problems() -> Vec<Problem> {
    [("a", "7"), ("b", "12"), ("c", "3"), ("d", "4")]
        .map(|(id, gold)| problem(id, gold))
        .into()
}

pub(crate) fn row(name: &str) -> Row {
    Row {
        name: name.into(),
        title: format!("the row {name}"),
        settings: None,
    }
}

/// A row over [`problems`], one group for each line of answers.
#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn scored(name: &str, answers: [&str; 4]) -> Summary {
    let groups = ["a", "b", "c", "d"].into_iter().zip(answers);
    let groups = groups.map(|(problem, answers)| group(problem, 0, answers));
    score(&row(name), &problems(), groups).expect("the groups are of one row")
}
