//! Traces to a training set: what is written, what is refused, and that nothing is lost on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};
use std::ops::ControlFlow;

use data_gen::filters::{Filter, FilterSettings, PathVerdicts};
use data_gen::rehearsal::Rehearsal;
use data_gen::training_set::{Account, Choice, Of, Pass, Plan, SetError, Sinks, rounds};
use proptest::prelude::*;
use protocol::{Problem, Sample, Trace, jsonl};

fn limits() -> FilterSettings {
    FilterSettings {
        max_tokens: 4000,
        summary_tokens: 256,
        summary_least: 4,
        progress: 0.95,
        copying: 0.98,
        repetition: 0.5,
        hesitation: 40.0,
        language: 0.01,
        uptake: 0.5,
        pass_rate: [0.1, 0.9],
        all_right: 0.0,
    }
}

/// Lines of traces on ten problems, and the problems.
fn traces() -> (String, Vec<Problem>) {
    let mut rehearsal = Rehearsal::new(30, 3, 3, 400);
    let problems = rehearsal.problems();
    let mut text = String::new();
    rehearsal.read_to_string(&mut text).expect("text");
    (text, problems)
}

struct Made {
    verdicts: Vec<PathVerdicts>,
    samples: Vec<Sample>,
    held_out: Vec<Sample>,
    account: Account,
}

struct Asked {
    require: Vec<Filter>,
    per_problem: usize,
    held_out: f64,
    most: Option<usize>,
    of: Of,
}

const ALL: Asked = Asked {
    require: Vec::new(),
    per_problem: usize::MAX,
    held_out: 0.0,
    most: None,
    of: Of::Exchange,
};

/// A pass over files.
fn make(files: &[&str], problems: &[Problem], asked: &Asked) -> Result<Made, SetError> {
    let by_id: BTreeMap<&str, &Problem> = problems.iter().map(|p| (p.id.as_str(), p)).collect();
    let filters = limits();
    let choice = Choice {
        require: asked.require.clone(),
        per_problem: asked.per_problem,
    };
    let mut pass = Pass::new(Plan {
        problems: &by_id,
        filters: &filters,
        choice: &choice,
        held_out: asked.held_out,
        seed: 1,
        of: asked.of,
    });
    let (mut verdicts, mut samples, mut held_out) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let to = &mut Sinks {
            verdicts: &mut verdicts,
            samples: &mut samples,
            held_out: &mut held_out,
        };
        pass.read(BufReader::new(file.as_bytes()), to, &mut |_| {
            ControlFlow::Continue(())
        })?;
    }
    let mut samples: Vec<Sample> = jsonl::read(samples.as_slice()).expect("samples");
    if let Some(most) = asked.most {
        let mut stay = pass.deal(most, &BTreeMap::new()).into_iter();
        samples.retain(|_| stay.next().expect("as many"));
    }
    Ok(Made {
        verdicts: jsonl::read(verdicts.as_slice()).expect("verdicts"),
        samples,
        held_out: jsonl::read(held_out.as_slice()).expect("samples"),
        account: pass.finish(),
    })
}

#[test]
fn every_path_gets_its_verdicts_and_those_that_pass_become_samples() {
    let (text, problems) = traces();
    let require = vec![Filter::Answer, Filter::Grammar, Filter::Comments];
    let made = make(
        &[&text],
        &problems,
        &Asked {
            require: require.clone(),
            ..ALL
        },
    )
    .expect("a set");
    assert_eq!(made.verdicts.len(), 90);
    let traces: Vec<Trace> = jsonl::read(text.as_bytes()).expect("traces");
    let by_id: BTreeMap<String, Sample> = traces
        .iter()
        .flat_map(|trace| (0..trace.paths.len()).map(|path| Sample::of_path(trace, path)))
        .map(|sample| sample.expect("it holds its prompt"))
        .map(|sample| (sample.id.clone(), sample))
        .collect();
    let expected: Vec<&Sample> = made
        .verdicts
        .iter()
        .filter(|path| path.passes(&require))
        .map(|path| &by_id[&path.id])
        .collect();
    assert_eq!(made.samples.iter().collect::<Vec<_>>(), expected);
    assert!(
        !expected.is_empty() && expected.len() < 90,
        "{}",
        expected.len()
    );

    let account = &made.account;
    assert_eq!(
        (account.groups, account.paths, account.passed),
        (30, 90, expected.len() as u64)
    );
    let answer = &account.filters[&Filter::Answer];
    let wrong = made
        .verdicts
        .iter()
        .filter(|path| !path.columns[&Filter::Answer].pass)
        .count() as u64;
    assert!(
        answer.required && answer.fails == wrong && answer.alone == wrong,
        "{answer:?}"
    );
    let tokens: u64 = account.tokens.values().sum();
    assert_eq!(
        tokens,
        made.samples
            .iter()
            .map(|sample| sample.len() as u64)
            .sum::<u64>()
    );
    assert_eq!(
        Some(account.longest as usize),
        made.samples.iter().map(Sample::len).max()
    );
}

