//! Problems out of files of others: formats, columns, options, and what is refused.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it must be"
)]

use std::path::PathBuf;
use std::sync::Arc;

use data_gen::benchmark::{Benchmark, BenchmarkError};
use data_gen::choices::{check_spread, shuffle};
use data_gen::import::{Columns, read};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use protocol::Problem;
use protocol::grade::AnswerKind;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn sketch(problems: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| {
        let question = &problem.question;
        let choices = question.choices.join("|");
        format!(
            "{} {:?} {} [{choices}] {}",
            problem.id,
            question.kind,
            question.text,
            problem.gold.as_str()
        )
    };
    problems.iter().map(line).collect()
}

#[track_caller]
fn check(name: &str, text: &str, columns: &Columns, expected: &[&str]) {
    let folder = Folder::new();
    let file = folder.write(name, text);
    let problems = read(&[file], columns).unwrap();
    assert_eq!(sketch(&problems), expected);
}

#[track_caller]
fn refuse(name: &str, text: &str, columns: &Columns, expected: &str) {
    let folder = Folder::new();
    let file = folder.write(name, text);
    let error = read(&[file], columns).unwrap_err();
    let mut chain = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        chain += &format!(": {cause}");
        source = cause.source();
    }
    assert!(chain.contains(expected), "no `{expected}` in `{chain}`");
}

#[test]
fn usual_columns_are_known_in_every_format() {
    let guess = Columns::default();
    let one = ["a Integer 1+1? [] 2"];
    check(
        "p.jsonl",
        r#"{"id": "a", "problem": "1+1?", "answer": 2}"#,
        &guess,
        &one,
    );
    check(
        "p.jsonl",
        r#"{"ID": "a", "question": "1+1?", "answer": "002"}"#,
        &guess,
        &one,
    );
    check(
        "p.json",
        r#"[{"id": "a", "Problem": "1+1?", "expected_answer": "2"}]"#,
        &guess,
        &one,
    );
    check(
        "p.json",
        r#"{"data": [{"id": "a", "problem": "1+1?", "answer": 2}]}"#,
        &guess,
        &one,
    );
    check(
        "p.csv",
        "\u{feff}id,Question,Answer\na,1+1?,2\n",
        &guess,
        &one,
    );
    check("p.tsv", "id\tproblem\tanswer\na\t1+1?\t2\n", &guess, &one);
    check(
        "p.csv",
        "problem,answer\n1+1?,2\n",
        &guess,
        &["p-0001 Integer 1+1? [] 2"],
    );
    check(
        "p.csv",
        "problem,answer\n\"half, please\",1/2\none,1\n",
        &guess,
        &["p-0001 Math half, please [] 1/2", "p-0002 Math one [] 1"],
    );
}

#[test]
fn columns_can_be_named() {
    let columns = Columns {
        id: Some("no".into()),
        problem: Some("text".into()),
        answer: Some("key".into()),
        choices: vec!["o1".into(), "o2".into(), "o3".into()],
        kind: None,
    };
    let text = "no,text,key,o1,o2,o3\n7,Which?,b,x,y,z\n8,Which?,z,x,y,z\n9,Which?,0,x,y,z\n";
    check(
        "p.csv",
        text,
        &columns,
        &[
            "7 Choice Which? [x|y|z] B",
            "8 Choice Which? [x|y|z] C",
            "9 Choice Which? [x|y|z] A",
        ],
    );
    let math = Columns {
        kind: Some(AnswerKind::Math),
        ..Columns::default()
    };
    check(
        "p.csv",
        "problem,answer\nx,2\n",
        &math,
        &["p-0001 Math x [] 2"],
    );
}

#[test]
fn gpqa_is_read_with_the_right_option_first() {
    let text = "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,\
                Incorrect Answer 3\nr1,Why?,\"one\n\",two,three,four\n";
    check(
        "g.csv",
        text,
        &Columns::default(),
        &["r1 Choice Why? [one|two|three|four] A"],
    );
}

