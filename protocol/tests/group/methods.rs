//! The methods with a shape of their own: one path that goes on alone, and layers of agents.

use protocol::{
    ByteVocab, Finish, Group, Keep, Method, Moa, PathEnd, PathKey, Sample, Settings, Setup, Single,
    SpanKind, Trace,
};

use crate::driver::{check, drive, drive_all, group, prompts, settings, setup};

fn leap_s(keep: Keep, blocks: usize) -> Settings {
    Settings {
        single: Single {
            blocks,
            keep,
            trained: false,
        },
        max_tokens: 400,
        peers: 9,
        ..settings(Method::LeapS, 4)
    }
}

/// Three alike and path 0 unlike; each thinks until it is forced.
fn summaries(key: PathKey, n: usize) -> String {
    match n {
        1 | 3 if key.path == 0 => " zzzz </summarize>".to_string(),
        1 | 3 => format!(" abc{} </summarize>", "d".repeat(key.path as usize)),
        _ => "t".repeat(999),
    }
}

fn alone(trace: &Trace) -> u32 {
    let released = |path: &u32| trace.paths[*path as usize].end == PathEnd::Released;
    let left: Vec<u32> = (0..4).filter(|path| !released(path)).collect();
    assert_eq!(left, trace.counted);
    left[0]
}

#[test]
fn after_the_shared_block_one_path_reads_and_goes_on_alone() {
    let trace = drive(group(leap_s(Keep::First, 1), 4000), &summaries);
    assert_eq!((alone(&trace), trace.blocks.len()), (0, 1));
    assert_eq!(trace.blocks[0].routes.len(), 1);
    let path = &trace.paths[0];
    assert_eq!(path.end, PathEnd::Forced);
    let thoughts = path
        .spans
        .iter()
        .filter(|span| span.kind == SpanKind::Thought);
    let lengths: Vec<usize> = thoughts.map(|span| span.ids.len()).collect();
    let summary = " zzzz </summarize>".len();
    assert_eq!(lengths, [40, 400 - 40 - summary]);
    let comments = |path: usize| {
        let spans = trace.paths[path].spans.iter();
        spans.filter(|span| span.kind == SpanKind::Comment).count()
    };
    assert_eq!([comments(0), comments(1)], [1, 0]);
}

#[test]
fn which_path_goes_on_is_a_setting() {
    let central = drive(group(leap_s(Keep::Central, 1), 4000), &summaries);
    assert_eq!(alone(&central), 2, "the middle one of abcd, abcdd, abcddd");
    let random = |seed| {
        let mut setup = setup(leap_s(Keep::Random, 1), 4000);
        setup.stream = setup.stream.indexed(seed);
        let group = Group::new(0, setup, &ByteVocab).expect("it fits");
        alone(&drive(group, &summaries))
    };
    let mut drawn: Vec<u32> = (0..40).map(random).collect();
    assert_eq!(random(3), random(3));
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn, [0, 1, 2, 3]);
}

#[test]
fn several_blocks_can_be_shared_before() {
    let trace = drive(group(leap_s(Keep::First, 2), 4000), &summaries);
    let readers: Vec<usize> = trace
        .blocks
        .iter()
        .map(|block| block.routes.len())
        .collect();
    assert_eq!(readers, [4, 1]);
}

#[test]
fn a_trained_model_may_open_a_summary_only_while_there_is_somebody_to_read_it() {
    let mut asked = Vec::new();
    let mut settings = leap_s(Keep::First, 1);
    settings.single.trained = true;
    let mut group = group(settings, 4000);
    let mut fake = crate::driver::Fake::new(&ByteVocab, &summaries);
    let mut open = group.start(&ByteVocab).requests;
    while !open.is_empty() {
        let request = open.remove(0);
        if request.key.path == 0 {
            asked.push(request.stop.strings.clone());
        }
        open.extend(group.accept(fake.answer(&request), &ByteVocab).requests);
    }
    assert_eq!(asked[0], ["</think>", "<summarize>"]);
    assert_eq!(asked[2], ["</think>"]);
}

