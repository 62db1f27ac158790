//! A training that is stopped or killed at any moment ends with the same bytes.

use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::miniature::{Curve, Files, Place, Training, curve, files, settings};
use train::{Event, Outcome, Rehearsal, TrainError, TrainSettings};

/// Twenty steps over two epochs of ten samples each and four of a third; the last step is short,
/// steps reach over the border of epochs and have several micro-batches.
fn training() -> Training {
    let (steps, epochs) = (None, Some(7.7));
    Training::new(TrainSettings {
        steps,
        epochs,
        save_every_steps: 3,
        ..settings()
    })
}

/// The curve and the checkpoint of an undisturbed run.
fn undisturbed() -> (Curve, Files) {
    let place = Place::new();
    let curve = curve(&training().finish(&place));
    assert_eq!(curve.len(), 20);
    (curve, place.checkpoint())
}

/// Runs until `when` holds, dies there, and goes on.
#[track_caller]
fn check_killed(when: impl Fn(&Event) -> bool, expected: &[(String, Vec<u8>)]) {
    let place = Place::new();
    let killed = catch_unwind(AssertUnwindSafe(|| {
        training().run(&place, |event, _| {
            if when(event) {
                // Nothing is written while it unwinds, so the disk is as a kill leaves it.
                resume_unwind(Box::new("killed"));
            }
        })
    }));
    assert!(killed.is_err(), "the moment came");
    training().finish(&place);
    assert!(place.checkpoint() == expected, "the checkpoint differs");
}

#[test]
fn killed_at_every_step_and_within_every_step() {
    let (_, expected) = undisturbed();
    for kill in 1..=20 {
        check_killed(
            |event| matches!(event, Event::Step(at) if at.step == kill),
            &expected,
        );
        let first = |event: &Event| match event {
            Event::MicroBatch { step, done, of } => *step == kill && (*done < *of || *of == 1),
            _ => false,
        };
        check_killed(first, &expected);
    }
    check_killed(|event| matches!(event, Event::Started(_)), &expected);
    check_killed(
        |event| matches!(event, Event::Saved { step: 9, .. }),
        &expected,
    );
}

#[test]
fn stopped_at_every_step() {
    let (straight, expected) = undisturbed();
    for at in 1..20 {
        let place = Place::new();
        let mut events = Vec::new();
        let outcome = training().run(&place, |event, stop| {
            events.push(event.clone());
            if matches!(event, Event::Step(step) if step.step == at) {
                stop.stop(None);
            }
        });
        let Outcome::Stopped { step } = outcome.expect("it stops") else {
            panic!("it went on")
        };
        assert_eq!(step, at);
        assert!(!place.path("out").exists(), "there is no checkpoint yet");
        let rest = training().finish(&place);
        let Event::Started(started) = &rest[0] else {
            panic!("{:?}", rest[0])
        };
        assert_eq!(started.done, at);
        let both = [curve(&events), curve(&rest)].concat();
        assert_eq!(both, straight, "stopped at {at}");
        assert!(
            place.checkpoint() == expected,
            "the checkpoint differs, stopped at {at}"
        );
    }
}

/// Asks for a stop behind the first micro-batch of step 5.
fn stop_in_step_5(event: &Event, stop: &train::Interrupter) {
    let (step, done) = match event {
        Event::MicroBatch { step, done, .. } => (*step, *done),
        _ => return,
    };
    if (step, done) == (5, 1) {
        stop.stop(None);
    }
}

#[test]
fn a_stop_is_heard_between_micro_batches() {
    let place = Place::new();
    let outcome = training().run(&place, stop_in_step_5);
    assert!(
        matches!(outcome, Ok(Outcome::Stopped { step: 4 })),
        "{outcome:?}"
    );
    assert_eq!(place.states(), ["step-00000003", "step-00000004+1"]);
    training().finish(&place);
    assert!(
        place.checkpoint() == undisturbed().1,
        "the checkpoint differs"
    );
    assert_eq!(
        place.states(),
        ["step-00000015", "step-00000018"],
        "what was begun is of no use any more"
    );
}

