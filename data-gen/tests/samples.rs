//! Synthetic problems, the simulated teacher, verdicts and samples, end to end without a model.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use data_gen::filters::{Verdict, verdicts};
use data_gen::problems::with_gold;
use data_gen::samples::{Accounting, Selection};
use data_gen::synthetic::{SearchFamily, SumFamily, narrowed};
use infer::simulated::search::Search;
use infer::simulated::{SimulatedEngine, Simulation};
use infer::waves::{Ran, Waves};
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Method, Origin, PathEnd, Problem, PromptSet, Router, Sampling, Settings, Similarity,
    SpanKind, Stream, Trace, jsonl,
};

fn family() -> SearchFamily {
    SearchFamily {
        below: 23,
        modulus: 23,
        chain: 2,
        ops: ["+2", "*3", "-7", "^3"]
            .map(|op| op.parse().expect("an operation"))
            .to_vec(),
        targets: vec![0, 5],
    }
}

fn some_problems() -> Vec<Problem> {
    let stream = Stream::of_run(1);
    let splits = family()
        .splits(&[("train", 6)], &stream)
        .expect("enough problems");
    splits.into_iter().next().expect("one split")
}

fn settings(method: Method) -> Settings {
    Settings {
        paths: 4,
        turn_tokens: 80,
        max_tokens: 340,
        summary_tokens: 40,
        answer_tokens: 30,
        peers: 3,
        router: Router::Random,
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

fn prompts() -> PromptSet {
    PromptSet {
        triggers: vec![],
        openers: vec!["<summarize>".into()],
        ..PromptSet::clean()
    }
}

/// Groups of the simulated reasoner on these problems, through the part file and its final name.
fn traces(problems: &[Problem], method: Method, slip: f64) -> Vec<Trace> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("traces.jsonl");
    let problems: Vec<&Problem> = problems.iter().collect();
    let text = String::new;
    let origin = Origin {
        seed: 1,
        recipe: text(),
        model: text(),
        tokenizer: text(),
        device: text(),
    };
    let settings = settings(method);
    let waves = Waves {
        problems: &problems,
        groups: 2,
        wave: 5,
        prompts: &prompts(),
        settings: &|_| settings.clone(),
        beginnings: &|_| Vec::new(),
        planted: 0,
        stream: Stream::of_run(1).named("traces"),
        origin,
        file: &file,
        key: "test",
    };
    let simulation = Simulation {
        slip,
        remembers: false,
        checks: 3,
        positions: 100_000,
        lies: false,
    };
    let mut engine = SimulatedEngine::new(simulation, &ByteVocab);
    let ran = waves
        .run(&mut engine, &ByteVocab, &mut |_| ControlFlow::Continue(()))
        .expect("the groups end");
    assert_eq!(ran, Ran::Done);
    let text = std::fs::read(&file).expect("the file has its final name");
    jsonl::read(text.as_slice()).expect("traces")
}

#[test]
fn splits_share_no_problem_and_every_answer_solves_its_problem() {
    let splits = family()
        .splits(&[("train", 12), ("test", 9)], &Stream::of_run(2))
        .expect("enough problems");
    let mut texts: Vec<&str> = Vec::new();
    for problem in splits.iter().flatten() {
        let search = Search::find_in(&problem.question.text).expect("a readable problem");
        let solutions = search.solutions();
        assert_eq!(solutions.len(), 1);
        assert_eq!(solutions[0].to_string(), problem.gold.as_str());
        texts.push(&problem.question.text);
    }
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 21);
}

#[test]
fn a_family_that_is_too_small_or_out_of_range_says_so() {
    let few = family()
        .splits(&[("train", 1000)], &Stream::of_run(1))
        .expect_err("too few");
    assert!(few.to_string().contains("1000 are asked for"), "{few}");
    let wide = SearchFamily {
        below: 5000,
        ..family()
    };
    let wide = wide
        .splits(&[("train", 1)], &Stream::of_run(1))
        .expect_err("out of range");
    assert!(wide.to_string().contains("`below` is 5000"), "{wide}");
    let sums = SumFamily {
        terms: 1,
        below: 50,
    };
    assert!(sums.splits(&[("train", 1)], &Stream::of_run(1)).is_err());
}