#[test]
fn a_path_that_has_answered_before_is_not_counted_if_another_goes_on() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (0, 0) => "</think>".to_string(),
        (0, _) => "\\boxed{1}".to_string(),
        _ => summaries(key, n),
    };
    let trace = drive(group(leap_s(Keep::First, 1), 4000), &write);
    assert_eq!(trace.paths[0].end, PathEnd::Answered);
    assert_eq!(trace.counted, [1]);
    // Where nobody is left to choose from, the first that did not fail is the group's.
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (0, _) => "FAIL".to_string(),
        (_, 0) => "</think>".to_string(),
        _ => "\\boxed{1}".to_string(),
    };
    let trace = drive(group(leap_s(Keep::First, 1), 4000), &write);
    assert_eq!(trace.counted, [1]);
}

#[test]
fn samples_of_an_untrained_model_begin_with_the_prompt_of_a_trained_one() {
    let mut asked = setup(settings(Method::Leap, 2), 4000);
    asked.prompts.math_example =
        "Q: {problem}\nOthers work beside you: <summarize> like this".into();
    asked.prompts.math_seed = "I share with <summarize> tags.".into();
    let write = |_: PathKey, n: usize| match n {
        1 => " two </summarize>".to_string(),
        0 | 2 => "t".repeat(40),
        _ => "\\boxed{2}".to_string(),
    };
    let trace = run(asked.clone(), &write);
    assert!(prompt(&trace, 0).contains("Others work"));
    asked.settings = settings(Method::LeapT, 2);
    let trained = run(asked, &write);
    for path in 0..2 {
        let sample = Sample::of_path(&trace, path).expect("it holds the plain prompt");
        let trained = Sample::of_path(&trained, path).expect("it is one");
        assert_eq!(sample.spans[0], trained.spans[0]);
        assert_eq!(sample.spans[0].kind, SpanKind::Prompt);
        // Nothing is between the prompt and the first thought, and all is as it was behind it.
        assert_eq!(sample.spans[1].kind, SpanKind::Thought);
        let behind: Vec<_> = trace.paths[path].spans[2..]
            .iter()
            .map(|span| (span.kind, &span.ids))
            .collect();
        let found: Vec<_> = sample.spans[1..]
            .iter()
            .map(|span| (span.kind, &span.ids))
            .collect();
        assert_eq!(found, behind);
    }
    assert!(trace.replay(&ByteVocab).is_ok());
    let old = Trace {
        plain_prompt: None,
        ..trace
    };
    assert!(old.replay(&ByteVocab).is_ok(), "old traces replay");
    let error = Sample::of_path(&old, 0).expect_err("it says too little");
    assert!(error.to_string().contains("(method `leap`)"), "{error}");
}

fn moa(layers: usize, agents: usize, aggregators: usize) -> Setup {
    let settings = Settings {
        moa: Moa {
            layers,
            aggregators,
        },
        ..settings(Method::Moa, agents)
    };
    let mut set = prompts();
    set.moa = "{question}[{answers}]".into();
    set.moa_answer = "{n}={answer}".into();
    set.moa_separator = ";".into();
    set.moa_stop = "STOP{close}".into();
    Setup {
        prompts: set,
        ..setup(settings, 1000)
    }
}

fn run(setup: Setup, write: &dyn Fn(PathKey, usize) -> String) -> Trace {
    drive(Group::new(0, setup, &ByteVocab).expect("it fits"), write)
}

fn prompt(trace: &Trace, path: usize) -> &str {
    &trace.paths[path].spans[0].text
}

