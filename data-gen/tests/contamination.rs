//! Benchmark problems in disguise are found, and different problems are not taken for them.

use std::path::PathBuf;

use data_gen::contamination::Benchmarks;
use data_gen::import::{Columns, rows};
use data_gen::left_out::Why;
use protocol::grade::AnswerKind;
use protocol::{Gold, Problem, Question};

fn problem(id: &str, text: &str, answer: &str) -> Problem {
    Problem {
        id: id.into(),
        question: Question {
            text: text.into(),
            kind: AnswerKind::Integer,
            choices: Vec::new(),
        },
        gold: Gold::new(answer),
        source: None,
        split: None,
    }
}

/// Statements of ours that share the phrases of contests.
fn contest() -> Vec<Problem> {
    vec![
        problem(
            "cards",
            "A deck has $40$ cards numbered $1$ through $40$. Lena draws $3$ cards without replacement. The \
             probability that the three numbers form an arithmetic progression in some order is $\\frac{m}{n}$, where \
             $m$ and $n$ are relatively prime positive integers. Find $m+n$.",
            "287",
        ),
        problem(
            "circles",
            "Circles $\\omega_1$ and $\\omega_2$ of radii $5$ and $12$ are externally tangent at $T$. A line through \
             $T$ meets $\\omega_1$ again at $A$ and $\\omega_2$ again at $B$ with $AB = 17\\sqrt{2}$. The area of the \
             triangle with vertices $A$, $B$ and the centre of $\\omega_2$ is $\\frac{p}{q}$, where $p$ and $q$ are \
             relatively prime positive integers. Find $p+q$.",
            "109",
        ),
        problem(
            "digits",
            "Let $N$ be the number of seven-digit positive integers whose digits are strictly decreasing from left to \
             right and whose digit sum is at most $25$. Find the remainder when $N$ is divided by $1000$.",
            "61",
        ),
        problem(
            "logs",
            "Positive reals $x, y \\ne 1$ satisfy $\\log_x(y^3) = \\log_y(x^{12}) = 6$. Find $xy$.",
            "64",
        ),
        problem("power", "Find the last two digits of $7^{2031}$.", "43"),
    ]
}

/// Other statements of ours, in the same phrases.
fn others() -> Vec<Problem> {
    vec![
        problem(
            "balls",
            "An urn has $6$ red and $9$ blue balls. Marta takes $4$ balls at once. The probability that exactly two of \
             them are red is $\\frac{m}{n}$, where $m$ and $n$ are relatively prime positive integers. Find $m+n$.",
            "287",
        ),
        problem(
            "words",
            "Let $N$ be the number of words of length $8$ over the letters $A$, $B$ and $C$ without two equal letters \
             side by side. Find the remainder when $N$ is divided by $1000$.",
            "384",
        ),
        problem(
            "logs-2",
            "Real numbers $a$ and $b$ satisfy $\\log_2 a + \\log_4 b = 6$. Find $a^2 b$.",
            "64",
        ),
        problem("power-2", "Find the last three digits of $3^{404}$.", "81"),
        problem("short", "Find $xy$.", "64"),
    ]
}

/// The same statement, written in another way; with a name.
fn disguises(text: &str) -> Vec<(&'static str, String)> {
    let spaced = |text: &str| text.replace(' ', "  \n ");
    let latex = text
        .replace("\\frac", "\\dfrac")
        .replace("\\ne", "\\neq")
        .replace('(', "\\left(")
        .replace(')', "\\right)")
        .replace("$", "");
    let parens: String = {
        let mut open = false;
        text.chars()
            .map(|c| match c {
                '$' => {
                    open = !open;
                    if open {
                        "\\(".to_owned()
                    } else {
                        "\\)".to_owned()
                    }
                }
                c => c.to_string(),
            })
            .collect()
    };
    let unicode = text
        .replace("\\omega", "\u{3c9}")
        .replace("\\sqrt{2}", "\u{221a}2")
        .replace("\\sqrt", "\u{221a}")
        .replace("\\le ", "\u{2264} ")
        .replace("\\leq", "\u{2264}")
        .replace("\\cdot", "\u{b7}")
        .replace("\\pi", "\u{3c0}")
        .replace("^2", "\u{b2}")
        .replace('$', "");
    let fractions = text
        .replace("\\frac{m}{n}", "m/n")
        .replace("\\frac{p}{q}", "p / q")
        .replace("\\frac mn", "m/n");
    let framed = format!(
        "Problem 7 (2 points). {text} Express your answer as an integer between 0 and 999."
    );
    let reworded = text
        .replace("Find", "Determine")
        .replace("Let", "Suppose that")
        .replace("positive integers", "natural numbers")
        .replace("A deck", "One deck");
    let words = text
        .replace("$2$", "two")
        .replace("$3$", "three")
        .replace(" 4 ", " four ")
        .replace("$5$", "five")
        .replace("$1000$", "1,000")
        .replace("1000", "1{,}000");
    let renamed = ["Lena", "Alice", "Bob", "Aya", "Jen", "Alex", "Ed", "Sue"]
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(name, "Kim"));
    vec![
        ("numbers in words", words),
        ("other names", renamed),
        ("as it is", text.to_owned()),
        ("upper case", text.to_uppercase()),
        ("spacing", spaced(text)),
        ("LaTeX commands", latex),
        ("other dollars", parens),
        ("unicode", unicode),
        ("plain fractions", fractions),
        ("in a frame", framed),
        ("reworded", reworded),
    ]
}

