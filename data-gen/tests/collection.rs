//! Rows of files become problems: named, plainly answered, each once; and what families make.

use std::collections::BTreeSet;

use data_gen::collection::{Collection, collect, collect_until, name, plain_answers};
use data_gen::contamination::Benchmarks;
use data_gen::import::{Columns, Imported, rows};
use data_gen::left_out::Why;
use data_gen::synthetic::{Family, Order};
use data_gen::wording::Wording;
use proptest::prelude::*;
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

fn row(id: &str, text: &str, answer: &str) -> Imported {
    Imported {
        problem: problem(id, text, answer),
        id_given: true,
        year: None,
    }
}

/// What is kept, and what is left out for which reason, by id.
fn sketch(made: &Collection) -> (Vec<&str>, Vec<(Why, &str)>) {
    let kept = made.problems.iter().map(|problem| problem.id.as_str());
    let left_out = made
        .left_out
        .iter()
        .map(|one| (one.why, one.problem.id.as_str()));
    (kept.collect(), left_out.collect())
}

fn once(rows: Vec<Imported>) -> Collection {
    collect(rows, None, &Benchmarks::default())
}

#[track_caller]
fn check_same(a: &str, b: &str) {
    assert_eq!(Wording::of_text(a), Wording::of_text(b));
}

#[test]
fn spellings_of_one_statement_have_the_same_words() {
    check_same("Find $m+n$.", "find  M + N");
    check_same("\\frac{m}{n}", "m/n");
    check_same("\\dfrac mn", "\\tfrac{m}{n}");
    check_same("$\\left(\\sqrt{3}\\right)$", "(\u{221a}3)");
    check_same("1,000 and 12{,}345 and 7\\,000", "1000 and 12345 and 7000");
    check_same("lists {1,2,3} stay", "lists \\{1, 2, 3\\} stay");
    check_same("x\u{b2} + 10\u{b9}\u{b2}", "x^2 + 10^{12}");
    check_same("\u{3c0}r", "\\pi r");
    check_same("\\text{if } a \\cdot b", "if a*b");
    check_same("four hours, nine-kilometer", "4 hours, 9-kilometer");
    check_same("\u{ff21}\u{ff22} = \u{ff11}\u{ff12}", "ab = 12");
    check_same(
        "The figure. [asy] draw(A--B); [/asy] Find it.",
        "The figure. Find it.",
    );
    check_same("0.50 and .5 and 007", "0.50 and .5 and 7");
    let words = |text: &str| Wording::of_text(text).words.join(" ");
    assert_eq!(words("\u{6c42} 3 \u{7684}"), "\u{6c42} 3 \u{7684}");
    assert_eq!(
        words("one of tennis and someone"),
        "1 of tennis and someone"
    );
    check_same("a \\le b \\leq c", "a <= b \u{2264} c");
    check_same("$5\\%$ of $4!$!", "5% of 4! !");
    check_same(
        "Well done! $\\frac{1}{2} \\neq \\lfloor x \\rfloor$",
        "Well done. 1/2 \u{2260} \u{230a}x\u{230b}",
    );
    for (a, b) in [
        ("x - y", "x + y"),
        ("x / y", "x * y"),
        ("x < y", "x > y"),
        ("x < y", "x \\le y"),
        ("5", "5!"),
        ("n", "n!"),
        ("5", "5\\%"),
        ("x \\ne y", "x = y"),
        ("x ^3 *5", "x *3 ^5"),
    ] {
        assert_ne!(Wording::of_text(a), Wording::of_text(b), "{a}, {b}");
    }
    assert_eq!(Wording::of_text("x-axis, 9-kilometer").signs, []);
    assert_eq!(Wording::of_text("$-5 - x$").signs, [(0, '-'), (1, '-')]);
}