#[test]
fn what_is_no_problem_is_refused_by_row() {
    let guess = Columns::default();
    refuse(
        "p.csv",
        "id,answer\na,2\n",
        &guess,
        "no column that is known to hold the statement",
    );
    refuse(
        "p.csv",
        "problem,hint\na,2\n",
        &guess,
        "it has: `hint`, `problem`",
    );
    refuse(
        "p.csv",
        "problem,solution\na,it is 2\n",
        &guess,
        "row 1: `solution` has no \\boxed{...}",
    );
    let named = Columns {
        problem: Some("text".into()),
        ..Columns::default()
    };
    refuse(
        "p.csv",
        "problem,answer\na,2\n",
        &named,
        "no column `text` (statements)",
    );
    refuse("p.txt", "x", &guess, "of no format that is known");
    refuse("p.csv", "a,a\n1,2\n", &guess, "two columns are named `a`");
    refuse(
        "p.jsonl",
        "{\"problem\": \"a\", \"answer\": 1}\n{oops\n",
        &guess,
        "line 2",
    );
    refuse("p.json", "{\"x\": 1}", &guess, "no list of objects");
    refuse("p.parquet", "nonsense", &guess, "cannot be read as Parquet");
    refuse("p.csv", "problem,answer\n", &guess, "holds no problem");
    refuse(
        "p.csv",
        "id,problem,answer\na,x,1\na,y,2\n",
        &guess,
        "appears twice",
    );
    refuse(
        "p.csv",
        "problem,answer\nx,\n",
        &guess,
        "has an empty `answer`",
    );
    refuse(
        "p.jsonl",
        r#"{"problem": "x", "answer": null}"#,
        &guess,
        "row 1: `answer` is empty",
    );
    let twice = r#"{"question": "x", "choices": ["a", "a"], "answer": "A"}"#;
    refuse(
        "p.jsonl",
        twice,
        &guess,
        "two options are `a`, the right one",
    );
    let none = r#"{"question": "x", "choices": ["a", "b"], "answer": "c"}"#;
    refuse("p.jsonl", none, &guess, "`c` is none of its 2 options");
}

#[test]
fn parquet_tables_are_read() {
    let folder = Folder::new();
    let path = folder.0.path().join("aime.parquet");
    let schema = "message m { required int64 id; required binary problem (UTF8); \
                  required binary answer (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts = |texts: [&str; 2]| texts.map(ByteArray::from);
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int64Type>()
        .write_batch(&[60, 61], None, None)
        .unwrap();
    column.close().unwrap();
    for values in [texts(["What?", "Who?"]), texts(["033", "204"])] {
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, None, None)
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let problems = read(&[path], &Columns::default()).unwrap();
    assert_eq!(
        sketch(&problems),
        ["60 Integer What? [] 33", "61 Integer Who? [] 204"]
    );
    // A dictionary that claims a billion entries, for which the library makes room before it looks.
    let bytes = std::fs::read(folder.0.path().join("aime.parquet")).unwrap();
    let header = [0x4c, 0x15, 0x04];
    let at = bytes.windows(3).position(|three| three == header).unwrap() + 2;
    let mut claims = bytes.clone();
    claims.splice(at..=at, [0xfe, 0xff, 0xff, 0xff, 0x07]);
    let path = folder.0.path().join("claims.parquet");
    std::fs::write(&path, claims).unwrap();
    let error = read(&[path], &Columns::default()).unwrap_err().to_string();
    assert!(error.contains("claims what cannot be"), "{error}");
}

// ---- options -------------------------------------------------------------------------------

fn choice(index: usize, gold: char) -> Problem {
    let line = serde_json::json!({
        "id": format!("q{index}"), "problem": format!("Question {index}?"), "kind": "choice",
        "choices": ["one", "two", "three", "four"], "answer": gold.to_string(),
    });
    serde_json::from_value(line).unwrap()
}

#[test]
fn options_are_shuffled_by_question_and_seed_and_the_right_one_stays_right() {
    let all: Vec<Problem> = (0..198).map(|index| choice(index, 'A')).collect();
    let error = check_spread(&all).unwrap_err();
    assert_eq!((error.letter, error.count, error.of), ('A', 198, 198));
    let mut shuffled = all.clone();
    shuffle(&mut shuffled, 7);
    check_spread(&shuffled).unwrap();
    for problem in &shuffled {
        let place = usize::from(problem.gold.as_str().as_bytes()[0] - b'A');
        assert_eq!(problem.question.choices[place], "one");
    }
    // A question's order does not depend on what else is in the file.
    let mut alone = vec![all[17].clone()];
    shuffle(&mut alone, 7);
    assert_eq!(alone[0], shuffled[17]);
    let mut other = all;
    shuffle(&mut other, 8);
    assert_ne!(other, shuffled);
}

#[test]
fn chance_is_not_refused() {
    for seed in 0..200 {
        let mut problems: Vec<Problem> = (0..60).map(|index| choice(index, 'C')).collect();
        shuffle(&mut problems, seed);
        check_spread(&problems).unwrap();
    }
    check_spread(&[choice(0, 'A')]).unwrap();
    check_spread(&[]).unwrap();
}

// ---- benchmarks ----------------------------------------------------------------------------

fn contest(count: usize) -> Vec<Problem> {
    let problem = |index: usize| {
        let line = serde_json::json!({
            "id": format!("p{index}"), "problem": format!("Problem {index}"), "answer": index * 7 % 1000,
        });
        serde_json::from_value(line).unwrap()
    };
    (0..count).map(problem).collect()
}