#[test]
fn a_narrowed_problem_keeps_its_answer() {
    for (index, problem) in some_problems().iter().enumerate() {
        let narrow = narrowed(problem, &Stream::of_run(9).indexed(index as u64));
        let search = Search::find_in(&narrow.question.text).expect("a readable problem");
        assert!(search.last - search.first < 9);
        assert_eq!(search.solutions()[0].to_string(), problem.gold.as_str());
    }
}

#[test]
fn a_changed_gold_changes_nothing_the_reasoner_writes() {
    let problems = some_problems();
    let honest = traces(&problems, Method::LeapT, 0.0);
    assert_eq!(
        honest,
        traces(&with_gold(&problems, "999"), Method::LeapT, 0.0)
    );
}

#[test]
fn the_reasoner_is_right_when_it_finds_and_peers_let_it_find_more() {
    let problems = some_problems();
    let share = |method| {
        let mut right = (0, 0);
        for trace in traces(&problems, method, 0.0) {
            let problem = problems
                .iter()
                .find(|p| p.id == trace.problem)
                .expect("its problem");
            for (path, verdict) in trace.paths.iter().zip(verdicts(&trace, problem, 100_000)) {
                right.1 += 1;
                right.0 += usize::from(verdict == Verdict::Kept);
                if path.end == PathEnd::Answered {
                    assert_eq!(verdict, Verdict::Kept, "a found answer is right");
                }
            }
        }
        f64::from(right.0 as u32) / f64::from(right.1 as u32)
    };
    assert!(share(Method::LeapT) > share(Method::Cot) + 0.1);
}

#[test]
fn a_slip_is_written_down_and_can_make_a_false_claim() {
    let problems = some_problems();
    let text = |slip| -> String {
        let spans = traces(&problems, Method::Cot, slip);
        spans
            .iter()
            .flat_map(|t| &t.paths)
            .flat_map(|p| &p.spans)
            .map(|s| s.text.as_str())
            .collect()
    };
    assert_ne!(text(0.0), text(0.2));
}

#[test]
fn sums_are_solved_step_by_step() {
    let family = SumFamily {
        terms: 3,
        below: 100,
    };
    let problems = &family
        .splits(&[("train", 5)], &Stream::of_run(4))
        .expect("problems")[0];
    for trace in traces(problems, Method::LeapT, 0.0) {
        let problem = problems
            .iter()
            .find(|p| p.id == trace.problem)
            .expect("its problem");
        assert!(
            verdicts(&trace, problem, 100_000)
                .iter()
                .all(|v| *v == Verdict::Kept)
        );
    }
}

#[test]
fn a_selection_keeps_right_paths_caps_them_and_counts_the_rest() {
    let problems = some_problems();
    let traces = traces(&problems, Method::Cot, 0.0);
    let by_id: BTreeMap<&str, &Problem> = problems.iter().map(|p| (p.id.as_str(), p)).collect();
    let select = |right_only, per_problem| {
        let selection = Selection {
            right_only,
            cut_summaries: false,
            per_problem,
            max_tokens: 100_000,
        };
        let (mut taken, mut account) = (BTreeMap::new(), Accounting::default());
        let mut samples = Vec::new();
        for trace in &traces {
            samples.extend(
                selection
                    .take(trace, &by_id, &mut taken, &mut account)
                    .expect("known problems"),
            );
        }
        (samples, account)
    };
    let (all, account) = select(false, 100);
    assert_eq!(account.looked_at(), 48);
    assert_eq!(all.len(), account.samples);
    let (right, account) = select(true, 100);
    assert_eq!(Some(&right.len()), account.paths.get(&Verdict::Kept));
    assert!(right.len() < all.len());
    let (capped, account) = select(true, 1);
    assert!(capped.len() <= 6 && account.over_cap + capped.len() == right.len());
    assert!(
        account.line().contains("paths accepted"),
        "{}",
        account.line()
    );
    let span = &capped[0].spans[0];
    assert_eq!(span.kind, SpanKind::Prompt);
    let unknown = Selection {
        right_only: true,
        cut_summaries: false,
        per_problem: 1,
        max_tokens: 1,
    }
    .take(
        &traces[0],
        &BTreeMap::new(),
        &mut BTreeMap::new(),
        &mut Accounting::default(),
    );
    assert!(
        unknown
            .expect_err("no such problem")
            .to_string()
            .contains("no such problem")
    );
}