#[test]
fn copies_near_copies_and_disputed_answers_are_told_apart() {
    let long = "A train leaves the station at noon and travels north at sixty miles an hour while a second train leaves \
                at one and travels east at eighty miles an hour until both have stopped for the night at their hotels \
                by the sea. How far apart are they at five?";
    let near = long.replace("for the night", "for a night");
    let other = long.replace("sixty", "fifty");
    let made = once(vec![
        row("a", long, "439"),
        row("b", &long.to_uppercase().replace(' ', "  "), "439"),
        row("c", &near, "439"),
        row("d", &other, "400"),
        row("e", "Find $x + 1$ if $x = 4$.", "5"),
        row("f", "Find $x - 1$ if $x = 4$.", "3"),
        row("g", "What is 6 * 7?", "42"),
        row("h", "what is $6 \\cdot 7$", "41"),
        row("i", "What is 6 * 7 ?", "42"),
    ]);
    let expected = vec![
        (Why::Copy, "b"),
        (Why::Near, "c"),
        (Why::Conflict, "g"),
        (Why::Conflict, "h"),
        (Why::Conflict, "i"),
    ];
    assert_eq!(sketch(&made), (vec!["a", "d", "e", "f"], expected));
    let near = &made.left_out[1];
    assert!((0.8..1.0).contains(&near.value), "{}", near.value);
    assert_eq!(near.like.as_ref().map(|like| like.id.as_str()), Some("a"));
}

#[test]
fn options_in_another_order_ask_the_same() {
    let choice = |id: &str, choices: [&str; 3], right: &str| {
        let mut row = row(id, "Which is a prime number, of these three?", right);
        row.problem.question.kind = AnswerKind::Choice;
        row.problem.question.choices = choices.map(String::from).to_vec();
        row
    };
    let made = once(vec![
        choice("a", ["7", "8", "9"], "A"),
        choice("b", ["9", "7", "8"], "B"),
        choice("c", ["4", "11", "8"], "B"),
        choice("d", ["8", "9", "7"], "A"),
    ]);
    let expected = vec![
        (Why::Conflict, "a"),
        (Why::Conflict, "b"),
        (Why::Conflict, "d"),
    ];
    assert_eq!(sketch(&made), (vec!["c"], expected));
}

#[test]
fn recent_years_are_left_out_first() {
    let mut rows = vec![
        row("old", "What is 1 + 1?", "2"),
        row("new", "What is 2 + 2?", "4"),
        row("unknown", "What is 3 + 3?", "6"),
    ];
    rows[0].year = Some(2023);
    rows[1].year = Some(2024);
    let made = collect(rows, Some(2024), &Benchmarks::default());
    assert_eq!(
        sketch(&made),
        (vec!["old", "unknown"], vec![(Why::Year, "new")])
    );
    assert_eq!(made.left_out[0].value, 2024.0);
}

#[test]
fn answers_become_plain() {
    let plain = |answers: &[&str]| {
        let mut rows: Vec<Imported> = answers.iter().map(|answer| row("a", "x", answer)).collect();
        for row in &mut rows {
            row.problem.question.kind = AnswerKind::Math;
        }
        plain_answers(&mut rows, false).expect("they can be read");
        let answers = rows.iter().map(|row| row.problem.gold.as_str().to_owned());
        (answers.collect::<Vec<_>>(), rows[0].problem.question.kind)
    };
    let list = |answers: &[&str]| {
        answers
            .iter()
            .map(|answer| (*answer).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        plain(&[
            "025",
            "$7$",
            "\\boxed{12}",
            "$\\boxed{3}$.",
            "1,234",
            " 9. "
        ]),
        (
            list(&["25", "7", "12", "3", "1234", "9"]),
            AnswerKind::Integer
        )
    );
    assert_eq!(
        plain(&["\\frac{1}{2}", "007", "(1,2)"]),
        (list(&["\\frac{1}{2}", "007", "(1,2)"]), AnswerKind::Math)
    );
    let mut unreadable = vec![row("odd", "x", "no number")];
    let error = plain_answers(&mut unreadable, false)
        .expect_err("no integer")
        .to_string();
    assert!(
        error.contains("`odd`") && error.contains("`no number`"),
        "{error}"
    );
}

fn import(name: &str, text: &str) -> Vec<Imported> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(name);
    std::fs::write(&file, text).expect("a file");
    let mut rows = rows(&[file], &Columns::default()).expect("rows");
    for row in &mut rows {
        self::name(row, "file");
    }
    plain_answers(&mut rows, false).expect("they can be read");
    rows
}