#[test]
fn caps_take_the_first_sizes_deal_them_out_and_the_rest_is_counted() {
    let (text, problems) = traces();
    let all = make(&[&text], &problems, &ALL).expect("a set");
    let capped = make(
        &[&text],
        &problems,
        &Asked {
            per_problem: 2,
            ..ALL
        },
    )
    .expect("a set");
    assert_eq!(
        (
            capped.samples.len(),
            capped.account.over_cap,
            capped.account.problems
        ),
        (20, 70, 10)
    );
    assert_eq!(capped.samples[..2], all.samples[..2]);
    // A control that is to be small has one sample of each of its problems before a second of any.
    let cot = text.replace("\"method\":\"leap-t\"", "\"method\":\"cot\"");
    let small = make(
        &[&cot],
        &problems,
        &Asked {
            most: Some(12),
            of: Of::Independent,
            ..ALL
        },
    )
    .expect("a set");
    assert_eq!(
        (
            small.samples.len(),
            small.account.over_most,
            small.account.problems
        ),
        (12, 78, 10)
    );
    let tokens: usize = small.samples.iter().map(Sample::len).sum();
    assert_eq!(small.account.tokens.values().sum::<u64>(), tokens as u64);
    // Two files are one set.
    let (first, second) = text.split_at(text.match_indices('\n').nth(13).expect("lines").0 + 1);
    let parts = make(
        &[first, second],
        &problems,
        &Asked {
            per_problem: 2,
            ..ALL
        },
    )
    .expect("a set");
    assert_eq!(parts.samples, capped.samples);
    assert_eq!(parts.account, capped.account);
}

#[test]
fn groups_of_a_problem_stay_on_one_side_of_a_split() {
    let (text, problems) = traces();
    let split = |text: &str| {
        make(
            &[text],
            &problems,
            &Asked {
                held_out: 0.4,
                ..ALL
            },
        )
        .expect("a set")
    };
    let made = split(&text);
    let sides = |samples: &[Sample]| {
        samples
            .iter()
            .map(|sample| sample.problem.clone())
            .collect::<BTreeSet<_>>()
    };
    let (train, test) = (sides(&made.samples), sides(&made.held_out));
    assert!(train.is_disjoint(&test) && !train.is_empty() && !test.is_empty());
    assert_eq!(made.samples.len() + made.held_out.len(), 90);
    // Another order of the groups changes no side.
    let mut lines: Vec<&str> = text.lines().collect();
    lines.reverse();
    assert_eq!(sides(&split(&lines.join("\n")).held_out), test);
}