fn against(problems: &[Problem]) -> Benchmarks {
    let mut benchmarks = Benchmarks::default();
    benchmarks.add("contest", problems);
    benchmarks
}

#[test]
fn disguised_problems_are_found_with_both_texts() {
    let benchmarks = against(&contest());
    assert_eq!(benchmarks.len(), 5);
    for known in contest() {
        for (name, text) in disguises(&known.question.text) {
            let copy = problem("copy", &text, known.gold.as_str());
            let hit = benchmarks
                .hit(&copy)
                .unwrap_or_else(|| panic!("{}, {name}: {text}", known.id));
            let like = hit.like.expect("what it is like");
            assert_eq!(
                (like.id, like.text),
                (known.id.clone(), known.question.text.clone())
            );
            assert_eq!(
                (hit.problem.text.as_str(), hit.benchmark.as_deref()),
                (text.as_str(), Some("contest"))
            );
        }
    }
}

#[test]
fn each_look_finds_what_it_is_for() {
    let benchmarks = against(&contest());
    let why = |text: &str, answer: &str| {
        benchmarks
            .hit(&problem("x", text, answer))
            .map(|hit| hit.why)
    };
    // A whole statement inside a longer text.
    let cards = &contest()[0].question.text;
    let inside = format!(
        "{} {cards} {}",
        "Warm up first. ".repeat(20),
        "Take your time. ".repeat(20)
    );
    assert_eq!(why(&inside, "1"), Some(Why::Overlap));
    // Every seventh word changed: no run of eight is left.
    let changed: Vec<&str> = cards
        .split(' ')
        .enumerate()
        .map(|(at, word)| if at % 7 == 6 { "thing" } else { word })
        .collect();
    assert_eq!(why(&changed.join(" "), "287"), Some(Why::Similar));
    // Short, reworded, with the same numbers and answer; and not with another answer.
    let short = "Find the final two digits of the number $7^{2031}$, taken together.";
    assert_eq!(why(short, "43"), Some(Why::Signature));
    assert_eq!(why(short, "7"), None);
}

#[test]
fn different_problems_in_the_same_phrases_are_not_taken_for_them() {
    let benchmarks = against(&contest());
    for other in others() {
        assert_eq!(benchmarks.hit(&other), None, "{}", other.id);
    }
    let all = contest();
    for (index, one) in all.iter().enumerate() {
        let mut rest = all.clone();
        rest.remove(index);
        assert_eq!(against(&rest).hit(one), None, "{}", one.id);
    }
}

#[test]
fn multiple_choice_is_found_in_any_order_and_without_its_options() {
    let choice = |text: &str, choices: &[&str], gold: &str| {
        let mut problem = problem("q", text, gold);
        problem.question.kind = AnswerKind::Choice;
        problem.question.choices = choices.iter().map(|choice| (*choice).to_owned()).collect();
        problem
    };
    let text = "A sample of an unknown salt colours a flame violet and gives a white precipitate with silver nitrate \
                that dissolves in ammonia. Which salt is it most likely to be?";
    let known = choice(text, &["KCl", "NaBr", "LiI", "CaF$_2$"], "A");
    let benchmarks = against(&[known]);
    let shuffled = choice(&text.to_uppercase(), &["LiI", "CaF2", "KCl", "NaBr"], "C");
    let hit = benchmarks.hit(&shuffled).expect("the same");
    assert_eq!((hit.why, hit.value), (Why::Overlap, 1.0));
    assert!(benchmarks.hit(&problem("plain", text, "0")).is_some());
    let other = choice(
        "Which of these salts colours a flame yellow?",
        &["KCl", "NaBr", "LiI", "CaF$_2$"],
        "B",
    );
    assert_eq!(benchmarks.hit(&other), None);
}

/// Contest problems, which this project does not hold: in the folder that `LEAP_DATA` names.
#[expect(clippy::print_stderr, reason = "says that a test was skipped")]
fn outside() -> Option<Vec<Vec<Problem>>> {
    let Some(folder) = std::env::var_os("LEAP_DATA").map(PathBuf::from) else {
        eprintln!("skipped: LEAP_DATA names no folder with contest problems");
        return None;
    };
    let read = |name: &str| {
        let rows = rows(&[folder.join(name)], &Columns::default()).expect("a problems file");
        rows.into_iter().map(|row| row.problem).collect()
    };
    Some(
        ["aime24.jsonl", "aime25.jsonl", "aimo25.jsonl"]
            .map(read)
            .to_vec(),
    )
}