#[test]
fn usual_data_sets_are_read_with_their_years() {
    let years = |rows: &[Imported]| rows.iter().map(|row| row.year).collect::<Vec<_>>();
    let first = |rows: &[Imported]| {
        let problem = &rows[0].problem;
        format!(
            "{} {:?} {}",
            problem.id,
            problem.question.kind,
            problem.gold.as_str()
        )
    };
    // AIME 1983 to 2024.
    let aime = import(
        "AIME.csv",
        "ID,Year,Problem Number,Question,Answer,Part\n1983-1,1983,1,Find w,060,\n2024-II-3,2024,3,Find v,45,II\n",
    );
    assert_eq!(
        (first(&aime), years(&aime)),
        ("1983-1 Integer 60".into(), vec![Some(1983), Some(2024)])
    );
    // AIME 2024 and 2025, as they are kept in several places.
    let aime24 = import(
        "aime24.jsonl",
        r#"{"id": 60, "problem": "Find z", "answer": "204", "url": "https://x.org/wiki/2024_AIME_I_Problems/Problem_4", "year": "2024"}"#,
    );
    assert_eq!(
        (first(&aime24), years(&aime24)),
        ("60 Integer 204".into(), vec![Some(2024)])
    );
    let aime25 = import(
        "aime25.jsonl",
        r#"{"ID": "2025-I-1", "Problem": "Find u", "Answer": 70}"#,
    );
    assert_eq!(
        (first(&aime25), years(&aime25)),
        ("2025-I-1 Integer 70".into(), vec![Some(2025)])
    );
    let named = import(
        "x.jsonl",
        r#"{"id": "aime25-1-01", "problem": "Find u", "answer": 70, "source": "AIME 2025 I problem 1"}"#,
    );
    assert_eq!(years(&named), [Some(2025)]);
    // Tables with gaps hold floats.
    let floats = import(
        "x.jsonl",
        r#"{"id": "a", "problem": "Find u", "answer": 70, "year": 2024.0}"#,
    );
    assert_eq!(years(&floats), [Some(2024)]);
    let floats = import("x.csv", "problem,answer,year\nFind u,70,2024.0\n");
    assert_eq!(years(&floats), [Some(2024)]);
    // Where rows say nothing, the name of the file may.
    let nameless = |name: &str| years(&import(name, "question,answer\nFind t,8\n"))[0];
    assert_eq!(
        ["aime2025-II.csv", "AIME_24.csv", "aime24.csv", "amc99.csv"].map(nameless),
        [Some(2025), None, Some(2024), Some(1999)]
    );
    assert_eq!(
        ["AIME_1983_2024.csv", "rows-2024.csv", "imo.csv"].map(nameless),
        [None, None, None]
    );
    // MATH: the answer is the last box of the solution, and 2036 is a number of a file.
    let math = import(
        "math.jsonl",
        r#"{"problem": "Halve 1", "level": "Level 1", "type": "Algebra", "solution": "\\boxed{2}? No, $\\boxed{\\frac{1}{2}}$.", "unique_id": "test/algebra/2036.json"}"#,
    );
    assert_eq!(
        (first(&math), years(&math)),
        (
            "test/algebra/2036.json Math \\frac{1}{2}".into(),
            vec![None]
        )
    );
    // GPQA.
    let gpqa = import(
        "gpqa.csv",
        "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\nWhy?,a,b,c,d\n",
    );
    assert_eq!(years(&gpqa), [None]);
    assert!(first(&gpqa).ends_with("Choice A"), "{}", first(&gpqa));
}

#[test]
fn ids_are_of_what_is_asked_and_not_of_the_place() {
    let one = import("a.csv", "problem,answer\nWhat is 1+1?,2\nWhat is 2+2?,4\n");
    let two = import(
        "b.csv",
        "problem,answer\nNew first row?,9\n What  is 2+2? ,4\n",
    );
    let id = |row: &Imported| row.problem.id.clone();
    assert_eq!(id(&one[1]), id(&two[1]));
    assert_ne!(id(&one[0]), id(&one[1]));
    assert!(
        id(&one[0]).starts_with("file-") && id(&one[0]).len() == "file-".len() + 12,
        "{}",
        id(&one[0])
    );
}