#[test]
fn what_cannot_be_used_is_named_with_its_line() {
    let (text, problems) = traces();
    let refused = |files: &[&str], problems: &[Problem], expected: &str| {
        let error = match make(files, problems, &ALL) {
            Err(error) => error,
            Ok(_) => panic!("`{expected}` was taken"),
        };
        let mut chain = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            chain += &format!(": {cause}");
            source = cause.source();
        }
        assert!(chain.contains(expected), "no `{expected}` in `{chain}`");
    };
    let edited = |from: &str, to: &str| text.replacen(from, to, 1);
    refused(
        &[&edited("\"method\":", "\"method:")],
        &problems,
        "line 1 is no trace",
    );
    refused(&[&text, "{}"], &problems, "missing field `version`");
    refused(
        &[&edited("\"version\":1", "\"version\":7")],
        &problems,
        "line 1: the trace has version 7",
    );
    refused(
        &[&edited("\"counted\":[0", "\"counted\":[9")],
        &problems,
        "names path 9",
    );
    refused(
        &[&text],
        &problems[1..],
        "line 1 is a trace of problem `rehearsed-000000`",
    );
    let mut other = problems.clone();
    other[1].question.text += " ";
    refused(
        &[&text],
        &other,
        "line 4: the question of the trace is not that of problem `rehearsed-000001`",
    );
    refused(
        &[&text, &text],
        &problems,
        "line 1: group 0 of problem `rehearsed-000000` was there before",
    );
    refused(&[&text[..text.len() / 2]], &problems, "is no trace");
    let second = text
        .match_indices("\"tokenizer\":\"bytes\"")
        .nth(1)
        .expect("two traces")
        .0;
    let mixed = text[..second].to_owned() + &text[second..].replacen("\"bytes\"", "\"words\"", 1);
    refused(
        &[&mixed],
        &problems,
        "line 2 was made with tokenizer words, but the traces before with bytes",
    );
}

#[test]
fn a_stop_is_a_stop() {
    let (text, problems) = traces();
    let by_id: BTreeMap<&str, &Problem> = problems.iter().map(|p| (p.id.as_str(), p)).collect();
    let (filters, choice) = (
        limits(),
        Choice {
            require: Vec::new(),
            per_problem: 1,
        },
    );
    let mut pass = Pass::new(Plan {
        problems: &by_id,
        filters: &filters,
        choice: &choice,
        held_out: 0.0,
        seed: 1,
        of: Of::Exchange,
    });
    let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
    let to = &mut Sinks {
        verdicts: &mut a,
        samples: &mut b,
        held_out: &mut c,
    };
    let stopped = pass.read(text.as_bytes(), to, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(SetError::Stopped)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// In whatever order groups come, a group that was there is found, and no other one.
    #[test]
    fn a_group_is_taken_once(order in Just((0..30).collect::<Vec<usize>>()).prop_shuffle(), again in 0..30usize) {
        let (text, problems) = traces();
        let lines: Vec<&str> = text.lines().collect();
        let shuffled: Vec<&str> = order.iter().map(|&at| lines[at]).collect();
        let made = make(&[&shuffled.join("\n")], &problems, &ALL);
        prop_assert!(made.is_ok_and(|made| made.account.groups == 30));
        let twice = shuffled.join("\n") + "\n" + lines[again];
        let found = matches!(make(&[&twice], &problems, &ALL), Err(SetError::Twice { line: 31, .. }));
        prop_assert!(found);
    }
}

#[test]
fn samples_are_dealt_over_problems_those_of_the_other_set_first() {
    let problems = ["a", "a", "a", "b", "b", "c", "c", "d"];
    let kept = |most, like: &[(&str, usize)]| -> Vec<usize> {
        let like = like.iter().map(|(id, count)| ((*id).to_owned(), *count));
        let stay = rounds(&problems, most, &like.collect());
        (0..stay.len()).filter(|at| stay[*at]).collect()
    };
    assert_eq!(kept(4, &[]), [0, 3, 5, 7]);
    assert_eq!(kept(4, &[("c", 2), ("d", 1)]), [0, 5, 6, 7]);
    assert_eq!(kept(5, &[("b", 5)]), [0, 3, 4, 5, 7]);
    assert_eq!(kept(99, &[]).len(), 8);
}

#[test]
fn traces_of_another_method_are_refused_by_name() {
    let (text, problems) = traces();
    let cot = text.replacen("\"method\":\"leap-t\"", "\"method\":\"cot\"", 1);
    let error = make(&[&cot], &problems, &ALL).err().expect("no exchange");
    assert!(
        error
            .to_string()
            .contains("line 1 is a trace of method `cot`, but only traces with exchange"),
        "{error}"
    );
}