#[test]
fn real_contest_problems_are_found_in_disguise_and_told_apart() {
    let Some(sets) = outside() else {
        return;
    };
    let (mut disguised, mut missed) = (0, Vec::new());
    let (mut different, mut confused) = (0, Vec::new());
    for (index, set) in sets.iter().enumerate() {
        let benchmarks = against(set);
        for known in set {
            for (name, text) in disguises(&known.question.text) {
                disguised += 1;
                let hit = benchmarks.hit(&problem("copy", &text, known.gold.as_str()));
                if hit.is_none_or(|hit| hit.like.is_none_or(|like| like.id != known.id)) {
                    missed.push((name, known.id.clone()));
                }
            }
        }
        let rest: Vec<Problem> = sets
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .flat_map(|(_, set)| set.clone())
            .collect();
        let rest = against(&rest);
        for one in set {
            let mut alone = set.clone();
            alone.retain(|other| other.id != one.id);
            for benchmarks in [&rest, &against(&alone)] {
                different += benchmarks.len();
                confused.extend(benchmarks.hit(one));
            }
        }
    }
    assert_eq!((disguised, different), (770, 4830));
    assert!(missed.is_empty(), "{missed:?}");
    assert!(confused.is_empty(), "{confused:?}");
}

/// The same statement, damaged: more than a copyist does.
fn damages(text: &str) -> [(&'static str, String); 7] {
    let words: Vec<&str> = text.split(' ').collect();
    let half = words.len() / 2;
    let each = |nth: usize, instead: Option<&'static str>| {
        let words = words.iter().enumerate();
        let words = words.filter_map(|(at, word)| match (at + 1) % nth {
            0 => instead,
            _ => Some(*word),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let mut sentences: Vec<&str> = text.split(". ").collect();
    sentences.reverse();
    let letters = [
        ("n", "k"),
        ("m", "j"),
        ("x", "u"),
        ("y", "v"),
        ("a", "c"),
        ("b", "d"),
        ("N", "Q"),
    ];
    let renamed = letters.iter().fold(text.to_owned(), |text, (from, to)| {
        text.replace(&format!("${from}$"), &format!("${to}$"))
    });
    [
        ("sentences reversed", sentences.join(". ")),
        ("variables renamed", renamed),
        ("every seventh word replaced", each(7, Some("foo"))),
        ("every fifth word replaced", each(5, Some("foo"))),
        ("every fifth word dropped", each(5, None)),
        ("the first half", words[..half].join(" ")),
        ("the second half", words[half..].join(" ")),
    ]
}

#[test]
fn damaged_contest_problems_are_mostly_found() {
    let Some(sets) = outside() else {
        return;
    };
    let all: Vec<Problem> = sets.concat();
    let benchmarks = against(&all);
    let mut found: Vec<(&str, usize)> = Vec::new();
    for known in &all {
        for (at, (name, text)) in damages(&known.question.text).into_iter().enumerate() {
            if found.len() <= at {
                found.push((name, 0));
            }
            let hit = benchmarks.hit(&problem("copy", &text, known.gold.as_str()));
            let same = hit.is_some_and(|hit| hit.like.is_some_and(|like| like.id == known.id));
            found[at].1 += usize::from(same);
        }
    }
    let counts: Vec<usize> = found.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [70, 70, 67, 59, 68, 61, 67], "{found:?}");
}

#[test]
fn an_ending_that_contests_share_is_no_overlap() {
    let ending = "can be expressed as $\\frac{m}{n}$, where $m$ and $n$ are relatively prime positive integers. Find $m+n$.";
    let benchmarks = against(&[problem(
        "dice",
        &format!("Tom rolls a fair die four times. The probability that the sum is even {ending}"),
        "3",
    )]);
    let other =
        format!("A frog jumps to one of five stones. The expected number of jumps {ending}");
    assert_eq!(benchmarks.hit(&problem("frog", &other, "17")), None);
    let same = format!(
        "Warm up. Tom rolls a fair die four times. The probability that the sum is even {ending}"
    );
    assert!(benchmarks.hit(&problem("dice", &same, "3")).is_some());
}

#[test]
fn a_question_is_found_without_its_options_and_with_others() {
    let choice = |id: &str, text: &str, choices: &[&str]| Problem {
        question: Question {
            text: text.into(),
            kind: AnswerKind::Choice,
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        },
        ..problem(id, text, "A")
    };
    let text = "Which particle carries the weak force between two neutrinos in a supernova?";
    let long = [
        "the neutral boson that the experiment at the great collider found in the year nineteen eighty three",
        "the photon, which has no mass and moves as fast as anything can move through the empty space",
    ];
    let following = "Which of the following statements is true?";
    let benchmarks = against(&[choice("force", text, &long), choice("f", following, &long)]);
    assert_eq!(benchmarks.len(), 2);
    assert!(benchmarks.hit(&problem("free", text, "Z")).is_some());
    let others = choice(
        "o",
        text,
        &["a gluon", "a graviton of spin two", "nothing at all"],
    );
    assert!(benchmarks.hit(&others).is_some());
    let generic = choice("g", following, &["Cats bark.", "Dogs bark at strangers."]);
    assert_eq!(benchmarks.hit(&generic), None);
}