#[test]
fn stopped_within_a_step_it_goes_on_behind_the_last_micro_batch() {
    let (straight, expected) = undisturbed();
    let place = Place::new();
    let (mut curve_so_far, mut stops) = (Vec::new(), 0);
    let mut behind = (0, 0);
    // Each call gets on by one micro-batch.
    loop {
        let mut events = Vec::new();
        let outcome = training().run(&place, |event, stop| {
            events.push(event.clone());
            if matches!(event, Event::MicroBatch { .. }) {
                stop.stop(None);
            }
        });
        curve_so_far.extend(curve(&events));
        let started = events.iter().find_map(|event| match event {
            Event::Started(started) => Some((started.done, started.micro_batches)),
            _ => None,
        });
        assert_eq!(started, Some(behind));
        let passed: Vec<(usize, usize, usize)> = events
            .iter()
            .filter_map(|event| match event {
                Event::MicroBatch { step, done, of } => Some((*step, *done, *of)),
                _ => None,
            })
            .collect();
        match passed.as_slice() {
            [(step, done, of)] => {
                assert_eq!((*step, *done), (behind.0 + 1, behind.1 + 1));
                behind = if done == of {
                    (*step, 0)
                } else {
                    (*step - 1, *done)
                };
            }
            other => panic!("one micro-batch, not {other:?}"),
        }
        match outcome.expect("it ends") {
            Outcome::Stopped { step } => assert_eq!(step, behind.0),
            Outcome::Done { .. } => break,
        }
        stops += 1;
    }
    assert!(stops > 30, "{stops} stops");
    assert_eq!(curve_so_far, straight);
    assert!(place.checkpoint() == expected, "the checkpoint differs");
}

/// Lets `harm` do something before the last step ends, expects an error, mends it, and goes on to the
/// same bytes. Returns the error and how many steps were computed again.
#[track_caller]
fn check_unwritten(
    harm: impl Fn(&Place),
    mend: impl Fn(&Place),
    expected: &[(String, Vec<u8>)],
) -> (TrainError, usize) {
    let (place, mut training) = (Place::new(), training());
    training.rehearsal = Rehearsal::Worst;
    let error = training.run(&place, |event, _| {
        if matches!(event, Event::Step(step) if step.step == 20) {
            harm(&place);
        }
    });
    let error = error.expect_err("it cannot be written");
    mend(&place);
    let events = training.finish(&place);
    let worst = events.iter().any(|event| matches!(event, Event::Worst(_)));
    let again = curve(&events).len();
    assert_eq!(worst, again > 0, "it is tried if there is something to do");
    assert!(place.checkpoint() == expected, "the checkpoint differs");
    (error, again)
}

