//! Which beginnings the prefix dominance trap chooses.

use protocol::grade::AnswerKind;
use protocol::trap::{Beginnings, Trap, TrapError};
use protocol::{Gold, Method, PathKey, Problem, Question, Stream, Trace};

use crate::driver::{drive, group, settings};

/// Four paths on a problem whose answer is 2; path `i` answers `answers[i]`.
fn stored(id: &str, method: Method, answers: [&'static str; 4]) -> (Problem, Trace) {
    let write = move |key: PathKey, n: usize| match n {
        0 => format!("{} thinks for a while </think>", key.path),
        _ => format!("\\boxed{{{}}}", answers[key.path as usize]),
    };
    let mut trace = drive(group(settings(method, 4), 2000), &write);
    trace.problem = id.into();
    let question = Question {
        text: "1 + 1?".into(),
        kind: AnswerKind::Integer,
        choices: Vec::new(),
    };
    let problem = Problem {
        id: id.into(),
        question,
        gold: Gold::new("2"),
        source: None,
        split: None,
    };
    (problem, trace)
}

fn chosen(trap: Trap, answers: &[(&str, [&'static str; 4])]) -> Result<Vec<String>, TrapError> {
    let stored = answers
        .iter()
        .map(|(id, answers)| stored(id, Method::Cot, *answers));
    let (problems, traces): (Vec<Problem>, Vec<Trace>) = stored.unzip();
    let chosen = trap.choose(&traces, &problems, &Stream::of_run(1))?;
    let text = |ids: &[u32]| -> String { ids.iter().map(|&id| id as u8 as char).collect() };
    let line = |it: &protocol::trap::Beginning| {
        format!(
            "{} {}.{} {:?} {}",
            it.problem,
            it.from.0,
            it.from.1,
            text(&it.ids),
            it.unconstrained
        )
    };
    Ok(chosen.iter().map(line).collect())
}

#[test]
fn one_wrong_response_of_each_problem_that_has_both_kinds() {
    let answers = [
        ("all-right", ["2", "2", "2", "2"]),
        ("one-wrong", ["2", "2", "7", "2"]),
        ("all-wrong", ["1", "1", "1", "1"]),
    ];
    // 15% of 28 thought and 10 answer tokens.
    assert_eq!(
        chosen(Trap::default(), &answers).expect("one qualifies"),
        ["one-wrong 0.2 \"2 thi\" 0.75"]
    );
    let right = Trap {
        beginnings: Beginnings::Right,
        ..Trap::default()
    };
    let lines = chosen(right, &answers[1..2]).expect("it qualifies");
    assert!(
        lines[0].starts_with("one-wrong 0.") && !lines[0].contains("0.2 "),
        "{lines:?}"
    );
}

#[test]
fn at_most_so_many_problems_in_file_order() {
    let answers = ["d", "b", "c", "a"].map(|id| (id, ["2", "1", "1", "1"]));
    let trap = Trap {
        problems: 3,
        ..Trap::default()
    };
    let lines = chosen(trap, &answers).expect("all qualify");
    let ids: Vec<&str> = lines.iter().map(|line| &line[..1]).collect();
    let order = ["d", "b", "c", "a"];
    let places: Vec<usize> = (ids
        .iter()
        .map(|id| order.iter().position(|o| o == id).expect("one of them")))
    .collect();
    assert_eq!(ids.len(), 3);
    assert!(places.is_sorted());
}

#[test]
fn no_beginning_reaches_the_end_of_its_thought() {
    let trap = Trap {
        share: 0.99,
        ..Trap::default()
    };
    let lines = chosen(trap, &[("p", ["2", "1", "2", "2"])]).expect("one qualifies");
    assert_eq!(lines, ["p 0.1 \"1 thinks for a\" 0.75"]);
}

#[test]
fn what_cannot_be_chosen_from_is_an_error() {
    let fails =
        |trap: Trap, answers| chosen(trap, &[("p", answers)]).expect_err("nothing to choose");
    assert_eq!(
        fails(Trap::default(), ["2"; 4]),
        TrapError::Nothing { looked_at: 1 }
    );
    for share in [0.0, 1.0, f64::NAN] {
        let trap = Trap {
            share,
            ..Trap::default()
        };
        assert!(matches!(
            fails(trap, ["2", "1", "1", "1"]),
            TrapError::Share(_)
        ));
    }
    let (problem, trace) = stored("p", Method::LeapT, ["2", "1", "1", "1"]);
    let trap = Trap::default();
    let exchanged = trap.choose(std::slice::from_ref(&trace), &[problem], &Stream::of_run(1));
    assert!(matches!(
        exchanged,
        Err(TrapError::Exchange {
            method: "leap-t",
            ..
        })
    ));
    let unknown = trap.choose(&[trace], &[], &Stream::of_run(1));
    assert_eq!(unknown, Err(TrapError::Unknown("p".into())));
}