#[test]
fn families_make_different_problems_with_answers_in_range() {
    for family in Family::ALL {
        for choice in [false, true] {
            let order = Order {
                family,
                choice,
                count: 60,
            };
            assert_eq!(order.to_string().parse(), Ok(order));
            let problems = order.problems(7).expect("enough problems");
            assert_eq!(problems, order.problems(7).expect("the same"));
            assert_ne!(problems, order.problems(8).expect("others"));
            data_gen::problems::check(&problems, "made".as_ref()).expect("sound problems");
            data_gen::choices::check_spread(&problems).expect("spread options");
            for problem in &problems {
                assert!(problem.id.starts_with(family.name()), "{}", problem.id);
                let question = &problem.question;
                let gold = match question.kind {
                    AnswerKind::Choice => {
                        let distinct: BTreeSet<&String> = question.choices.iter().collect();
                        assert_eq!(distinct.len(), 4, "{:?}", question.choices);
                        &question.choices[usize::from(problem.gold.as_str().as_bytes()[0] - b'A')]
                    }
                    _ => problem.gold.as_str(),
                };
                let answer: u64 = gold.parse().expect("a number");
                assert!(answer <= 999, "{answer}");
            }
            let rows = problems.iter().cloned().map(|problem| Imported {
                problem,
                id_given: true,
                year: None,
            });
            assert_eq!(once(rows.collect()).left_out, [], "{}", family.name());
        }
    }
    let known = |text: &str| text.parse::<Order>().is_ok();
    assert!(known("divisors=3") && known("sum-choice=1"));
    assert!(
        !known("divisors") && !known("divisors=0") && !known("primes=3") && !known("divisors=-1")
    );
}

/// The answers of families, computed in another way from their statements.
#[test]
fn answers_of_families_are_right() {
    let numbers = |text: &str| -> Vec<u64> {
        let digits = text.split(|c: char| !c.is_ascii_digit());
        digits.filter_map(|word| word.parse().ok()).collect()
    };
    let each = |family, check: &dyn Fn(&[u64], &str) -> u64| {
        let order = Order {
            family,
            choice: false,
            count: 25,
        };
        for problem in order.problems(3).expect("problems") {
            let text = &problem.question.text;
            assert_eq!(
                check(&numbers(text), text).to_string(),
                problem.gold.as_str(),
                "{text}"
            );
        }
    };
    each(Family::Divisors, &|n, _| {
        let (mut at, mut count) = (1, 0);
        while at * at <= n[0] {
            count += u64::from(n[0].is_multiple_of(at)) * (1 + u64::from(at * at < n[0]));
            at += 1;
        }
        count
    });
    // By squaring, where the family multiplies one by one.
    each(Family::Remainder, &|n, _| {
        let (mut base, mut exponent, mut power) = (n[0], n[1], 1);
        while exponent > 0 {
            if exponent % 2 == 1 {
                power = power * base % n[3];
            }
            base = base * base % n[3];
            exponent /= 2;
        }
        (power + n[2]) % n[3]
    });
    // By counting paths square by square.
    each(Family::Lattice, &|n, _| {
        let count = |width: u64, height: u64| {
            let mut row = vec![1u64; width as usize + 1];
            for _ in 0..height {
                for at in 1..row.len() {
                    row[at] += row[at - 1];
                }
            }
            row[width as usize]
        };
        count(n[4], n[5]) * count(n[2] - n[4], n[3] - n[5])
    });
    // By trying every x.
    each(Family::System, &|n, _| {
        let solves = |x: &u64| {
            let rest = n[2].checked_sub(n[0] * x)?;
            let y = rest / n[1];
            (rest.is_multiple_of(n[1]) && n[3] * x + n[4] * y == n[5]).then_some(x + y)
        };
        (1..=400).find_map(|x| solves(&x)).expect("a solution")
    });
    each(Family::Multiples, &|n, _| {
        (n[0]..=n[1])
            .filter(|k| k.is_multiple_of(n[2]) && !k.is_multiple_of(n[3]))
            .count() as u64
    });
    each(Family::Recurrence, &|_, text| {
        let part = |from: &str, to: &str| {
            let rest = text.split_once(from).expect(from).1;
            rest.split_once(to).expect(to).0.parse::<u64>()
        };
        let (first, second) = (part("a_1 = ", "$"), part("a_2 = ", "$"));
        let (p, q) = (part("a_n = ", "a_{n-1}"), part("a_{n-1} + ", "a_{n-2}"));
        let (index, modulus) = (part("when $a_{", "}"), part("divided by $", "$"));
        let (p, q) = (p.unwrap_or(1), q.unwrap_or(1));
        let modulus = modulus.expect("a number");
        let mut all = vec![first.expect("a number"), second.expect("a number")];
        while all.len() < index.clone().expect("a number") as usize {
            all.push((p * all[all.len() - 1] + q * all[all.len() - 2]) % modulus);
        }
        all[index.expect("a number") as usize - 1] % modulus
    });
}