#[test]
fn a_benchmark_is_what_it_says() {
    Benchmark::Aime24.check(&contest(30)).unwrap();
    Benchmark::Aimo25.check(&contest(10)).unwrap();
    let error = Benchmark::Aime25.check(&contest(29)).unwrap_err();
    assert!(
        matches!(
            error,
            BenchmarkError::Count {
                expected: 30,
                found: 29,
                ..
            }
        ),
        "{error}"
    );
    let mut far = contest(30);
    far[3].gold = protocol::Gold::new("1000");
    let error = Benchmark::Aime24.check(&far).unwrap_err();
    assert!(matches!(error, BenchmarkError::Range { .. }), "{error}");
    let mut twins = contest(30);
    twins[4].question.text = twins[5].question.text.clone();
    let error = Benchmark::Aime24.check(&twins).unwrap_err();
    assert_eq!(error, BenchmarkError::Twins("p4".into(), "p5".into()));
    let error = Benchmark::GpqaDiamond.check(&contest(198)).unwrap_err();
    assert!(matches!(error, BenchmarkError::Kind { .. }), "{error}");
    let gpqa: Vec<Problem> = (0..198).map(|index| choice(index, 'A')).collect();
    let error = Benchmark::GpqaDiamond.check(&gpqa).unwrap_err();
    assert!(matches!(error, BenchmarkError::NotSpread(_)), "{error}");
}

#[test]
fn real_contest_files_are_read_where_they_are() {
    let folder = std::env::var_os("LEAP_DATA").map(PathBuf::from);
    let Some(folder) = folder else { return };
    for benchmark in [Benchmark::Aime24, Benchmark::Aime25, Benchmark::Aimo25] {
        let file = folder.join(format!("{}.jsonl", benchmark.name()));
        benchmark
            .check(&read(&[file], &Columns::default()).unwrap())
            .unwrap();
    }
}

// ---- what is read wrongly if nobody looks -----------------------------------------------------

#[test]
fn a_number_beside_options_of_text_is_a_place() {
    let guess = Columns::default();
    check(
        "p.jsonl",
        r#"{"id": "a", "question": "4!/2?", "choices": ["8", "2", "24", "120"], "answer": 2}"#,
        &guess,
        &["a Choice 4!/2? [8|2|24|120] C"],
    );
    // Where a number is out of range somewhere, the column holds values.
    let values = "{\"id\": \"a\", \"question\": \"4!?\", \"choices\": [\"8\", \"2\", \"24\"], \"answer\": 24}\n\
                  {\"id\": \"b\", \"question\": \"1+1?\", \"choices\": [\"8\", \"2\", \"24\"], \"answer\": 2}\n";
    check(
        "p.jsonl",
        values,
        &guess,
        &["a Choice 4!? [8|2|24] C", "b Choice 1+1? [8|2|24] B"],
    );
    let csv = "question,A,B,C,D,answer\n1+1?,8,2,24,120,2\n";
    refuse(
        "p.csv",
        csv,
        &guess,
        "row 1: the answer `2` is the text of an option as well as",
    );
    let numbers = r#"{"question": "1+1?", "choices": [8, 2, 24, 120], "answer": 2}"#;
    refuse(
        "p.jsonl",
        numbers,
        &guess,
        "all rows can be read either way",
    );
}

#[test]
fn values_that_are_none_are_refused() {
    let guess = Columns::default();
    let large = r#"{"problem": "x", "answer": 123456789012345678901234567890}"#;
    refuse("p.jsonl", large, &guess, "row 1: `answer` holds the number");
    refuse(
        "p.csv",
        "problem,answer\nx,NaN\n",
        &guess,
        "the answer is `NaN`: there is none",
    );
}

#[test]
fn a_quote_in_a_file_with_tabs_swallows_no_row() {
    let text = "id\tproblem\tanswer\na\t\"Half of\t1\nb\tTwo\t2\nc\t\"Three\"\t3\n";
    check(
        "p.tsv",
        text,
        &Columns::default(),
        &[
            "a Integer \"Half of [] 1",
            "b Integer Two [] 2",
            "c Integer \"Three\" [] 3",
        ],
    );
    let held = "id\tproblem\tanswer\na\t\"One\nline\t\"\t1\n";
    check(
        "p.tsv",
        held,
        &Columns::default(),
        &["a Integer One\nline [] 1"],
    );
}

#[test]
fn our_own_lines_may_begin_with_a_byte_order_mark() {
    let text = "\u{feff}{\"id\": \"a\", \"problem\": \"1+1?\", \"answer\": 2}\n";
    check(
        "p.jsonl",
        text,
        &Columns::default(),
        &["a Integer 1+1? [] 2"],
    );
}