#[test]
fn each_layer_reads_all_answers_of_the_layer_before() {
    let write = |key: PathKey, n: usize| match n {
        0 => "hm </think>".to_string(),
        _ => format!(" a{} ", key.path),
    };
    let trace = run(moa(3, 2, 1), &write);
    let layers: Vec<u32> = trace.paths.iter().map(|path| path.layer).collect();
    assert_eq!(layers, [0, 0, 1, 1, 2]);
    assert_eq!(prompt(&trace, 0), "Q: 1 + 1?\n");
    assert_eq!(prompt(&trace, 2), "Q: 1 + 1?\n[1=a0;2=a1]");
    assert_eq!(prompt(&trace, 3), prompt(&trace, 2));
    assert_eq!(prompt(&trace, 4), "Q: 1 + 1?\n[1=a2;2=a3]");
    assert_eq!(trace.counted, [4]);
    check(&trace, 4, "Thought:hm </think>|Answer: a4 ");
    assert!(trace.blocks.is_empty());
}

#[test]
fn an_agent_out_of_budget_closes_its_thought_and_answers() {
    let write = |_: PathKey, n: usize| match n {
        0 => "t".repeat(999),
        _ => "so 2".to_string(),
    };
    let trace = run(moa(2, 1, 2), &write);
    let forced = &trace.paths[0];
    assert_eq!(forced.end, PathEnd::Forced);
    assert!(
        forced
            .spans
            .iter()
            .any(|span| span.text == "STOP\n</think>")
    );
    assert_eq!(prompt(&trace, 1), "Q: 1 + 1?\n[1=so 2]");
    assert_eq!(trace.counted, [1, 2]);
}

#[test]
fn agents_without_an_answer_are_left_out_and_a_silent_layer_is_as_if_it_were_not_there() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (0, _) => "FAIL".to_string(),
        (1, _) => "no end of the thought".to_string(),
        (_, 0) => "</think>".to_string(),
        _ => "2".to_string(),
    };
    let trace = run(moa(2, 3, 1), &write);
    assert_eq!(prompt(&trace, 3), "Q: 1 + 1?\n[1=2]");
    let silent = |_: PathKey, _: usize| "FAIL".to_string();
    let trace = run(moa(3, 2, 1), &silent);
    assert_eq!(prompt(&trace, 4), "Q: 1 + 1?\n");
}

#[test]
fn answers_that_do_not_fit_the_next_prompt_end_the_group_with_the_reason() {
    let write = |_: PathKey, n: usize| match n {
        0 => "</think>".to_string(),
        _ => "x".repeat(16),
    };
    let mut setup = moa(3, 5, 1);
    setup.positions = 60;
    let (trace, said) = {
        let group = Group::new(0, setup, &ByteVocab).expect("the question fits");
        drive_all(group, &ByteVocab, &write, &mut |_| 0)
    };
    assert!(
        said.iter()
            .all(|completion| !matches!(completion.finish, Finish::Failed(_)))
    );
    for path in &trace.paths[5..10] {
        let PathEnd::Failed(reason) = &path.end else {
            panic!("{:?}", path.end);
        };
        assert!(reason.starts_with("layer 2: the prompt has"), "{reason}");
    }
    // The layer behind it has nothing to read, and answers the plain question.
    assert_eq!(prompt(&trace, 10), "Q: 1 + 1?\n");
    assert_eq!(trace.paths[10].end, PathEnd::Answered);
}

#[test]
fn planted_paths_are_heard_but_their_answers_do_not_count() {
    let script = |key: PathKey, n: usize| match n {
        1 | 3 => format!(" word{} </summarize>", key.path),
        _ => "t".repeat(999),
    };
    let planted = |count| Setup {
        planted: count,
        ..setup(settings(Method::LeapT, 3), 4000)
    };
    let trace = drive(
        Group::new(0, planted(2), &ByteVocab).expect("one path is its own"),
        &script,
    );
    assert_eq!(trace.counted, [2]);
    let heard = |path: &u32| trace.blocks[0].routes[2].peers.contains(path);
    assert!([0, 1].iter().all(heard), "{:?}", trace.blocks[0].routes);
    let error = Group::new(0, planted(3), &ByteVocab).expect_err("nobody is left");
    assert_eq!(
        error.to_string(),
        "3 paths are planted, but the group has 3: at least one must be its own"
    );
}