proptest! {
    /// Nothing is lost: every row is kept or left out, and what is kept asks different things.
    #[test]
    fn every_row_is_kept_or_left_out(texts in proptest::collection::vec("[a-c ]{1,12}( [1-3]){0,3}", 0..30)) {
        let rows: Vec<Imported> = texts.iter().enumerate().map(|(at, text)| row(&format!("{at}"), text, "1")).collect();
        let made = once(rows);
        prop_assert_eq!(made.problems.len() + made.left_out.len(), texts.len());
        let again: Vec<Imported> = made.problems.iter().map(|p| row(&p.id, &p.question.text, "1")).collect();
        prop_assert_eq!(once(again).left_out, vec![]);
    }

    #[test]
    fn words_of_any_text_can_be_read(text in "(.|\\\\[a-z]|[$,{}0-9]){0,80}") {
        let wording = Wording::of_text(&text);
        prop_assert!(wording.words.iter().all(|word| !word.is_empty()));
    }
}

#[test]
fn what_brackets_and_bars_hold_together_is_part_of_a_problem() {
    let pairs = [
        ("Find $2^{3+1}$ at once.", "Find $2^3+1$ at once."),
        (
            "How many integers are in [0,10)?",
            "How many integers are in [0,10]?",
        ),
        ("Solve $|x-3| = 4$ for x.", "Solve $x-3 = 4$ for x."),
        ("Find $(-3)^2$ now.", "Find $-3^2$ now."),
        ("Find $\\frac{a+b}{2}$ now.", "Find $a+\\frac{b}{2}$ now."),
    ];
    for (one, other) in pairs {
        for answer in ["7", "8"] {
            let rows = vec![row("a", one, "7"), row("b", other, answer)];
            assert_eq!(
                sketch(&once(rows)),
                (vec!["a", "b"], vec![]),
                "{one} {other}"
            );
        }
    }
    let same = [
        ("Find $2^{3+1}$ at once.", "Find $2^(3 + 1)$ at once."),
        ("Find $\\frac{m}{n}$ of $x^{10}$.", "Find m/n of x^10."),
        ("Find $\\left(x+1\\right)^{2}$.", "Find (x+1)^2."),
        ("Solve $\\lvert x-3 \\rvert = 4$.", "Solve |x-3| = 4."),
        (
            "Find $\\frac{a+b}{2}$ (in metres).",
            "Find (a+b)/2 in metres.",
        ),
        (
            "Let \\(S\\) be \\{1, 2\\} (a set).",
            "Let $S$ be {1, 2} (a set).",
        ),
        (
            "Let \\begin{array}{c} x \\end{array} (2y)^2 be.",
            "Let c x $(2y)^2$ be.",
        ),
    ];
    for (one, other) in same {
        let rows = vec![row("a", one, "7"), row("b", other, "7")];
        assert_eq!(
            sketch(&once(rows)),
            (vec!["a"], vec![(Why::Copy, "b")]),
            "{one} {other}"
        );
    }
}

#[test]
fn rows_of_a_template_are_many_and_soon_looked_at_and_a_stop_is_heard() {
    let rows = |count: usize| -> Vec<Imported> {
        let one = |at: usize| {
            let text = format!(
                "A train leaves the station at noon and travels for {at} hours at a constant speed of sixty miles \
                 per hour towards the next town on the line, where it arrives {} minutes late; is it late?",
                at * 7 + 1
            );
            row(&format!("t{at}"), &text, "1")
        };
        (0..count).map(one).collect()
    };
    let started = std::time::Instant::now();
    let made = once(rows(5000));
    assert_eq!(made.problems.len(), 5000);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    let stopped = collect_until(rows(50), None, &Benchmarks::default(), &|| true);
    assert_eq!(stopped, None);
}