#[test]
fn a_training_whose_checkpoint_cannot_be_written_is_kept() {
    let (_, expected) = undisturbed();
    let lose = |place: &Place| {
        std::fs::rename(place.path("tokenizer"), place.path("elsewhere")).expect("it was there");
    };
    let find = |place: &Place| {
        std::fs::rename(place.path("elsewhere"), place.path("tokenizer")).expect("it is back");
    };
    let fill = |place: &Place| {
        std::fs::create_dir(place.path("out")).expect("there was none");
        std::fs::write(place.path("out").join("other"), "").expect("a file");
    };
    let clear = |place: &Place| std::fs::remove_dir_all(place.path("out")).expect("it was there");
    for (error, again) in [
        check_unwritten(lose, find, &expected),
        check_unwritten(fill, clear, &expected),
    ] {
        assert!(
            matches!(error, TrainError::Unwritten { steps: 20, .. }),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("only writes the checkpoint"),
            "{error}"
        );
        assert_eq!(again, 0);
    }

    // Nor can the state: a file has the place of the folder.
    let lose_all = |place: &Place| {
        lose(place);
        std::fs::rename(place.path("state"), place.path("states")).expect("there are states");
        std::fs::write(place.path("state"), "").expect("a file");
    };
    let find_all = |place: &Place| {
        find(place);
        std::fs::remove_file(place.path("state")).expect("a file");
        std::fs::rename(place.path("states"), place.path("state")).expect("there are states");
    };
    let (error, again) = check_unwritten(lose_all, find_all, &expected);
    assert!(
        matches!(
            error,
            TrainError::Lost {
                steps: 20,
                saved: 18,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(again, 2);
}

#[test]
fn the_worst_micro_batch_is_not_tried_beside_the_sums_of_a_step() {
    let (place, mut training) = (Place::new(), training());
    training.rehearsal = Rehearsal::Worst;
    training.run(&place, stop_in_step_5).expect("it stops");
    let events = training.finish(&place);
    let mut events = events.iter();
    assert!(!events.any(|event| matches!(event, Event::Worst(_))));
    assert!(
        place.checkpoint() == undisturbed().1,
        "the checkpoint differs"
    );
}

/// Hears all, but from some step on cannot keep it.
struct Full {
    from: usize,
    step: usize,
    events: Vec<Event>,
}

impl train::Watch for Full {
    fn event(&mut self, event: &Event) {
        if let Event::Step(step) = event {
            self.step = step.step;
        }
        self.events.push(event.clone());
    }

    fn is_kept(&mut self) -> bool {
        self.step < self.from
    }
}

#[test]
fn no_state_is_ahead_of_what_is_kept_of_the_way_to_it() {
    let (_, expected) = undisturbed();
    for (from, states) in [
        (3, &[][..]),
        (8, &["step-00000003", "step-00000006"]),
        (9, &["step-00000003", "step-00000006"]),
        (20, &["step-00000015", "step-00000018"]),
    ] {
        let place = Place::new();
        let (step, events) = (0, Vec::new());
        let mut full = Full { from, step, events };
        let outcome = training().watched(&place, &train::Interrupter::new(), &mut full);
        assert!(
            matches!(outcome, Ok(Outcome::Stopped { .. })),
            "{outcome:?}"
        );
        assert!(!place.path("out").exists(), "from {from}");
        assert_eq!(place.states(), states, "from {from}");
        training().finish(&place);
        assert!(place.checkpoint() == expected, "from {from}");
    }
}

/// Leaves a state within step 5, lets `harm` do something to it, and expects that it is passed over
/// with these words and the whole one before it is used.
#[track_caller]
fn check_begun_is_passed_over(harm: impl Fn(&Path), words: &str, expected: &[(String, Vec<u8>)]) {
    let place = Place::new();
    training().run(&place, stop_in_step_5).expect("it stops");
    harm(&place.path("state").join("step-00000004+1"));
    let events = training().finish(&place);
    let Event::PassedOver { folder, reason } = &events[0] else {
        panic!("{:?}", events[0])
    };
    assert!(folder.ends_with("step-00000004+1"), "{folder:?}");
    assert!(reason.contains(words), "`{reason}` does not say `{words}`");
    let Event::Started(started) = &events[1] else {
        panic!("{:?}", events[1])
    };
    assert_eq!((started.done, started.micro_batches), (3, 0));
    assert!(place.checkpoint() == expected, "the checkpoint differs");
}

#[test]
fn damaged_sums_are_passed_over() {
    let (_, expected) = undisturbed();
    let check = |harm: &dyn Fn(&Path), words| check_begun_is_passed_over(harm, words, &expected);
    check(
        &change("trainer.safetensors", |bytes| flip_last(bytes)),
        "trainer.safetensors` is damaged",
    );
    check(&other_digit("micro_batches"), MANIFEST_DAMAGED);
    check(&other_digit("loss"), MANIFEST_DAMAGED);
    check(&manifest("true", "false"), MANIFEST_DAMAGED);
}

#[test]
fn the_last_states_are_kept() {
    let place = Place::new();
    training().finish(&place);
    assert_eq!(place.states(), ["step-00000015", "step-00000018"]);
}

#[test]
fn how_often_states_are_saved_changes_nothing() {
    let (place, mut training) = (Place::new(), training());
    training.settings = TrainSettings {
        save_every_steps: 7,
        keep: 1,
        ..training.settings
    };
    training.finish(&place);
    assert!(
        place.checkpoint() == undisturbed().1,
        "the checkpoint differs"
    );
    assert_eq!(place.states(), ["step-00000014"]);
}

/// Leaves states of steps 15 and 18, lets `harm` do something to the newer one, and expects that it
/// is passed over with these words and the older one is used.
#[track_caller]
fn check_passed_over(harm: impl Fn(&Path), words: &str, expected: &[(String, Vec<u8>)]) {
    let place = Place::new();
    training().finish(&place);
    harm(&place.path("state").join("step-00000018"));
    std::fs::remove_dir_all(place.path("out")).expect("the checkpoint was there");
    let events = training().finish(&place);
    let Event::PassedOver { folder, reason } = &events[0] else {
        panic!("{:?}", events[0])
    };
    assert!(folder.ends_with("step-00000018"), "{folder:?}");
    assert!(reason.contains(words), "`{reason}` does not say `{words}`");
    let Event::Started(started) = &events[1] else {
        panic!("{:?}", events[1])
    };
    assert_eq!(started.done, 15);
    assert!(place.checkpoint() == expected, "the checkpoint differs");
    assert_eq!(
        place.states(),
        ["step-00000015", "step-00000018"],
        "it is written anew"
    );
}

const MANIFEST: &str = "manifest.json";
const MANIFEST_DAMAGED: &str = "manifest.json` is damaged: the SHA-256 of what it says is";

/// Changes the bytes of a state's file.
fn change(name: &'static str, change: impl Fn(&mut Vec<u8>)) -> impl Fn(&Path) {
    move |folder| {
        let path = folder.join(name);
        let mut bytes = std::fs::read(&path).expect("a file");
        change(&mut bytes);
        std::fs::write(&path, bytes).expect("a file");
    }
}

/// Puts other words into a state's manifest, once.
fn manifest(from: &'static str, to: &'static str) -> impl Fn(&Path) {
    change(MANIFEST, move |bytes| {
        let text = String::from_utf8(bytes.clone()).expect("a manifest is text");
        assert!(text.contains(from), "{text}");
        *bytes = text.replacen(from, to, 1).into_bytes();
    })
}

/// Puts another digit into the first number behind a key of the manifest: the one behind the point, or
/// the last. The last of a long fraction may be another way to write the same number.
fn other_digit(key: &'static str) -> impl Fn(&Path) {
    change(MANIFEST, move |bytes| {
        let text = String::from_utf8(bytes.clone()).expect("a manifest is text");
        let quoted = format!("\"{key}\":");
        let behind = text.find(&quoted).expect(key) + quoted.len();
        let digit = |c: char| c.is_ascii_digit();
        let begin = behind + text[behind..].find(digit).expect("a number");
        let length = text[begin..].find(|c| !digit(c)).expect("an end");
        let at = match &text[begin + length..] {
            fraction if fraction.starts_with('.') => begin + length + 1,
            _ => begin + length - 1,
        };
        bytes[at] ^= 1;
    })
}

fn flip_last(bytes: &mut [u8]) {
    *bytes.last_mut().expect("bytes") ^= 1;
}

fn cut_half(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() / 2);
}

fn cut_last(bytes: &mut Vec<u8>) {
    bytes.pop();
}

#[test]
fn a_damaged_state_is_passed_over() {
    let (_, expected) = undisturbed();
    let check = |harm: &dyn Fn(&Path), words| check_passed_over(harm, words, &expected);
    let tensors = "trainer.safetensors";
    let no_tensors = "does not hold the tensors";
    check(
        &change(tensors, |bytes| flip_last(bytes)),
        "is damaged: its SHA-256 is",
    );
    check(&change(tensors, cut_last), no_tensors);
    check(&change(tensors, |bytes| bytes.push(0)), no_tensors);
    check(&change(tensors, |bytes| bytes[9] ^= 1), no_tensors);
    check(&change(MANIFEST, cut_half), "is not the manifest");
    check(&other_digit("step"), MANIFEST_DAMAGED);
    check(&other_digit("trained_tokens"), MANIFEST_DAMAGED);
    check(&other_digit("skipped"), MANIFEST_DAMAGED);
    check(&other_digit("roll_backs"), MANIFEST_DAMAGED);
    check(&other_digit("anchor"), MANIFEST_DAMAGED);
    check(&other_digit("recent"), MANIFEST_DAMAGED);
    check(&other_digit("looks_since_best"), MANIFEST_DAMAGED);
    check(
        &manifest("\"looked\": null", "\"looked\": 3"),
        MANIFEST_DAMAGED,
    );
    check(&other_digit("key"), MANIFEST_DAMAGED);
    check(&other_digit("tensors_sha256"), MANIFEST_DAMAGED);
    check(&other_digit("manifest_sha256"), MANIFEST_DAMAGED);
    let remove = |name| move |folder: &Path| std::fs::remove_file(folder.join(name)).expect(name);
    check(&remove(tensors), "cannot read");
    check(&remove(MANIFEST), "cannot read");
    let other_step = |folder: &Path| {
        let older = folder.with_file_name("step-00000015");
        for (name, bytes) in files(&older) {
            std::fs::write(folder.join(name), bytes).expect("a file");
        }
    };
    check(&other_step, "holds `step-00000015`");
}

/// The manifest as a build of version 2 would have written it.
fn of_version_2(folder: &Path) {
    manifest("\"version\": 3", "\"version\": 2")(folder);
    change(MANIFEST, |bytes| {
        let text = String::from_utf8(bytes.clone()).expect("a manifest is text");
        let (said, _) = text.split_once(",\n  \"manifest_sha256\"").expect("a hash");
        *bytes = format!("{said}\n}}\n").into_bytes();
    })(folder);
}

#[test]
fn a_state_of_another_version_is_passed_over() {
    let (_, expected) = undisturbed();
    let check = |harm: &dyn Fn(&Path), words| check_passed_over(harm, words, &expected);
    check(&of_version_2, "has version 2, and this build reads 3");
    let newer = manifest("\"version\": 3", "\"version\": 4,\n  \"new\": 1");
    check(&newer, "has version 4, and this build reads 3");
}

#[test]
fn how_a_manifest_is_laid_out_does_not_matter() {
    let place = Place::new();
    training().run(&place, stop_in_step_5).expect("it stops");
    let in_one_line = change(MANIFEST, |bytes| {
        let value: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        *bytes = value.to_string().into_bytes();
    });
    in_one_line(&place.path("state").join("step-00000004+1"));
    let events = training().finish(&place);
    let Event::Started(started) = &events[0] else {
        panic!("{:?}", events[0])
    };
    assert_eq!((started.done, started.micro_batches), (4, 1));
    assert!(
        place.checkpoint() == undisturbed().1,
        "the checkpoint differs"
    );
}

#[test]
fn the_state_of_another_job_is_passed_over() {
    let change: [fn(&mut Training); 5] = [
        |training| training.seed += 1,
        |training| training.settings.lr *= 2.0,
        |training| training.samples[3].spans[0].ids[0] ^= 1,
        |training| training.samples.truncate(9),
        |training| {
            if let train::Start::FromScratch { seed, .. } = &mut training.start {
                *seed += 1;
            }
        },
    ];
    for (index, change) in change.into_iter().enumerate() {
        let place = Place::new();
        training().finish(&place);
        std::fs::remove_dir_all(place.path("out")).expect("the checkpoint was there");
        let mut other = training();
        change(&mut other);
        let events = other.finish(&place);
        let reasons: Vec<&str> = events
            .iter()
            .filter_map(|event| match event {
                Event::PassedOver { reason, .. } => Some(reason.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(reasons.len(), 2, "change {index}: {reasons:?}");
        assert!(
            reasons
                .iter()
                .all(|reason| reason.contains("belongs to another training"))
        );
        assert_eq!(curve(&events)[0].0, 1, "change {index} starts anew");
    }
}

const PLACE: &str = "LEAP_TEST_PLACE";

/// What the other process of the test below does; it tells each event in a line.
#[test]
#[ignore = "run by `killed_by_the_system`"]
fn a_training_of_its_own() {
    let folder = std::env::var(PLACE).expect("the parent says where");
    let place = Place::at(Path::new(&folder));
    let outcome = training().run(&place, |_, _| {
        writeln!(std::io::stdout(), "event").expect("the parent listens");
    });
    assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{outcome:?}");
}

/// Starts a training in another process, on `threads` threads, and kills it after `events` events.
fn run_and_kill(place: &Place, events: usize, threads: &str) {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "resume::a_training_of_its_own",
            "--ignored",
            "--nocapture",
        ])
        .env(PLACE, place.path(""))
        .env("RAYON_NUM_THREADS", threads)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let told = lines
        .map_while(Result::ok)
        .filter(|line| line.ends_with("event"));
    told.take(events).for_each(drop);
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
}

#[test]
fn killed_by_the_system() {
    let (_, expected) = undisturbed();
    for (events, threads) in [(1, "1"), (7, "2"), (19, "1"), (40, "2"), (usize::MAX, "1")] {
        let place = Place::new();
        run_and_kill(&place, events, threads);
        // The process may have been quicker than its killer.
        let finished = place.path("out").exists();
        assert!(finished || events != usize::MAX, "it was not killed");
        if !finished {
            training().finish(&place);
        }
        assert!(
            place.checkpoint() == expected,
            "killed after {events} events"
        );
    }
}
